//! A linear layer and the token embedding: dense, or with the weight in blocks of 4 or 8 bits.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Result, Tensor};

use crate::kernels;

/// A matrix [out, in], as every weight of a product is stored.
#[derive(Clone)]
pub enum Weight {
    /// In the type that is computed in; on the CPU, which computes in f32, also in 16 bits.
    Dense(Tensor),
    /// In blocks along `in`; the format is the tensor's own.
    Quantized(Arc<QTensor>),
}

/// x · weightᵀ + bias.
pub struct Linear {
    weight: Weight,
    /// [out]
    bias: Option<Tensor>,
}

/// The vectors of tokens.
pub struct Embedding {
    /// [vocabulary, hidden]
    weight: Weight,
    dtype: DType,
}

impl Linear {
    pub fn new(weight: Weight, bias: Option<Tensor>) -> Self {
        Linear { weight, bias }
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
            Weight::Dense(weight) => kernels::product(x, weight),
            Weight::Quantized(weight) => kernels::quantized_product(x, weight),
        }
    }
}

impl Embedding {
    /// `dtype` is what everything is computed in.
    pub fn new(weight: Weight, dtype: DType) -> Self {
        Embedding { weight, dtype }
    }

    /// The vectors of tokens: [ids, hidden].
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) => weight
                .index_select(&Tensor::new(ids, weight.device())?, 0)?
                .to_dtype(self.dtype),
            Weight::Quantized(weight) => weight
                .embedding(&Tensor::new(ids, &weight.device())?)?
                .to_dtype(self.dtype),
        }
    }

    /// The output layer that shares this table.
    pub fn tied(&self) -> Linear {
        Linear::new(self.weight.clone(), None)
    }
}
