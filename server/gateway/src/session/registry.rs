//! Which session an id of the engine's is, without keeping any alive.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Session;
use api::SessionId;

/// All sessions that are not over.
#[derive(Default)]
pub struct Registry(Mutex<HashMap<SessionId, Weak<Session>>>);

impl Registry {
    pub fn enter(&self, id: SessionId, session: &Arc<Session>) {
        self.0.lock().insert(id, Arc::downgrade(session));
    }

    pub fn leave(&self, id: SessionId) {
        self.0.lock().remove(&id);
    }

    pub fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.0.lock().get(&id)?.upgrade()
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        self.0.lock().values().filter_map(Weak::upgrade).collect()
    }
}
