//! What the parts of a session have in common, and the way out of it: what its client is told, and what is to be done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use glimpse_image::Region;
use wire::{Forgotten, Limits, ServerMessage};

use super::outbox::Outbox;
use super::pictures::{Budget, File};
use api::{Asker, Command, Freed, KnownPicture, Record, SessionId};

/// Something to be done outside of the session's lock, in order.
pub enum Effect {
    /// Decode a file into the picture of this id.
    Decode {
        image: String,
        file: File,
        region: Option<Region>,
    },
    /// Don't: the picture is forgotten, which [`State::decoded`](super::state::State::decoded) is told.
    CancelDecode { image: String },
    /// Ask the engine for something.
    Command(Command),
    /// Keep something of the session outside of this process.
    Keep(Record),
    /// Whoever computes was given this picture by another process.
    Known(KnownPicture),
    /// Another process has the session: nothing of it is decoded or told here any more.
    Release,
    /// The session is over: nothing of it is decoded any more, and the engine frees all that it has.
    End,
}

/// What a session is made with.
pub struct Setup {
    /// What the session is called in logs.
    pub tag: Arc<str>,
    /// The client whose session it is, and the session's id in the engine.
    pub asker: Asker,
    /// What the pictures' keys have as [`PictureKey::session`](api::PictureKey::session).
    pub scope: Option<SessionId>,
    /// Whether questions come by requests that bring their whole conversation.
    pub stateless: bool,
    /// Makes ids unlike any other session's, so that a stale one is never mistaken for a live one.
    pub prefix: String,
    pub limits: Arc<Limits>,
    pub budget: Arc<Budget>,
    /// The server's count of uses, by which those of different sessions can be compared.
    pub uses: Arc<AtomicU64>,
}

pub struct Context {
    pub setup: Setup,
    pub outbox: Outbox,
    pub effects: VecDeque<Effect>,
    /// What the engine was asked to free, in that order, and what its client is told once it is.
    leaving: Vec<(Freed, Forgotten)>,
    ids: u64,
}

impl Context {
    pub fn new(setup: Setup) -> Self {
        Context {
            outbox: outbox(&setup.limits),
            effects: VecDeque::new(),
            leaving: Vec::new(),
            ids: 0,
            setup,
        }
    }

    pub fn limits(&self) -> Arc<Limits> {
        self.setup.limits.clone()
    }

    pub fn session(&self) -> SessionId {
        self.setup.asker.session
    }

    /// An id that no other session has.
    pub fn new_id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}_{}_{}", self.setup.prefix, self.ids)
    }

    /// Counts one use more.
    pub fn clock(&self) -> u64 {
        self.setup.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the client.
    pub fn send(&mut self, message: ServerMessage) {
        self.outbox.push(message);
    }

    /// Sends an `error`.
    pub fn fail(&mut self, error: wire::Error) {
        self.send(ServerMessage::Error(error));
    }

    /// Has the engine do something.
    pub fn command(&mut self, command: Command) {
        self.effects.push_back(Effect::Command(command));
    }

    /// Has the engine free something by this command; its client is told once it has.
    pub fn free(&mut self, freed: Freed, forgotten: Forgotten, command: Command) {
        self.leaving.push((freed, forgotten));
        self.command(command);
    }

    /// The engine holds nothing any more of what it was to forget; of the same picture, it forgets one after the other.
    pub fn freed(&mut self, freed: Freed) {
        if let Some(first) = self.leaving.iter().position(|(what, _)| *what == freed) {
            let (_, forgotten) = self.leaving.remove(first);
            self.send(ServerMessage::Forgotten(forgotten));
        }
    }

    /// How many ids were given out, and what is to be freed.
    pub fn kept(&self) -> (u64, Vec<(Freed, Forgotten)>) {
        (self.ids, self.leaving.clone())
    }

    /// What was kept.
    pub fn restore(&mut self, ids: u64, leaving: Vec<(Freed, Forgotten)>) {
        self.ids = ids;
        self.leaving = leaving;
    }

    /// Has whoever computes free once more what another process asked it to.
    pub fn free_again(&mut self) {
        let session = self.session();
        for (freed, _) in self.leaving.clone() {
            match freed {
                Freed::Picture(picture) => self.command(Command::Forget { session, picture }),
                Freed::Conversation(conversation) => self.command(Command::ForgetConversation {
                    session,
                    conversation,
                }),
                Freed::Session => {}
            }
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        const LEAVING: usize = size_of::<(Freed, Forgotten)>() + 48;
        self.outbox.bytes() + LEAVING * self.leaving.capacity()
    }

    /// Drops all that is to be told or done.
    pub fn clear(&mut self) {
        self.outbox = outbox(&self.setup.limits);
        self.effects = VecDeque::new();
        self.leaving = Vec::new();
    }
}

fn outbox(limits: &Limits) -> Outbox {
    Outbox::new(Instant::now(), limits.outbox_bytes, limits.replay_bytes)
}

/// A limit given in seconds.
pub fn seconds(limit: f64) -> Duration {
    Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)
}

pub fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
