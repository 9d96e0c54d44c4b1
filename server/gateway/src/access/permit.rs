//! A connection's place among all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use api::Failure;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::guests::Guests;
use crate::intake::Client;

/// Ends a connection from outside.
#[derive(Default)]
pub struct CloseHandle {
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl CloseHandle {
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection is to end; the task is woken when that changes.
    pub fn is_closed(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.closed.load(Ordering::Acquire)
    }
}

/// A TCP connection's place among all; left or dropped, the place is free.
pub struct ConnectionPermit {
    guests: Arc<Guests>,
    number: u64,
    /// The client, as far as the connection alone tells: for a proxy's connection it is the proxy.
    pub(super) client: Client,
    pub(super) limited: bool,
    refused: bool,
    refusal: Mutex<Option<Failure>>,
    /// Under which client it stands among those that no session has.
    seen_as: Mutex<Option<Client>>,
    left: AtomicBool,
    in_use: AtomicBool,
    /// Its client sends nothing more: set once, and then all are woken who wait for that.
    gone: watch::Sender<bool>,
    switch: Arc<CloseHandle>,
}

impl ConnectionPermit {
    pub(super) fn new(
        guests: Arc<Guests>,
        number: u64,
        (client, limited): (Client, bool),
        refusal: Option<Failure>,
        switch: Arc<CloseHandle>,
    ) -> Self {
        ConnectionPermit {
            guests,
            number,
            client,
            limited,
            refused: refusal.is_some(),
            refusal: Mutex::new(refusal),
            seen_as: Mutex::new(Some(client)),
            left: AtomicBool::new(false),
            in_use: AtomicBool::new(false),
            gone: watch::Sender::new(false),
            switch,
        }
    }

    /// Why nothing is served here, if so.
    pub fn refusal(&self) -> Option<Failure> {
        self.refusal.lock().clone()
    }

    /// Whether the connection is to end.
    pub fn is_closed(&self, context: &Context<'_>) -> bool {
        self.switch.is_closed(context)
    }

    /// A proxy's connection carries this client's request now.
    pub fn seen_as(&self, client: Client) {
        let mut seen_as = self.seen_as.lock();
        let Some(before) = *seen_as else { return };
        if before == client {
            return;
        }
        let mut inner = self.guests.inner.lock();
        if let Some(switch) = inner.take(before, self.number) {
            inner.put(client, self.number, switch);
            *seen_as = Some(client);
        }
    }

    /// A session has it now: it is no longer among those that go first.
    pub(super) fn settle(&self) {
        let mut seen_as = self.seen_as.lock();
        let mut inner = self.guests.inner.lock();
        // Told to close in this very moment, it stays so.
        if seen_as.is_some_and(|client| inner.take(client, self.number).is_some()) {
            *seen_as = None;
        }
    }

    /// Whether somebody uses the connection who sees to its time-outs: a WebSocket, or a request that is answered later.
    pub fn in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    pub fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    /// Notes that the client has closed its side, as none does that waits for an answer.
    pub fn set_gone(&self) {
        self.gone
            .send_if_modified(|gone| !std::mem::replace(gone, true));
    }

    /// Until its client has closed its side.
    pub async fn gone(&self) {
        // It can't be dropped meanwhile.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// The connection is as good as gone.
    pub fn leave(&self) {
        if self.left.swap(true, Ordering::Relaxed) {
            return;
        }
        let seen_as = self.seen_as.lock().take();
        let mut inner = self.guests.inner.lock();
        if self.refused {
            inner.refused -= 1;
            if self.limited
                && let Some(record) = inner.records.get_mut(&self.client)
            {
                record.refused -= 1;
            }
            return;
        }
        // Told to close to make room, it is no longer counted among all.
        let counted = seen_as.is_none_or(|client| inner.take(client, self.number).is_some());
        inner.total -= usize::from(counted);
        if self.limited {
            inner.release(self.client);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that a proxy passed on; dropped, it no longer counts for its client.
pub struct Passed {
    guests: Arc<Guests>,
    client: Client,
}

impl Passed {
    pub(super) fn new(guests: Arc<Guests>, client: Client) -> Self {
        Passed { guests, client }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.guests.inner.lock().release(self.client);
    }
}
