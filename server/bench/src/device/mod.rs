//! What servers are made of, run in this process.

pub mod agreement;
mod formats;
pub(crate) mod instruments;
pub mod stages;
