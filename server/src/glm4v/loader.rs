//! Puts a checkpoint's tensors on the device, one at a time, and tells how far it is.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::LoadError;
use super::linear::{Embedding, Linear, Weight};
use super::quantized::{self, format_of};
use super::source::Source;
use super::tensors::{Part, TensorSpec};
use super::weights::Weights;
use crate::config::Quantize;
#[cfg(feature = "cuda")]
use crate::kernels::cuda;

/// What is told after each tensor: bytes loaded, as stored, and bytes in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

pub struct Loader<'a> {
    weights: &'a Weights,
    /// What the weights of products are kept in where they are not quantized.
    kept: DType,
    dtype: DType,
    quantize: Quantize,
    device: &'a Device,
    loaded: u64,
    total: u64,
    weight_bytes: u64,
    progress: &'a mut Progress<'a>,
}

impl<'a> Loader<'a> {
    /// Everything is computed in one type, `dtype`, except on the CPU, whose arithmetic is f32: there `dtype` says how the
    /// weights of products are kept. So parts stored in different types can't meet in an operation.
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
            kept: dtype,
            dtype: if device.is_cpu() { DType::F32 } else { dtype },
            quantize,
            device,
            loaded: 0,
            total,
            weight_bytes: 0,
            progress,
        }
    }

    pub fn device(&self) -> &Device {
        self.device
    }

    /// What everything is computed in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes on the device so far.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The tensor `transformer.{name}`, in the type that is computed in.
    pub fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        self.plain(name, shape, self.dtype)
    }

    fn plain(&mut self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor, LoadError> {
        let source = self.weights.source(name, shape)?;
        let tensor = source
            .tensor(dtype, self.device)
            .map_err(|e| arranging(name, &e))?;
        self.loaded += source.bytes(self.kept);
        self.weight_bytes += (tensor.elem_count() * dtype.size_in_bytes()) as u64;
        (self.progress)(self.loaded, self.total);
        Ok(tensor)
    }

    /// The weights `transformer.{name}.weight` [out, inp], one below the other; quantized where their format says so.
    fn weight(&mut self, names: &[&str], out: usize, inp: usize) -> Result<Weight, LoadError> {
        let spec = |name: &&str| TensorSpec {
            name: format!("{name}.weight"),
            shape: vec![out, inp],
            part: Part::Rest,
        };
        let specs: Vec<_> = names.iter().map(spec).collect();
        let first = &specs[0];
        let Some(format) = format_of(first, self.quantize) else {
            let mut parts = specs
                .iter()
                .map(|spec| self.plain(&spec.name, &spec.shape, self.kept))
                .collect::<Result<Vec<_>, _>>()?;
            let whole = match parts.len() {
                1 => parts.remove(0),
                _ => Tensor::cat(&parts, 0).map_err(|e| arranging(&first.name, &e))?,
            };
            return Ok(Weight::Dense(whole));
        };
        let shape = (names.len() * out, inp);
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            let blocks = cuda::Blocks::unwritten(format, shape, self.device)
                .map_err(|e| arranging(&first.name, &e))?;
            for (i, spec) in specs.iter().enumerate() {
                let device = self.device;
                self.quantized(spec, |source, told| {
                    source.blocks_on_card(&blocks, i * out * inp, device, told)
                })?;
            }
            self.weight_bytes += blocks.size() as u64;
            return Ok(Weight::Blocks(Arc::new(blocks)));
        }
        let mut parts = Vec::new();
        for spec in &specs {
            parts.push(self.quantized(spec, |source, told| source.blocks(format, told))?);
        }
        let weight = quantized::weight(parts, format, shape, self.device)
            .map_err(|e| arranging(&first.name, &e))?;
        self.weight_bytes += weight.storage_size_in_bytes() as u64;
        Ok(Weight::Quantized(Arc::new(weight)))
    }

    /// What `read` makes of a tensor; it tells which share of it is done.
    fn quantized<T>(
        &mut self,
        spec: &TensorSpec,
        read: impl FnOnce(&Source<'_>, &mut dyn FnMut(f64)) -> candle_core::Result<T>,
    ) -> Result<T, LoadError> {
        let source = self.weights.source(&spec.name, &spec.shape)?;
        let (bytes, loaded) = (source.bytes(self.kept), self.loaded);
        let mut told = |done: f64| {
            let now = loaded + (done * bytes as f64) as u64;
            (self.progress)(now, self.total);
        };
        let read = read(&source, &mut told).map_err(|e| arranging(&spec.name, &e))?;
        told(1.0);
        self.loaded += bytes;
        Ok(read)
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
        let weight = self.weight(&[name], out, inp)?;
        let bias = bias
            .then(|| self.get(&format!("{name}.bias"), &[out]))
            .transpose()?;
        Ok(Linear::new(weight, bias))
    }

    /// Several weights [out, inp] with the same input as one product.
    pub fn linears(&mut self, names: &[&str], out: usize, inp: usize) -> Result<Linear, LoadError> {
        Ok(Linear::new(self.weight(names, out, inp)?, None))
    }

    /// The table `{name}.weight` [tokens, hidden].
    pub fn embedding(
        &mut self,
        name: &str,
        tokens: usize,
        hidden: usize,
    ) -> Result<Embedding, LoadError> {
        let weight = self.weight(&[name], tokens, hidden)?;
        Ok(Embedding::new(weight, self.dtype))
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
        "the tensor {name} could not be put on the device ({e}): is there enough memory?"
    ))
}
