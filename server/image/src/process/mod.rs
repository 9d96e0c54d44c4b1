//! Decoding in a process of its own, so that a picture that breaks its decoder, or asks for all memory or time there is,
//! breaks nothing else.
//!
//! The process is this very program, started ahead. It gives up files, the network and other processes ([`sandbox`]),
//! then is sent one picture after the other: the file lies in memory that both see ([`memory`]), and the pixels are
//! written to such memory too. It reads the header first and says what decoding will take; its parent
//! then decides ([`parent`]).

mod child;
mod memory;
mod messages;
mod parent;
mod sandbox;
#[cfg(test)]
mod tests;

pub use child::run;
pub use memory::SharedMemory;
pub use parent::{Failure, Killer, Process};
