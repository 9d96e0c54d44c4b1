//! The way from a connection to its session and back.

use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;
use tokio::sync::Notify;
use wire::{ClientMessage, ErrorCode, ServerMessage};

use super::Session;
use super::pictures::CompleteFile;
use super::state::State;
use crate::intake::KeyId;
use api::{Failure, Presence};

/// A connection's hold on its session.
#[derive(Clone)]
pub struct Connection {
    pub(super) session: Arc<Session>,
    pub(super) generation: u64,
    pub(super) notify: Arc<Notify>,
}

/// What a connection has to do next.
pub enum Outgoing {
    Text(ByteString),
    /// Nothing to send.
    Empty,
    /// Nothing to send yet: what comes next has to be kept first.
    Withheld,
    /// The client does not read and too much is waiting.
    TooSlow,
    /// Another connection has the session.
    TakenOver,
    /// The session is over: its client took more than its share of the server's memory.
    Evicted,
    /// The session is over.
    Ended,
}

impl Connection {
    /// The session's tag for logs: never its id.
    pub fn tag(&self) -> &str {
        &self.session.tag
    }

    /// The session's id: only its client may know it.
    pub fn id(&self) -> &str {
        &self.session.id
    }

    /// The API key that the session was opened with.
    pub fn owner(&self) -> Option<KeyId> {
        self.session.identity.owner
    }

    /// Waits until [`Connection::next`] has something new to say.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// What to send or do now.
    pub fn next(&self) -> Outgoing {
        let mut inner = self.session.inner.lock();
        if inner.evicted {
            return Outgoing::Evicted;
        }
        if inner.taken {
            return Outgoing::TakenOver;
        }
        if inner.ended {
            return Outgoing::Ended;
        }
        if inner.generation != self.generation {
            return Outgoing::TakenOver;
        }
        if inner.state.context.outbox.overflowed() {
            return Outgoing::TooSlow;
        }
        let text = inner.state.pop();
        let withheld = inner.state.context.outbox.is_withheld();
        drop(inner);
        self.session.run_effects();
        match text {
            Some(text) => Outgoing::Text(text),
            None if withheld => Outgoing::Withheld,
            None => Outgoing::Empty,
        }
    }

    /// Whether so much waits to be sent that nothing more should be read.
    pub fn is_full(&self) -> bool {
        self.session.inner.lock().state.context.outbox.full()
    }

    /// Whether the session goes on and this is its connection.
    pub fn is_current(&self) -> bool {
        let inner = self.session.inner.lock();
        !inner.ended && inner.generation == self.generation
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.session.with_as(Some(self.generation), change)
    }

    /// Requests whose answers are on their way to another worker.
    pub fn moving(&self) -> Vec<String> {
        self.session.inner.lock().state.moving()
    }

    /// Queues a message for this connection.
    pub fn send(&self, message: ServerMessage) {
        self.session.with_inner(Some(self.generation), |inner| {
            inner.pass();
            inner.state.context.outbox.push(message);
        });
    }

    /// A text frame that is not the first `hello`. `allowed`: whether one more question may be asked from here now.
    pub fn text(
        &self,
        message: Result<ClientMessage, Box<wire::Error>>,
        allowed: impl FnOnce() -> Result<(), Failure>,
    ) {
        let now = Instant::now();
        let shared = &self.session.shared;
        // What others have to give way for is given before anything more is taken.
        shared.reclaim_memory(0);
        self.session.with_inner(Some(self.generation), |inner| {
            if let Some(journal) = &mut inner.journal {
                match &message {
                    Ok(ClientMessage::Forget(_)) => journal.erase(),
                    // At once: no message may tell that these were heard, and whoever computes begins meanwhile.
                    Ok(ClientMessage::Ask(_) | ClientMessage::Cancel(_)) => journal.touch(),
                    Ok(ClientMessage::Ack(_) | ClientMessage::Ping(_)) => journal.pass(),
                    _ => {}
                }
            }
            let state = &mut inner.state;
            match message {
                Err(refusal) => state.refused(*refusal),
                Ok(ClientMessage::Hello(_)) => state.refused(
                    Failure::new(
                        ErrorCode::HelloLate,
                        "A hello can only be the first message: connect again to resume.",
                    )
                    .into(),
                ),
                Ok(ClientMessage::Upload(upload)) => state.announce(&upload, now),
                Ok(ClientMessage::Ask(ask)) => {
                    state.ask(*ask, allowed().and_then(|()| shared.terms()), now);
                }
                Ok(ClientMessage::Cancel(cancel)) => {
                    if let Some(request) = cancel.request {
                        state.cancel_ask(&request, now);
                    } else if let Some(upload) = cancel.upload {
                        state.cancel_upload(upload);
                    }
                }
                Ok(ClientMessage::Forget(forget)) => {
                    if let Some(image) = forget.image {
                        state.forget_image(&image);
                    } else if let Some(conversation) = forget.conversation {
                        state.forget_conversation(&conversation, now);
                    }
                }
                Ok(ClientMessage::Ack(ack)) => state.ack(ack.event),
                Ok(ClientMessage::Ping(ping)) => {
                    state
                        .context
                        .outbox
                        .push(ServerMessage::Pong(wire::Pong { t: ping.t }));
                }
            }
        });
    }

    /// A binary frame.
    pub fn binary(&self, bytes: &[u8]) {
        self.session.shared.reclaim_memory(bytes.len() as u64);
        self.session.with_inner(Some(self.generation), |inner| {
            inner.pass();
            inner.state.piece(bytes, Instant::now());
        });
    }

    /// A file that came otherwise than in pieces, under a number that was not used before.
    pub fn give(&self, upload: u32, file: CompleteFile) {
        self.with(|state| state.give(upload, file));
    }

    /// A picture that came before, once more, under a number that was not used before; false if the session has it no longer.
    pub fn give_again(&self, upload: u32, sha256: &[u8; 32], system: &str) -> bool {
        self.with(|state| state.give_again(upload, sha256, system))
            .unwrap_or(false)
    }

    /// The connection is gone; the session waits for a resume.
    pub fn detach(&self) {
        self.session.with_inner(Some(self.generation), |inner| {
            inner.pass();
            inner.connection = None;
            inner.alone_since = Instant::now();
            inner.state.context.outbox.detach();
            inner.state.set_presence(Presence::Away);
        });
    }
}
