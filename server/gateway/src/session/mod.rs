//! One WebSocket client: what it sent, what it may still have to be sent, and what the engine does for it.
//!
//! A session outlives its connections. [`State`] is what it knows, with no I/O at all; [`Session`] is that behind a lock, with
//! the engine on one side and at most one [`Connection`] on the other; [`Hub`] has all sessions.

mod connection;
mod context;
mod conversations;
mod hub;
mod lifetime;
mod log;
mod outbox;
mod pictures;
mod registry;
mod reports;
mod shared;
mod state;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::ServerMessage;

use crate::intake::{Client, KeyId, Reservation};
use api::{Asker, Presence, SessionId};
use context::{Effect, Setup};
use outbox::ReplayError;
use state::State;

pub use connection::{Connection, Outgoing};
pub use context::seconds;
pub use hub::{Hub, Resumed};
pub use pictures::{CompleteFile, File, Sender};
pub use shared::{Options, Phase, Shared, StatusWatch};

/// A client's session.
pub struct Session {
    /// Whoever has it can resume the session.
    id: String,
    /// In logs, where the id must not be.
    tag: String,
    asker: Asker,
    /// The API key it was opened with; resuming takes the same.
    owner: Option<KeyId>,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    /// Nobody is connected: for whoever looks for memory, without the lock.
    away: Arc<AtomicBool>,
    /// It stays. Until its client's first message it may be for nothing, since that one may come back to an earlier session.
    established: AtomicBool,
}

/// Whoever takes some of the server's memory for sessions.
#[derive(Clone)]
struct MemoryOwner {
    session: SessionId,
    /// Nobody is connected.
    away: Arc<AtomicBool>,
}

struct Inner {
    state: State,
    /// What of the server's memory for sessions this one takes, …
    memory: Reservation<MemoryOwner>,
    /// … as it was counted last.
    counted: u64,
    connection: Option<Arc<Notify>>,
    /// Counts connections: a message of an earlier one is no longer heard.
    generation: u64,
    /// Since when nobody is connected.
    alone_since: Instant,
    /// Someone is at work on the effects.
    running_effects: bool,
    ended: bool,
    /// It ended since its client took more than its share of the server's memory.
    evicted: bool,
}

/// Someone's work on the effects, which is over when this goes: after a panic too.
struct EffectsGuard<'a>(&'a Session);

impl Drop for EffectsGuard<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().running_effects = false;
    }
}

impl Inner {
    /// Counts what the session takes of the server's memory, where that is news.
    fn count(&mut self) {
        const STEP: u64 = 1024;
        let bytes = (self.state.memory() as u64).next_multiple_of(STEP);
        if bytes != self.counted {
            self.counted = bytes;
            self.memory.set(bytes);
        }
    }
}

impl Session {
    fn new(
        id: String,
        tag: String,
        prefix: String,
        owner: Option<KeyId>,
        client: Client,
        namespace: Option<SessionId>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let asker = Asker {
            client: client.number(),
            session: SessionId::random(),
        };
        let registry = shared.registry.clone();
        let away = Arc::new(AtomicBool::new(true));
        let keeper = MemoryOwner {
            session: asker.session,
            away: away.clone(),
        };
        let share_pictures = shared.options.share_pictures;
        let setup = Setup {
            tag: tag.as_str().into(),
            asker,
            stateless: namespace.is_some(),
            scope: (!share_pictures).then_some(namespace.unwrap_or(asker.session)),
            prefix,
            limits: shared.limits.clone(),
            budget: shared.budget.clone(),
            uses: shared.uses.clone(),
        };
        let session = Arc::new(Session {
            id,
            tag,
            asker,
            owner,
            inner: Mutex::new(Inner {
                state: State::new(setup),
                connection: None,
                generation: 0,
                alone_since: Instant::now(),
                running_effects: false,
                ended: false,
                evicted: false,
                memory: shared.memory.place(asker.client, keeper),
                counted: 0,
            }),
            shared,
            away,
            established: AtomicBool::new(false),
        });
        registry.enter(asker.session, &session);
        session
    }

    fn keep(&self) {
        self.established.store(true, Ordering::Relaxed);
    }

    fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// Changes the state, then does outside of the lock what that asks for, and wakes the connection. `None`: the
    /// session is over.
    fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.with_as(None, change)
    }

    /// [`Self::with`], but only while the connection of that `generation` has the session.
    fn with_as<R>(
        self: &Arc<Self>,
        generation: Option<u64>,
        change: impl FnOnce(&mut State) -> R,
    ) -> Option<R> {
        self.with_inner(generation, |inner| change(&mut inner.state))
    }

    fn with_inner<R>(
        self: &Arc<Self>,
        generation: Option<u64>,
        change: impl FnOnce(&mut Inner) -> R,
    ) -> Option<R> {
        let result = {
            let mut inner = self.inner.lock();
            if inner.ended || generation.is_some_and(|generation| generation != inner.generation) {
                return None;
            }
            let result = change(&mut inner);
            inner.state.update_waiting_gauge();
            inner.count();
            self.after(&inner);
            result
        };
        self.run_effects();
        Some(result)
    }

    /// Wakes the connection if there is something for it, and notes how it stands.
    fn after(&self, inner: &Inner) {
        self.away
            .store(inner.connection.is_none(), Ordering::Relaxed);
        if let Some(notify) = &inner.connection
            && !inner.state.context.outbox.is_empty()
        {
            notify.notify_one();
        }
    }

    /// Does the effects one by one. One thread at a time, so that the engine hears of them in order.
    fn run_effects(self: &Arc<Self>) {
        loop {
            let effect = {
                let mut inner = self.inner.lock();
                if inner.running_effects {
                    return;
                }
                let Some(effect) = inner.state.context.effects.pop_front() else {
                    return;
                };
                inner.running_effects = true;
                effect
            };
            let _settling = EffectsGuard(self);
            self.perform(effect);
        }
    }

    fn perform(self: &Arc<Self>, effect: Effect) {
        let engine = &self.shared.engine;
        match effect {
            Effect::Decode {
                image,
                file,
                region,
            } => self.shared.decode(self, image, file, region),
            Effect::CancelDecode { image } => self.shared.cancel_decode(self, image),
            Effect::Command(command) => engine.command(command),
            Effect::End => self.free_all(),
        }
    }

    /// Makes this the session's connection; one that was there hears that it is taken over.
    fn connect(self: &Arc<Self>, welcome: impl FnOnce(&str) -> ServerMessage) -> Connection {
        let mut inner = self.inner.lock();
        let connection = self.attach(&mut inner, welcome);
        self.after(&inner);
        connection
    }

    /// Makes a new connection the session's, for whom what came after `last_event` follows.
    fn resume(
        self: &Arc<Self>,
        last_event: u64,
        welcome: impl FnOnce(&str) -> ServerMessage,
    ) -> Result<Connection, Option<ReplayError>> {
        let resumed = self.with_inner(None, |inner| {
            inner
                .state
                .context
                .outbox
                .resume(last_event)
                .map_err(Some)?;
            if inner.connection.is_none() {
                let now = Instant::now();
                let alone = now.saturating_duration_since(inner.alone_since);
                inner.state.extend_deadlines(alone, now);
            }
            Ok(self.attach(inner, welcome))
        });
        resumed.unwrap_or(Err(None))
    }

    fn attach(
        self: &Arc<Self>,
        inner: &mut Inner,
        welcome: impl FnOnce(&str) -> ServerMessage,
    ) -> Connection {
        inner.state.context.outbox.push_first(welcome(&self.id));
        inner.state.set_presence(Presence::Here);
        inner.generation += 1;
        let notify = Arc::new(Notify::new());
        if let Some(before) = inner.connection.replace(notify.clone()) {
            before.notify_one();
        }
        Connection {
            generation: inner.generation,
            session: self.clone(),
            notify,
        }
    }

    /// The client whose session it is, and the session's id in the engine.
    fn asker(&self) -> Asker {
        self.asker
    }

    fn is_over(&self) -> bool {
        self.inner.lock().ended
    }

    fn is_connected(&self) -> bool {
        self.inner.lock().connection.is_some()
    }

    /// Whether a question is open that will be answered if the server waits a little: not if its client does not read, or
    /// does not send what the question is about.
    fn is_busy(&self, now: Instant) -> bool {
        let inner = self.inner.lock();
        let stalled = inner.connection.is_some() && inner.state.context.outbox.full();
        !stalled && inner.state.is_busy(now)
    }

    /// Since when nobody is connected, if so.
    fn alone_since(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        inner.connection.is_none().then_some(inner.alone_since)
    }

    /// How much the picture would be missed that [`Session::evict_picture`] lets go: whether somebody is connected, then
    /// how few the session keeps, then when it was last used. `None` if there is none to spare.
    fn eviction_candidate(&self) -> Option<(bool, Reverse<u64>, u64)> {
        let inner = self.inner.lock();
        let (kept, used) = inner.state.eviction_candidate()?;
        Some((inner.connection.is_some(), Reverse(kept), used))
    }

    /// Lets go of a picture that no question is about; false if there is none.
    fn evict_picture(self: &Arc<Self>) -> bool {
        self.with(State::evict_oldest).unwrap_or(false)
    }

    fn tick(self: &Arc<Self>, now: Instant) {
        self.with_inner(None, |inner| {
            inner.state.tick(inner.connection.is_some(), now);
        });
    }

    /// Extends the deadlines by a time for which the process stood still and nobody could be heard.
    fn extend_deadlines(self: &Arc<Self>, time: Duration, now: Instant) {
        self.with_inner(None, |inner| {
            inner.alone_since = (inner.alone_since + time).min(now);
            inner.state.extend_deadlines(time, now);
        });
    }

    /// Gives back the memory of an upload.
    fn evict_upload(self: &Arc<Self>, upload: u32) {
        // Under the lock of what is done about it: the client may be back any moment, and builds on what it then hears.
        self.with_inner(None, |inner| {
            let connected = inner.connection.is_some();
            inner.state.evict_upload(upload, connected);
        });
    }
}
