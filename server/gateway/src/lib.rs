//! Everything that faces people and programs: the page, the socket, sessions, and what an operator looks at.
//!
//! Data goes one way: [`http`] → [`session`] → [`api::Compute`] down, events up through one channel per session.

pub mod http;
pub mod intake;
pub mod metrics;
#[cfg(test)]
mod replay_tests;
pub mod session;
#[cfg(test)]
mod stand_in;
