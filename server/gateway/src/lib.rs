//! Everything that faces people and programs: the page, the socket, sessions, and what an operator looks at.
//!
//! Data goes one way: [`doors`] → [`session`] → [`api::Command`]s down, [`api::Report`]s up through one channel to all sessions.

// Tools use some that nothing else does.
#![cfg_attr(not(feature = "mcp"), allow(dead_code))]

pub mod access;
pub mod doors;
pub mod exchange;
pub mod intake;
#[cfg(test)]
mod replay_tests;
pub mod session;
#[cfg(test)]
mod stand_in;
pub mod telemetry;
