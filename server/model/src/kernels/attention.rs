//! Attention: the vision tower's (every position sees every other) and the decoder's, over a paged cache.
//!
//! The cache is one [`Arena`] of pages. A page holds [`PAGE`] entries of every layer, so that a conversation that
//! branches off another shares whole pages with it and copies at most one. A forward pass takes a ragged batch: any
//! number of [`Span`]s, each the new entries of one sequence, prefill and decode side by side.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, InplaceOp1, InplaceOp2, Layout, Result, Shape,
    Tensor, backend::BackendStorage, bail,
};
use rayon::prelude::*;

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// Cache entries in a page.
pub const PAGE: usize = 64;

/// The KV cache's memory, allocated once: `[pages, layers, 2, kv_heads, PAGE, head_size]`, keys before values.
pub struct Arena {
    pub(super) data: Tensor,
    pub(super) dims: ArenaDims,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ArenaDims {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_size: usize,
}

impl ArenaDims {
    /// Elements of one head's entries in a page.
    fn head(&self) -> usize {
        PAGE * self.head_size
    }

    fn page(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.head()
    }

    /// Where the keys (`value` 0) or values (1) of a head in a page begin.
    fn offset(&self, page: u32, layer: usize, value: usize, head: usize) -> usize {
        page as usize * self.page() + ((layer * 2 + value) * self.kv_heads + head) * self.head()
    }
}

impl Arena {
    pub fn new(
        pages: usize,
        layers: usize,
        kv_heads: usize,
        head_size: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let shape = (pages, layers * 2, kv_heads, PAGE, head_size);
        Ok(Arena {
            // Not zeros: those would be promised by the kernel and taken page by page, so that memory grew with use.
            data: Tensor::ones(shape, dtype, device)?,
            dims: ArenaDims {
                layers,
                kv_heads,
                head_size,
            },
        })
    }

    pub fn pages(&self) -> usize {
        self.data.dims()[0]
    }

    /// Bytes that a page takes.
    pub fn page_bytes(layers: usize, kv_heads: usize, head_size: usize, dtype: DType) -> usize {
        ArenaDims {
            layers,
            kv_heads,
            head_size,
        }
        .page()
            * dtype.size_in_bytes()
    }

    /// Copies a page, all layers of it.
    pub fn copy_page(&self, from: u32, to: u32) -> Result<()> {
        let (pages, page) = (self.pages(), self.dims.page());
        let (from, to) = (from as usize, to as usize);
        if from >= pages || to >= pages {
            bail!("page {from} or {to} is not one of {pages}")
        }
        on_card!(
            self.data,
            cuda::copy_within(&self.data, from * page, to * page, page)
        );
        self.data.inplace_op1(&CopyPage {
            from: from * page,
            to: to * page,
            len: page,
        })
    }
}

/// Copies elements within a tensor. (candle's own copy of a part clones the whole storage first.)
struct CopyPage {
    from: usize,
    to: usize,
    len: usize,
}

impl InplaceOp1 for CopyPage {
    fn name(&self) -> &'static str {
        "copy-page"
    }

    fn cpu_fwd(&self, arena: &mut CpuStorage, _: &Layout) -> Result<()> {
        let CpuStorage::F32(arena) = arena else {
            bail!(
                "the CPU's KV cache is f32, found {:?}",
                cpu::dtype_of(arena)
            )
        };
        arena.copy_within(self.from..self.from + self.len, self.to);
        Ok(())
    }
}

/// The new entries of one sequence in a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Entries in the cache before these.
    pub start: usize,
    /// New entries.
    pub len: usize,
    /// The pages of the sequence, enough for `start + len` entries.
    pub pages: Vec<u32>,
}

/// The rotary embedding's angles: interleaved pairs over the first `size` dimensions of each head.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// Per pair: base^(−2i/size).
    inverse_frequencies: Vec<f64>,
}

impl Rotary {
    /// `size` rotating dimensions, `base` 10000 · rope_ratio.
    pub fn new(size: usize, base: f64) -> Self {
        let inverse_frequencies = (0..size / 2)
            .map(|i| base.powf(-((2 * i) as f64) / size as f64))
            .collect();
        Rotary {
            inverse_frequencies,
        }
    }

    /// Per pair, as the original has them: in f32.
    pub fn frequencies(&self) -> impl Iterator<Item = f32> {
        self.inverse_frequencies.iter().map(|f| *f as f32)
    }
}

/// Per position and pair: cosine, sine.
fn angles(frequencies: &[f64], positions: &[u32]) -> Vec<(f32, f32)> {
    let pairs = frequencies.len();
    let mut angles = Vec::with_capacity(positions.len() * pairs);
    let mut last = None;
    for position in positions {
        if last == Some(position) {
            // A picture's vectors share a position.
            angles.extend_from_within(angles.len() - pairs..);
            continue;
        }
        last = Some(position);
        // The original multiplies in f32.
        angles.extend(frequencies.iter().map(|f| {
            let (sin, cos) = f64::from(*position as f32 * *f as f32).sin_cos();
            (cos as f32, sin as f32)
        }));
    }
    angles
}

/// What a forward pass needs to know of its batch, made once and used by every layer.
#[derive(Clone)]
pub struct Plan(Arc<PlanInner>);

pub(super) struct PlanInner {
    pub(super) spans: Vec<Span>,
    /// Row of the span's first entry in the batch.
    pub(super) first_rows: Vec<usize>,
    /// Per new entry.
    pub(super) positions: Vec<u32>,
    /// Of the rotary embedding, per pair.
    pub(super) frequencies: Vec<f64>,
    rows: usize,
    pairs: usize,
    /// [rows, pairs]; made at the first use, since a card makes its own.
    angles: OnceLock<Vec<(f32, f32)>>,
    #[cfg(feature = "cuda")]
    on_card: OnceLock<cuda::DevicePlan>,
}

impl PlanInner {
    fn angles(&self) -> &[(f32, f32)] {
        self.angles
            .get_or_init(|| angles(&self.frequencies, &self.positions))
    }

    /// The plan in the card's memory, put there at the first use.
    #[cfg(feature = "cuda")]
    pub(super) fn on_card(&self, group: usize, gpu: &cuda::Gpu) -> Result<&cuda::DevicePlan> {
        if let Some(plan) = self.on_card.get() {
            return Ok(plan);
        }
        let plan = cuda::DevicePlan::new(self, group, gpu)?;
        Ok(self.on_card.get_or_init(|| plan))
    }
}

impl Plan {
    /// `positions` holds one for each new entry, span after span.
    pub fn new(spans: Vec<Span>, positions: &[u32], rotary: &Rotary) -> Result<Self> {
        let mut first_rows = Vec::with_capacity(spans.len());
        let mut rows = 0;
        for span in &spans {
            first_rows.push(rows);
            rows += span.len;
            if span.pages.len() * PAGE < span.start + span.len {
                bail!(
                    "{} pages do not hold {} entries",
                    span.pages.len(),
                    span.start + span.len
                )
            }
        }
        if rows != positions.len() {
            bail!("{rows} entries have {} positions", positions.len())
        }
        Ok(Plan(Arc::new(PlanInner {
            first_rows,
            rows,
            pairs: rotary.inverse_frequencies.len(),
            positions: positions.to_vec(),
            frequencies: rotary.inverse_frequencies.clone(),
            angles: OnceLock::new(),
            #[cfg(feature = "cuda")]
            on_card: OnceLock::new(),
            spans,
        })))
    }

    /// New entries in all.
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// The row of each span's last entry.
    pub fn last_rows(&self) -> Vec<u32> {
        let plan = &self.0;
        plan.first_rows
            .iter()
            .zip(&plan.spans)
            .map(|(first, span)| (first + span.len - 1) as u32)
            .collect()
    }
}

/// Rotates the keys of the new entries and writes keys and values into the arena.
///
/// `qkv` is [rows, (heads + 2 · kv_heads) · head_size]: queries, keys, values.
pub fn store_kv(arena: &Arena, layer: usize, qkv: &Tensor, plan: &Plan) -> Result<()> {
    on_card!(qkv, cuda::store_kv(arena, layer, qkv, &plan.0));
    let op = StoreKv {
        dims: arena.dims,
        layer,
        plan: plan.0.clone(),
    };
    arena.data.inplace_op2(qkv, &op)
}

/// Causal attention of the new entries over the cache: [rows, heads · head_size]. The queries in `qkv` are rotated on
/// the way; the new entries' own keys and values must be in the arena ([`store_kv`]). Scale 1/√head_size.
pub fn paged_attention(
    qkv: &Tensor,
    arena: &Arena,
    layer: usize,
    heads: usize,
    plan: &Plan,
) -> Result<Tensor> {
    on_card!(
        qkv,
        cuda::paged_attention(qkv, arena, layer, heads, &plan.0)
    );
    let op = PagedAttention {
        dims: arena.dims,
        layer,
        heads,
        plan: plan.0.clone(),
    };
    qkv.apply_op2_no_bwd(&arena.data, &op)
}

/// Full attention of the queries of `rows`: `qkv` is [n, 3 · heads · head_size], queries, keys, values; the result
/// [rows, heads · head_size]. Scale 1/√head_size.
pub fn vision_attention(qkv: &Tensor, heads: usize, rows: Range<usize>) -> Result<Tensor> {
    if rows.end > qkv.dim(0)? {
        bail!("queries {rows:?} of {}", qkv.dim(0)?)
    }
    on_card!(qkv, cuda::vision_attention(qkv, heads, rows));
    qkv.apply_op1_no_bwd(&VisionAttention { heads, rows })
}

#[inline(always)]
fn rotate(head: &mut [f32], angles: &[(f32, f32)]) {
    for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}

struct StoreKv {
    dims: ArenaDims,
    layer: usize,
    plan: Arc<PlanInner>,
}

impl InplaceOp2 for StoreKv {
    fn name(&self) -> &'static str {
        "store-kv"
    }

    fn cpu_fwd(
        &self,
        arena: &mut CpuStorage,
        al: &Layout,
        qkv: &CpuStorage,
        ql: &Layout,
    ) -> Result<()> {
        let (_, width) = ql.shape().dims2()?;
        let dims = self.dims;
        let (size, kv_heads) = (dims.head_size, dims.kv_heads);
        let data = cpu::as_f32(qkv, ql)?;
        let CpuStorage::F32(arena) = arena else {
            bail!(
                "the CPU's KV cache is f32, found {:?}",
                cpu::dtype_of(arena)
            )
        };
        if !al.is_contiguous() || al.start_offset() != 0 {
            bail!("the KV cache must be contiguous")
        }
        let keys_at = width - 2 * kv_heads * size;
        for (span, first) in self.plan.spans.iter().zip(&self.plan.first_rows) {
            for i in 0..span.len {
                let row = first + i;
                let (page, slot) = ((span.start + i) / PAGE, (span.start + i) % PAGE);
                let angles = &self.plan.angles()[row * self.plan.pairs..][..self.plan.pairs];
                let source = &data[row * width + keys_at..][..2 * kv_heads * size];
                for (j, head) in source.chunks_exact(size).enumerate() {
                    let (value, h) = (j / kv_heads, j % kv_heads);
                    let at = dims.offset(span.pages[page], self.layer, value, h) + slot * size;
                    let target = &mut arena[at..at + size];
                    target.copy_from_slice(head);
                    if value == 0 {
                        rotate(target, angles);
                    }
                }
            }
        }
        Ok(())
    }
}

struct PagedAttention {
    dims: ArenaDims,
    layer: usize,
    heads: usize,
    plan: Arc<PlanInner>,
}

/// Queries of one block on the CPU.
const BLOCK: usize = 32;

impl CustomOp2 for PagedAttention {
    fn name(&self) -> &'static str {
        "paged-attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        ql: &Layout,
        arena: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = ql.shape().dims2()?;
        let (dims, heads) = (self.dims, self.heads);
        let size = dims.head_size;
        let group = heads / dims.kv_heads;
        let data = cpu::as_f32(qkv, ql)?;
        let CpuStorage::F32(cache) = arena else {
            bail!(
                "the CPU's KV cache is f32, found {:?}",
                cpu::dtype_of(arena)
            )
        };
        let mut out = vec![0f32; rows * heads * size];

        // One task: a block of queries of one span, and the query heads that share a key/value head, so that their
        // rows make one product.
        let mut tasks = Vec::new();
        let mut work = 0;
        for (span, first) in self.plan.spans.iter().zip(&self.plan.first_rows) {
            for block in (0..span.len).step_by(BLOCK) {
                let len = BLOCK.min(span.len - block);
                let context = span.start + block + len;
                work += len * heads * context * size;
                tasks.extend(
                    (0..dims.kv_heads).map(|kv| (span, first + block, span.start + block, len, kv)),
                );
            }
        }
        let out_ptr = cpu::Shared::new(&mut out);
        let run = |(span, row, start, len, kv): &(&Span, usize, usize, usize, usize)| {
            let (span, row, start, len, kv) = (*span, *row, *start, *len, *kv);
            let m = len * group; // rows of the product: queries × heads of the group
            let context = start + len;
            let mut q = vec![0f32; m * size];
            for i in 0..len {
                let angles = &self.plan.angles()[(row + i) * self.plan.pairs..][..self.plan.pairs];
                for g in 0..group {
                    let head = &mut q[(i * group + g) * size..][..size];
                    head.copy_from_slice(
                        &data[(row + i) * width + (kv * group + g) * size..][..size],
                    );
                    rotate(head, angles);
                }
            }
            let mut scores = vec![0f32; m * context];
            let pages = context.div_ceil(PAGE);
            for (p, page) in span.pages[..pages].iter().enumerate() {
                let n = PAGE.min(context - p * PAGE);
                let keys = &cache[dims.offset(*page, self.layer, 0, kv)..][..n * size];
                let target = &mut scores[p * PAGE..];
                multiply(
                    (m, n, size),
                    Matrix {
                        data: &q,
                        row: size,
                        column: 1,
                    },
                    Matrix {
                        data: keys,
                        row: 1,
                        column: size,
                    },
                    (target, context),
                    false,
                );
            }
            let scale = 1.0 / (size as f32).sqrt();
            cpu::vectorized(
                #[inline(always)]
                || {
                    for (i, row) in scores.chunks_exact_mut(context).enumerate() {
                        let visible = start + i / group + 1;
                        let (seen, hidden) = row.split_at_mut(visible);
                        softmax(seen, scale);
                        hidden.fill(0.0);
                    }
                },
            );
            let mut mixed = vec![0f32; m * size];
            for (p, page) in span.pages[..pages].iter().enumerate() {
                let n = PAGE.min(context - p * PAGE);
                let values = &cache[dims.offset(*page, self.layer, 1, kv)..][..n * size];
                multiply(
                    (m, size, n),
                    Matrix {
                        data: &scores[p * PAGE..],
                        row: context,
                        column: 1,
                    },
                    Matrix {
                        data: values,
                        row: size,
                        column: 1,
                    },
                    (&mut mixed, size),
                    p > 0,
                );
            }
            for i in 0..len {
                // SAFETY: tasks write disjoint rows and heads of `out`, which outlives them.
                let target =
                    unsafe { out_ptr.slice(((row + i) * heads + kv * group) * size, group * size) };
                target.copy_from_slice(&mixed[i * group * size..][..group * size]);
            }
        };
        const WORTH_WAKING: usize = 400_000;
        if work < WORTH_WAKING {
            tasks.iter().for_each(run);
        } else {
            tasks.par_iter().for_each(run);
        }
        Ok((
            cpu::from_f32(out, qkv.dtype())?,
            Shape::from((rows, heads * size)),
        ))
    }
}

struct VisionAttention {
    heads: usize,
    rows: Range<usize>,
}

impl CustomOp1 for VisionAttention {
    fn name(&self) -> &'static str {
        "vision-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, ql: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, width) = ql.shape().dims2()?;
        let hidden = width / 3;
        let (heads, size) = (self.heads, hidden / self.heads);
        let data = cpu::as_f32(qkv, ql)?;
        let queries = self.rows.len();
        let mut out = vec![0f32; queries * hidden];
        let out_ptr = cpu::Shared::new(&mut out);
        let scale = 1.0 / (size as f32).sqrt();
        const BLOCK: usize = 96;
        let blocks = queries.div_ceil(BLOCK);
        (0..heads * blocks).into_par_iter().for_each_init(
            || vec![0f32; BLOCK * n],
            |scores, task| {
                let (head, row) = (task / blocks, task % blocks * BLOCK);
                let m = BLOCK.min(queries - row);
                let scores = &mut scores[..m * n];
                let queries = &data[(self.rows.start + row) * width + head * size..];
                let keys = &data[hidden + head * size..];
                let values = &data[2 * hidden + head * size..];
                multiply(
                    (m, n, size),
                    Matrix {
                        data: queries,
                        row: width,
                        column: 1,
                    },
                    Matrix {
                        data: keys,
                        row: 1,
                        column: width,
                    },
                    (scores, n),
                    false,
                );
                cpu::vectorized(
                    #[inline(always)]
                    || {
                        for row in scores.chunks_exact_mut(n) {
                            softmax(row, scale);
                        }
                    },
                );
                let weights = Matrix {
                    data: scores,
                    row: n,
                    column: 1,
                };
                let values = Matrix {
                    data: values,
                    row: width,
                    column: 1,
                };
                let target = out_ptr.at(row * hidden + head * size);
                // SAFETY: tasks write disjoint rows and heads of `out`, which outlives them and ends with its last row's
                // last head.
                unsafe { multiply_at((m, size, n), weights, values, (target, hidden), false) };
            },
        );
        Ok((
            cpu::from_f32(out, qkv.dtype())?,
            Shape::from((queries, hidden)),
        ))
    }
}

/// e^x, but 0 where it could not change a sum that holds a 1: products with denormals take the processor a hundred
/// times as long.
#[inline(always)]
fn weight(x: f32) -> f32 {
    if x < -60.0 { 0.0 } else { cpu::exp(x) }
}

/// softmax(x · scale), in place.
#[inline(always)]
fn softmax(x: &mut [f32], scale: f32) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let most = lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; 16];
    let (chunks, rest) = x.as_chunks_mut::<16>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = weight((*x - most) * scale);
            *sum += *x;
        }
    }
    let mut sum = sums.iter().sum::<f32>();
    for x in rest {
        *x = weight((*x - most) * scale);
        sum += *x;
    }
    let inverse = 1.0 / sum;
    x.iter_mut().for_each(|x| *x *= inverse);
}

/// A matrix in a slice: element (r, c) is at r · row + c · column.
struct Matrix<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

/// target (+)= a · b on this thread, for an m×k and a k×n matrix; `target` has rows of its second part's stride.
fn multiply(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    (target, stride): (&mut [f32], usize),
    add: bool,
) {
    assert!((m - 1) * stride + n <= target.len());
    // SAFETY: the target is ours, and long enough.
    unsafe { multiply_at((m, n, k), a, b, (target.as_mut_ptr(), stride), add) }
}

/// The same, where what lies between the target's rows is somebody else's.
///
/// # Safety
/// The target's m rows of n, `stride` apart, are there to be written, and nobody else reads or writes them meanwhile.
unsafe fn multiply_at(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    (target, stride): (*mut f32, usize),
    add: bool,
) {
    let last =
        |rows: usize, columns: usize, m: &Matrix<'_>| (rows - 1) * m.row + (columns - 1) * m.column;
    assert!(last(m, k, &a) < a.data.len() && last(k, n, &b) < b.data.len());
    // SAFETY: the assertion above bounds what is read, and the target is the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target,
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention by its definition, in double precision: q, k, v as rows of one head; row i sees `visible(i)` keys.
    fn reference(
        q: &[Vec<f64>],
        k: &[Vec<f64>],
        v: &[Vec<f64>],
        visible: impl Fn(usize) -> usize,
    ) -> Vec<Vec<f64>> {
        let scale = 1.0 / (q[0].len() as f64).sqrt();
        q.iter()
            .enumerate()
            .map(|(i, q)| {
                let weights: Vec<f64> = k[..visible(i)]
                    .iter()
                    .map(|k| (q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * scale).exp())
                    .collect();
                let sum: f64 = weights.iter().sum();
                (0..v[0].len())
                    .map(|d| weights.iter().zip(v).map(|(w, v)| w * v[d]).sum::<f64>() / sum)
                    .collect()
            })
            .collect()
    }

    fn columns(rows: &[Vec<f32>], at: usize, size: usize) -> Vec<Vec<f64>> {
        rows.iter()
            .map(|r| r[at..at + size].iter().map(|x| f64::from(*x)).collect())
            .collect()
    }

    #[test]
    fn vision_attention_sees_everything() {
        for (n, heads, size) in [(1, 1, 4), (7, 3, 10), (131, 2, 112)] {
            let qkv = Tensor::randn(0f32, 1.5, (n, 3 * heads * size), &Device::Cpu).unwrap();
            let rows = qkv.to_vec2::<f32>().unwrap();
            let out = vision_attention(&qkv, heads, 0..n)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            for h in 0..heads {
                let part = |i: usize| columns(&rows, (i * heads + h) * size, size);
                let exact = reference(&part(0), &part(1), &part(2), |_| n);
                for (r, exact) in exact.iter().enumerate() {
                    for d in 0..size {
                        assert!((f64::from(out[r][h * size + d]) - exact[d]).abs() < 2e-5);
                    }
                }
            }
        }
    }

    /// Two sequences, prefilled in pieces and decoded side by side on scattered pages, against the definition.
    #[test]
    fn paged_attention_is_causal_attention_whatever_the_pieces() {
        let (heads, kv_heads, size, layer) = (6, 2, 12, 1);
        let width = (heads + 2 * kv_heads) * size;
        let rotary = Rotary::new(size / 2, 10000.0);
        let arena = Arena::new(8, 2, kv_heads, size, DType::F32, &Device::Cpu).unwrap();
        let lengths = [150, 70];
        let pages = [vec![5, 2, 7], vec![0, 6]];
        let inputs: Vec<Vec<Vec<f32>>> = lengths
            .iter()
            .map(|n| {
                Tensor::randn(0f32, 1.0, (*n, width), &Device::Cpu)
                    .unwrap()
                    .to_vec2()
                    .unwrap()
            })
            .collect();
        let mut outputs: Vec<Vec<Vec<f32>>> = vec![vec![], vec![]];
        // (sequence, from, to): prefill, prefill beside decode, decode beside decode.
        let passes: [&[(usize, usize, usize)]; 5] = [
            &[(0, 0, 67)],
            &[(0, 67, 68), (1, 0, 40)],
            &[(1, 40, 69), (0, 68, 149)],
            &[(0, 149, 150), (1, 69, 70)],
            &[],
        ];
        for pass in passes.iter().filter(|p| !p.is_empty()) {
            let spans: Vec<Span> = pass
                .iter()
                .map(|(s, from, to)| Span {
                    start: *from,
                    len: to - from,
                    pages: pages[*s].clone(),
                })
                .collect();
            let positions: Vec<u32> = pass
                .iter()
                .flat_map(|(_, from, to)| (*from as u32)..(*to as u32))
                .collect();
            let rows: Vec<f32> = pass
                .iter()
                .flat_map(|(s, from, to)| inputs[*s][*from..*to].concat())
                .collect();
            let qkv = Tensor::from_vec(rows, (positions.len(), width), &Device::Cpu).unwrap();
            let plan = Plan::new(spans, &positions, &rotary).unwrap();
            store_kv(&arena, layer, &qkv, &plan).unwrap();
            let out = paged_attention(&qkv, &arena, layer, heads, &plan).unwrap();
            let mut out = out.to_vec2::<f32>().unwrap().into_iter();
            for (s, from, to) in *pass {
                outputs[*s].extend(out.by_ref().take(to - from));
            }
        }
        for (s, n) in lengths.iter().enumerate() {
            let rotated = |at: usize| -> Vec<Vec<f64>> {
                let mut part = columns(&inputs[s], at, size);
                for (position, row) in part.iter_mut().enumerate() {
                    for i in 0..size / 4 {
                        let angle =
                            position as f64 * 10000f64.powf(-((2 * i) as f64) / (size / 2) as f64);
                        let (a, b) = (row[2 * i], row[2 * i + 1]);
                        row[2 * i] = a * angle.cos() - b * angle.sin();
                        row[2 * i + 1] = b * angle.cos() + a * angle.sin();
                    }
                }
                part
            };
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let exact = reference(
                    &rotated(h * size),
                    &rotated((heads + kv) * size),
                    &columns(&inputs[s], (heads + kv_heads + kv) * size, size),
                    |i| i + 1,
                );
                for (r, exact) in exact.iter().enumerate().take(*n) {
                    for d in 0..size {
                        let got = f64::from(outputs[s][r][h * size + d]);
                        assert!(
                            (got - exact[d]).abs() < 2e-5,
                            "sequence {s} row {r} head {h}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_copied_page_is_a_page_of_its_own() {
        let arena = Arena::new(3, 1, 1, 4, DType::F32, &Device::Cpu).unwrap();
        let rotary = Rotary::new(2, 10000.0);
        let write = |page: u32, fill: f32| {
            let span = Span {
                start: 0,
                len: 1,
                pages: vec![page],
            };
            let plan = Plan::new(vec![span], &[0], &rotary).unwrap();
            let qkv = Tensor::full(fill, (1, 12), &Device::Cpu).unwrap();
            store_kv(&arena, 0, &qkv, &plan).unwrap();
        };
        let first = |page: usize| {
            arena
                .data
                .get(page)
                .unwrap()
                .flatten_all()
                .unwrap()
                .get(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        write(1, 3.0);
        arena.copy_page(1, 2).unwrap();
        write(1, 5.0);
        assert_eq!((first(0), first(1), first(2)), (1.0, 5.0, 3.0));
    }
}
