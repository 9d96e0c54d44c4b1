//! A checkpoint's weights: its folder, its files, the formats that they are stored and kept in, and the way onto a device.
//!
//! Nothing here knows a model: which tensors there are is told by running its own loading against a [`Loader`] that only
//! writes down what it is asked for.

mod coming;
mod folder;
mod formats;
pub mod fp8;
pub mod linear;
mod loader;
mod q4k;
mod shards;
mod source;
mod spec;

pub use coming::Coming;
pub use folder::{FileBytes, Folder};
pub use formats::{Format, format_of, row_bytes, why_plain};
pub use loader::{Loader, Progress};
pub use shards::{INDEX, Shard, Weights, holds_weights};
pub use source::Source;
pub use spec::{Inventory, TensorSpec};
