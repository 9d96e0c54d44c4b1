//! A decode step, one token for each of a few sequences, as one kernel: `decode.cu`. All that changes from step to step —
//! tokens, positions, lengths, pages — is copied to the card in one piece before it, and the scores come back behind it.

use std::ops::Range;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, PinnedHostSlice};
use candle_core::{DType, Error, Result, Tensor, bail};
use half::bf16;

use super::super::cache::{Arena, PAGE};
use super::super::plan::Span;
use super::attention::{CacheAddress, PlanAddresses};
use super::blocks::{Blocks, WeightAddress};
use super::gpu::{Address, BUILT_FOR, Gpu, Launch, at, params, type_name};

/// A weight of the step, wherever it is kept.
pub enum StepWeight<'a> {
    /// [out, in]
    Dense(&'a Tensor),
    Blocks(&'a Blocks),
}

/// A decoder layer.
pub struct StepLayer<'a> {
    pub attention_norm: &'a Tensor,
    pub qkv: StepWeight<'a>,
    pub qkv_bias: Option<&'a Tensor>,
    pub dense: StepWeight<'a>,
    pub mlp_norm: &'a Tensor,
    pub gate_up: StepWeight<'a>,
    pub down: StepWeight<'a>,
}

/// The decoder, borrowed while a step is made; the step keeps addresses, so whoever holds it holds the weights too.
pub struct StepModel<'a> {
    pub embedding: StepWeight<'a>,
    pub layers: Vec<StepLayer<'a>>,
    pub final_norm: &'a Tensor,
    pub output: StepWeight<'a>,
    pub heads: usize,
    pub eps: f64,
    pub frequencies: Vec<f32>,
    /// Cache entries that a sequence can have.
    pub most_entries: usize,
}

impl StepWeight<'_> {
    fn address(&self) -> Result<WeightAddress> {
        Ok(match self {
            StepWeight::Blocks(blocks) => blocks.address(),
            StepWeight::Dense(weight) => {
                let (rows, k) = weight.dims2()?;
                WeightAddress {
                    data: at(weight)?.0,
                    scales: 0,
                    rows: rows as i32,
                    k: k as i32,
                }
            }
        })
    }

    /// `Format` of formats.cuh.
    fn format(&self) -> Result<i32> {
        match self {
            StepWeight::Blocks(blocks) => blocks.format_number(),
            StepWeight::Dense(_) => Ok(0),
        }
    }
}

/// A weight, and the mode in which the step multiplies with it.
struct Factor<'a> {
    weight: &'a StepWeight<'a>,
    mode: Mode,
}

impl Factor<'_> {
    /// Rows that make one output.
    fn halves(&self) -> usize {
        match self.mode {
            Mode::NormGated => 2,
            _ => 1,
        }
    }

    fn outputs(&self) -> Result<usize> {
        Ok(self.weight.address()?.rows as usize / self.halves())
    }

    fn plain(&self) -> bool {
        matches!(self.weight, StepWeight::Dense(_))
    }

    /// The parts of its outputs, of which a block is to have `tiles` at most; of a plain weight it may have any number.
    fn parts(&self, tiles: usize, processors: usize) -> Result<Vec<Range<usize>>> {
        let outputs = self.outputs()?;
        let part = match self.weight {
            StepWeight::Dense(_) => outputs,
            StepWeight::Blocks(_) => tiles / self.halves() * processors * TILE,
        };
        let part = |first| first..outputs.min(first + part);
        Ok((0..outputs)
            .step_by(part(0).len().max(1))
            .map(part)
            .collect())
    }

    /// What a `Reading` of decode_weights.cuh depends on.
    fn shape(&self, part: &Range<usize>) -> Result<Shape> {
        Ok(Shape {
            format: self.weight.format()?,
            halves: self.halves(),
            rows: part.len(),
            width: self.outputs()?,
            k: self.weight.address()?.k,
        })
    }

    /// Floats that the warps of a block find of a part: see `sum_plain` and `sum_blocks` of decode_product.cuh.
    fn found(&self, part: &Range<usize>, rows: usize, processors: usize) -> usize {
        let height = if self.plain() { 1 } else { TILE };
        let tiles = part.len().div_ceil(height).div_ceil(processors) * self.halves();
        match self.plain() {
            true => (tiles + WARPS) * Step::MOST_ROWS,
            false => WARPS * tiles * rows * TILE,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Shape {
    format: i32,
    halves: usize,
    rows: usize,
    width: usize,
    k: i32,
}

/// `Product` of decode_weights.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Product {
    weight: WeightAddress,
    input: Address,
    norm: Address,
    bias: Address,
    out: Address,
    width: i32,
    format: i32,
    mode: Mode,
    part: i32,
    reading: i32,
    first: i32,
}

/// `Mode` of decode_weights.cuh.
#[repr(i32)]
#[derive(Clone, Copy)]
enum Mode {
    NormBias,
    NormGated,
    NormF32,
    Add,
}

/// `Step` of decode.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct StepAddresses {
    products: Address,
    count: i32,
    readings: i32,
    embedding: WeightAddress,
    embedding_format: i32,
    plan: PlanAddresses,
    cache: CacheAddress,
    ids: Address,
    x: Address,
    qkv: Address,
    attention: Address,
    shares: Address,
    arrived: Address,
    rows: i32,
    tiles: i32,
    heads: i32,
    tasks: i32,
    joined: i32,
    found: i32,
    eps: f32,
}

/// Where each part of the inputs begins, in words.
#[derive(Clone, Copy)]
struct Inputs {
    /// Zero, for the card to count its meetings with.
    arrived: usize,
    ids: usize,
    positions: usize,
    spans: usize,
    row_spans: usize,
    tiles: usize,
    frequencies: usize,
    pages: usize,
    /// Pages that each row has room for.
    row_pages: usize,
    len: usize,
}

/// A decode step of a certain number of rows.
pub struct Step {
    gpu: Arc<Gpu>,
    kernel: String,
    launch: Launch,
    rows: usize,
    /// Rows of the embedding, and of the output.
    words: usize,
    vocabulary: usize,
    inputs: Inputs,
    addresses: StepAddresses,
    host: PinnedHostSlice<u32>,
    host_logits: PinnedHostSlice<f32>,
    card: CudaSlice<u32>,
    logits: CudaSlice<f32>,
    /// What the kernel works in, by address.
    _products: CudaSlice<u64>,
    _f32: [CudaSlice<f32>; 2],
    _halves: [CudaSlice<bf16>; 3],
}

/// Query heads that a block attends with at once, and blocks that share the pages of a sequence between them.
const HEADS: usize = 16;
const SPLITS: usize = 64;
/// Warps of a block.
const WARPS: usize = 16;
/// Rows of a weight that a warp reads together.
const TILE: usize = 8;

impl Step {
    /// The most sequences in a step.
    pub const MOST_ROWS: usize = 2;

    /// Makes the step for `rows` sequences with their cache in `arena`; `None` where its kernel doesn't fit the model's
    /// sizes or the card.
    pub fn new(model: &StepModel<'_>, rows: usize, arena: &Arena) -> Result<Option<Self>> {
        let (final_norm, dtype, gpu) = at(model.final_norm)?;
        let (head_size, kv_heads, heads) = (arena.dims.head_size, arena.dims.kv_heads, model.heads);
        let hidden = model.final_norm.dim(0)?;
        let vocabulary = model.output.address()?.rows as usize;
        let Some(layer) = model.layers.first() else {
            return Ok(None);
        };
        let ffn = layer.down.address()?.k as usize;
        let longest = hidden.max(ffn).max(heads * head_size);
        let mut factors = Vec::with_capacity(4 * model.layers.len() + 1);
        for layer in &model.layers {
            let in_order = [
                (&layer.qkv, Mode::NormBias),
                (&layer.dense, Mode::Add),
                (&layer.gate_up, Mode::NormGated),
                (&layer.down, Mode::Add),
            ];
            factors.extend(in_order.map(|(weight, mode)| Factor { weight, mode }));
        }
        factors.push(Factor {
            weight: &model.output,
            mode: Mode::NormF32,
        });
        // `Reading` of decode_weights.cuh counts bytes in 32 bits.
        let small = factors.iter().try_fold(true, |small, factor| {
            let WeightAddress { rows, k, .. } = factor.weight.address()?;
            Ok::<_, Error>(small && 2 * rows as u64 * k as u64 <= u64::from(u32::MAX))
        })?;
        let row_tiles = (heads / kv_heads).div_ceil(HEADS);
        let sizes = |most_tiles| {
            let mut sizes = Sizes {
                rows,
                plain: factors.iter().any(Factor::plain),
                blocks: !factors.iter().all(Factor::plain),
                products: 0,
                readings: 0,
                found: 0,
                tasks: (rows * row_tiles * kv_heads * SPLITS).div_ceil(gpu.processors),
                joined: (rows * row_tiles * kv_heads * HEADS).div_ceil(gpu.processors),
                longest,
                head_size,
            };
            let mut shapes = Vec::new();
            for factor in &factors {
                for part in factor.parts(most_tiles, gpu.processors)? {
                    let (shape, found) = (
                        factor.shape(&part)?,
                        factor.found(&part, rows, gpu.processors),
                    );
                    sizes.found = sizes.found.max(found.next_multiple_of(4));
                    sizes.products += 1;
                    if !shapes.contains(&shape) {
                        shapes.push(shape);
                    }
                }
            }
            sizes.readings = shapes.len();
            Ok::<_, Error>(sizes)
        };
        // The more a block has of a product, the more it has to keep until all have met again, and the fewer are the parts.
        let mut most_tiles = 64;
        while sizes(most_tiles)?.shared_bytes() + STATIC > gpu.shared_memory && most_tiles > 8 {
            most_tiles /= 2;
        }
        let sizes = sizes(most_tiles)?;
        let shared = sizes.shared_bytes();
        let fits = (1..=Self::MOST_ROWS).contains(&rows)
            && matches!(dtype, DType::BF16 | DType::F16)
            && arena.data.dtype() == dtype
            && matches!(head_size, 64 | 128)
            && [hidden, ffn, heads * head_size]
                .iter()
                .all(|n| *n > 0 && n.is_multiple_of(8))
            && small
            && shared + STATIC <= gpu.shared_memory;
        if !fits {
            return Ok(None);
        }
        let tiles = rows * row_tiles;
        let row_pages = model.most_entries.div_ceil(PAGE) + 1;
        let mut len = 0;
        let mut part = |words: usize| {
            len += words;
            len - words
        };
        let inputs = Inputs {
            arrived: part(1),
            ids: part(rows),
            positions: part(rows),
            spans: part(4 * rows),
            row_spans: part(rows),
            tiles: part(2 * tiles),
            frequencies: part(model.frequencies.len()),
            pages: part(rows * row_pages),
            row_pages,
            len: 0,
        };
        let inputs = Inputs { len, ..inputs };
        let stream = &gpu.stream;
        let width = (heads + 2 * kv_heads) * head_size;
        // SAFETY: everything is written before it is read, by the kernel or below. bf16 stands for any type of 16 bits.
        let (card, logits, [x, shares], [qkv, attention, mlp]) = unsafe {
            (
                stream.alloc::<u32>(inputs.len).w()?,
                stream.alloc::<f32>(rows * vocabulary).w()?,
                [
                    stream.alloc::<f32>(rows * hidden).w()?,
                    stream
                        .alloc::<f32>(tiles * kv_heads * SPLITS * HEADS * (head_size + 2))
                        .w()?,
                ],
                [
                    stream.alloc::<bf16>(rows * width).w()?,
                    stream.alloc::<bf16>(rows * heads * head_size).w()?,
                    stream.alloc::<bf16>(rows * ffn).w()?,
                ],
            )
        };
        let (x_at, qkv_at) = (x.device_ptr(stream).0, qkv.device_ptr(stream).0);
        let (attention_at, mlp_at) = (attention.device_ptr(stream).0, mlp.device_ptr(stream).0);
        let mut products = Vec::with_capacity(sizes.products);
        let mut shapes = Vec::with_capacity(sizes.readings);
        let mut add = |factor: &Factor, input, norm, bias, out| {
            let outputs = factor.outputs()?;
            let parts = factor.parts(most_tiles, gpu.processors)?;
            for (i, part) in parts.into_iter().enumerate() {
                let shape = factor.shape(&part)?;
                let known = shapes.iter().position(|s| *s == shape);
                let reading = known.unwrap_or(shapes.len());
                if known.is_none() {
                    shapes.push(shape);
                }
                let (first, rows) = (part.start, part.len());
                let weight = match factor.weight {
                    StepWeight::Blocks(blocks) => blocks.rows_from(first, rows)?,
                    StepWeight::Dense(_) => WeightAddress {
                        rows: rows as i32,
                        ..factor.weight.address()?
                    },
                };
                let out_size = match factor.mode {
                    Mode::NormF32 | Mode::Add => size_of::<f32>(),
                    Mode::NormBias | Mode::NormGated => dtype.size_in_bytes(),
                };
                products.push(Product {
                    weight,
                    input,
                    norm,
                    bias: match bias {
                        0 => 0,
                        bias => bias + (first * dtype.size_in_bytes()) as Address,
                    },
                    out: out + (first * out_size) as Address,
                    width: outputs as i32,
                    format: factor.weight.format()?,
                    mode: factor.mode,
                    part: i as i32,
                    reading: reading as i32,
                    first: i32::from(known.is_none()),
                });
            }
            Ok::<_, Error>(())
        };
        for (layer, factors) in model.layers.iter().zip(factors.chunks(4)) {
            let norms = [at(layer.attention_norm)?.0, at(layer.mlp_norm)?.0];
            let bias = layer.qkv_bias.map_or(Ok(0), |b| at(b).map(|b| b.0))?;
            add(&factors[0], x_at, norms[0], bias, qkv_at)?;
            add(&factors[1], attention_at, 0, 0, x_at)?;
            add(&factors[2], x_at, norms[1], 0, mlp_at)?;
            add(&factors[3], mlp_at, 0, 0, x_at)?;
        }
        let logits_at = logits.device_ptr(stream).0;
        let output = &factors[factors.len() - 1];
        add(output, x_at, final_norm, 0, logits_at)?;
        let count = products.len() as i32;
        // SAFETY: `Product` is plain numbers without gaps, a multiple of eight bytes long.
        let words: &[u64] = unsafe { products.align_to().1 };
        let products = stream.clone_htod(words).w()?;
        let first = card.device_ptr(stream).0;
        let word = |at: usize| first + 4 * at as u64;
        let addresses = StepAddresses {
            products: products.device_ptr(stream).0,
            count,
            readings: sizes.readings as i32,
            embedding: model.embedding.address()?,
            embedding_format: model.embedding.format()?,
            plan: PlanAddresses {
                spans: word(inputs.spans),
                pages: word(inputs.pages),
                positions: word(inputs.positions),
                row_spans: word(inputs.row_spans),
                tiles: word(inputs.tiles),
                frequencies: word(inputs.frequencies),
                pairs: model.frequencies.len() as i32,
            },
            cache: CacheAddress::new(arena, 0)?,
            ids: word(inputs.ids),
            x: x_at,
            qkv: qkv_at,
            attention: attention_at,
            shares: shares.device_ptr(stream).0,
            arrived: word(inputs.arrived),
            rows: rows as i32,
            tiles: tiles as i32,
            heads: heads as i32,
            tasks: sizes.tasks as i32,
            joined: sizes.joined as i32,
            found: sizes.found as i32,
            eps: model.eps as f32,
        };
        let context = stream.context();
        // SAFETY: the inputs are written below and in `run`, the scores by the card before they are read.
        let (mut host, host_logits) = unsafe {
            (
                context.alloc_pinned_with_flags::<u32>(inputs.len, 0).w()?,
                context
                    .alloc_pinned_with_flags::<f32>(rows * vocabulary, 0)
                    .w()?,
            )
        };
        let words = host.as_mut_slice().w()?;
        words.fill(0);
        for row in 0..rows {
            words[inputs.row_spans + row] = row as u32;
            for tile in 0..tiles / rows {
                let at = inputs.tiles + 2 * (row * (tiles / rows) + tile);
                words[at] = row as u32;
                words[at + 1] = (tile * HEADS) as u32;
            }
        }
        for (word, frequency) in words[inputs.frequencies..]
            .iter_mut()
            .zip(&model.frequencies)
        {
            *word = frequency.to_bits();
        }
        let launch = Launch {
            cooperative: true,
            ..Launch::new((gpu.processors, 1, 1), 32 * WARPS)
        };
        let kind = if sizes.blocks { "" } else { "plain_" };
        Ok(Some(Step {
            kernel: format!("step_{kind}{head_size}_{}", type_name(dtype)?),
            launch: launch.shared(shared),
            rows,
            words: model.embedding.address()?.rows as usize,
            vocabulary,
            inputs,
            addresses,
            host,
            host_logits,
            card,
            logits,
            _products: products,
            _f32: [x, shares],
            _halves: [qkv, attention, mlp],
            gpu,
        }))
    }

    /// Whether it was made for this arena.
    pub fn is_for(&self, arena: &Arena) -> bool {
        at(&arena.data).is_ok_and(|(data, _, _)| data == self.addresses.cache.data)
    }

    /// The scores of the next token of each sequence after one more token each: f32, [rows][vocabulary].
    pub fn run(&mut self, ids: &[u32], spans: &[Span], positions: &[u32]) -> Result<Vec<Vec<f32>>> {
        if ids.len() != self.rows || spans.len() != self.rows || positions.len() != self.rows {
            bail!("a step of {} tokens got {}", self.rows, ids.len())
        }
        let inputs = self.inputs;
        let stream = self.gpu.stream.clone();
        let words = self.host.as_mut_slice().w()?;
        for (row, span) in spans.iter().enumerate() {
            let used = (span.start + 1).div_ceil(PAGE);
            if span.len != 1 || used > span.pages.len() || used > inputs.row_pages {
                bail!("a step of one token got {span:?}")
            }
            if ids[row] as usize >= self.words {
                bail!("token {} of {}", ids[row], self.words)
            }
            words[inputs.ids + row] = ids[row];
            words[inputs.positions + row] = positions[row];
            let pages_at = row * inputs.row_pages;
            // `Span` of plan.cuh: entries before, new ones, its first row, and where its pages begin.
            words[inputs.spans + 4 * row..][..4].copy_from_slice(&[
                span.start as u32,
                1,
                row as u32,
                pages_at as u32,
            ]);
            words[inputs.pages + pages_at..][..used].copy_from_slice(&span.pages[..used]);
        }
        stream.memcpy_htod(&self.host, &mut self.card).w()?;
        // SAFETY: all addresses are of memory that the step or, by its contract, the model and the arena own, as large
        // as the shapes say.
        unsafe {
            self.gpu
                .launch(&self.kernel, self.launch, params![self.addresses])?
        };
        stream
            .memcpy_dtoh(&self.logits, &mut self.host_logits)
            .w()?;
        stream.synchronize().w()?;
        let logits = self.host_logits.as_slice().w()?;
        Ok(logits
            .chunks(self.vocabulary)
            .map(<[f32]>::to_vec)
            .collect())
    }
}

/// Bytes of shared memory that the kernel has without asking for them.
const STATIC: usize = 3072;

/// What a block's shared memory depends on.
struct Sizes {
    rows: usize,
    /// Some weights are not in blocks, and some are.
    plain: bool,
    blocks: bool,
    /// Parts of products, and how many of them differ in what they read.
    products: usize,
    readings: usize,
    /// Floats that are found of one.
    found: usize,
    /// A block's tasks of attention, and heads that it joins.
    tasks: usize,
    joined: usize,
    /// Inputs of a product at most.
    longest: usize,
    head_size: usize,
}

impl Sizes {
    /// Shared memory of a block: the weights that are under way, the positions' cosines and sines, how the products are read,
    /// what a block does of attention, and then what the warps found of a product and its inputs (see `Inputs` of
    /// decode_product.cuh) or, in turn with these, what attention works in. See `step` of decode.cu.
    fn shared_bytes(&self) -> usize {
        /// `Batch` of decode_weights.cuh, and what holds the scales of one.
        const BATCH: usize = 2 * 32 * 16;
        const HEADS_OF_BLOCKS: usize = 160;
        /// `Reading` of decode_weights.cuh.
        const READING: usize = 80;
        /// Two of `Location`.
        const LOCATIONS: usize = 48;
        /// `Task` and `Joined` of decode_attention.cuh.
        const TASK: usize = 48;
        const JOINED: usize = 16;
        // `DEPTH` of decode_weights.cuh, which goes by what the kernel was built for: code for 8.0 has its own on 8.6 too.
        let depth = match BUILT_FOR.0 {
            90 | 100..110 => 6,
            80 | 87 => 4,
            _ => 2,
        };
        let slot = BATCH + if self.blocks { HEADS_OF_BLOCKS } else { 0 };
        let groups = PAGE / HEADS;
        let attention = HEADS * (self.head_size + 8) * 2
            + 4 * self.head_size
            + 2 * groups * HEADS * 4
            + groups * HEADS * self.head_size * 4;
        let whole = self.longest.next_multiple_of(512);
        let rows = if self.plain {
            Step::MOST_ROWS
        } else {
            self.rows
        };
        let inputs = rows * (2 * whole + whole / 32 * 4);
        WARPS * depth * slot
            + Step::MOST_ROWS * self.head_size / 2 * 8
            + self.readings * READING
            + self.products.div_ceil(2) * LOCATIONS
            + self.tasks * TASK
            + self.joined * JOINED
            + attention.max(self.found * 4 + inputs)
    }
}
