//! One WebSocket client: what it sent, what it may still have to be sent, and what the engine does for it.
//!
//! A session outlives its connections. [`State`] is what it knows, with no I/O at all; [`Session`] is that behind a lock, with
//! the engine on one side and at most one [`Connection`] on the other; [`Hub`] has all sessions.

mod connection;
mod context;
mod conversations;
mod hub;
mod journal;
mod kept;
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
use api::{Asker, Event, Freed, LogName, Presence, SessionId};
use context::{Effect, Setup};
use journal::Journal;
use kept::{Identity, KeptSession};
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
    /// What it is called where it is kept.
    name: LogName,
    /// Resuming takes the same API key.
    identity: Identity,
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
    /// What of it is kept outside of this process; nothing, where nobody could go on with it.
    journal: Option<Journal>,
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
    /// It ended here since another process has it.
    taken: bool,
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
    /// The change at work need not be kept.
    fn pass(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.pass();
        }
    }

    /// Has what is news kept outside of this process, unless that still has something on its way there.
    fn record(&mut self, identity: &Identity) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        journal.note(self.state.context.outbox.last());
        let state = &self.state;
        if let Some(record) = journal.next(|| kept::write(identity, state)) {
            self.state.context.effects.push_back(Effect::Keep(record));
        }
    }

    /// Counts what the session takes of the server's memory, where that is news.
    fn count(&mut self) {
        const STEP: u64 = 1024;
        let journal = self.journal.as_ref().map_or(0, Journal::bytes);
        let bytes = ((self.state.memory() + journal) as u64).next_multiple_of(STEP);
        if bytes != self.counted {
            self.counted = bytes;
            self.memory.set(bytes);
        }
    }
}

impl Session {
    /// A new session of a client's.
    fn new(
        id: String,
        owner: Option<KeyId>,
        client: Client,
        namespace: Option<SessionId>,
        prefix: String,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let asker = Asker {
            client: client.number(),
            session: SessionId::random(),
        };
        let share_pictures = shared.options.share_pictures;
        let identity = Identity {
            asker,
            owner,
            scope: (!share_pictures).then_some(namespace.unwrap_or(asker.session)),
            prefix,
        };
        let name = hub::digest(&id);
        let mut state = State::new(setup(&name, &identity, namespace.is_some(), &shared));
        // A request takes its session along when it ends.
        let is_kept = shared.log.is_some() && namespace.is_none();
        let journal = is_kept.then(|| {
            state.context.outbox.release(0);
            Journal::new(0, false)
        });
        Self::enter(id, name, identity, state, journal, shared)
    }

    /// A session that another process had.
    fn restored(id: String, kept: KeptSession, shared: Arc<Shared>) -> Arc<Self> {
        let identity = kept.identity.clone();
        let name = hub::digest(&id);
        let mut state = kept.restore(setup(&name, &identity, false, &shared));
        let last = state.context.outbox.last();
        state.context.outbox.release(last);
        let mut journal = Journal::new(last, true);
        journal.touch();
        Self::enter(id, name, identity, state, Some(journal), shared)
    }

    fn enter(
        id: String,
        name: LogName,
        identity: Identity,
        state: State,
        journal: Option<Journal>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let asker = identity.asker;
        let registry = shared.registry.clone();
        let away = Arc::new(AtomicBool::new(true));
        let keeper = MemoryOwner {
            session: asker.session,
            away: away.clone(),
        };
        let session = Arc::new(Session {
            tag: tag(&name),
            id,
            name,
            identity,
            inner: Mutex::new(Inner {
                state,
                journal,
                connection: None,
                generation: 0,
                alone_since: Instant::now(),
                running_effects: false,
                ended: false,
                taken: false,
                evicted: false,
                memory: shared.memory.place(asker.client, keeper),
                counted: 0,
            }),
            shared,
            away,
            established: AtomicBool::new(false),
        });
        registry.enter(asker.session, &session);
        if session.inner.lock().journal.is_some()
            && let Some(log) = &session.shared.log
        {
            log.enter(asker.session, name);
        }
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
            inner.state.context.outbox.tick();
            let result = change(&mut inner);
            inner.state.update_waiting_gauge();
            inner.record(&self.identity);
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
            Effect::Keep(record) => {
                if let Some(log) = &self.shared.log {
                    log.keep(self.asker().session, self.name, record);
                }
            }
            Effect::Known(picture) => {
                if let Some(log) = &self.shared.log {
                    log.known(picture);
                }
            }
            Effect::Release => self.release(),
            Effect::End => self.free_all(),
        }
    }

    /// Makes this the session's connection; one that was there hears that it is taken over.
    fn connect(self: &Arc<Self>, welcome: impl FnOnce(&str) -> ServerMessage) -> Connection {
        let mut inner = self.inner.lock();
        inner.state.context.outbox.tick();
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
            inner.pass();
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
        self.identity.asker
    }

    /// Whether something of it is kept outside of this process, where another may have taken it.
    fn is_kept(&self) -> bool {
        let inner = self.inner.lock();
        inner.journal.as_ref().is_some_and(|it| it.begun)
    }

    /// Another process has it.
    fn is_taken(&self) -> bool {
        self.inner.lock().taken
    }

    /// What whoever computes tells; it stays where the session is over.
    fn event(self: &Arc<Self>, event: &mut Option<Event>) {
        self.with_inner(None, |inner| {
            let Some(event) = event.take() else {
                return;
            };
            let at = inner.state.context.outbox.tick();
            if let Some(journal) = &mut inner.journal {
                journal.hear(at, &event);
                if matches!(
                    event,
                    Event::Freed(Freed::Picture(_) | Freed::Conversation(_))
                ) {
                    journal.erase();
                }
            }
            inner.state.event(event);
        });
    }

    /// What was to be kept of it is: its client may be told so far.
    fn kept(self: &Arc<Self>) {
        self.with_inner(None, |inner| {
            inner.pass();
            let kept = inner.journal.as_mut().and_then(Journal::kept);
            if let Some(event) = kept {
                inner.state.context.outbox.release(event);
            }
        });
    }

    /// What was kept of it is lost.
    fn unkept(self: &Arc<Self>) {
        self.with_inner(None, |inner| {
            if let Some(journal) = &mut inner.journal {
                journal.lost();
            }
        });
    }

    /// The same, as was seen beside what is being kept.
    fn missing(self: &Arc<Self>) {
        self.with_inner(None, |inner| {
            inner.pass();
            if let Some(journal) = &mut inner.journal {
                journal.missing();
            }
        });
    }

    /// Goes on with a session that another process had.
    fn go_on(self: &Arc<Self>) {
        self.with(State::go_on);
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
            inner.pass();
            inner.state.tick(inner.connection.is_some(), now);
            if let Some(journal) = &mut inner.journal {
                journal.tick(now);
            }
        });
    }

    /// Extends the deadlines by a time for which the process stood still and nobody could be heard.
    fn extend_deadlines(self: &Arc<Self>, time: Duration, now: Instant) {
        self.with_inner(None, |inner| {
            inner.pass();
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

/// What a session is called in logs.
fn tag(name: &LogName) -> String {
    wire::to_hex(&name[..4])
}

fn setup(name: &LogName, identity: &Identity, stateless: bool, shared: &Shared) -> Setup {
    Setup {
        tag: tag(name).into(),
        asker: identity.asker,
        stateless,
        scope: identity.scope,
        prefix: identity.prefix.clone(),
        limits: shared.limits.clone(),
        budget: shared.budget.clone(),
        uses: shared.uses.clone(),
    }
}
