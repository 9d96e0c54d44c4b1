//! The operations on an NVIDIA card: the kernels are `cuda/*.cu`, and what launches them is here.
//!
//! All of it runs on the one stream of candle's device, in order; nothing here waits unless it says so.

mod activation;
mod attention;
mod blocks;
mod card;
mod copy;
mod layout;
mod linear;
mod norm;
mod patches;
mod plain;
mod product;
mod rows;
mod scores;
mod step;

pub use activation::{add_bias, bias_gelu, gelu, swiglu};
pub(super) use attention::{paged_attention, store_kv, vision_attention};
pub use blocks::Blocks;
pub(super) use card::{Event, unwritten};
pub use card::{
    Gpu, Hopper, PoolUse, capability, check, give_memory_back, keep_memory, pool_use,
    reserve_memory, upload, use_hopper,
};
pub use copy::{Pinned, copy_in, copy_out, copy_within, gather, pinned};
pub use linear::{after, linear, linear_onto, linear_then};
pub use norm::{add_layer_norm, layer_norm, rms_norm};
pub use patches::patches;
pub use plain::stop_measuring;
pub use scores::ScoreReader;
pub use step::{ManyStep, Step, StepLayer, StepModel, StepWeight};
