//! A page's core with all that it speaks to: a server, the way there, a worker, the store and the clock.

use std::collections::{HashMap, VecDeque};

use wire::{Ask, ClientMessage, FinishReason, ServerEnvelope, ServerMessage, frame};

use super::server::{Server, answer};
use crate::core::{
    Browser, Effect, Input, Now, Person, Socket, State, Store, Worker,
    effect::Timer,
    handover::Handover,
    history::{StoreProblem, TabMessage},
    kept::Kept,
    picture::NewPicture,
    settings::Settings,
    turn::TurnPhase,
};
use crate::i18n::Lang;

/// What is on its way to the server.
enum Sent {
    Message(ClientMessage),
    Frame(u32, u64, u64),
}

pub struct World {
    pub page: State,
    pub server: Server,
    /// The page's clock.
    pub ms: f64,
    timers: Vec<(f64, Timer)>,
    /// The page's socket, if the way to the server is there.
    socket: Option<u64>,
    /// The socket that the page has, be its way there or not.
    pub generation: u64,
    sent: VecDeque<Sent>,
    worker: VecDeque<Worker>,
    /// What was read and not sent: generation, upload, offset and length.
    frames: VecDeque<(u32, u32, u64, u64)>,
    reads: VecDeque<(u32, u32, u64, u64)>,
    lengths: HashMap<u64, u64>,
    pub store: HashMap<String, (Kept, u64)>,
    /// Conversations that are marked as deleted, with what.
    pub marked: HashMap<String, f64>,
    pub open: Option<String>,
    draft: String,
    handover: Option<Box<Handover>>,
    /// How large the worker's smaller copies are; none if it makes none.
    pub smaller: Option<u64>,
    pictures: u64,
    /// The type of the pictures that come.
    pub kind: String,
    inputs: f64,
    /// The store takes its time to tell that something is kept, and this is what it would have told.
    pub slow: bool,
    pub unheard: Vec<Store>,
    /// Nothing gets to the server, nor back, and nobody tells.
    pub deaf: bool,
    /// What the page has told the others of its browser.
    pub told: Vec<(TabMessage, String)>,
    /// What the page has said, but for pings.
    pub said: Vec<ClientMessage>,
}

impl World {
    /// The server says this, whatever came before.
    pub fn says(&mut self, message: ServerMessage) {
        let generation = self.generation;
        let envelope = Box::new(ServerEnvelope {
            at: 0.0,
            event: None,
            message,
        });
        self.apply(Input::Socket(Socket::Said {
            generation,
            envelope,
            when: 0.0,
        }));
    }

    pub fn new() -> Self {
        let mut world = World {
            page: State::new(Lang::En, Settings::default()),
            server: Server::default(),
            ms: 1_000.0,
            timers: Vec::new(),
            socket: None,
            generation: 0,
            sent: VecDeque::new(),
            worker: VecDeque::new(),
            frames: VecDeque::new(),
            reads: VecDeque::new(),
            lengths: HashMap::new(),
            store: HashMap::new(),
            marked: HashMap::new(),
            open: None,
            draft: String::new(),
            handover: None,
            smaller: None,
            pictures: 0,
            kind: String::new(),
            inputs: 0.0,
            slow: false,
            unheard: Vec::new(),
            deaf: false,
            told: Vec::new(),
            said: Vec::new(),
        };
        world.begin();
        world
    }

    /// One with a picture that the model has seen.
    pub fn pictured() -> Self {
        let mut world = World::new();
        world.bring(1_000);
        world.settles();
        world
    }

    fn begin(&mut self) {
        self.apply(Input::Browser(Browser::Began {
            key: None,
            open: self.open.clone(),
            draft: self.draft.clone(),
            handover: self.handover.clone(),
        }));
    }

    /// The page is loaded again: only what the store and the tab keep is left.
    pub fn reload(&mut self) {
        self.apply(Input::Browser(Browser::Left));
        self.page = State::new(Lang::En, Settings::default());
        self.timers.clear();
        self.worker.clear();
        self.frames.clear();
        self.reads.clear();
        self.begin();
    }

    pub fn apply(&mut self, input: Input) {
        self.inputs += 1.0;
        let now = Now {
            ms: self.ms,
            // Two conversations never begin at the same moment.
            wall: self.inputs,
            random: 0.5,
            buffered: self.buffered(),
        };
        let effects = self.page.apply(input, &now);
        for effect in effects {
            self.perform(effect);
        }
        self.page.take_changes(|_| {});
        assert!(self.buffered() <= 256 * 1024);
    }

    fn buffered(&self) -> u32 {
        let frames = self.sent.iter().map(|sent| match sent {
            Sent::Frame(_, _, bytes) => *bytes as u32 + frame::HEADER as u32,
            Sent::Message(_) => 0,
        });
        frames.sum()
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Open { generation } => {
                self.cut();
                self.generation = generation;
                if !self.deaf {
                    self.socket = Some(generation);
                    self.apply(Input::Socket(Socket::Opened { generation }));
                }
            }
            Effect::Leave { goes_on } => {
                if !goes_on {
                    self.server.close();
                }
                self.cut();
            }
            Effect::Tell(told, id) => self.told.push((told, id)),
            Effect::HandOver(handover) => self.handover = handover,
            Effect::Send(message) => {
                if !matches!(message, ClientMessage::Ping(_)) {
                    self.said.push(message.clone());
                }
                self.send(Sent::Message(message));
            }
            Effect::SendFrame { generation } => {
                while let Some((of, upload, begin, bytes)) = self.frames.pop_front() {
                    if of == generation {
                        return self.send(Sent::Frame(upload, begin, bytes));
                    }
                }
                panic!("a frame that was never read");
            }
            Effect::Discard => self.frames.clear(),
            Effect::Read {
                generation,
                upload,
                picture,
                begin,
                end,
            } => {
                assert!(begin < end && end <= self.lengths[&picture]);
                self.reads
                    .push_back((generation, upload, begin, end - begin));
            }
            Effect::Hash(picture) => self.worker.push_back(Worker::Hashed {
                picture,
                sha256: Some(format!("{:064}", self.lengths[&picture])),
            }),
            Effect::Preview(picture) => self.worker.push_back(Worker::Preview {
                picture,
                url: format!("blob:{picture}"),
                size: Some((640, 480)),
                transparent: false,
            }),
            Effect::Crop { picture, region } => {
                let part = self.picture((region.width * region.height) as u64);
                let map = "data:image/webp;base64,".to_owned();
                self.worker.push_back(Worker::Cropped {
                    of: picture,
                    part,
                    map,
                });
            }
            Effect::Scale { picture, .. } => self.worker.push_back(Worker::Scaled {
                picture,
                bytes: self.smaller,
            }),
            Effect::Keep {
                kept,
                picture,
                event,
                fresh,
                ..
            } => {
                let (id, bytes) = (kept.id.clone(), self.lengths[&picture]);
                let gone = self.marked.contains_key(&id) || !fresh && !self.store.contains_key(&id);
                let told = if gone {
                    let why = StoreProblem::Gone;
                    Store::NotKept { id, event, why }
                } else {
                    self.store.insert(id.clone(), (*kept, bytes));
                    Store::Kept { id, event }
                };
                if self.slow {
                    self.unheard.push(told);
                } else {
                    self.apply(Input::Store(told));
                }
            }
            Effect::Load(id) => {
                let there = self.store.get(&id).cloned();
                if let Some((kept, bytes)) = there.filter(|_| !self.marked.contains_key(&id)) {
                    let picture = self.picture(bytes);
                    let kept = Box::new(kept);
                    self.apply(Input::Store(Store::Loaded { kept, picture }));
                }
            }
            Effect::Mark { id, stamp } => {
                let all = self.store.keys().cloned().collect();
                for id in id.map_or(all, |id| vec![id]) {
                    self.marked.entry(id).or_insert(stamp);
                }
            }
            Effect::Unmark(stamp) => self.marked.retain(|_, with| *with != stamp),
            Effect::Purge(stamp) => {
                let gone = |id: &String| self.marked.get(id) == Some(&stamp);
                self.store.retain(|id, _| !gone(id));
                self.marked.retain(|_, with| *with != stamp);
            }
            Effect::Name { id, title } => {
                if let Some((kept, _)) = self.store.get_mut(&id) {
                    kept.title = title;
                }
            }
            Effect::Remove(id) => drop(self.store.remove(&id)),
            Effect::RememberDraft(draft) => self.draft = draft,
            Effect::RememberOpen(id) => self.open = id,
            Effect::After { ms, timer } => self.timers.push((self.ms + ms.max(0.0), timer)),
            Effect::AskWhy { .. }
            | Effect::SendSmaller(_)
            | Effect::WatchShown(_)
            | Effect::WatchDrawn(_)
            | Effect::Release(_)
            | Effect::Revoke(_)
            | Effect::PurgeBefore(_)
            | Effect::Persist
            | Effect::RememberKey(_)
            | Effect::RememberSettings(_)
            | Effect::RememberLanguage(_) => {}
        }
    }

    fn send(&mut self, sent: Sent) {
        if self.socket.is_some() {
            self.sent.push_back(sent);
        }
    }

    fn picture(&mut self, bytes: u64) -> NewPicture {
        self.pictures += 1;
        self.lengths.insert(self.pictures, bytes);
        NewPicture {
            id: self.pictures,
            name: format!("{bytes}.png"),
            kind: self.kind.clone(),
            bytes,
            ..NewPicture::default()
        }
    }

    pub fn person(&mut self, person: Person) {
        self.apply(Input::Person(person));
    }

    pub fn bring(&mut self, bytes: u64) {
        self.brings(bytes, None);
    }

    /// A picture of so many bytes is there; it may be one that was awaited by a number.
    pub fn brings(&mut self, bytes: u64, awaited: Option<u64>) {
        let picture = self.picture(bytes);
        let when = self.ms;
        self.person(Person::Brings {
            picture,
            suggestions: Vec::new(),
            more: false,
            awaited,
            when,
        });
    }

    pub fn ask(&mut self, question: &str) {
        self.person(Person::Types(question.into()));
        self.person(Person::Sends { when: self.ms });
    }

    /// The way to the server is gone, with all that was on it. The page does not know.
    pub fn cut(&mut self) {
        self.server.cut();
        self.sent.clear();
        self.socket = None;
    }

    /// The browser tells that the socket is closed.
    pub fn closed(&mut self, code: u16) {
        self.cut();
        let generation = self.generation;
        let code = Some(code);
        self.apply(Input::Socket(Socket::Closed { generation, code }));
    }

    /// The next thing that is on its way to the server gets there.
    pub fn up(&mut self) -> bool {
        if self.deaf {
            return false;
        }
        self.server.at = self.ms;
        match self.sent.pop_front() {
            Some(Sent::Message(message)) => self.server.hear(message),
            Some(Sent::Frame(upload, begin, bytes)) => self.server.frame(upload, begin, bytes),
            None => return false,
        }
        true
    }

    /// The next thing that the server has said gets here.
    pub fn down(&mut self) -> bool {
        let heard = !self.deaf && !self.server.said.is_empty();
        let Some(generation) = self.socket.filter(|_| heard) else {
            return false;
        };
        let envelope = Box::new(self.server.said.remove(0));
        self.apply(Input::Socket(Socket::Said {
            generation,
            envelope,
            when: self.ms,
        }));
        true
    }

    /// The worker is done with something.
    pub fn works(&mut self) -> bool {
        // A copy does not wait for the pieces, of which there are always more.
        let copy = |said: &Worker| matches!(said, Worker::Scaled { .. });
        if let Some(at) = self.worker.iter().position(copy) {
            let said = self.worker.remove(at).expect("there");
            self.apply(Input::Worker(said));
            return true;
        }
        if let Some((generation, upload, begin, bytes)) = self.reads.pop_front() {
            self.frames.push_back((generation, upload, begin, bytes));
            self.apply(Input::Worker(Worker::Frame {
                generation,
                bytes: bytes as u32,
            }));
            return true;
        }
        let Some(said) = self.worker.pop_front() else {
            return false;
        };
        self.apply(Input::Worker(said));
        true
    }

    /// Time passes, with all that falls due in it.
    pub fn passes(&mut self, ms: f64) {
        let end = self.ms + ms;
        loop {
            let due = self.timers.iter().map(|(due, _)| *due);
            let next = due.fold(f64::INFINITY, f64::min);
            if next > end {
                break;
            }
            let at = self.timers.iter().position(|(due, _)| *due == next);
            let (_, timer) = self.timers.remove(at.expect("there"));
            self.ms = self.ms.max(next);
            self.apply(Input::Clock(timer));
        }
        self.ms = end;
    }

    /// Everything that can happen does, with nothing in its way.
    pub fn settles(&mut self) {
        for _ in 0..600 {
            let mut busy = true;
            while busy {
                busy = self.up() | self.down() | self.works() | self.server.step();
            }
            // A dead connection is found by itself within seconds once the network is back.
            if self.socket.is_none() && self.page.connection.online() {
                self.apply(Input::Browser(Browser::Awake));
            }
            if !self.page.conversation.running()
                && self.page.connection.online()
                && self.socket.is_some()
                && self.sent.is_empty()
                && self.reads.is_empty()
            {
                return;
            }
            self.passes(100.0);
        }
        panic!("still not settled: {:?}", self.phases());
    }

    /// The questions that were sent.
    pub fn asks(&self) -> Vec<Ask> {
        let asks = self.said.iter().filter_map(|message| match message {
            ClientMessage::Ask(ask) => Some((**ask).clone()),
            _ => None,
        });
        asks.collect()
    }

    pub fn questions(&self) -> Vec<String> {
        let turns = self.page.conversation.turns();
        turns.map(|turn| turn.question.clone()).collect()
    }

    pub fn phases(&self) -> Vec<&'static str> {
        let turns = self.page.conversation.turns();
        turns.map(|turn| turn.phase.name()).collect()
    }

    pub fn answers(&self) -> Vec<String> {
        let turns = self.page.conversation.turns();
        turns.map(|turn| turn.answer.clone()).collect()
    }

    /// What must hold once all has settled: each question is answered in whole, or stopped by the person, and the server
    /// remembers of the conversation what stands on the page.
    pub fn is_whole(&self) {
        for turn in self.page.conversation.turns() {
            let whole = answer(&turn.question).concat();
            match &*turn.phase {
                TurnPhase::Done(FinishReason::Stop) => assert_eq!(*turn.answer, whole),
                TurnPhase::Done(FinishReason::Cancelled) => {
                    assert!(whole.starts_with(turn.answer.as_str()));
                }
                other => panic!("{:?} ended with {other:?}", turn.question),
            }
        }
        // What the server remembers wrongly, the next question sets right.
        if let Some(id) = self.page.conversation.id()
            && !self.page.conversation.stale
        {
            let mut remembers = self.server.remembers(id).unwrap_or_default().to_vec();
            let mut stands = self.page.conversation.remembered();
            // What was refused for a while may have been overtaken by what was asked later.
            if self.server.refused {
                let text = |turn: &wire::Turn| turn.question.clone() + &turn.answer;
                remembers.sort_by_key(text);
                stands.sort_by_key(text);
            }
            assert_eq!(remembers, stands);
        }
        if let Some(picture) = self.page.picture() {
            match picture.upload {
                Some(number) => {
                    let received = self.server.received(number);
                    assert_eq!(received, Some((picture.bytes, picture.bytes)));
                }
                // The page before has sent it.
                None => assert!(picture.image.is_some()),
            }
            assert_eq!(picture.phase.name(), "ready");
        }
    }

    /// Whether a message of this kind is on its way to the page.
    pub fn comes(&self, kind: impl Fn(&ServerMessage) -> bool) -> bool {
        self.server.said.iter().any(|said| kind(&said.message))
    }
}
