//! How long everything takes.
//!
//! [`load`] drives servers through their socket as clients do. [`device`] runs in this process what they are made of: the
//! model's stages, what smaller weights do to its answers, what counting and tracing cost. [`report`] is what was found, what
//! it should be, how it is told, and what got slower.

pub mod device;
pub mod load;
mod progress;
mod report;

pub use report::plot::{Line, drawing};
