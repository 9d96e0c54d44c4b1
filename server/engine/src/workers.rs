//! Several workers, one for each device: which session is whose, and what they come to together.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};

use api::{Download, Health, Loaded, SessionId, State, Status};
use parking_lot::Mutex;
use policy::placement::{self, Candidate};
use tokio::sync::watch;

use super::admission::Admission;
use super::command::Command;
use super::reports::Reports;
use super::tokenization::Tokenization;

/// The way to a worker.
pub struct Handle {
    pub commands: mpsc::Sender<Command>,
    pub admission: Arc<Admission>,
    /// Where questions are tokenized; without it the worker gets their texts.
    pub tokenization: Option<Tokenization>,
}

impl Handle {
    pub fn new(
        commands: mpsc::Sender<Command>,
        admission: Arc<Admission>,
        tokenization: Option<Tokenization>,
    ) -> Self {
        Handle {
            commands,
            admission,
            tokenization,
        }
    }

    pub fn send(&self, command: Command) {
        // Without a worker (it failed to load, or it ended) nothing can follow.
        let _ = self.commands.send(command);
    }
}

/// All workers. A session's pictures and conversations are in the cache of one of them, its home.
pub struct Workers {
    all: Vec<Handle>,
    /// Each session's home. Empty where there is one worker, which is everyone's home.
    homes: Mutex<HashMap<SessionId, usize>>,
}

impl Workers {
    pub fn new(all: Vec<Handle>) -> Self {
        Workers {
            all,
            homes: Mutex::default(),
        }
    }

    pub fn all(&self) -> &[Handle] {
        &self.all
    }

    /// The session's home. A new session gets one here.
    pub fn home(&self, session: SessionId) -> Option<&Handle> {
        if let [only] = &self.all[..] {
            return Some(only);
        }
        let mut homes = self.homes.lock();
        let home = match homes.get(&session) {
            Some(home) => *home,
            None => {
                let mut candidates: Vec<Candidate> = self.all.iter().map(candidate).collect();
                for home in homes.values() {
                    candidates[*home].sessions += 1;
                }
                let home = placement::home(candidates)?;
                homes.insert(session, home);
                home
            }
        };
        self.all.get(home)
    }

    /// The session's home, if it has one.
    pub fn known(&self, session: SessionId) -> Option<&Handle> {
        match &self.all[..] {
            [only] => Some(only),
            all => all.get(*self.homes.lock().get(&session)?),
        }
    }

    /// Removes the session from its home.
    pub fn leave(&self, session: SessionId) {
        self.homes.lock().remove(&session);
    }
}

/// A worker, without the sessions that are at home there.
fn candidate(worker: &Handle) -> Candidate {
    Candidate {
        open: worker.admission.open() as u64,
        sessions: 0,
    }
}

/// Where a worker tells how it stands. Outside, all workers have one status.
pub struct StatusPublisher {
    number: usize,
    statuses: Arc<Statuses>,
    health: Mutex<Health>,
    reports: Reports,
}

/// How each worker stands, and what they come to.
pub struct Statuses {
    standing: Mutex<Standing>,
    merged: watch::Sender<Status>,
}

struct Standing {
    workers: Vec<Status>,
    /// How much of the model that all of them load has come.
    download: Option<Download>,
}

impl Statuses {
    /// What all workers come to.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.merged.subscribe()
    }

    pub fn state(&self) -> State {
        self.merged.borrow().state
    }

    /// Tells how much of the model has come; none once all of it has.
    pub fn tell_download(&self, download: Option<Download>) {
        self.change(|standing| standing.download = download);
    }

    /// Held until all are told, so that the last to be told is the last that was.
    fn change<R>(&self, change: impl FnOnce(&mut Standing) -> R) -> R {
        let mut standing = self.standing.lock();
        let result = change(&mut standing);
        let mut merged = merge(&standing.workers);
        // Whoever is past loading has all of it, whether or not that was told yet.
        if matches!(merged.state, State::Loading | State::Failed) {
            merged.download = standing.download.clone();
        }
        self.merged.send_replace(merged);
        result
    }
}

impl StatusPublisher {
    /// So many, and where what they come to is told.
    pub fn all(workers: usize, reports: &Reports) -> (Vec<Self>, Arc<Statuses>) {
        let standing = Standing {
            workers: vec![Status::default(); workers],
            download: None,
        };
        let statuses = Arc::new(Statuses {
            standing: Mutex::new(standing),
            merged: watch::Sender::new(Status::default()),
        });
        let publisher = |number| StatusPublisher {
            number,
            statuses: statuses.clone(),
            health: Mutex::new(Health {
                worker: number as u32,
                ..Health::default()
            }),
            reports: reports.clone(),
        };
        ((0..workers).map(publisher).collect(), statuses)
    }

    pub fn send_modify(&self, change: impl FnOnce(&mut Status)) {
        self.statuses.change(|standing| {
            let status = &mut standing.workers[self.number];
            let before = status.state;
            change(status);
            let state = status.state;
            if state != before {
                self.health(|health| health.state = state);
            }
        });
    }

    /// The worker's, on its machine.
    pub fn number(&self) -> u32 {
        self.number as u32
    }

    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Reports the worker's health, with what has changed of it.
    pub fn health(&self, change: impl FnOnce(&mut Health)) {
        let mut health = self.health.lock();
        change(&mut health);
        self.reports.health(health.clone());
    }
}

/// What several workers come to: the one that is furthest behind, a failed one before all, on all devices.
pub fn merge(each: &[Status]) -> Status {
    let rank = |status: &Status| match status.state {
        State::Failed if status.lost => 0,
        State::Failed => 1,
        State::Loading => 2,
        State::Warming => 3,
        State::Ready | State::Draining => 4,
    };
    // Loading and nothing of it told yet is less than any progress.
    let progress = |status: &Status| status.loaded.map_or(-1.0, Loaded::progress);
    let behind = each.iter().min_by(|a, b| {
        let by_rank = rank(a).cmp(&rank(b));
        by_rank.then_with(|| progress(a).total_cmp(&progress(b)))
    });
    let (Some(first), Some(behind)) = (each.first(), behind) else {
        return Status::default();
    };
    let names: Vec<_> = each
        .iter()
        .map(|status| status.model.device.as_str())
        .filter(|name| !name.is_empty())
        .collect();
    Status {
        model: api::Model {
            device: names.join(", "),
            ..first.model.clone()
        },
        sampling: first.sampling.clone(),
        ..behind.clone()
    }
}

#[cfg(test)]
mod tests;
