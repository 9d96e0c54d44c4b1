//! The operations of the model that candle has not, or has slower.
//!
//! Each is declared once, in a file here that says what it computes and of which shapes, and implemented twice, in `cpu/` and
//! `cuda/`, in files of the same names. Every operation takes contiguous tensors. On the CPU all is computed in f32 whatever
//! the stored type; a card sums in f32.

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
// Without the feature for its tests alone, which compare it with the kernels' sources.
#[cfg(all(test, not(feature = "cuda")))]
#[allow(dead_code)]
#[path = "cuda/layout.rs"]
mod cuda_layout;
mod linear;
mod mark;
mod norm;
mod plan;
#[cfg(any(test, feature = "cuda"))]
mod room;
mod rotary;
mod then;

/// Bytes of a weight in blocks that are plain at a time, on a card, for a product with many rows: half of the published
/// model's largest layer, so that a product with a part is as fast as one with all.
pub const MOST_PLAIN: usize = 112 << 20;

pub use activation::{add_bias, bias_gelu, gelu, swiglu};
pub use attention::{paged_attention, store_kv, vision_attention};
pub use cache::{Arena, HostPages, PAGE};
pub use linear::{after, gather, linear, linear_onto, linear_then, quantized_product};
pub use mark::Mark;
pub use norm::{add_layer_norm, layer_norm, rms_norm};
pub use plan::{Plan, Span};
#[cfg(feature = "cuda")]
pub use room::Room;
pub use rotary::Rotary;
pub use then::Then;
