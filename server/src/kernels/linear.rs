//! Products with plain weights, and looking rows up in a table.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
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

/// gelu(x · weightᵀ + bias).
pub fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    on_card!(x, cuda::linear_gelu(x, weight, bias));
    let y = product(x, weight)?;
    bias_gelu(&y, bias).map(|()| y)
}

/// silu(x · gateᵀ) · (x · upᵀ): `weight` [2 · out, in] is the gate, then up.
pub fn linear_swiglu(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    on_card!(x, cuda::linear_swiglu(x, weight));
    swiglu(&product(x, weight)?)
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
