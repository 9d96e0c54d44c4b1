//! Whoever computes.

use crate::{Command, Defaults, Download, Model, State};

/// Whoever computes. What comes of a command is told as a [`Report`](crate::Report), by the channel that it was made with: a
/// command answers nothing itself, and never blocks.
pub trait Compute: Send + Sync {
    fn command(&self, command: Command);
}

/// How much of a model is on its device, in bytes as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub done: u64,
    pub total: u64,
}

impl Loaded {
    /// 0–1.
    pub fn progress(self) -> f64 {
        self.done as f64 / self.total.max(1) as f64
    }
}

/// How the engine stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub state: State,
    /// While loading.
    pub loaded: Option<Loaded>,
    /// While the model comes from its hub.
    pub download: Option<Download>,
    /// Known from the configuration on, so before the weights are loaded.
    pub model: Model,
    /// The checkpoint's own sampling settings, for what a question leaves open.
    pub sampling: Defaults,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// Whether the failure is that the device was lost while serving: a new process may get it back.
    pub lost: bool,
}
