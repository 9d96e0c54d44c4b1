//! A linear layer.

use candle_core::{Result, Tensor};

use crate::kernels;

/// x · weightᵀ + bias.
pub struct Linear {
    /// [out, in]
    weight: Tensor,
    /// [out]
    bias: Option<Tensor>,
}

impl Linear {
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
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
        x.matmul(&self.weight.t()?)
    }
}
