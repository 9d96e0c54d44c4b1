//! The kernels on an NVIDIA card, `cuda/*.cu`, and what launches them.
//!
//! All of it runs on the one stream of candle's device, in order; nothing here waits unless it says so.

mod attention;
mod blocks;
mod gemm;
mod gpu;
mod ops;
mod product;
mod ring;
mod staging;
mod step;
mod tensor_map;

pub(super) use attention::{paged_attention, store_kv, vision_attention};
pub use blocks::Blocks;
pub use gemm::{linear, linear_onto, linear_then, stop_measuring};
pub(super) use gpu::{Event, unwritten};
pub use gpu::{
    Gpu, Hopper, check, give_memory_back, keep_memory, pool_use, reserve_memory, use_hopper,
};
pub use ops::{
    add_bias, add_layer_norm, after, bias_gelu, copy_within, gather, gelu, layer_norm, patches,
    rms_norm, swiglu,
};
pub use staging::upload;
pub use step::{Step, StepLayer, StepModel, StepWeight};
