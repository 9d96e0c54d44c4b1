//! A decode step, one token for each of one or two sequences, as one CUDA graph.
//!
//! Such a step is some 250 small kernels: launched one by one, the card waits for the host. So the launches are captured
//! once, and replayed; all that changes from step to step — tokens, positions, lengths, pages — is read from the card's
//! memory, where the graph itself copies it from one place in the host's.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaGraph, CudaSlice, DevicePtr, PinnedHostSlice, result,
};
use candle_core::{DType, Result, Tensor, bail};
use half::bf16;

use super::super::attention::{Arena, PAGE, Span};
use super::attention::{
    CacheAddress, DeviceSpan, PlanAddresses, ROWS_OF_ONE, Shares, share_floats, shared_bytes,
};
use super::blocks::{Blocks, WeightAddress};
use super::gpu::{Address, Gpu, Launch, at, params, type_name};

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

/// A product's weight, by address.
#[derive(Clone, Copy)]
struct Weight {
    address: WeightAddress,
    format: &'static str,
}

impl StepWeight<'_> {
    fn resolve(&self) -> Result<Weight> {
        Ok(match self {
            StepWeight::Blocks(blocks) => Weight {
                address: blocks.address(),
                format: blocks.name()?,
            },
            StepWeight::Dense(weight) => {
                let (rows, k) = weight.dims2()?;
                Weight {
                    address: WeightAddress {
                        data: at(weight)?.0,
                        scales: 0,
                        rows: rows as i32,
                        k: k as i32,
                    },
                    format: "dense",
                }
            }
        })
    }
}

struct Layer {
    attention_norm: Address,
    qkv: Weight,
    qkv_bias: Address,
    dense: Weight,
    mlp_norm: Address,
    gate_up: Weight,
    down: Weight,
}

/// `Product` of decode.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct Product {
    weight: WeightAddress,
    input: Address,
    norm: Address,
    bias: Address,
    out: Address,
    eps: f32,
}

/// Where each part of the inputs begins, in words.
#[derive(Clone, Copy)]
struct Inputs {
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

/// A captured decode step of a certain number of rows.
pub struct Step {
    gpu: Arc<Gpu>,
    rows: usize,
    tiles: usize,
    dtype: DType,
    eps: f32,
    heads: usize,
    head_size: usize,
    kv_heads: usize,
    vocabulary: usize,
    layers: Vec<Layer>,
    embedding: Weight,
    final_norm: Address,
    output: Weight,
    arena: CacheAddress,
    pairs: usize,
    inputs: Inputs,
    host: PinnedHostSlice<u32>,
    host_logits: PinnedHostSlice<f32>,
    /// Where the two lie: asking them waits for an event, which a capture forbids.
    host_at: *const u32,
    logits_at: *mut f32,
    card: CudaSlice<u32>,
    x: CudaSlice<f32>,
    /// Rows of the embedding that had to be made plain.
    plain: CudaSlice<bf16>,
    qkv: CudaSlice<bf16>,
    attention: CudaSlice<bf16>,
    mlp: CudaSlice<bf16>,
    logits: CudaSlice<f32>,
    shares: CudaSlice<f32>,
    graph: Option<CudaGraph>,
    /// The driver has refused to capture it.
    refused: bool,
    overlaps: bool,
}

// SAFETY: a graph may move between threads as long as one at a time uses it, which `&mut self` sees to; the pointers are
// into memory that the step owns.
unsafe impl Send for Step {}

/// Blocks that share the keys of a sequence between them.
const SPLITS: usize = 32;

impl Step {
    /// The most sequences in a step.
    pub const MOST_ROWS: usize = 2;

    /// Makes the step for `rows` sequences with their cache in `arena`; `None` where its kernels don't fit the model's
    /// sizes.
    pub fn new(model: &StepModel<'_>, rows: usize, arena: &Arena) -> Result<Option<Self>> {
        let (final_norm, dtype, gpu) = at(model.final_norm)?;
        let (head_size, kv_heads, heads) = (arena.dims.head_size, arena.dims.kv_heads, model.heads);
        let hidden = model.final_norm.dim(0)?;
        let layers = model
            .layers
            .iter()
            .map(|l| {
                Ok(Layer {
                    attention_norm: at(l.attention_norm)?.0,
                    qkv: l.qkv.resolve()?,
                    qkv_bias: l.qkv_bias.map_or(Ok(0), |b| at(b).map(|b| b.0))?,
                    dense: l.dense.resolve()?,
                    mlp_norm: at(l.mlp_norm)?.0,
                    gate_up: l.gate_up.resolve()?,
                    down: l.down.resolve()?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let (embedding, output) = (model.embedding.resolve()?, model.output.resolve()?);
        let ffn = layers.first().map_or(0, |l| l.down.address.k as usize);
        let longest = hidden.max(ffn).max(heads * head_size);
        let fits = (1..=Self::MOST_ROWS).contains(&rows)
            && matches!(dtype, DType::BF16 | DType::F16)
            && arena.data.dtype() == dtype
            && matches!(head_size, 64 | 128)
            && [hidden, ffn, heads * head_size]
                .iter()
                .all(|n| *n > 0 && n.is_multiple_of(8))
            && product_bytes(rows, longest) <= gpu.shared_memory
            && shared_bytes(ROWS_OF_ONE, head_size) <= gpu.shared_memory;
        if !fits {
            return Ok(None);
        }
        let tiles = rows * (heads / kv_heads).div_ceil(ROWS_OF_ONE);
        let row_pages = model.most_entries.div_ceil(PAGE) + 1;
        let mut len = 0;
        let mut part = |words: usize| {
            len += words;
            len - words
        };
        let inputs = Inputs {
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
        let context = gpu.stream.context();
        let vocabulary = output.address.rows as usize;
        let width = (heads + 2 * kv_heads) * head_size;
        let shares = tiles * kv_heads * SPLITS * share_floats(ROWS_OF_ONE, head_size);
        // SAFETY: everything is written before it is read, by the step's own kernels or below. bf16 stands for any type
        // of 16 bits.
        let mut step = unsafe {
            Step {
                host: context.alloc_pinned_with_flags(inputs.len, 0).w()?,
                host_logits: context.alloc_pinned_with_flags(rows * vocabulary, 0).w()?,
                card: gpu.stream.alloc(inputs.len).w()?,
                x: gpu.stream.alloc(rows * hidden).w()?,
                plain: gpu.stream.alloc(rows * hidden).w()?,
                qkv: gpu.stream.alloc(rows * width).w()?,
                attention: gpu.stream.alloc(rows * heads * head_size).w()?,
                mlp: gpu.stream.alloc(rows * ffn).w()?,
                logits: gpu.stream.alloc(rows * vocabulary).w()?,
                shares: gpu.stream.alloc(shares).w()?,
                host_at: std::ptr::null(),
                logits_at: std::ptr::null_mut(),
                arena: CacheAddress::new(arena, 0)?,
                eps: model.eps as f32,
                pairs: model.frequencies.len(),
                graph: None,
                refused: false,
                overlaps: true,
                gpu,
                rows,
                tiles,
                dtype,
                heads,
                head_size,
                kv_heads,
                vocabulary,
                layers,
                embedding,
                final_norm,
                output,
                inputs,
            }
        };
        step.host_at = step.host.as_ptr().w()?;
        step.logits_at = step.host_logits.as_mut_ptr().w()?;
        let words = step.host.as_mut_slice().w()?;
        words.fill(0);
        for row in 0..rows {
            words[inputs.row_spans + row] = row as u32;
            for tile in 0..tiles / rows {
                let at = inputs.tiles + 2 * (row * (tiles / rows) + tile);
                words[at] = row as u32;
                words[at + 1] = (tile * ROWS_OF_ONE) as u32;
            }
        }
        for (word, frequency) in words[inputs.frequencies..]
            .iter_mut()
            .zip(&model.frequencies)
        {
            *word = frequency.to_bits();
        }
        Ok(Some(step))
    }

    /// Whether it was made for this arena.
    pub fn is_for(&self, arena: &Arena) -> bool {
        at(&arena.data).is_ok_and(|(data, _, _)| data == self.arena.data)
    }

    /// The scores of the next token of each sequence after one more token each: f32, [rows][vocabulary]. With `graph`
    /// off the kernels are launched one by one.
    pub fn run(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        graph: bool,
    ) -> Result<Vec<Vec<f32>>> {
        self.enqueue(ids, spans, positions, graph)?;
        self.gpu.stream.synchronize().w()?;
        let logits = self.host_logits.as_slice().w()?;
        Ok(logits
            .chunks(self.vocabulary)
            .map(<[f32]>::to_vec)
            .collect())
    }

    /// The same without waiting for it.
    pub fn enqueue(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        graph: bool,
    ) -> Result<()> {
        if ids.len() != self.rows || spans.len() != self.rows || positions.len() != self.rows {
            bail!("a step of {} tokens got {}", self.rows, ids.len())
        }
        let inputs = self.inputs;
        // The step before has been waited for, or its copy of the inputs may still be under way.
        self.gpu.stream.synchronize().w()?;
        let words = self.host.as_mut_slice().w()?;
        for (row, span) in spans.iter().enumerate() {
            let used = (span.start + 1).div_ceil(PAGE);
            if span.len != 1 || used > span.pages.len() || used > inputs.row_pages {
                bail!("a step of one token got {span:?}")
            }
            if ids[row] as usize >= self.embedding.address.rows as usize {
                bail!("token {} of {}", ids[row], self.embedding.address.rows)
            }
            words[inputs.ids + row] = ids[row];
            words[inputs.positions + row] = positions[row];
            let pages_at = row * inputs.row_pages;
            let DeviceSpan {
                start,
                len,
                first_row,
                pages_at,
            } = DeviceSpan {
                start: span.start as u32,
                len: 1,
                first_row: row as u32,
                pages_at: pages_at as u32,
            };
            words[inputs.spans + 4 * row..][..4]
                .copy_from_slice(&[start, len, first_row, pages_at]);
            words[inputs.pages + row * inputs.row_pages..][..used]
                .copy_from_slice(&span.pages[..used]);
        }
        if graph && self.graph.is_none() && !self.refused {
            self.refused = !self.capture()?;
        }
        match &self.graph {
            Some(captured) if graph => captured.launch().w(),
            _ => self.launch(),
        }
    }

    /// Captures the launches. False where the driver can't, once without overlapping kernels either.
    fn capture(&mut self) -> Result<bool> {
        // Once for real: kernels are loaded at their first launch, which must not be part of a graph.
        self.launch()?;
        self.gpu.stream.synchronize().w()?;
        for overlaps in [true, false] {
            self.overlaps = overlaps;
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
            self.gpu.stream.begin_capture(mode).w()?;
            let launched = self.launch();
            let graph = self.gpu.stream.end_capture(CUgraphInstantiate_flags(0));
            match (launched, graph) {
                (Ok(()), Ok(Some(graph))) => {
                    self.graph = Some(graph);
                    return Ok(true);
                }
                (launched, graph) => tracing::warn!(
                    overlaps,
                    launched = ?launched.err().map(|e| e.to_string()),
                    graph = ?graph.err(),
                    "the driver does not capture a decode step"
                ),
            }
        }
        Ok(false)
    }

    /// Launches every kernel of the step.
    fn launch(&mut self) -> Result<()> {
        let stream = self.gpu.stream.clone();
        stream.context().bind_to_thread().w()?;
        let card = self.card.device_ptr(&stream).0;
        // SAFETY: both are as long, and live as long as the step.
        unsafe {
            let words = std::slice::from_raw_parts(self.host_at, self.inputs.len);
            result::memcpy_htod_async(card, words, stream.cu_stream()).w()?;
        }
        let word = |at: usize| card + 4 * at as u64;
        let plan = PlanAddresses {
            spans: word(self.inputs.spans),
            pages: word(self.inputs.pages),
            positions: word(self.inputs.positions),
            row_spans: word(self.inputs.row_spans),
            tiles: word(self.inputs.tiles),
            frequencies: word(self.inputs.frequencies),
            pairs: self.pairs as i32,
        };
        let x = self.x.device_ptr(&stream).0;
        let qkv = self.qkv.device_ptr(&stream).0;
        let attention = self.attention.device_ptr(&stream).0;
        let mlp = self.mlp.device_ptr(&stream).0;
        let logits = self.logits.device_ptr(&stream).0;
        self.embed(word(self.inputs.ids), x)?;
        for (i, layer) in self.layers.iter().enumerate() {
            self.product(
                "norm_bias",
                layer.qkv,
                x,
                layer.attention_norm,
                layer.qkv_bias,
                qkv,
            )?;
            self.attend(plan, i, qkv, attention)?;
            self.product("add", layer.dense, attention, 0, 0, x)?;
            self.product("norm_gated", layer.gate_up, x, layer.mlp_norm, 0, mlp)?;
            self.product("add", layer.down, mlp, 0, 0, x)?;
        }
        self.product("norm_f32", self.output, x, self.final_norm, 0, logits)?;
        // SAFETY: as long as each other; the host reads behind a synchronisation.
        unsafe {
            let to = std::slice::from_raw_parts_mut(self.logits_at, self.rows * self.vocabulary);
            result::memcpy_dtoh_async(to, logits, stream.cu_stream()).w()
        }
    }

    /// The tokens' vectors as f32.
    fn embed(&self, ids: Address, x: Address) -> Result<()> {
        let (hidden, name) = (self.embedding.address.k, type_name(self.dtype)?);
        let columns = hidden as usize;
        // SAFETY: the ids were compared with the table's rows; x and `plain` are [rows, hidden].
        unsafe {
            if self.embedding.format == "dense" {
                let launch = Launch::new((self.rows, 1, 1), 256);
                let table = self.embedding.address.data;
                return self.gpu.launch(
                    &format!("embed_{name}"),
                    launch,
                    params![table, ids, x, hidden],
                );
            }
            let plain = self.plain.device_ptr(&self.gpu.stream).0;
            self.gpu.launch(
                &format!("dequantize_{}_{name}", self.embedding.format),
                Launch::new((columns.div_ceil(8 * 256), self.rows, 1), 256),
                params![self.embedding.address, ids, plain, self.rows as i32],
            )?;
            let n = self.rows * columns;
            self.gpu.launch(
                &format!("widen_{name}"),
                Launch::new((n.div_ceil(256), 1, 1), 256),
                params![plain, x, n as i32],
            )
        }
    }

    /// Stores the new keys and values and attends to all.
    fn attend(&self, plan: PlanAddresses, layer: usize, qkv: Address, out: Address) -> Result<()> {
        let (size, name, heads) = (self.head_size, type_name(self.dtype)?, self.heads as i32);
        let cache = CacheAddress {
            layer: layer as i32,
            ..self.arena
        };
        let shares = Shares {
            data: self.shares.device_ptr(&self.gpu.stream).0,
            splits: SPLITS as i32,
        };
        let overlaps = self.overlaps;
        let launch = Launch::new((self.tiles, self.kv_heads, SPLITS), 32)
            .shared(shared_bytes(ROWS_OF_ONE, size));
        let joining = Launch::new((self.tiles, self.kv_heads, ROWS_OF_ONE), size);
        // SAFETY: the plan lies in the step's inputs, and everything is as large as the kernels take it.
        unsafe {
            self.gpu.launch(
                &format!("paged_one_{size}_{name}"),
                Launch { overlaps, ..launch },
                params![cache, plan, qkv, out, heads, shares],
            )?;
            self.gpu.launch(
                &format!("combine_one_{size}_{name}"),
                Launch {
                    overlaps,
                    ..joining
                },
                params![plan, out, heads, shares],
            )
        }
    }

    fn product(
        &self,
        mode: &str,
        weight: Weight,
        input: Address,
        norm: Address,
        bias: Address,
        out: Address,
    ) -> Result<()> {
        /// Rows of the weight that a block takes.
        const WARPS: usize = 8;
        let mut count = weight.address.rows as usize;
        if mode == "norm_gated" {
            count /= 2;
        }
        let name = format!(
            "{mode}_{}_{}_{}",
            self.rows,
            weight.format,
            type_name(self.dtype)?
        );
        let launch = Launch {
            overlaps: self.overlaps,
            ..Launch::new((count.div_ceil(WARPS), 1, 1), 32 * WARPS)
        };
        let product = Product {
            weight: weight.address,
            input,
            norm,
            bias,
            out,
            eps: self.eps,
        };
        let launch = launch.shared(product_bytes(self.rows, weight.address.k as usize));
        // SAFETY: inputs and outputs are as large as the weight's shape asks for.
        unsafe { self.gpu.launch(&name, launch, params![product]) }
    }
}

/// Shared memory of a product's block: the inputs in rounds of 32 units of up to 32 weights, and a total for every 16.
fn product_bytes(rows: usize, k: usize) -> usize {
    let room = k.next_multiple_of(32 * 32);
    rows * (room * 2 + room / 16 * 4)
}
