//! What a worker tells whoever watches it.

use std::time::Duration;

/// How a worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Watches one worker; dropped with it. Called on the worker's thread: it must not block.
pub trait Observer: Send {
    /// So many bytes of the weights, as stored, are on the device.
    fn loading(&mut self, _done: u64, _total: u64) {}

    /// All of them are.
    fn loaded(&mut self) {}

    /// A forward pass for `slots` slots; `decode`: each had one token.
    fn forward(&mut self, _took: Duration, _slots: usize, _decode: bool) {}

    /// How the worker stands from now on.
    fn gauges(&mut self, _now: Gauges) {}
}

/// Nobody watches.
impl Observer for () {}
