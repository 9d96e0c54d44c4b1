//! What the page knows and how that changes, with nothing of a browser in it: [`State`] takes an [`Input`], which a person,
//! the socket, the worker, the store, the clock or the browser brings, and tells what is to be done as [`Effect`]s. The time,
//! random values and whatever else the world decides come with the input ([`Now`]), so that a test can run all of it.
//!
//! Each file owns a matter and the ways in which that changes: [`connection`], [`conversation`], [`upload`], [`transfer`],
//! [`history`], [`undo`], [`notices`]. What one of them means for another stands in [`state`] (for whatever a person does, or the
//! clock), in [`incoming`] and [`aside`] (for pictures and conversations that come and go) and in [`messages`] (for whatever the
//! server says).

mod answers;
mod arrivals;
mod aside;
pub mod brought;
pub mod clock;
pub mod connection;
pub mod conversation;
pub mod crop;
pub mod effect;
pub mod exchange;
pub mod figures;
pub mod handover;
pub mod history;
pub mod incoming;
pub mod input;
mod keeping;
pub mod kept;
pub mod latency;
mod messages;
pub mod notices;
pub mod picture;
pub mod scaling;
pub mod settings;
mod slow;
pub mod speech;
pub mod state;
pub mod suggestions;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod tree;
pub mod turn;
pub mod undo;
pub mod upload;
mod uploaded;
pub mod watched;
pub mod zoom;

pub use effect::{Effect, Effects};
pub use input::{Browser, Input, Now, Person, Socket, Store, Worker};
pub use state::State;
