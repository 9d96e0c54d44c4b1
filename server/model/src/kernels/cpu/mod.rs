//! The operations on the CPU. They compute in f32 whatever the stored type.

mod activation;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod copy;
mod linear;
mod matrix;
mod norm;
mod product;
mod rotary;
mod storage;
mod tasks;
mod vector;

pub use activation::{add_bias, bias_gelu, gelu, swiglu};
pub use attention::{paged_attention, store_kv, vision_attention};
pub use copy::{copy_in, copy_out, copy_within, gather};
pub use linear::{after, linear, linear_onto, linear_then};
pub use norm::{add_layer_norm, layer_norm, rms_norm};
pub use product::quantized_product;
pub use rotary::angles;
