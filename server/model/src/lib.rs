//! Ids and pixels in, scores out: the model, the numbers it computes with, and the text that goes through it.
//!
//! Nothing here knows sessions, sockets, an async runtime or a command line.

pub mod checkpoint;
pub mod device;
mod error;
pub mod glm4v;
mod json;
pub mod kernels;
pub mod network;
pub mod prompt;
mod quantization;
#[cfg(test)]
mod replay_tests;
mod save;
pub mod scores;
pub mod text;
pub mod weights;

pub use error::LoadError;
pub use quantization::{Quantize, QuantizeChoice};
pub use save::save_tensors;
