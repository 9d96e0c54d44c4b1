//! Puts a checkpoint's tensors on the device, one at a time, and tells how far it is.

use candle_core::{DType, Device, Tensor};

use super::LoadError;
use super::linear::{Linear, format_of};
use super::tensors::{Part, TensorSpec};
use super::weights::Weights;
use crate::config::Quantize;

/// What is told after each tensor: bytes loaded, as stored, and bytes in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

pub struct Loader<'a> {
    weights: &'a Weights,
    dtype: DType,
    quantize: Quantize,
    device: &'a Device,
    loaded: u64,
    total: u64,
    progress: &'a mut Progress<'a>,
}

impl<'a> Loader<'a> {
    /// Everything is loaded in one type, `dtype`: parts stored in different types can't meet in an operation.
    pub fn new(
        weights: &'a Weights,
        total: u64,
        dtype: DType,
        quantize: Quantize,
        device: &'a Device,
        progress: &'a mut Progress<'a>,
    ) -> Self {
        Loader {
            weights,
            dtype,
            quantize,
            device,
            loaded: 0,
            total,
            progress,
        }
    }

    pub fn device(&self) -> &Device {
        self.device
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The tensor `transformer.{name}`.
    pub fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let tensor = self.weights.get(name, shape, self.dtype, self.device)?;
        self.loaded += self
            .weights
            .tensor_bytes(&format!("transformer.{name}"), shape, self.dtype);
        (self.progress)(self.loaded, self.total);
        Ok(tensor)
    }

    pub fn reshape(&self, tensor: Tensor, shape: &[usize]) -> Result<Tensor, LoadError> {
        self.map(tensor, |t| t.reshape(shape))
    }

    /// Rearranges a weight once, at load.
    pub fn map(
        &self,
        tensor: Tensor,
        f: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, LoadError> {
        f(tensor).map_err(|e| {
            LoadError(format!(
                "the weights could not be arranged on the device ({e}): is there enough memory?"
            ))
        })
    }

    /// `{name}.weight` [out, inp] and, if it has one, `{name}.bias`.
    pub fn linear(
        &mut self,
        name: &str,
        out: usize,
        inp: usize,
        bias: bool,
    ) -> Result<Linear, LoadError> {
        let weight = self.get(&format!("{name}.weight"), &[out, inp])?;
        let bias = bias
            .then(|| self.get(&format!("{name}.bias"), &[out]))
            .transpose()?;
        self.quantize(name, weight, bias)
    }

    /// Several weights [out, inp] with the same input as one product.
    pub fn linears(&mut self, names: &[&str], out: usize, inp: usize) -> Result<Linear, LoadError> {
        let weights = names
            .iter()
            .map(|name| self.get(&format!("{name}.weight"), &[out, inp]))
            .collect::<Result<Vec<_>, _>>()?;
        let weight = Tensor::cat(&weights, 0).map_err(|e| arranging(names[0], &e))?;
        self.quantize(names[0], weight, None)
    }

    fn quantize(
        &self,
        name: &str,
        weight: Tensor,
        bias: Option<Tensor>,
    ) -> Result<Linear, LoadError> {
        let spec = TensorSpec {
            name: format!("{name}.weight"),
            shape: weight.dims().to_vec(),
            part: Part::Rest,
        };
        match format_of(&spec, self.quantize) {
            None => Ok(Linear::new(weight, bias)),
            Some(format) => {
                Linear::quantized(&weight, bias, format).map_err(|e| arranging(name, &e))
            }
        }
    }

    /// `{name}.weight` and `{name}.bias` as [2, n].
    pub fn layer_norm(&mut self, name: &str, n: usize) -> Result<Tensor, LoadError> {
        let weight = self.get(&format!("{name}.weight"), &[n])?;
        let bias = self.get(&format!("{name}.bias"), &[n])?;
        self.map(weight, |w| Tensor::stack(&[&w, &bias], 0))
    }
}

fn arranging(name: &str, e: &candle_core::Error) -> LoadError {
    LoadError(format!(
        "{name} could not be arranged on the device ({e}): is there enough memory?"
    ))
}
