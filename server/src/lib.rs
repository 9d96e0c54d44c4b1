//! Glimpse answers questions about a picture, on your own hardware.
//!
//! The command line: settings, and the crates that do what they ask for, put together.

pub mod bench;
pub mod check;
pub mod config;
#[cfg(feature = "cluster")]
pub mod fleet;
pub mod generate;
pub mod inspect;
pub mod loading;
#[cfg(feature = "mcp")]
pub mod mcp;
mod page;
pub mod pull;
pub mod quantize;
pub mod serve;
pub mod solo;
#[cfg(feature = "cluster")]
mod spans;
pub mod telemetry;
