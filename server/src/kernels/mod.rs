//! The operations of the model that candle has not, or has slower: fused, and each with its own kernel per device.
//!
//! On the CPU they compute in f32 whatever the stored type. Every operation takes contiguous tensors.

mod activation;
mod attention;
mod cpu;
mod dense;
mod norm;
mod quantized;

pub use activation::{add_bias, bias_gelu, gelu, swiglu};
pub use attention::{Arena, PAGE, Plan, Rotary, Span, paged_attention, store_kv, vision_attention};
pub use norm::{add_layer_norm, layer_norm, rms_norm};
pub use quantized::{product, quantized_product};
