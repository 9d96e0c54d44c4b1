//! A linear layer and the token embedding: dense, or with the weight in blocks of 4 or 8 bits.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::kernels::{self, Then};

/// A matrix [out, in], as every weight of a product is stored.
#[derive(Clone)]
pub enum Weight {
    /// In the type that is computed in; on the CPU, which computes in f32, also in 16 bits.
    Dense(Tensor),
    /// In blocks along `in`; the format is the tensor's own.
    Quantized(Arc<QTensor>),
    /// In blocks along `in`, as they lie on a card.
    #[cfg(feature = "cuda")]
    Blocks(Arc<cuda::Blocks>),
}

/// A linear layer: x · weightᵀ + bias.
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
        self.product(x, self.bias.as_ref())
    }

    /// gelu(forward(x)).
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => self.then(x, Then::Gelu { bias }),
            None => kernels::gelu(&self.product(x, None)?),
        }
    }

    /// silu(gate) · up, where forward(x) is the gate, then up.
    pub fn forward_swiglu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(_) => kernels::swiglu(&self.forward(x)?),
            None => self.then(x, Then::Swiglu),
        }
    }

    /// onto + forward(x); what `onto` shares its elements with may change too.
    pub fn forward_onto(&self, x: &Tensor, onto: Tensor) -> Result<Tensor> {
        match (&self.weight, &self.bias) {
            (Weight::Dense(weight), None) => kernels::linear_onto(onto, x, weight),
            #[cfg(feature = "cuda")]
            (Weight::Blocks(weight), None) => weight.linear_onto(onto, x),
            _ => onto + self.forward(x)?,
        }
    }

    /// What `then` says of x and the weight.
    fn then(&self, x: &Tensor, then: Then<'_>) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) => kernels::linear_then(x, weight, then),
            Weight::Quantized(_) => kernels::after(then, self.product(x, None)?),
            #[cfg(feature = "cuda")]
            Weight::Blocks(weight) => weight.linear_then(x, then),
        }
    }

    fn product(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) => kernels::linear(x, weight, bias),
            Weight::Quantized(weight) => {
                let y = kernels::quantized_product(x, weight)?;
                if let Some(bias) = bias {
                    kernels::add_bias(&y, bias)?;
                }
                Ok(y)
            }
            #[cfg(feature = "cuda")]
            Weight::Blocks(weight) => weight.linear(x, bias),
        }
    }

    /// The weight and bias as a decode step takes them, where it can.
    #[cfg(feature = "cuda")]
    pub fn step(&self) -> Option<(cuda::StepWeight<'_>, Option<&Tensor>)> {
        Some((self.weight.step()?, self.bias.as_ref()))
    }
}

#[cfg(feature = "cuda")]
impl Weight {
    fn step(&self) -> Option<cuda::StepWeight<'_>> {
        match self {
            Weight::Dense(weight) => Some(cuda::StepWeight::Dense(weight)),
            Weight::Blocks(weight) => Some(cuda::StepWeight::Blocks(weight)),
            Weight::Quantized(_) => None,
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
            Weight::Dense(weight) => kernels::gather(weight, ids)?.to_dtype(self.dtype),
            Weight::Quantized(weight) => weight
                .embedding(&Tensor::new(ids, &weight.device())?)?
                .to_dtype(self.dtype),
            #[cfg(feature = "cuda")]
            Weight::Blocks(weight) => weight.gather(ids, self.dtype),
        }
    }

    /// The table as a decode step takes it, where it can.
    #[cfg(feature = "cuda")]
    pub fn step(&self) -> Option<cuda::StepWeight<'_>> {
        self.weight.step()
    }

    /// The output layer that shares this table.
    pub fn tied(&self) -> Linear {
        Linear::new(self.weight.clone(), None)
    }
}
