//! A connection's incoming bytes, judged by [`FrameGuard`] before actix's decoder sees them.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::Notify;

use super::frames::{Breach, FrameGuard};

/// A connection's incoming bytes, up to a frame that breaks the rules; what follows that is read and dropped.
pub struct GuardedPayload {
    payload: Payload,
    guard: FrameGuard,
    verdict: Rc<Verdict>,
}

/// Whether a frame broke the rules.
#[derive(Default)]
pub struct Verdict {
    breach: Cell<Option<Breach>>,
    message_bytes: Cell<u64>,
    notify: Notify,
}

impl Verdict {
    /// From now on a message may have so many bytes.
    pub fn set_message_bytes(&self, most: u64) {
        self.message_bytes.set(most);
    }

    /// Waits until a frame broke the rules.
    pub async fn given(&self) -> Breach {
        loop {
            if let Some(breach) = self.breach.get() {
                return breach;
            }
            self.notify.notified().await;
        }
    }
}

impl GuardedPayload {
    pub fn new(payload: Payload, message_bytes: u64) -> (Self, Rc<Verdict>) {
        let verdict = Rc::new(Verdict::default());
        verdict.set_message_bytes(message_bytes);
        let guarded = GuardedPayload {
            payload,
            guard: FrameGuard::new(message_bytes),
            verdict: verdict.clone(),
        };
        (guarded, verdict)
    }
}

impl Stream for GuardedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let next = std::task::ready!(Pin::new(&mut this.payload).poll_next(context));
            let Some(Ok(bytes)) = next else {
                return Poll::Ready(next);
            };
            if this.verdict.breach.get().is_some() {
                // Closing with bytes unread would reset the connection, and the client would never see why.
                continue;
            }
            this.guard.message_bytes = this.verdict.message_bytes.get();
            match this.guard.read(&bytes) {
                Ok(()) => return Poll::Ready(Some(Ok(bytes))),
                Err((good, breach)) => {
                    this.verdict.breach.set(Some(breach));
                    this.verdict.notify.notify_one();
                    return Poll::Ready(Some(Ok(bytes.slice(..good))));
                }
            }
        }
    }
}
