//! A connection's incoming bytes, judged by [`FrameGuard`] before actix's decoder sees them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::Notify;

use super::frames::{FrameError, FrameGuard};
use crate::intake::{Eviction, Messages, Reservation};

/// A connection's incoming bytes, up to where it has to end; what follows that is read and dropped.
pub struct GuardedPayload {
    guard: FrameGuard,
    verdict: Rc<ConnectionGuard>,
    messages: Arc<Messages>,
}

/// What is found out about a connection by its bytes alone.
pub struct ConnectionGuard {
    payload: RefCell<Payload>,
    breach: Cell<Option<FrameError>>,
    message_bytes: Cell<u64>,
    notify: Notify,
    eviction: Arc<Eviction>,
    /// What the message takes that is not whole.
    place: Reservation<Arc<Eviction>>,
    heard: Cell<Instant>,
    /// When it last grew.
    grown: Cell<Instant>,
    /// Its bytes.
    pending: Cell<u64>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// A frame broke the rules.
    FrameError(FrameError),
    /// Memory for unfinished messages is short, and its client has most of it.
    Evicted,
}

impl ConnectionGuard {
    /// Sets the most bytes that a message may have.
    pub fn set_message_bytes(&self, most: u64) {
        self.message_bytes.set(most);
    }

    /// Counts the connection's memory as this client's.
    pub fn set_client(&self, client: u128) {
        self.place.set_client(client);
    }

    /// When the last byte came, or was last excused.
    pub fn heard(&self) -> Instant {
        self.heard.get()
    }

    /// Nobody is blamed for the time until now, in which nothing was read.
    pub fn extend_deadlines(&self, now: Instant) {
        self.heard.set(now);
        self.grown.set(now);
    }

    /// Since when a message that is not whole stands still, if there is one.
    pub fn stalled_since(&self) -> Option<Instant> {
        (self.pending.get() > 0).then(|| self.grown.get())
    }

    fn poll_payload(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        Pin::new(&mut *self.payload.borrow_mut()).poll_next(context)
    }

    /// What was collected is gone; what still comes is read and dropped, until nothing more does.
    pub async fn drain(&self) {
        self.place.set(0);
        while let Some(Ok(_)) = poll_fn(|context| self.poll_payload(context)).await {}
    }

    fn fault(&self) -> Option<CloseCause> {
        if self.eviction.is_asked() {
            return Some(CloseCause::Evicted);
        }
        self.breach.get().map(CloseCause::FrameError)
    }

    /// Waits until the connection has to end.
    pub async fn given(&self) -> CloseCause {
        loop {
            if let Some(fault) = self.fault() {
                return fault;
            }
            tokio::select! {
                () = self.notify.notified() => {}
                () = self.eviction.asked() => {}
            }
        }
    }
}

impl GuardedPayload {
    pub fn new(
        payload: Payload,
        message_bytes: u64,
        messages: Arc<Messages>,
        client: u128,
    ) -> (Self, Rc<ConnectionGuard>) {
        let eviction = Arc::new(Eviction::default());
        let verdict = Rc::new(ConnectionGuard {
            payload: RefCell::new(payload),
            breach: Cell::new(None),
            message_bytes: Cell::new(message_bytes),
            notify: Notify::new(),
            place: messages.place(client, eviction.clone()),
            eviction,
            heard: Cell::new(Instant::now()),
            grown: Cell::new(Instant::now()),
            pending: Cell::new(0),
        });
        let guarded = GuardedPayload {
            guard: FrameGuard::new(message_bytes),
            verdict: verdict.clone(),
            messages,
        };
        (guarded, verdict)
    }

    /// Counts what has come of a message that is not whole; if all together are too much, whoever has most gives way.
    fn count(&self, now: Instant) {
        let pending = self.guard.pending();
        if pending == self.verdict.pending.replace(pending) {
            return;
        }
        self.verdict.grown.set(now);
        self.verdict.place.touch(now);
        self.verdict.place.set(pending);
        for eviction in self.messages.pick_victims(0, |place| place.touched) {
            eviction.ask();
        }
    }
}

impl Stream for GuardedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let next = std::task::ready!(this.verdict.poll_payload(context));
            let Some(Ok(bytes)) = next else {
                return Poll::Ready(next);
            };
            if this.verdict.fault().is_some() {
                // Closing with bytes unread would reset the connection, and the client would never see why.
                continue;
            }
            let now = Instant::now();
            this.verdict.heard.set(now);
            this.guard.message_bytes = this.verdict.message_bytes.get();
            match this.guard.read(&bytes) {
                Ok(()) => {
                    this.count(now);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Err((good, breach)) => {
                    this.verdict.breach.set(Some(breach));
                    this.verdict.notify.notify_one();
                    return Poll::Ready(Some(Ok(bytes.slice(..good))));
                }
            }
        }
    }
}
