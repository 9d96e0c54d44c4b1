//! Products with weights, and looking rows up in a table.

use candle_core::quantized::QTensor;
use candle_core::{DType, Result, Tensor};

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;
use super::then::Then;

/// x · weightᵀ + bias: `x` [rows, in], `weight` [out, in] in `x`'s type or, on the CPU, in 16 bits, `bias` [out]; the result
/// [rows, out] in `x`'s type.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    on_card!(x, cuda::linear(x, weight, bias));
    cpu::linear(x, weight, bias)
}

/// What `then` says of `product`, a product that is there: [rows, out], which may be overwritten.
pub fn after(then: Then<'_>, product: Tensor) -> Result<Tensor> {
    on_card!(product, cuda::after(then, product));
    cpu::after(then, product)
}

/// What `then` says of the product of `x` [rows, in] and `weight` [out, in].
pub fn linear_then(x: &Tensor, weight: &Tensor, then: Then<'_>) -> Result<Tensor> {
    on_card!(x, cuda::linear_then(x, weight, then));
    cpu::linear_then(x, weight, then)
}

/// onto + x · weightᵀ: `x` [rows, in], `weight` [out, in]; `onto` [rows, out] may be overwritten.
pub fn linear_onto(onto: Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    on_card!(x, cuda::linear_onto(onto, x, weight));
    cpu::linear_onto(onto, x, weight)
}

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in] in ggml's blocks, the result [rows, out] in `x`'s type. Elsewhere than
/// on the CPU by candle's own kernels; a card's weights in blocks are multiplied with otherwise.
pub fn quantized_product(x: &Tensor, weight: &QTensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return cpu::quantized_product(x, weight);
    }
    x.to_dtype(DType::F32)?
        .apply_op1_no_bwd(weight)?
        .to_dtype(x.dtype())
}

/// The rows `ids` of `table` [rows, n]: [ids, n].
///
/// # Errors
/// One of the ids is no row of the table.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    on_card!(table, cuda::gather(table, ids));
    cpu::gather(table, ids)
}
