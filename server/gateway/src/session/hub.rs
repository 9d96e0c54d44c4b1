//! All sessions, by their ids.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glimpse_image::Format;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wire::{PROTOCOL, Reason, ServerMessage, Welcome};

use super::context::seconds;
use super::kept::KeptSession;
use super::outbox::ReplayError;
use super::{Connection, Session, Shared};
use crate::intake::{Client, KeyId};
use api::{LogName, SessionId};

/// Ids of expired sessions remembered, to tell `expired` from `unknown`.
const MAX_EXPIRED: usize = 4096;

/// All sessions.
pub struct Hub {
    pub shared: Arc<Shared>,
    pub(super) sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Hashes of the ids: whoever reads this memory can't resume anything anyway, but no id outlives its session.
    expired: Mutex<VecDeque<[u8; 32]>>,
    /// Who looks whether another process has a session: one at a time for each of these.
    turns: [tokio::sync::Mutex<()>; 64],
}

/// The answer to a resume: the session, or why not.
pub type Resumed = Result<Connection, Reason>;

impl Hub {
    pub fn new(shared: Shared) -> Self {
        Hub {
            shared: Arc::new(shared),
            sessions: Mutex::default(),
            expired: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }

    /// A new session and its first connection, with the `welcome` that says so. It counts once it stays: [`Hub::keep`].
    /// Sessions of one `namespace` share what the model has seen of a picture; a session of none has that for itself.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn open(
        &self,
        owner: Option<KeyId>,
        client: Client,
        namespace: Option<SessionId>,
    ) -> Result<Connection, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let mut prefix = [0; 4];
        getrandom::fill(&mut prefix)?;
        let id = wire::to_hex(&random);
        let session = Session::new(
            id.clone(),
            owner,
            client,
            namespace,
            wire::to_hex(&prefix),
            self.shared.clone(),
        );
        let connection = session.connect(|id| self.welcome(id, None, None));
        self.sessions.lock().insert(id, session);
        Ok(connection)
    }

    /// Counts a connection's session from now on, and ends sessions as long as there are too many. Call it once it is known
    /// that the session stays: whoever comes back to an earlier one needs no more than that.
    pub fn keep(&self, connection: &Connection) {
        connection.session.keep();
        while let Some(one) = self.eviction_candidate() {
            if self.expire(&one, Duration::ZERO, Instant::now()) {
                break;
            }
        }
    }

    /// The session to go, if there are too many: of the client that has most of them, the one left alone longest. Those
    /// that somebody is connected to stay.
    fn eviction_candidate(&self) -> Option<Arc<Session>> {
        let sessions = self.sessions.lock();
        let kept = || sessions.values().filter(|session| session.is_established());
        if kept().count() <= self.shared.options.max_sessions {
            return None;
        }
        let mut counts: HashMap<u128, usize> = HashMap::new();
        for session in kept() {
            *counts.entry(session.asker().client).or_default() += 1;
        }
        let alone = kept().filter_map(|session| Some((session.alone_since()?, session)));
        let first = alone.max_by_key(|(since, session)| {
            let count = counts.get(&session.asker().client).copied();
            (count, Reverse(*since))
        });
        first.map(|(_, session)| session.clone())
    }

    /// Ends the sessions that nobody is connected to and whose key is no longer one; connections see to their own.
    pub fn end_without_key(&self, has: impl Fn(KeyId) -> bool) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            if session.identity.owner.is_some_and(|owner| !has(owner)) {
                self.expire(&session, Duration::ZERO, Instant::now());
            }
        }
    }

    /// Connects to an earlier session, wherever it was: one that another process has, or had, is taken from it.
    ///
    /// # Errors
    /// Why that is not possible; `None` while it can't be found out.
    pub async fn come_back(
        &self,
        resume: &wire::Resume,
        owner: Option<KeyId>,
    ) -> Result<Connection, Option<Reason>> {
        let Some(log) = &self.shared.log else {
            return self.resume(resume, owner).map_err(Some);
        };
        let name = digest(&resume.session);
        // One after the other: who comes second finds the session here.
        let _turn = self.turns[usize::from(name[0]) % self.turns.len()]
            .lock()
            .await;
        let here = self.sessions.lock().get(&resume.session).cloned();
        if let Some(session) = here {
            let stays = !session.is_taken() && (!session.is_kept() || log.has(name).await);
            if stays {
                return self.resume(resume, owner).map_err(Some);
            }
            session.give_up();
            self.sessions.lock().remove(&session.id);
        }
        match log.take(name).await {
            // Ended, or never there.
            Ok(None) => self.resume(resume, owner).map_err(Some),
            Ok(Some(records)) => match KeptSession::read(&records) {
                Ok(kept) => {
                    let session = self.restore(resume.session.clone(), kept);
                    let connection = self.resume(resume, owner).map_err(Some)?;
                    let status = self.shared.told_status();
                    session.with(|state| state.tell_moving(status));
                    Ok(connection)
                }
                Err(problem) => {
                    tracing::error!(%problem, "a session that was kept can't be read");
                    Err(Some(Reason::Unknown))
                }
            },
            Err(failure) => {
                tracing::warn!(
                    detail = failure.detail,
                    "it can't be found out whether a session was kept"
                );
                Err(None)
            }
        }
    }

    /// Makes a session that another process had one of this process.
    fn restore(&self, id: String, kept: KeptSession) -> Arc<Session> {
        let session = Session::restored(id.clone(), kept, self.shared.clone());
        session.keep();
        self.sessions.lock().insert(id, session.clone());
        tracing::info!(session = session.tag, "a session is taken over");
        session.go_on();
        session
    }

    /// Connects to an earlier session of this process, taking it over from a connection that may still be there.
    pub fn resume(&self, resume: &wire::Resume, owner: Option<KeyId>) -> Resumed {
        let found = self.sessions.lock().get(&resume.session).cloned();
        // A session opened with another key is none of this client's business.
        let Some(session) = found.filter(|session| session.identity.owner == owner) else {
            let expired = self.expired.lock().contains(&digest(&resume.session));
            return Err(if expired {
                Reason::Expired
            } else {
                Reason::Unknown
            });
        };
        match session.resume(resume.last_event, |id| self.welcome(id, Some(true), None)) {
            Ok(connection) => Ok(connection),
            Err(Some(ReplayError::Future)) => Err(Reason::Gap),
            Err(Some(ReplayError::Lost)) => {
                // Nobody can ever resume it, unless someone still has it.
                if session.end_alone(Duration::ZERO, Instant::now()) {
                    self.sessions.lock().remove(&session.id);
                }
                Err(Reason::Gap)
            }
            Err(None) => Err(Reason::Expired),
        }
    }

    /// The `welcome` of a session.
    pub fn welcome(
        &self,
        id: &str,
        resumed: Option<bool>,
        reason: Option<Reason>,
    ) -> ServerMessage {
        let status = self.shared.status();
        let sampling = self.shared.own_sampling(&status);
        ServerMessage::Welcome(Box::new(Welcome {
            session: id.to_owned(),
            protocol: PROTOCOL.into(),
            resumed,
            reason,
            state: status.state,
            model: status.model,
            limits: (*self.shared.limits).clone(),
            formats: Format::ALL
                .iter()
                .map(|format| format.as_str().to_owned())
                .collect(),
            sampling,
        }))
    }

    /// Ends a connection's session at once, unless another connection has taken it over.
    pub fn close(&self, connection: &Connection) {
        if connection.session.end_as(connection.generation) {
            self.sessions.lock().remove(&connection.session.id);
        }
    }

    /// Ends a session that its client left at least so long ago; false if it is there, or back in this very moment.
    fn expire(&self, session: &Arc<Session>, patience: Duration, now: Instant) -> bool {
        if !session.end_alone(patience, now) {
            return false;
        }
        self.sessions.lock().remove(&session.id);
        if session.is_taken() {
            return true;
        }
        let mut expired = self.expired.lock();
        expired.push_back(digest(&session.id));
        if expired.len() > MAX_EXPIRED {
            expired.pop_front();
        }
        true
    }

    /// Ends what took too long: sessions without a connection, uploads without bytes. Call it every second or so.
    pub fn tick(&self, now: Instant) {
        let patience = seconds(self.shared.limits.resume_seconds);
        self.shared.reclaim_memory(0);
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            if !self.expire(&session, patience, now) {
                session.tick(now);
            }
        }
    }

    /// Extends all sessions' deadlines by a time for which the process stood still: what nobody could send is not late.
    pub fn extend_deadlines(&self, time: Duration, now: Instant) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            session.extend_deadlines(time, now);
        }
    }

    /// Sessions, and how many of them are connected.
    pub fn count(&self) -> (usize, usize) {
        let sessions = self.sessions.lock();
        let connected = sessions.values().filter(|session| session.is_connected());
        (sessions.len(), connected.count())
    }

    /// Waits until no question is open but those that wait for their clients, at most so long; true if none is.
    pub async fn finish(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let now = Instant::now();
            let busy = self
                .sessions
                .lock()
                .values()
                .any(|session| session.is_busy(now));
            if !busy || now >= end {
                return !busy;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all questions that are still open, each with the end that its client waits for.
    pub fn cancel_all(&self) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        // Another process goes on with those that are kept.
        for session in sessions.iter().filter(|it| !it.is_kept()) {
            session.with(|state| state.cancel_all(Instant::now()));
        }
    }
}

pub(super) fn digest(id: &str) -> LogName {
    Sha256::digest(id).into()
}
