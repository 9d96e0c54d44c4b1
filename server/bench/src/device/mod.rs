//! What servers are made of, run in this process.

pub mod agreement;
pub(crate) mod instruments;
pub mod stages;
