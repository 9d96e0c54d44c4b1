//! Attention: the vision tower's (every position sees every other) and the decoder's, over the cache's pages.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, InplaceOp2, Layout, Result, Shape, Tensor,
    backend::BackendStorage, bail,
};
use rayon::prelude::*;

use super::cache::{Arena, ArenaDims, PAGE};
use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;
use super::plan::{Plan, PlanInner, Span};
use super::rotary::rotate;

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
    use candle_core::{DType, Device};

    use super::super::rotary::Rotary;
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
