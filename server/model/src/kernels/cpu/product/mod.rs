//! Products with weights as they are kept: x · weightᵀ.

mod dequantized;
mod formats;
mod plain;
mod sizes;
#[cfg(test)]
mod tests;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};
use half::{bf16, f16};

use self::dequantized::multiply;
use self::formats::{Bf16, F16, Q4_0, Q4K, Q8_0};
use self::sizes::sizes;
use super::storage::{as_f32, from_f32};

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in], in `x`'s type or in 16 bits; the result [rows, out] in `x`'s type.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if x.dtype() == weight.dtype() {
        return plain::product(x, weight);
    }
    x.apply_op2_no_bwd(weight, &NarrowProduct)
}

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in] in blocks, the result [rows, out] in `x`'s type.
pub fn quantized_product(x: &Tensor, weight: &QTensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&QuantizedProduct(weight))
}

struct QuantizedProduct<'a>(&'a QTensor);

impl CustomOp1 for QuantizedProduct<'_> {
    fn name(&self) -> &'static str {
        "quantized-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let sizes = sizes(layout.shape(), self.0.shape())?;
        let (data, weight) = (as_f32(x, layout)?, self.0.data()?);
        let out = match self.0.dtype() {
            GgmlDType::Q8_0 => multiply::<Q8_0>(sizes, &data, &weight),
            GgmlDType::Q4_0 => multiply::<Q4_0>(sizes, &data, &weight),
            GgmlDType::Q4K => multiply::<Q4K>(sizes, &data, &weight),
            other => bail!("no CPU kernel for weights in {other:?}"),
        };
        let shape = Shape::from((sizes.0, sizes.1));
        Ok((from_f32(out, x.dtype())?, shape))
    }
}

struct NarrowProduct;

impl CustomOp2 for NarrowProduct {
    fn name(&self) -> &'static str {
        "narrow-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = sizes(xl.shape(), wl.shape())?;
        let Some((from, to)) = wl.contiguous_offsets() else {
            bail!("expected a contiguous weight")
        };
        let data = as_f32(x, xl)?;
        // SAFETY: both are 16 bits without padding.
        let bytes =
            |first: *const u8| unsafe { std::slice::from_raw_parts(first, (to - from) * 2) };
        let out = match weight {
            CpuStorage::BF16(w) => {
                let w: &[bf16] = &w[from..to];
                multiply::<Bf16>(sizes, &data, bytes(w.as_ptr().cast()))
            }
            CpuStorage::F16(w) => {
                let w: &[f16] = &w[from..to];
                multiply::<F16>(sizes, &data, bytes(w.as_ptr().cast()))
            }
            other => bail!("no CPU kernel for weights in {:?}", other.dtype()),
        };
        let shape = Shape::from((sizes.0, sizes.1));
        Ok((from_f32(out, x.dtype())?, shape))
    }
}
