//! What of a session is kept outside of this process, and how far its client may be told of it: nothing that is not kept.

use std::time::{Duration, Instant};

use api::encoding::encode;
use api::{Event, Record, RecordKind};

/// Events behind a whole record after which another whole one is kept, so that whoever goes on has little to read.
const MOST_EVENTS: usize = 512;
/// How old the newest record may be: whoever keeps records lets them go after three times as long.
const OLD: Duration = Duration::from_secs(20 * 60);

/// A session's records, on their way.
pub struct Journal {
    /// What the next record has to tell.
    pending: Pending,
    /// The newest numbered message that the next record covers.
    covered: u64,
    /// The newest that the record on its way covers.
    sent: Option<u64>,
    /// The newest that is kept or on its way.
    recorded: u64,
    /// Events behind the last whole record.
    behind: usize,
    /// What the change at work is told by, but for its numbered messages.
    change: Change,
    /// What was kept before the next record must not be readable any more.
    erases: bool,
    /// It is kept even if there is nothing new to be told.
    due: bool,
    /// Something is kept, or on its way.
    pub begun: bool,
    /// Since when the newest record is.
    written: Instant,
}

/// What a change of a session is told by.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    /// All of the session.
    Whole,
    /// An event that the next record tells.
    Heard,
    /// It need not be, unless there is a new numbered message.
    Passing,
}

enum Pending {
    Nothing,
    /// Events, each with the time that its messages have.
    Events(Vec<(f64, Event)>),
    Whole,
}

impl Journal {
    /// Of a session whose messages up to `kept` are kept.
    pub fn new(kept: u64, begun: bool) -> Self {
        Journal {
            pending: Pending::Nothing,
            covered: kept,
            sent: None,
            recorded: kept,
            behind: 0,
            change: Change::Whole,
            erases: false,
            due: false,
            begun,
            written: Instant::now(),
        }
    }

    /// An event is about to change the session at this time of its messages. Of an answer's course the record tells the event
    /// itself, which is shorter than what it leads to; anything else is told by the whole session.
    pub fn hear(&mut self, at: f64, event: &Event) {
        let plain = matches!(
            event,
            Event::Queued { .. } | Event::Started { .. } | Event::Tokens { .. }
        );
        if !plain {
            return;
        }
        self.change = Change::Heard;
        self.behind += 1;
        match &mut self.pending {
            Pending::Whole => {}
            Pending::Nothing if self.begun && self.behind < MOST_EVENTS => {
                self.pending = Pending::Events(vec![(at, event.clone())]);
            }
            Pending::Events(events) if self.behind < MOST_EVENTS => {
                events.push((at, event.clone()))
            }
            Pending::Nothing | Pending::Events(_) => self.pending = Pending::Whole,
        }
    }

    /// The change at work need not be told: of connections, acknowledgements, parts of files, and the time.
    pub fn pass(&mut self) {
        self.change = Change::Passing;
    }

    /// The session was changed otherwise than its numbered messages show, and that is to be kept at once.
    pub fn touch(&mut self) {
        self.pending = Pending::Whole;
        self.due = true;
    }

    /// What was kept before must not be readable any more.
    pub fn erase(&mut self) {
        self.erases = true;
        self.touch();
    }

    /// A change is over, by which `last` is the session's newest numbered message.
    pub fn note(&mut self, last: u64) {
        let told = match std::mem::replace(&mut self.change, Change::Whole) {
            Change::Whole => false,
            Change::Heard => true,
            Change::Passing => last == self.covered,
        };
        if !told {
            self.pending = Pending::Whole;
        }
        self.covered = last;
    }

    /// The next record, if it is time for one. `whole` writes all of the session.
    pub fn next(&mut self, whole: impl FnOnce() -> Result<Vec<u8>, String>) -> Option<Record> {
        let news = self.due || self.covered > self.recorded;
        if self.sent.is_some() || !news {
            return None;
        }
        let written = match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => return None,
            Pending::Events(events) => encode(&events).map(|bytes| (RecordKind::More, bytes)),
            Pending::Whole => {
                self.behind = 0;
                whole().map(|bytes| match std::mem::take(&mut self.erases) {
                    true => (RecordKind::Erasing, bytes),
                    false => (RecordKind::Whole, bytes),
                })
            }
        };
        self.due = false;
        match written {
            Ok((kind, bytes)) => {
                self.sent = Some(self.covered);
                self.recorded = self.covered;
                self.begun = true;
                self.written = Instant::now();
                Some(Record { kind, bytes })
            }
            Err(problem) => {
                tracing::error!(problem, "a session can't be written");
                None
            }
        }
    }

    /// The record on its way is kept: up to where its client may be told.
    pub fn kept(&mut self) -> Option<u64> {
        self.sent.take()
    }

    /// Has all of the session kept anew before what is kept of it is too old.
    pub fn tick(&mut self, now: Instant) {
        if self.begun && now.saturating_duration_since(self.written) >= OLD {
            self.touch();
        }
    }

    /// What was kept is lost.
    pub fn lost(&mut self) {
        self.sent = None;
        self.touch();
    }

    /// What was kept is lost; if something is on its way, that will tell.
    pub fn missing(&mut self) {
        if self.sent.is_none() && self.begun {
            self.touch();
        }
    }

    /// Whether all that is to be kept is.
    #[cfg(test)]
    pub fn is_settled(&self) -> bool {
        self.sent.is_none() && !self.due && self.covered == self.recorded
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &self.pending {
            Pending::Events(events) => events.capacity() * size_of::<(f64, Event)>() * 2,
            Pending::Nothing | Pending::Whole => 0,
        }
    }
}
