//! What every door passes through on its way to the engine: who asks, and what share of the server is theirs.

mod budget;
mod client;
pub mod decode;
mod messages;

pub use budget::{Budget, Candidate, Claim};
pub use client::{Client, KeyId};
pub use messages::{Eviction, Messages};
