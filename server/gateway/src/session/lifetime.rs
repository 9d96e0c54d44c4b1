//! How a session ends, and what becomes of all it holds.
//!
//! A session ends when its client closes it, when nobody was connected for too long, when its key is taken away, or when
//! its client takes too much memory. [`Session::finish`] is the one way there: the connection is woken and finds the session
//! over, the state drops uploads, pictures, conversations and unsent messages, and [`Session::free_all`] has the decoders and
//! the engine free what they hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::context::Effect;
use super::{Inner, Session};
use api::Command;

impl Session {
    /// Gives back memory: without a connection all of it, else what it can go on without, if that is most of it.
    pub(super) fn evict(self: &Arc<Self>) {
        if self.end_alone(Duration::ZERO, Instant::now()) {
            return;
        }
        let goes_on = self.with_inner(None, |inner| {
            let before = inner.counted;
            inner.state.shed_memory();
            inner.memory.reclaimed();
            inner.state.memory() as u64 <= before / 2
        });
        if goes_on == Some(false) {
            let mut inner = self.inner.lock();
            inner.evicted = !inner.ended;
            self.finish(inner);
        }
    }

    /// Ends the session if nobody was connected for so long: answers are cancelled, pictures dropped. Whether it is
    /// over now.
    pub(super) fn end_alone(self: &Arc<Self>, patience: Duration, now: Instant) -> bool {
        let inner = self.inner.lock();
        let alone = now.saturating_duration_since(inner.alone_since);
        let over = inner.ended || (inner.connection.is_none() && alone >= patience);
        if over {
            self.finish(inner);
        }
        over
    }

    /// Ends the session if the connection of that `generation` still has it; whether it did.
    pub(super) fn end_as(self: &Arc<Self>, generation: u64) -> bool {
        let inner = self.inner.lock();
        let mine = inner.generation == generation;
        if mine {
            self.finish(inner);
        }
        mine
    }

    fn finish(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        if inner.ended {
            return;
        }
        inner.ended = true;
        if let Some(notify) = inner.connection.take() {
            notify.notify_one();
        }
        // Everything the session holds goes now, not with its last `Arc`.
        inner.state.clear();
        inner.counted = 0;
        inner.memory.set(0);
        // Behind what the engine is being told of the session just now.
        let end = match inner.taken {
            true => Effect::Release,
            false => Effect::End,
        };
        inner.state.context.effects.push_back(end);
        drop(inner);
        self.shared.registry.leave(self.asker().session);
        self.away.store(true, Ordering::Relaxed);
        self.run_effects();
    }

    /// Another process has the session: whoever is connected here hears that it was taken over, and nothing is freed that
    /// the other one has.
    pub(super) fn give_up(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.taken = !inner.ended;
        self.finish(inner);
    }

    /// Has the decoders free what they have of the session, and nothing more told of it: [`Effect::Release`].
    pub(super) fn release(&self) {
        let session = self.asker().session;
        self.shared.decoders.end_session(session);
        if let Some(log) = &self.shared.log {
            log.release(session, self.name);
        }
    }

    /// Has the decoders and the engine free all that they have of the session, and nothing kept of it: [`Effect::End`].
    pub(super) fn free_all(&self) {
        let session = self.asker().session;
        self.shared.decoders.end_session(session);
        match self.shared.log.as_ref().filter(|_| self.is_kept()) {
            Some(log) => log.end(session, self.name),
            None => self.shared.engine.command(Command::EndSession { session }),
        }
    }
}
