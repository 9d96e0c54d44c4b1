//! A linear layer: dense, or with its weight in blocks of 4 or 8 bits.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Module, Result, Tensor};

use super::tensors::{Part, TensorSpec};
use crate::config::Quantize;
use crate::kernels;

/// x · weightᵀ + bias.
pub struct Linear {
    weight: Weight,
    /// [out]
    bias: Option<Tensor>,
}

enum Weight {
    /// [out, in]
    Dense(Tensor),
    Quantized(QMatMul),
}

/// The format that a tensor's weights take, `None` where they stay plain: only the weights of products are quantized.
/// Blocks of 256 where the row's length allows, else of 32.
pub fn format_of(spec: &TensorSpec, quantize: Quantize) -> Option<GgmlDType> {
    let [_, row] = spec.shape[..] else {
        return None;
    };
    let table = spec.name.contains("embedding");
    let product = match spec.part {
        Part::DecoderLayers | Part::VisionLayers => true,
        Part::Rest => !table,
    };
    if !product || !spec.name.ends_with(".weight") || row % 32 != 0 {
        return None;
    }
    match quantize {
        Quantize::None => None,
        Quantize::Q8 => Some(GgmlDType::Q8_0),
        Quantize::Q4 if row % 256 == 0 => Some(GgmlDType::Q4K),
        Quantize::Q4 => Some(GgmlDType::Q4_0),
    }
}

impl Linear {
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear {
            weight: Weight::Dense(weight),
            bias,
        }
    }

    /// Quantizes `weight` [out, in].
    pub fn quantized(weight: &Tensor, bias: Option<Tensor>, format: GgmlDType) -> Result<Self> {
        let weight = QTensor::quantize(&weight.to_dtype(DType::F32)?, format)?;
        Ok(Linear {
            weight: Weight::Quantized(QMatMul::from_qtensor(weight)?),
            bias,
        })
    }

    /// `x` is [rows, in].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.product(x)?;
        if let Some(bias) = &self.bias {
            kernels::add_bias(&y, bias)?;
        }
        Ok(y)
    }

    /// gelu(forward(x)).
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.product(x)?;
        match &self.bias {
            Some(bias) => kernels::bias_gelu(&y, bias).map(|()| y),
            None => kernels::gelu(&y),
        }
    }

    fn product(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) => x.matmul(&weight.t()?),
            Weight::Quantized(weight) => weight
                .forward(&x.to_dtype(DType::F32)?)?
                .to_dtype(x.dtype()),
        }
    }
}
