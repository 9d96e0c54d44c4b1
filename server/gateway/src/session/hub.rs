//! All sessions, by their ids.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glimpse_image::Format;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wire::{PROTOCOL, Reason, ServerMessage, State, Welcome};

use super::context::seconds;
use super::outbox::ReplayError;
use super::{Connection, Session, Shared};
use crate::intake::{Client, KeyId};
use api::SessionId;

/// Ids of expired sessions remembered, to tell `expired` from `unknown`.
const MAX_EXPIRED: usize = 4096;

/// All sessions.
pub struct Hub {
    pub shared: Arc<Shared>,
    pub(super) sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Hashes of the ids: whoever reads this memory can't resume anything anyway, but no id outlives its session.
    expired: Mutex<VecDeque<[u8; 32]>>,
}

/// The answer to a resume: the session, or why not.
pub type Resumed = Result<Connection, Reason>;

impl Hub {
    pub fn new(shared: Shared) -> Self {
        Hub {
            shared: Arc::new(shared),
            sessions: Mutex::default(),
            expired: Mutex::default(),
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
        let tag = wire::to_hex(&digest(&id)[..4]);
        let session = Session::new(
            id.clone(),
            tag,
            wire::to_hex(&prefix),
            owner,
            client,
            namespace,
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
            *counts.entry(session.asker.client).or_default() += 1;
        }
        let alone = kept().filter_map(|session| Some((session.alone_since()?, session)));
        let first = alone.max_by_key(|(since, session)| {
            let count = counts.get(&session.asker.client).copied();
            (count, Reverse(*since))
        });
        first.map(|(_, session)| session.clone())
    }

    /// Ends the sessions that nobody is connected to and whose key is no longer one; connections see to their own.
    pub fn end_without_key(&self, has: impl Fn(KeyId) -> bool) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            if session.owner.is_some_and(|owner| !has(owner)) {
                self.expire(&session, Duration::ZERO, Instant::now());
            }
        }
    }

    /// Connects to an earlier session, taking it over from a connection that may still be there.
    pub fn resume(&self, resume: &wire::Resume, owner: Option<KeyId>) -> Resumed {
        let found = self.sessions.lock().get(&resume.session).cloned();
        // A session opened with another key is none of this client's business.
        let Some(session) = found.filter(|session| session.owner == owner) else {
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
        let most = self.shared.limits.max_new_tokens;
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
            sampling: match status.state {
                State::Warming | State::Ready => Some(status.sampling.told(most)),
                State::Loading | State::Draining | State::Failed => None,
            },
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
        for session in sessions {
            session.with(|state| state.cancel_all(Instant::now()));
        }
    }
}

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}
