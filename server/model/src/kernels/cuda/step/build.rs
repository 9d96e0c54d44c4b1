//! How a step is made, once for each number of sequences.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::{DType, Result, Tensor};

use super::exchange::Exchange;
use super::factors::{Factor, Kind, OF_A_LAYER, Reading, all_small, factors};
use super::inputs::Inputs;
use super::memory::{Memory, MemoryAddresses};
use super::model::{Dims, StepModel};
use super::run::Step;
use super::sizes::Sizes;
use crate::kernels::cache::Arena;
use crate::kernels::cuda::card::{Gpu, Launch, at, type_name};
use crate::kernels::cuda::layout::step::WARPS;
use crate::kernels::cuda::layout::{Address, CacheAddress, Mode, StepAddresses, StepProduct};

impl Step {
    /// Makes the step for `rows` sequences with their cache in `arena`; `None` where its kernel doesn't fit the model's
    /// sizes or the card.
    ///
    /// # Errors
    /// The model is not on a card, or there is no memory for what the step works in.
    pub fn new(model: &StepModel<'_>, rows: usize, arena: &Arena) -> Result<Option<Self>> {
        let (_, dtype, gpu) = at(model.final_norm)?;
        let Some(dims) = Dims::of(model, rows, arena, gpu.processors)? else {
            return Ok(None);
        };
        let factors = factors(model);
        let Some(kind) = Kind::of(&factors) else {
            return Ok(None);
        };
        let sizes = Sizes::fitting(&factors, kind, &dims, gpu.shared_memory)?;
        let fits = arena.data.dtype() == dtype
            && has_kernel(&dims, dtype)
            && all_small(&factors)?
            && sizes.fit(gpu.shared_memory);
        if !fits {
            return Ok(None);
        }
        let exchange = Exchange::new(gpu, model, &dims)?;
        let gpu = &exchange.gpu;
        let stream = &gpu.stream;
        let memory = Memory::new(stream, &dims)?;
        let places = memory.addresses(stream);
        let (inputs, logits) = exchange.addresses();
        let products = products(model, &factors, &dims, &sizes, &places, logits, dtype)?;
        let count = products.len();
        // SAFETY: `StepProduct` is plain numbers without gaps, a multiple of eight bytes long.
        let words: &[u64] = unsafe { products.align_to().1 };
        let products = stream.clone_htod(words).w()?;
        let addresses = StepAddresses {
            products: products.device_ptr(stream).0,
            count: count as i32,
            ..addresses(
                model,
                arena,
                &dims,
                &sizes,
                (&exchange.inputs, inputs),
                &places,
            )?
        };
        let (kernel, launch) = kernel(gpu, &dims, &sizes, dtype)?;
        Ok(Some(Step {
            kernel,
            launch,
            rows,
            addresses,
            _memory: memory,
            _products: products,
            exchange,
        }))
    }
}

/// Whether there is a kernel for these sizes and this type.
fn has_kernel(dims: &Dims, dtype: DType) -> bool {
    (1..=Step::MOST_ROWS).contains(&dims.rows)
        && matches!(dtype, DType::BF16 | DType::F16)
        && matches!(dims.head_size, 64 | 128)
        && [dims.hidden, dims.ffn, dims.attention()]
            .iter()
            .all(|n| *n > 0 && n.is_multiple_of(8))
}

/// The kernel's name, and its launch.
fn kernel(gpu: &Gpu, dims: &Dims, sizes: &Sizes, dtype: DType) -> Result<(String, Launch)> {
    let kind = match sizes.kind {
        Kind::Plain => "plain_",
        Kind::Blocks => "",
        Kind::Fp8 => "fp8_",
    };
    let name = format!("step_{kind}{}_{}", dims.head_size, type_name(dtype)?);
    let launch = Launch {
        cooperative: true,
        ..Launch::new((gpu.processors, 1, 1), 32 * WARPS)
    };
    Ok((name, launch.shared(sizes.shared_bytes())))
}

/// What the kernel is handed, but for the products.
fn addresses(
    model: &StepModel<'_>,
    arena: &Arena,
    dims: &Dims,
    sizes: &Sizes,
    (inputs, inputs_at): (&Inputs, Address),
    places: &MemoryAddresses,
) -> Result<StepAddresses> {
    let word = |at: usize| inputs_at + 4 * at as Address;
    Ok(StepAddresses {
        products: 0,
        count: 0,
        readings: sizes.readings as i32,
        embedding: model.embedding.address()?,
        embedding_format: model.embedding.format(),
        plan: inputs.plan(inputs_at, model.frequencies.len()),
        cache: CacheAddress::new(arena, 0)?,
        ids: word(inputs.ids),
        x: places.x,
        qkv: places.qkv,
        attention: places.attention,
        shares: places.shares,
        arrived: word(inputs.arrived),
        rows: dims.rows as i32,
        tiles: dims.tiles() as i32,
        heads: dims.heads as i32,
        tasks: sizes.tasks as i32,
        joined: sizes.joined as i32,
        found: sizes.found as i32,
        eps: model.eps as f32,
    })
}

/// All products in their order, each in its parts.
fn products(
    model: &StepModel<'_>,
    factors: &[Factor<'_>],
    dims: &Dims,
    sizes: &Sizes,
    places: &MemoryAddresses,
    logits: Address,
    dtype: DType,
) -> Result<Vec<StepProduct>> {
    let mut all = Products {
        most_tiles: sizes.most_tiles,
        processors: dims.processors,
        dtype,
        made: Vec::with_capacity(sizes.products),
        readings: Vec::with_capacity(sizes.readings),
    };
    let &MemoryAddresses {
        x,
        qkv,
        attention,
        mlp,
        ..
    } = places;
    let address = |tensor: &Tensor| at(tensor).map(|found| found.0);
    let of = |input, norm, bias, out| Operands {
        input,
        norm,
        bias,
        out,
    };
    for (layer, factors) in model.layers.iter().zip(factors.chunks(OF_A_LAYER)) {
        let (attention_norm, mlp_norm) = (address(layer.attention_norm)?, address(layer.mlp_norm)?);
        let bias = layer.qkv_bias.map_or(Ok(0), address)?;
        all.add(&factors[0], of(x, attention_norm, bias, qkv))?;
        all.add(&factors[1], of(attention, 0, 0, x))?;
        all.add(&factors[2], of(x, mlp_norm, 0, mlp))?;
        all.add(&factors[3], of(mlp, 0, 0, x))?;
    }
    let final_norm = address(model.final_norm)?;
    let output = &factors[factors.len() - 1];
    all.add(output, of(x, final_norm, 0, logits))?;
    Ok(all.made)
}

/// Where a product's inputs lie, the norm before it and the bias behind it, or 0, and where its outputs go.
#[derive(Clone, Copy)]
struct Operands {
    input: Address,
    norm: Address,
    bias: Address,
    out: Address,
}

/// Products as they are made.
struct Products {
    /// Tiles of a part that a block has at most.
    most_tiles: usize,
    processors: usize,
    dtype: DType,
    made: Vec<StepProduct>,
    /// Those that differ so far.
    readings: Vec<Reading>,
}

impl Products {
    /// Adds the parts of a product.
    fn add(&mut self, factor: &Factor<'_>, of: Operands) -> Result<()> {
        let outputs = factor.outputs()?;
        let size = self.dtype.size_in_bytes();
        let out_size = match factor.mode {
            Mode::NormF32 | Mode::Add => size_of::<f32>(),
            Mode::NormBias | Mode::NormGated => size,
        };
        let parts = factor.parts(self.most_tiles, self.processors)?;
        for (i, part) in parts.into_iter().enumerate() {
            let reading = factor.reading(&part)?;
            let known = self.readings.iter().position(|r| *r == reading);
            let number = known.unwrap_or(self.readings.len());
            if known.is_none() {
                self.readings.push(reading);
            }
            self.made.push(StepProduct {
                weight: factor.weight.rows_from(part.start, part.len())?,
                input: of.input,
                norm: of.norm,
                bias: match of.bias {
                    0 => 0,
                    bias => bias + (part.start * size) as Address,
                },
                out: of.out + (part.start * out_size) as Address,
                width: outputs as i32,
                format: factor.weight.format(),
                mode: factor.mode,
                part: i as i32,
                reading: number as i32,
                first: i32::from(known.is_none()),
            });
        }
        Ok(())
    }
}
