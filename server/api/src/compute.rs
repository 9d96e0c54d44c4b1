//! Whoever computes.

use crate::{Command, Defaults, Model, State};

/// Whoever computes. What comes of a command is told as a [`Report`](crate::Report), by the channel that it was made with: a
/// command answers nothing itself, and never blocks.
pub trait Compute: Send + Sync {
    fn command(&self, command: Command);
}

/// How the engine stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub state: State,
    /// 0–1 while loading.
    pub progress: Option<f64>,
    /// Known from the configuration on, so before the weights are loaded.
    pub model: Model,
    /// The checkpoint's own sampling settings, for what a question leaves open.
    pub sampling: Defaults,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// It failed because the device is lost while serving: a new process may get it back.
    pub lost: bool,
}
