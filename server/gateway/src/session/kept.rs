//! A session as it is kept outside of this process: written by the one that has it, read by the one that goes on with it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wire::Forgotten;

use super::conversations::KeptConversations;
use super::outbox::KeptOutbox;
use super::pictures::KeptPictures;
use super::state::State;
use crate::intake::KeyId;
use api::encoding::{DecodeError, decode, encode};
use api::{Asker, Event, Freed, Record, RecordKind, SessionId};

/// Whose a session is, and what it is called.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    pub asker: Asker,
    /// The API key it was opened with.
    pub owner: Option<KeyId>,
    /// What its pictures' keys have as their session.
    pub scope: Option<SessionId>,
    /// What its ids begin with.
    pub prefix: String,
}

/// What a [`State`] knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptState {
    pub outbox: KeptOutbox,
    pub pictures: KeptPictures,
    pub conversations: KeptConversations,
    /// How many ids were given out.
    pub ids: u64,
    /// What is to be freed, and what its client is told then.
    pub leaving: Vec<(Freed, Forgotten)>,
}

/// A whole record.
#[derive(Serialize, Deserialize)]
struct Whole<I, S> {
    identity: I,
    /// Milliseconds since 1970, by the clock of the machine that wrote it.
    written: f64,
    state: S,
}

/// A session as its records tell it.
pub struct KeptSession {
    pub identity: Identity,
    state: KeptState,
    /// Milliseconds since it was written.
    ago: f64,
    /// What happened since, each with the time of its messages.
    events: Vec<(f64, Event)>,
}

/// A whole record's bytes.
///
/// # Errors
/// If something in it can't be written.
pub fn write(identity: &Identity, state: &State) -> Result<Vec<u8>, String> {
    encode(&Whole {
        identity,
        written: wall_clock(),
        state: state.kept(Instant::now()),
    })
}

impl KeptSession {
    /// Reads records, from the last whole one on.
    ///
    /// # Errors
    /// If they are none, or of a later version.
    pub fn read(records: &[Record]) -> Result<Self, DecodeError> {
        let malformed = || DecodeError::Malformed("a session without a whole record".into());
        let (first, rest) = records.split_first().ok_or_else(malformed)?;
        if first.kind == RecordKind::More {
            return Err(malformed());
        }
        let whole: Whole<Identity, KeptState> = decode(&first.bytes)?;
        let mut events = Vec::new();
        for record in rest {
            events.extend(decode::<Vec<(f64, Event)>>(&record.bytes)?);
        }
        Ok(KeptSession {
            identity: whole.identity,
            state: whole.state,
            // Clocks of different machines differ: it was not written later than now.
            ago: (wall_clock() - whole.written).max(0.0),
            events,
        })
    }

    /// The state that it is.
    pub fn restore(self, setup: super::context::Setup) -> State {
        let mut state = State::restore(setup, self.state, self.ago, Instant::now());
        for (at, event) in self.events {
            state.context.outbox.set_time(at);
            state.event(event);
        }
        // What these led to was done when they happened.
        state.context.effects.clear();
        state.context.outbox.await_resume();
        state
    }
}

fn wall_clock() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() * 1e3
}
