//! All sessions, by their ids.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glimpse_image::Format;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wire::{PROTOCOL, Reason, ServerMessage, Welcome};

use super::codec::to_hex;
use super::outbox::Gap;
use super::state::seconds;
use super::{Connection, Session, Shared};
use crate::intake::{Client, KeyId};

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

    /// A new session and its first connection, with the `welcome` that says so.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn open(
        &self,
        owner: Option<KeyId>,
        client: Client,
    ) -> Result<Connection, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let mut prefix = [0; 4];
        getrandom::fill(&mut prefix)?;
        let id = to_hex(&random);
        let tag = to_hex(&digest(&id)[..4]);
        let session = Session::new(
            id.clone(),
            tag,
            to_hex(&prefix),
            owner,
            client,
            self.shared.clone(),
        );
        let connection = session.connect(|id| self.welcome(id, None, None));
        self.sessions.lock().insert(id, session);
        while let Some(loneliest) = self.crowded() {
            if self.expire(&loneliest, Duration::ZERO, Instant::now()) {
                break;
            }
        }
        Ok(connection)
    }

    /// The session left alone longest, if there are too many.
    fn crowded(&self) -> Option<Arc<Session>> {
        let sessions = self.sessions.lock();
        if sessions.len() <= self.shared.options.max_sessions {
            return None;
        }
        let alone = sessions
            .values()
            .filter_map(|session| Some((session.alone_since()?, session)));
        let loneliest = alone.min_by_key(|(since, _)| *since);
        loneliest.map(|(_, session)| session.clone())
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
            Err(Some(Gap::Future)) => Err(Reason::Gap),
            Err(Some(Gap::Lost)) => {
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
        let short = self.shared.budget.was_short();
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            if !self.expire(&session, patience, now) {
                session.tick(short, now);
            }
        }
    }

    /// Sessions, and how many of them are connected.
    pub fn count(&self) -> (usize, usize) {
        let sessions = self.sessions.lock();
        let connected = sessions.values().filter(|session| session.is_connected());
        (sessions.len(), connected.count())
    }

    /// Waits until no question is open, at most so long; true if none is.
    pub async fn finish(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let busy = self
                .sessions
                .lock()
                .values()
                .any(|session| session.is_busy());
            if !busy || Instant::now() >= end {
                return !busy;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all questions that are still open, each with the end that its client waits for.
    pub fn cut_off(&self) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            session.with(|state| state.cancel_all(Instant::now()));
        }
    }
}

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}
