//! Glimpse answers questions about a picture, on your own hardware.
//!
//! Data goes one way: [`http`] → [`session`] → [`engine`] → [`model`] down, events up through one channel per session.

pub mod bench;
pub mod config;
pub mod generate;
pub mod http;
pub mod inspect;
pub mod intake;
pub mod loading;
pub mod metrics;
pub mod quantize;
#[cfg(test)]
mod replay_tests;
pub mod serve;
pub mod session;
pub mod telemetry;
mod watch;
