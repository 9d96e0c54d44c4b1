//! Gateways and workers on different machines: [`api::Command`] one way and [`api::Report`] the other, over NATS with
//! JetStream.
//!
//! A gateway's [`Fleet`] is an [`api::Compute`], as an engine is one; [`worker::run`] carries what it asks to an engine.
//! Commands and events are streams, each link's in order and once ([`link`]); who is there is a key and a heartbeat; pixels go
//! straight to where they are looked at and, for when that one is lost, into the object store. What is decided about all of
//! that is in [`state`], which knows no network and no clock.

mod desk;
mod drain;
mod fleet;
mod link;
mod members;
mod message;
mod nats;
mod order;
mod pictures;
mod registration;
mod seal;
mod sessions;
mod state;
mod sweep;
mod tokens;
pub mod worker;

pub use drain::drain;
pub use fleet::{Fleet, GatewaySettings, Started};
pub use members::{GatewayMember, Load, Members, WorkerMember, members};
pub use nats::Settings;
