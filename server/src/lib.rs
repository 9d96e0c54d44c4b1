//! Glimpse answers questions about a picture, on your own hardware.
//!
//! Data goes one way: [`http`] → [`session`] → [`engine`] → [`glm4v`] down, events up through one channel per session.

pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod engine;
pub mod generate;
pub mod glm4v;
pub mod http;
pub mod inspect;
pub mod intake;
mod json;
pub mod kernels;
pub mod loading;
pub mod metrics;
pub mod quantize;
#[cfg(test)]
mod replay_tests;
mod save;
pub mod serve;
pub mod session;
pub mod telemetry;
pub mod text;
