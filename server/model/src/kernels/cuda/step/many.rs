//! A decode step of many rows on Hopper: `hopper_step.cu`.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUtensorMap;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{DType, Result, Tensor, bail};
use half::bf16;

use super::exchange::Exchange;
use super::factors::{Factor, Kind, OF_A_LAYER, factors};
use super::model::{Dims, StepModel};
use crate::kernels::cache::{Arena, PAGE};
use crate::kernels::cuda::card::{Gpu, Launch, PANEL, at, panels_map, params, tensor_map};
use crate::kernels::cuda::layout::many_rows::{
    BOX_LINES, CHUNK, HEADS, PASS_UNITS, ROWS, SEGMENTS, SHARED, TILE, UNIT, WARPS,
};
use crate::kernels::cuda::layout::{
    Address, CacheAddress, ManyAddresses, ManyLayer, ManyShape, WARP_GROUP,
};
use crate::kernels::plan::Span;
use crate::scores::{Scores, Wanted};

/// The head size that there are kernels for.
const HEAD_SIZE: usize = 128;

/// What all weights are, the embedding among them.
#[derive(Clone, Copy, PartialEq)]
enum Weights {
    Plain,
    Fp8,
}

impl Weights {
    /// `None` where they are of several formats, or of one that there is no kernel for.
    fn of(model: &StepModel<'_>, factors: &[Factor<'_>]) -> Option<Self> {
        let is_plain = factors.iter().all(Factor::plain);
        let are_blocks = !factors.iter().any(Factor::plain);
        let embedding = model.embedding.format();
        match Kind::of(factors)? {
            Kind::Plain if is_plain && embedding == 0 => Some(Weights::Plain),
            Kind::Fp8 if are_blocks && embedding == model.output.format() => Some(Weights::Fp8),
            _ => None,
        }
    }

    /// The kernel for so many rows.
    fn kernel(self, rows: usize) -> &'static str {
        match (self, rows) {
            (Weights::Plain, 0..=8) => "step_hopper_8_128_bf16",
            (Weights::Plain, _) => "step_hopper_16_128_bf16",
            (Weights::Fp8, 0..=8) => "step_hopper_8_128_bf16_fp8",
            (Weights::Fp8, _) => "step_hopper_16_128_bf16_fp8",
        }
    }
}

/// A decode step of up to [`ManyStep::MOST_ROWS`] rows.
pub struct ManyStep {
    exchange: Exchange,
    weights: Weights,
    launch: Launch,
    addresses: ManyAddresses,
    /// Pages of the arena, as the map of it says.
    pages: usize,
    /// What the kernel works in and reads by address.
    _memory: Memory,
}

impl ManyStep {
    /// The most sequences in a step.
    pub const MOST_ROWS: usize = ROWS;

    /// Makes the step for sequences with their cache in `arena`; `None` where its kernel doesn't fit the model's sizes or the
    /// card.
    ///
    /// # Errors
    /// The model is not on a card, or there is no memory for what the step works in.
    pub fn new(model: &StepModel<'_>, arena: &Arena) -> Result<Option<Self>> {
        let (_, dtype, gpu) = at(model.final_norm)?;
        let Some(dims) = Dims::of(model, ROWS, arena, gpu.processors)? else {
            return Ok(None);
        };
        let factors = factors(model);
        let Some(weights) = Weights::of(model, &factors) else {
            return Ok(None);
        };
        let launch = Launch {
            cooperative: true,
            ..Launch::new((gpu.processors, 1, 1), 32 * WARPS + WARP_GROUP)
        }
        .shared(shared_bytes(weights, &dims, model.most_entries));
        let kernels = [1, ROWS].map(|rows| weights.kernel(rows));
        let fits = kernels.iter().all(|kernel| gpu.on_hopper(kernel))
            && [dtype, arena.data.dtype()] == [DType::BF16; 2]
            && has_kernel(&dims)
            && launch.shared <= gpu.shared_memory;
        if !fits {
            return Ok(None);
        }
        let exchange = Exchange::new(gpu, model, &dims)?;
        let memory = Memory::new(&exchange.gpu, model, &factors, arena, &dims)?;
        let addresses = addresses(model, arena, &dims, &exchange, &memory)?;
        Ok(Some(ManyStep {
            exchange,
            weights,
            launch,
            addresses,
            pages: arena.pages(),
            _memory: memory,
        }))
    }

    /// Whether it was made for this arena.
    pub fn is_for(&self, arena: &Arena) -> bool {
        let same = |data| data == self.addresses.cache.data && arena.pages() == self.pages;
        at(&arena.data).is_ok_and(|(data, _, _)| same(data))
    }

    /// What is wanted of the scores of the first sequences' next tokens, after one more token each.
    ///
    /// # Errors
    /// There are no tokens or too many, or not as many spans and positions, or more is wanted, or a span is not one token with pages for all its
    /// entries, or the card fails.
    pub fn run(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        wanted: &[Wanted],
    ) -> Result<Vec<Scores>> {
        let rows = ids.len();
        if !(1..=ROWS).contains(&rows)
            || spans.len() != rows
            || positions.len() != rows
            || wanted.len() > rows
        {
            bail!("a step of up to {ROWS} tokens got {rows}")
        }
        let (kernel, launch) = (self.weights.kernel(rows), self.launch);
        let mut addresses = self.addresses;
        addresses.rows = rows as i32;
        self.exchange.run(ids, spans, positions, wanted, |gpu| {
            // SAFETY: all addresses are of memory that the step or, by its contract, the model and the arena own, as large
            // as the shapes say.
            unsafe { gpu.launch(kernel, launch, params![addresses]) }
        })
    }
}

/// Whether there is a kernel for these sizes.
fn has_kernel(dims: &Dims) -> bool {
    let segments = ROWS * dims.kv_heads;
    let whole = |columns: usize| columns > 0 && columns.is_multiple_of(UNIT);
    // All but the MLP's inner columns go in one pass.
    let short = |columns: usize| whole(columns) && columns <= PASS_UNITS * UNIT;
    dims.head_size == HEAD_SIZE
        && dims.heads.is_multiple_of(dims.kv_heads)
        && dims.heads / dims.kv_heads <= HEADS
        && segments <= SEGMENTS.min(dims.processors)
        && short(dims.hidden)
        && short(dims.attention())
        && whole(dims.ffn)
}

/// Tiles that a block has of so many outputs at most.
fn tiles(outputs: usize, dims: &Dims) -> usize {
    outputs.div_ceil(TILE).div_ceil(dims.processors)
}

/// Shared memory of a block: its part of the residual stream, the positions' cosines and sines for its part of qkv, what stands
/// beside a product's outputs, what these are scaled with, and where its keys are. See `ManyStep` of hopper_step.cu.
fn shared_bytes(weights: Weights, dims: &Dims, most_entries: usize) -> usize {
    let (qkv, hidden) = (tiles(dims.qkv(), dims), tiles(dims.hidden, dims));
    let turns = qkv * ROWS * TILE / 2 * 8;
    let chunks = most_entries / CHUNK + 1;
    let most = [2 * tiles(dims.ffn, dims), tiles(dims.vocabulary, dims)];
    let scaled = match weights {
        Weights::Plain => 0,
        Weights::Fp8 => most.into_iter().fold(qkv.max(hidden), usize::max),
    };
    let floats = hidden * ROWS * TILE + (qkv.max(hidden) + scaled) * TILE + chunks;
    SHARED + turns + 4 * floats
}

/// The card's memory of a step.
struct Memory {
    maps: CudaSlice<u64>,
    layers: CudaSlice<u64>,
    /// Where the scales of weights that have some are: the embedding's, and those of the others in the order of their use.
    scales: CudaSlice<u64>,
    /// Inputs of products, of as many rows as there can be.
    normed: CudaSlice<bf16>,
    attention: CudaSlice<bf16>,
    mlp: CudaSlice<bf16>,
    qkv: CudaSlice<bf16>,
    squares: CudaSlice<f32>,
    shares: CudaSlice<f32>,
}

impl Memory {
    /// The maps and layers as the kernel wants them, and what it works in, which is yet to be written.
    fn new(
        gpu: &Gpu,
        model: &StepModel<'_>,
        factors: &[Factor<'_>],
        arena: &Arena,
        dims: &Dims,
    ) -> Result<Self> {
        let stream = &gpu.stream;
        let words: Vec<u64> = maps(factors, arena)?
            .iter()
            .flat_map(|map| map.opaque)
            .collect();
        let maps = stream.clone_htod(&words).w()?;
        let layers = layers(model)?;
        // SAFETY: `ManyLayer` is three addresses.
        let words: &[u64] = unsafe { layers.align_to().1 };
        let layers = stream.clone_htod(words).w()?;
        let weights = [&model.embedding]
            .into_iter()
            .chain(factors.iter().map(|it| it.weight));
        let scales: Result<Vec<u64>> = weights.map(|it| Ok(it.address()?.scales)).collect();
        let scales = stream.clone_htod(&scales?).w()?;
        // SAFETY: everything is written by the kernel before it is read.
        unsafe {
            Ok(Memory {
                maps,
                layers,
                scales,
                normed: stream.alloc(ROWS * dims.hidden).w()?,
                attention: stream.alloc(ROWS * dims.attention()).w()?,
                mlp: stream.alloc(ROWS * dims.ffn).w()?,
                qkv: stream.alloc(ROWS * dims.qkv()).w()?,
                squares: stream.alloc(ROWS * dims.processors).w()?,
                shares: stream
                    .alloc(dims.processors * HEADS * (dims.head_size + 2))
                    .w()?,
            })
        }
    }
}

/// The map of the cache, whose boxes are panels of a chunk of keys, then those of the weights in the order of their use, whose
/// boxes are as `ManyUnits` of hopper_stream.cuh has them.
fn maps(factors: &[Factor<'_>], arena: &Arena) -> Result<Vec<CUtensorMap>> {
    let (data, dtype, _) = at(&arena.data)?;
    let (dims, pages) = (arena.dims, arena.pages());
    let heads = pages * dims.layers * 2 * dims.kv_heads;
    let cache = tensor_map(data, dtype, [heads, PAGE, dims.head_size], [1, CHUNK])?;
    let mut maps = vec![cache];
    for factor in factors {
        let weight = factor.weight.address()?;
        let (rows, k) = (weight.rows as usize, weight.k as usize);
        maps.push(match factor.plain() {
            true => panels_map(
                weight.data,
                dtype,
                [k / PANEL, rows],
                [BOX_LINES / TILE, TILE],
            )?,
            // Lines of 128 bytes as they follow each other: 16 columns of a tile's rows.
            false => {
                let lines = rows.div_ceil(TILE) * k / 16;
                tensor_map(weight.data, dtype, [1, lines, PANEL], [1, BOX_LINES])?
            }
        });
    }
    Ok(maps)
}

/// What stands beside the products of each layer.
fn layers(model: &StepModel<'_>) -> Result<Vec<ManyLayer>> {
    let address = |tensor: &Tensor| at(tensor).map(|found| found.0);
    let following = model.layers.iter().skip(1);
    let next_norms = following
        .map(|layer| layer.attention_norm)
        .chain([model.final_norm]);
    let layers = model.layers.iter().zip(next_norms);
    layers
        .map(|(layer, next_norm)| {
            Ok(ManyLayer {
                qkv_bias: layer.qkv_bias.map_or(Ok(0), address)?,
                mlp_norm: address(layer.mlp_norm)?,
                next_norm: address(next_norm)?,
            })
        })
        .collect()
}

/// What the kernel is handed, but for the number of rows.
fn addresses(
    model: &StepModel<'_>,
    arena: &Arena,
    dims: &Dims,
    exchange: &Exchange,
    memory: &Memory,
) -> Result<ManyAddresses> {
    let stream = &exchange.gpu.stream;
    let (inputs, logits) = exchange.addresses();
    let word = |at: usize| inputs + 4 * at as Address;
    let shape = |k: usize, outputs: usize, halves| ManyShape {
        k: k as i32,
        outputs: outputs as i32,
        halves,
    };
    let first_norm = model.layers.first().map(|layer| layer.attention_norm);
    Ok(ManyAddresses {
        maps: memory.maps.device_ptr(stream).0,
        layers: memory.layers.device_ptr(stream).0,
        embedding: model.embedding.address()?.data,
        first_norm: first_norm.map_or(Ok(0), |norm| at(norm).map(|found| found.0))?,
        plan: exchange.inputs.plan(inputs, model.frequencies.len()),
        cache: CacheAddress::new(arena, 0)?,
        ids: word(exchange.inputs.ids),
        normed: memory.normed.device_ptr(stream).0,
        squares: memory.squares.device_ptr(stream).0,
        qkv: memory.qkv.device_ptr(stream).0,
        attention: memory.attention.device_ptr(stream).0,
        mlp: memory.mlp.device_ptr(stream).0,
        shares: memory.shares.device_ptr(stream).0,
        logits,
        arrived: word(exchange.inputs.arrived),
        scales: memory.scales.device_ptr(stream).0,
        shapes: [
            shape(dims.hidden, dims.qkv(), 1),
            shape(dims.attention(), dims.hidden, 1),
            shape(dims.hidden, dims.ffn, 2),
            shape(dims.ffn, dims.hidden, 1),
            shape(dims.hidden, dims.vocabulary, 1),
        ],
        rows: 0,
        heads: dims.heads as i32,
        eps: model.eps as f32,
    })
}

const _: () = assert!(UNIT == PANEL && OF_A_LAYER == 4);
