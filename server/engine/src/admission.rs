//! Who has how many questions open with a worker, and who has to give way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::{Ask, Asker, ErrorCode, Failure, RequestId, SessionId};
use parking_lot::Mutex;

use crate::settings::Settings;

/// How many questions are open with a worker and whose they are, and how long one takes.
pub struct Admission {
    open: Mutex<Open>,
    most: usize,
    slots: usize,
    /// Running mean of an answer's time in its slot, in microseconds.
    answer_us: AtomicU64,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// By client, and of each by session.
    clients: HashMap<u128, (usize, HashMap<SessionId, usize>)>,
    /// The attempt at each.
    attempts: HashMap<RequestId, u32>,
}

/// How a question comes in.
#[derive(Debug, PartialEq, Eq)]
pub enum Admitted {
    New,
    /// Another has to give way to it, since the queue is full and another client has more in it than this one will, or
    /// another session of the client that will have most.
    ByEviction,
    /// In the place of an earlier attempt.
    Retry,
    /// This attempt, or a later one, is open: there is nothing to do.
    Duplicate,
}

impl Admission {
    pub fn new(settings: &Settings) -> Self {
        Admission {
            open: Mutex::default(),
            most: settings.queue + settings.max_batch,
            slots: settings.max_batch,
            answer_us: AtomicU64::new(1_000_000),
        }
    }

    pub fn open(&self) -> usize {
        self.open.lock().all
    }

    /// No question is one too many.
    pub fn has_room(&self) -> bool {
        self.open() <= self.most
    }

    /// A question wants to come in.
    ///
    /// # Errors
    /// `busy`: the queue is full, and nobody has more in it.
    pub fn enter(&self, ask: &Ask) -> Result<Admitted, Failure> {
        let asker = ask.asker;
        let mut open = self.open.lock();
        if let Some(attempt) = open.attempts.get_mut(&ask.request) {
            let is_later = ask.attempt > *attempt;
            *attempt = ask.attempt.max(*attempt);
            return Ok(if is_later {
                Admitted::Retry
            } else {
                Admitted::Duplicate
            });
        }
        let full = open.all >= self.most;
        if full {
            let most = open.clients.values().map(|(all, _)| *all).max();
            let (own, of_session, of_sessions) = match open.clients.get(&asker.client) {
                Some((all, sessions)) => (
                    *all,
                    sessions.get(&asker.session).copied().unwrap_or(0),
                    sessions.values().max().copied().unwrap_or(0),
                ),
                None => (0, 0, 0),
            };
            let most = most.unwrap_or(0);
            let another_client = most > own + 1;
            let another_session = own >= most && of_sessions > of_session + 1;
            if !another_client && !another_session {
                return Err(self.busy(open.all, "questions are waiting already"));
            }
        }
        open.all += 1;
        let (all, sessions) = open.clients.entry(asker.client).or_default();
        *all += 1;
        *sessions.entry(asker.session).or_default() += 1;
        open.attempts.insert(ask.request, ask.attempt);
        Ok(if full {
            Admitted::ByEviction
        } else {
            Admitted::New
        })
    }

    /// Why a question has no place among the `open` ones, and when it may.
    pub fn busy(&self, open: usize, what: &str) -> Failure {
        let ahead = (open / self.slots.max(1)).max(1) as f64;
        let wait = ahead * self.answer_us.load(Ordering::Relaxed) as f64 / 1e3;
        let seconds = (wait / 1e3).ceil();
        let message = format!("{open} {what}: ask again in {seconds:.0} s.");
        Failure::new(ErrorCode::Busy, message).retry_after(wait)
    }

    /// What a question is told that gives way.
    pub fn gave_way(&self) -> Failure {
        self.busy(
            self.open(),
            "questions are waiting, most of them this client's",
        )
    }

    /// An attempt is over. One that was replaced has left its place to the one that came.
    pub fn leave(&self, asker: Asker, request: RequestId, attempt: u32) {
        let mut open = self.open.lock();
        match open.attempts.entry(request) {
            Entry::Occupied(now) if *now.get() == attempt => now.remove(),
            _ => return,
        };
        // Never below none: a count gone wrong must not refuse everyone for ever.
        open.all = open.all.saturating_sub(1);
        let Entry::Occupied(mut own) = open.clients.entry(asker.client) else {
            return;
        };
        let (all, sessions) = own.get_mut();
        *all = all.saturating_sub(1);
        if let Entry::Occupied(mut of_session) = sessions.entry(asker.session) {
            *of_session.get_mut() -= 1;
            if *of_session.get() == 0 {
                of_session.remove();
            }
        }
        if *all == 0 {
            own.remove();
        }
    }

    /// An answer held its slot this long.
    pub fn answered(&self, took: Duration) {
        let old = self.answer_us.load(Ordering::Relaxed);
        self.answer_us
            .store((old * 7 + took.as_micros() as u64) / 8, Ordering::Relaxed);
    }
}

/// Why nothing can be asked of a worker that is gone.
pub fn not_running() -> Failure {
    Failure::new(
        ErrorCode::WorkerFailed,
        "The model is not running: the server's log says why.",
    )
}
