//! How a worker stands.

use serde::{Deserialize, Serialize};

use crate::State;

/// How a worker stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The worker's number on its machine.
    pub worker: u32,
    pub state: State,
    /// The model's fingerprint: workers of the same one give the same answers. Empty until its checkpoint was read.
    pub model: String,
    /// Questions accepted and not yet answered.
    pub open: u64,
    /// Pages of the KV cache.
    pub pages: u64,
    /// KV-cache pages in use: by running questions, or kept for later ones.
    pub used_pages: u64,
    /// Turns of its loop so far: of a worker with open questions that stands still, nothing more is to be expected.
    pub turn: u64,
    /// The mean time of one token for everybody that runs, lately; 0 before the first.
    pub token_ms: f64,
    /// The longest turn so far: one that takes many times as long will not end.
    #[serde(default)]
    pub longest_turn_ms: f64,
}
