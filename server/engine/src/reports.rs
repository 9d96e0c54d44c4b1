//! What workers tell, and that each question's end and each freeing is told exactly once, whatever becomes of the worker.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use api::{Ask, Asker, Event, Failure, Freed, Health, Measured, Report, RequestId, SessionId};

use super::admission::Admission;
use super::failures::lost;

/// Where reports go. Nobody has to listen.
#[derive(Clone)]
pub struct Reports(Arc<dyn Fn(Report) + Send + Sync>);

impl From<Sender<Report>> for Reports {
    fn from(to: Sender<Report>) -> Self {
        Reports::new(move |report| drop(to.send(report)))
    }
}

impl Reports {
    /// Each goes to `to`, by the thread that computes: it must not wait there.
    pub fn new(to: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Reports(Arc::new(to))
    }

    pub fn tell(&self, session: SessionId, event: Event) {
        (self.0)(Report::Session { session, event });
    }

    pub fn measured(&self, worker: u32, measured: Measured) {
        (self.0)(Report::Measured { worker, measured });
    }

    pub fn health(&self, health: Health) {
        (self.0)(Report::Health(health));
    }
}

/// A question's place among the open ones. It is given back when the question ends; dropped without an end, as by a worker
/// that is gone, the question fails.
pub struct Permit {
    reports: Reports,
    admission: Arc<Admission>,
    asker: Asker,
    request: RequestId,
    attempt: u32,
    open: bool,
}

impl Permit {
    /// The permit of a question that [`Admission::enter`] let in.
    pub fn new(reports: Reports, admission: Arc<Admission>, ask: &Ask) -> Self {
        Permit {
            reports,
            admission,
            asker: ask.asker,
            request: ask.request,
            attempt: ask.attempt,
            open: true,
        }
    }

    pub fn tell(&self, event: Event) {
        self.reports.tell(self.asker.session, event);
    }

    /// Ends the question: its place is free before anybody hears of it.
    pub fn end(mut self, event: Event) {
        self.leave();
        self.tell(event);
    }

    /// Ends the question with an error.
    pub fn fail(self, failure: Failure) {
        let failed = self.failed(failure);
        self.end(failed);
    }

    /// Ends it without a word: a later attempt has taken its place.
    pub fn replaced(mut self) {
        self.leave();
    }

    fn leave(&mut self) {
        self.open = false;
        self.admission.leave(self.asker, self.request, self.attempt);
    }

    fn failed(&self, failure: Failure) -> Event {
        Event::Failed {
            request: self.request,
            attempt: self.attempt,
            failure,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            self.leave();
            self.tell(self.failed(lost()));
        }
    }
}

/// Tells that something is freed when it is dropped: behind the work, or with a worker that is gone.
pub struct FreedNotice {
    pub reports: Reports,
    pub session: SessionId,
    pub freed: Freed,
}

impl Drop for FreedNotice {
    fn drop(&mut self) {
        self.reports.tell(self.session, Event::Freed(self.freed));
    }
}
