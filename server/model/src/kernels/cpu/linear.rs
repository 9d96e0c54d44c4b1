//! Products with weights on the CPU, and what follows them.

use candle_core::{Result, Tensor};

use super::activation::{add_bias, bias_gelu, swiglu};
use super::product::product;
use crate::kernels::then::Then;

/// x · weightᵀ + bias.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = product(x, weight)?;
    if let Some(bias) = bias {
        add_bias(&y, bias)?;
    }
    Ok(y)
}

/// What `then` says of a product that is there.
pub fn after(then: Then<'_>, product: Tensor) -> Result<Tensor> {
    match then {
        Then::Gelu { bias } => bias_gelu(&product, bias).map(|()| product),
        Then::Swiglu => swiglu(&product),
    }
}

/// What `then` says of x · weightᵀ.
pub fn linear_then(x: &Tensor, weight: &Tensor, then: Then<'_>) -> Result<Tensor> {
    after(then, product(x, weight)?)
}

/// onto + x · weightᵀ.
pub fn linear_onto(onto: Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    onto + product(x, weight)?
}
