//! What every door passes through on its way to the engine: who asks, and what share of the server is theirs.

mod budget;
mod client;
pub mod decode;
mod messages;
mod picture_memory;
mod question;
pub mod retry;

pub use budget::{Budget, EvictionCandidate, Reservation};
pub use client::{Client, KeyId};
pub use messages::{Eviction, Messages};
pub use picture_memory::{PictureMemory, Retained};
pub use question::{check_logprobs, check_system, check_text, format, sampling};
