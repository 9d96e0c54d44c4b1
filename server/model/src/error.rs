//! What can be wrong with a checkpoint or a device.

/// Why a checkpoint can't be served: one sentence that names the file and the tensor, what was expected, what was
/// found, and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);
