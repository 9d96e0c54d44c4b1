//! What a worker counts of its own work.

use serde::{Deserialize, Serialize};

/// How a worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauges {
    /// Questions.
    pub waiting: u64,
    pub running: u64,
    /// Bytes of the KV cache.
    pub cache_used: u64,
    pub cache_size: u64,
    /// Bytes of the device's own memory, if it has some.
    pub memory_used: u64,
    pub memory_size: u64,
}

/// A forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    pub ms: f64,
    /// How many questions it served.
    pub slots: u64,
    /// Each had one token.
    pub decode: bool,
}

/// Forward passes of one kind, added up since a worker's start: so that who misses some of what it tells misses none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Passes {
    pub count: u64,
    /// How long they took.
    pub ms: f64,
    /// How many questions each served, together.
    pub slots: u64,
}

/// All forward passes of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Those in which each question had one token.
    pub decode: Passes,
    /// Those over pieces of prompts.
    pub prompt: Passes,
}

impl Counted {
    pub fn add(&mut self, pass: Pass) {
        let kind = match pass.decode {
            true => &mut self.decode,
            false => &mut self.prompt,
        };
        kind.count += 1;
        kind.ms += pass.ms;
        kind.slots += pass.slots;
    }
}

/// What a worker has counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// The gauges' new values.
    Gauges(Gauges),
    Pass(Pass),
}
