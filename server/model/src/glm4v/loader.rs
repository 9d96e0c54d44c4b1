//! Puts a checkpoint's tensors on the device, one at a time, and tells how far it is.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::Config;
use super::linear::{Embedding, Linear, Weight};
use super::quantized::{self, format_of};
use super::source::Source;
#[cfg(feature = "cuda")]
use super::tensors::tensors;
use super::tensors::{Part, TensorSpec};
use super::weights::Weights;
#[cfg(feature = "cuda")]
use crate::kernels::{Room, cuda};
use crate::{LoadError, Quantize};

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
    /// On a card.
    #[cfg(feature = "cuda")]
    rooms: Option<Rooms>,
}

/// The memory of a card's weights: of the plain ones, and of those in blocks.
#[cfg(feature = "cuda")]
struct Rooms {
    plain: Room,
    blocks: Room,
}

#[cfg(feature = "cuda")]
impl Rooms {
    fn new(
        config: &Config,
        quantize: Quantize,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Self>, LoadError> {
        if !device.is_cuda() {
            return Ok(None);
        }
        let (mut plain, mut blocks) = (vec![], vec![]);
        for spec in tensors(config) {
            match (format_of(&spec, quantize), &spec.shape[..]) {
                (Some(format), [rows, row]) => {
                    blocks.push(cuda::Blocks::bytes(format, (*rows, *row)))
                }
                _ => plain.push(spec.elements()),
            }
        }
        let room = |sizes: Vec<usize>, dtype| {
            let elements = Room::elements(sizes.into_iter());
            Room::new(elements, dtype, device).map_err(|e| {
                LoadError(format!(
                    "there is no memory for the weights on the device ({e}): is it used by others?"
                ))
            })
        };
        Ok(Some(Rooms {
            plain: room(plain, dtype)?,
            blocks: room(blocks, DType::U8)?,
        }))
    }
}

impl<'a> Loader<'a> {
    /// Everything is computed in one type, `dtype`, except on the CPU, whose arithmetic is f32: there `dtype` says how the
    /// weights of products are kept. So parts stored in different types can't meet in an operation.
    ///
    /// # Errors
    /// A card has no memory for the weights of `config`.
    pub fn new(
        config: &Config,
        weights: &'a Weights,
        dtype: DType,
        quantize: Quantize,
        device: &'a Device,
        progress: &'a mut Progress<'a>,
    ) -> Result<Self, LoadError> {
        Ok(Loader {
            #[cfg(feature = "cuda")]
            rooms: Rooms::new(config, quantize, dtype, device)?,
            weights,
            kept: dtype,
            dtype: if device.is_cpu() { DType::F32 } else { dtype },
            quantize,
            device,
            loaded: 0,
            total: weights.bytes(config, dtype),
            weight_bytes: 0,
            progress,
        })
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
        self.plain(name, shape, shape)
    }

    /// The same, of shape `stored`, as one of `shape`.
    pub fn plain(
        &mut self,
        name: &str,
        stored: &[usize],
        shape: &[usize],
    ) -> Result<Tensor, LoadError> {
        let one = self.stacked(&[name], stored, self.dtype)?;
        one.reshape(shape).map_err(|e| arranging(name, &e))
    }

    /// Tensors of the same shape as one: [names, …shape].
    fn stacked(
        &mut self,
        names: &[&str],
        shape: &[usize],
        dtype: DType,
    ) -> Result<Tensor, LoadError> {
        let first = names[0];
        let one: usize = shape.iter().product();
        #[cfg(feature = "cuda")]
        if let Some(Rooms { plain, .. }) = &mut self.rooms {
            let all = plain.take(names.len() * one);
            let all = all.map_err(|e| arranging(first, &e))?;
            for (i, name) in names.iter().enumerate() {
                let source = self.weights.source(name, shape)?;
                let read = source.onto(&all, i * one);
                read.map_err(|e| arranging(name, &e))?;
                self.tell(&source, one * dtype.size_in_bytes());
            }
            let all = all.reshape([&[names.len()], shape].concat());
            return all.map_err(|e| arranging(first, &e));
        }
        let mut parts = Vec::with_capacity(names.len());
        for name in names {
            let source = self.weights.source(name, shape)?;
            let read = source.tensor(dtype, self.device);
            parts.push(read.map_err(|e| arranging(name, &e))?);
            self.tell(&source, one * dtype.size_in_bytes());
        }
        Tensor::stack(&parts, 0).map_err(|e| arranging(first, &e))
    }

    /// One more tensor is on the device, where it takes `bytes`.
    fn tell(&mut self, source: &Source<'_>, bytes: usize) {
        self.loaded += source.bytes(self.kept);
        self.weight_bytes += bytes as u64;
        (self.progress)(self.loaded, self.total);
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
            let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
            let all = self.stacked(&names, &first.shape, self.kept)?;
            let all = all.reshape((names.len() * out, inp));
            return Ok(Weight::Dense(all.map_err(|e| arranging(&first.name, &e))?));
        };
        let shape = (names.len() * out, inp);
        #[cfg(feature = "cuda")]
        if let Some(Rooms { blocks, .. }) = &mut self.rooms {
            let blocks = cuda::Blocks::within(format, shape, blocks)
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

    /// Rearranges a weight once, at load: `f` makes as many elements of it, in memory of their own.
    pub fn map(
        &self,
        tensor: Tensor,
        f: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, LoadError> {
        let place = tensor.clone();
        let arranged = f(tensor).and_then(|arranged| {
            if !arranged.device().is_cuda() {
                return Ok(arranged);
            }
            // Back to where there is room for it.
            let place = place.flatten_all()?;
            place.slice_set(&arranged.flatten_all()?, 0, 0)?;
            place.reshape(arranged.shape())
        });
        arranged.map_err(|e| {
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
        let names = [format!("{name}.weight"), format!("{name}.bias")];
        self.stacked(&names.each_ref().map(String::as_str), &[n], self.dtype)
    }
}

fn arranging(name: &str, e: &candle_core::Error) -> LoadError {
    LoadError(format!(
        "the tensor {name} could not be put on the device ({e}): is there enough memory?"
    ))
}
