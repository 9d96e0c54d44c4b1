//! Products with plain weights, and looking rows up in a table.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::then::Then;
use super::{add_bias, bias_gelu, product, swiglu};

/// x · weightᵀ + bias: `x` [rows, in], `weight` [out, in], `bias` [out].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    on_card!(x, cuda::linear(x, weight, bias));
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

/// What `then` says of `x` [rows, in] and `weight` [out, in].
pub fn linear_then(x: &Tensor, weight: &Tensor, then: Then<'_>) -> Result<Tensor> {
    on_card!(x, cuda::linear_then(x, weight, then));
    after(then, product(x, weight)?)
}

/// onto + x · weightᵀ: `onto` [rows, out] may be overwritten.
pub fn linear_onto(onto: Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    on_card!(x, cuda::linear_onto(onto, x, weight));
    onto + product(x, weight)?
}

/// The rows `ids` of `table`.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    on_card!(table, cuda::gather(table, ids));
    table.index_select(&Tensor::new(ids, table.device())?, 0)
}
