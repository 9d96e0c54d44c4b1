//! The operations of the model that candle has not, or has slower: fused, and each with its own kernel per device.
//!
//! On the CPU they compute in f32 whatever the stored type. Every operation takes contiguous tensors.

/// Where the tensor is on a card, returns what the card's own kernel gives.
macro_rules! on_card {
    ($tensor:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if $tensor.device().is_cuda() {
            return $call;
        }
    };
}

mod activation;
mod attention;
mod cache;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod dense;
mod linear;
mod mark;
mod norm;
mod plan;
mod quantized;
#[cfg(any(test, feature = "cuda"))]
mod room;
mod rotary;
mod then;

/// Bytes of a weight in blocks that are plain at a time, on a card, for a product with many rows: half of the published
/// model's largest layer, so that a product with a part is as fast as one with all.
pub const MOST_PLAIN: usize = 112 << 20;

pub use activation::{add_bias, bias_gelu, gelu, swiglu};
pub use attention::{paged_attention, store_kv, vision_attention};
pub use cache::{Arena, PAGE};
pub use linear::{after, gather, linear, linear_onto, linear_then};
pub use mark::Mark;
pub use norm::{add_layer_norm, layer_norm, rms_norm};
pub use plan::{Plan, Span};
use quantized::product;
pub use quantized::quantized_product;
#[cfg(feature = "cuda")]
pub use room::Room;
pub use rotary::Rotary;
pub use then::Then;
