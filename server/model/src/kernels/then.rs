//! What is done with a product on the way.

use candle_core::Tensor;

/// What follows a product x · weightᵀ.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    /// gelu(x · weightᵀ + bias).
    Gelu { bias: &'a Tensor },
    /// silu(x · gateᵀ) · (x · upᵀ); the weight is the gate's rows, then as many of the other.
    Swiglu,
}
