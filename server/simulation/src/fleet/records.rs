//! What gateways keep of sessions, questions and workers, and what happens to them.

use crate::worker::Report;

/// Something that happens outside of workers.
#[derive(Debug)]
pub enum Event {
    /// The next of the drawn questions; one of the list.
    Arrives,
    Listed(usize),
    /// A question's picture is decoded.
    Decoded(u64),
    /// A question goes to its worker again.
    Again(u64),
    Heard(Report),
    Beat,
    Loses,
    Stampede,
    /// A worker has been silent for so long that it is taken to be lost.
    Missed(u32),
    Back(u32),
    /// Clients of a lost gateway are back.
    TakenOver,
}

/// A session, most of which ask nothing.
#[derive(Clone, Copy, Default)]
pub struct Session {
    /// Its worker, from 1; 0 for none.
    pub home: u32,
    /// Its picture, from 1.
    pub picture: u32,
    /// Tokens of its conversation so far.
    pub talk: u32,
    /// Its home has its picture, or will have it then.
    pub given: bool,
    pub until: u64,
    pub asks: bool,
}

/// A question that is open.
pub struct Question {
    pub session: u32,
    pub picture: u32,
    pub asked: u64,
    pub attempt: u32,
    pub prompt: u32,
    pub answer: u32,
    pub said: u32,
    /// Its worker, once it is sent.
    pub worker: Option<u32>,
    pub refused: Vec<u32>,
    /// When its first word was heard.
    pub heard: Option<u64>,
    pub brings: bool,
    pub moved: bool,
}

/// What is to be asked.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub asked: u64,
    pub brings: bool,
    pub question: u32,
    pub answer: u32,
    /// All of the prompt, where a list says so.
    pub prompt: Option<u32>,
}

/// What gateways know of a worker.
#[derive(Clone, Copy, Default)]
pub struct Member {
    /// It is taken to be there.
    pub here: bool,
    pub alive: bool,
    pub sessions: u64,
    pub open: u64,
    /// As it said last.
    pub said: u64,
}

/// An event, whose place is given by its time and number alone.
#[derive(Debug)]
pub struct Ordered(pub Event);

impl PartialEq for Ordered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
