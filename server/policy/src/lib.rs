//! Rules that the gateway, the engine and a cluster of them all keep to: whose turn it is, and who computes for whom. Plain
//! data, no clock and no thread.

pub mod fair;
pub mod placement;

pub use fair::FairQueue;
