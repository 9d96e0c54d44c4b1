//! Puts a checkpoint's tensors on the device, one at a time, and tells how far it is.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::formats::{self, format_of};
use super::fp8;
use super::linear::{Embedding, Linear, Weight};
use super::shards::Weights;
use super::source::Source;
use super::spec::{Inventory, TensorSpec};
#[cfg(feature = "cuda")]
use crate::kernels::{Room, cuda};
use crate::{LoadError, Quantize};

/// What is told after each tensor: bytes loaded, as stored, and bytes in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// What a model's loading asks for its tensors: it puts them on a device, or only writes down what it is asked for.
pub struct Loader<'a> {
    /// Before every name.
    prefix: &'static str,
    to: To<'a>,
}

enum To<'a> {
    /// A list of what is asked for; what is given in its place takes no memory.
    List(Vec<TensorSpec>),
    Device(Box<Placing<'a>>),
}

/// Tensors on their way to a device.
struct Placing<'a> {
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
        specs: &[TensorSpec],
        quantize: Quantize,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Self>, LoadError> {
        if !device.is_cuda() {
            return Ok(None);
        }
        let (mut plain, mut blocks) = (vec![], vec![]);
        for spec in specs {
            match (format_of(spec, quantize), &spec.shape[..]) {
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
    /// Onto a device. Everything is computed in one type, `dtype`, except on the CPU, whose arithmetic is f32: there `dtype`
    /// says how the weights of products are kept. So parts stored in different types can't meet in an operation.
    ///
    /// # Errors
    /// A card has no memory for what is `asked` for.
    pub fn new(
        prefix: &'static str,
        asked: &Inventory,
        weights: &'a Weights,
        dtype: DType,
        quantize: Quantize,
        device: &'a Device,
        progress: &'a mut Progress<'a>,
    ) -> Result<Self, LoadError> {
        let placing = Placing {
            #[cfg(feature = "cuda")]
            rooms: Rooms::new(&asked.specs, quantize, dtype, device)?,
            weights,
            kept: dtype,
            dtype: if device.is_cpu() { DType::F32 } else { dtype },
            quantize,
            device,
            loaded: 0,
            total: weights.bytes(asked, dtype),
            weight_bytes: 0,
            progress,
        };
        let to = To::Device(Box::new(placing));
        Ok(Loader { prefix, to })
    }

    /// What `load` asks for, in its order.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn list<T>(
        prefix: &'static str,
        load: impl FnOnce(&mut Loader<'static>) -> Result<T, LoadError>,
    ) -> Result<Vec<TensorSpec>, LoadError> {
        let to = To::List(Vec::new());
        let mut loader = Loader { prefix, to };
        load(&mut loader)?;
        match loader.to {
            To::List(specs) => Ok(specs),
            To::Device(_) => Ok(Vec::new()),
        }
    }

    pub fn device(&self) -> &Device {
        match &self.to {
            To::List(_) => &Device::Cpu,
            To::Device(placing) => placing.device,
        }
    }

    /// What everything is computed in.
    pub fn dtype(&self) -> DType {
        match &self.to {
            To::List(_) => DType::F32,
            To::Device(placing) => placing.dtype,
        }
    }

    /// Bytes on the device so far.
    pub fn weight_bytes(&self) -> u64 {
        match &self.to {
            To::List(_) => 0,
            To::Device(placing) => placing.weight_bytes,
        }
    }

    /// A tensor, in the type that is computed in.
    pub fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        self.plain(name, shape, shape)
    }

    /// A tensor that is stored as `stored`, as one of `shape`, in the type that is computed in.
    pub fn plain(
        &mut self,
        name: &str,
        stored: &[usize],
        shape: &[usize],
    ) -> Result<Tensor, LoadError> {
        self.stacked(&[name], stored, shape)
    }

    /// Tensors of the same shape below each other, as one of `shape`.
    fn stacked(
        &mut self,
        names: &[&str],
        stored: &[usize],
        shape: &[usize],
    ) -> Result<Tensor, LoadError> {
        let specs = self.specs(names, stored, false);
        match &mut self.to {
            To::List(list) => {
                list.extend(specs);
                placeholder(shape)
            }
            To::Device(placing) => {
                let all = placing.stacked(&specs, placing.dtype)?;
                all.reshape(shape)
                    .map_err(|e| arranging(&specs[0].name, &e))
            }
        }
    }

    fn specs(&self, names: &[&str], shape: &[usize], in_blocks: bool) -> Vec<TensorSpec> {
        let spec = |name: &&str| TensorSpec {
            name: format!("{}{name}", self.prefix),
            shape: shape.to_vec(),
            in_blocks,
        };
        names.iter().map(spec).collect()
    }

    /// The weights `{name}.weight` [out, inp], one below the other; quantized where their format says so.
    fn weight(&mut self, names: &[&str], out: usize, inp: usize) -> Result<Weight, LoadError> {
        let names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let specs = self.specs(&names, &[out, inp], true);
        match &mut self.to {
            To::List(list) => {
                list.extend(specs);
                placeholder(&[names.len() * out, inp]).map(Weight::Dense)
            }
            To::Device(placing) => placing.weight(&specs, out, inp),
        }
    }

    /// Rearranges a weight once, at load: `f` makes as many elements of it, in memory of their own.
    pub fn map(
        &self,
        tensor: Tensor,
        f: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, LoadError> {
        if let To::List(_) = self.to {
            return Ok(tensor);
        }
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
        Ok(Embedding::new(weight, self.dtype()))
    }

    /// `{name}.weight` and `{name}.bias` as [2, n].
    pub fn layer_norm(&mut self, name: &str, n: usize) -> Result<Tensor, LoadError> {
        let names = [format!("{name}.weight"), format!("{name}.bias")];
        self.stacked(&names.each_ref().map(String::as_str), &[n], &[2, n])
    }
}

/// Zeros of any shape that take no memory.
fn placeholder(shape: &[usize]) -> Result<Tensor, LoadError> {
    Tensor::zeros((), DType::F32, &Device::Cpu)
        .and_then(|zero| zero.broadcast_as(shape))
        .map_err(|e| LoadError(e.to_string()))
}

impl Placing<'_> {
    /// Tensors of the same shape as one: [specs, …shape].
    fn stacked(&mut self, specs: &[TensorSpec], dtype: DType) -> Result<Tensor, LoadError> {
        let first = &specs[0];
        let (one, shape) = (first.elements(), &first.shape[..]);
        #[cfg(feature = "cuda")]
        if let Some(Rooms { plain, .. }) = &mut self.rooms {
            let all = plain.take(specs.len() * one);
            let all = all.map_err(|e| arranging(&first.name, &e))?;
            for (i, spec) in specs.iter().enumerate() {
                let source = self.weights.source(&spec.name, shape)?;
                let read = source.onto(&all, i * one);
                read.map_err(|e| arranging(&spec.name, &e))?;
                self.tell(&source, one * dtype.size_in_bytes());
            }
            let all = all.reshape([&[specs.len()], shape].concat());
            return all.map_err(|e| arranging(&first.name, &e));
        }
        let mut parts = Vec::with_capacity(specs.len());
        for spec in specs {
            let source = self.weights.source(&spec.name, shape)?;
            let read = source.tensor(dtype, self.device);
            parts.push(read.map_err(|e| arranging(&spec.name, &e))?);
            self.tell(&source, one * dtype.size_in_bytes());
        }
        Tensor::stack(&parts, 0).map_err(|e| arranging(&first.name, &e))
    }

    /// One more tensor is on the device, where it takes `bytes`.
    fn tell(&mut self, source: &Source<'_>, bytes: usize) {
        self.loaded += source.bytes(self.kept);
        self.weight_bytes += bytes as u64;
        (self.progress)(self.loaded, self.total);
    }

    /// Weights [out, inp], one below the other; quantized where their format says so.
    fn weight(
        &mut self,
        specs: &[TensorSpec],
        out: usize,
        inp: usize,
    ) -> Result<Weight, LoadError> {
        let (first, shape) = (&specs[0], (specs.len() * out, inp));
        let Some(format) = format_of(first, self.quantize) else {
            let all = self.stacked(specs, self.kept)?.reshape(shape);
            return Ok(Weight::Dense(all.map_err(|e| arranging(&first.name, &e))?));
        };
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
        let Some(format) = format.ggml() else {
            return self.rounded(specs, out, inp);
        };
        let mut parts = Vec::new();
        for spec in specs {
            parts.push(self.quantized(spec, |source, told| source.blocks(format, told))?);
        }
        let weight = formats::weight(parts, format, shape, self.device)
            .map_err(|e| arranging(&first.name, &e))?;
        self.weight_bytes += weight.storage_size_in_bytes() as u64;
        Ok(Weight::Quantized(Arc::new(weight)))
    }

    /// Weights [out, inp], one below the other, in f32, but each what its 8-bit float stands for: what a card's are held
    /// against.
    fn rounded(
        &mut self,
        specs: &[TensorSpec],
        out: usize,
        inp: usize,
    ) -> Result<Weight, LoadError> {
        let all = self.stacked(specs, DType::F32)?.flatten_all();
        let rounded = all.and_then(|all| {
            let mut values = all.to_vec1()?;
            fp8::round(&mut values, inp);
            Tensor::from_vec(values, (specs.len() * out, inp), self.device)
        });
        let rounded = rounded.map_err(|e| arranging(&specs[0].name, &e))?;
        Ok(Weight::Dense(rounded))
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
}

fn arranging(name: &str, e: &candle_core::Error) -> LoadError {
    LoadError(format!(
        "the tensor {name} could not be put on the device ({e}): is there enough memory?"
    ))
}
