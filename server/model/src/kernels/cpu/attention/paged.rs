//! Causal attention over the cache's pages.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, backend::BackendStorage};
use rayon::prelude::*;

use super::softmax::softmax;
use crate::kernels::cache::{Arena, ArenaDims, PAGE};
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::avx512;
use crate::kernels::cpu::matrix::{Matrix, multiply};
use crate::kernels::cpu::rotary::rotate;
use crate::kernels::cpu::storage::{as_f32, cache, from_f32};
use crate::kernels::cpu::tasks::Shared;
use crate::kernels::cpu::vector::vectorized;
use crate::kernels::plan::{PlanInner, Span};

/// Causal attention of the new entries over the cache: [rows, heads · head_size].
pub fn paged_attention(
    qkv: &Tensor,
    arena: &Arena,
    layer: usize,
    heads: usize,
    plan: &Arc<PlanInner>,
) -> Result<Tensor> {
    let op = PagedAttention {
        dims: arena.dims,
        layer,
        heads,
        plan: plan.clone(),
    };
    qkv.apply_op2_no_bwd(&arena.data, &op)
}

struct PagedAttention {
    dims: ArenaDims,
    layer: usize,
    heads: usize,
    plan: Arc<PlanInner>,
}

/// Queries of a task at most.
const BLOCK: usize = 32;

/// A block of queries of one span, and the query heads that share a key/value head, so that their rows make one product.
struct Task<'a> {
    span: &'a Span,
    /// The first query's row in the batch.
    row: usize,
    /// Entries in the cache before it.
    start: usize,
    /// Queries.
    len: usize,
    kv_head: usize,
}

impl Task<'_> {
    /// A token of an answer, or hardly more: setting up a general product of each page would take longer than the product.
    #[cfg(target_arch = "x86_64")]
    fn is_small(&self) -> bool {
        const SMALL: usize = 4;
        self.len <= SMALL && avx512::is_here()
    }

    /// Entries that the last query sees.
    fn context(&self) -> usize {
        self.start + self.len
    }

    /// The pages that hold what the queries see, each with its place in the span and how many of its entries they see.
    fn pages(&self) -> impl Iterator<Item = (usize, u32, usize)> {
        let context = self.context();
        let pages = &self.span.pages[..context.div_ceil(PAGE)];
        pages
            .iter()
            .enumerate()
            .map(move |(p, page)| (p, *page, PAGE.min(context - p * PAGE)))
    }
}

impl PagedAttention {
    /// Query heads that share a key/value head.
    fn group(&self) -> usize {
        self.heads / self.dims.kv_heads
    }

    /// All tasks, and roughly how many multiplications they are.
    fn tasks(&self) -> (Vec<Task<'_>>, usize) {
        let (mut tasks, mut work) = (Vec::new(), 0);
        for (span, first) in self.plan.spans.iter().zip(&self.plan.first_rows) {
            for block in (0..span.len).step_by(BLOCK) {
                let len = BLOCK.min(span.len - block);
                let start = span.start + block;
                work += len * self.heads * (start + len) * self.dims.head_size;
                tasks.extend((0..self.dims.kv_heads).map(|kv_head| Task {
                    span,
                    row: first + block,
                    start,
                    len,
                    kv_head,
                }));
            }
        }
        (tasks, work)
    }

    /// The task's queries, rotated: [queries · heads of the group, head_size].
    fn queries(&self, task: &Task<'_>, qkv: &[f32], width: usize) -> Vec<f32> {
        let (size, group, pairs) = (self.dims.head_size, self.group(), self.plan.pairs);
        let mut queries = vec![0f32; task.len * group * size];
        for (i, heads) in queries.chunks_exact_mut(group * size).enumerate() {
            let row = task.row + i;
            let angles = &self.plan.angles()[row * pairs..][..pairs];
            heads
                .copy_from_slice(&qkv[row * width + task.kv_head * group * size..][..group * size]);
            for head in heads.chunks_exact_mut(size) {
                rotate(head, angles);
            }
        }
        queries
    }

    /// The weight of every entry for each of the queries: [queries · heads of the group, context].
    fn weights(&self, task: &Task<'_>, queries: &[f32], cache: &[f32]) -> Vec<f32> {
        let (size, context) = (self.dims.head_size, task.context());
        let m = queries.len() / size;
        let mut scores = vec![0f32; m * context];
        for (p, page, n) in task.pages() {
            let keys = &cache[self.dims.offset(page, self.layer, 0, task.kv_head)..][..n * size];
            let target = &mut scores[p * PAGE..];
            #[cfg(target_arch = "x86_64")]
            if task.is_small() {
                let put = |r: usize, c: usize, sums: &[f32]| {
                    target[r * context + c..][..sums.len()].copy_from_slice(sums);
                };
                // SAFETY: [`Task::is_small`] found AVX-512.
                unsafe { avx512::products(size, queries, keys, put) };
                continue;
            }
            let (queries, keys) = (Matrix::rows(queries, size), Matrix::columns(keys, size));
            multiply((m, n, size), queries, keys, (target, context), false);
        }
        let scale = 1.0 / (size as f32).sqrt();
        let group = self.group();
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in scores.chunks_exact_mut(context).enumerate() {
                    let visible = task.start + i / group + 1;
                    let (seen, hidden) = row.split_at_mut(visible);
                    softmax(seen, scale);
                    hidden.fill(0.0);
                }
            },
        );
        scores
    }

    /// The values, mixed by their weights: [queries · heads of the group, head_size].
    fn mixed(&self, task: &Task<'_>, weights: &[f32], cache: &[f32]) -> Vec<f32> {
        let (size, context) = (self.dims.head_size, task.context());
        let m = weights.len() / context;
        let mut mixed = vec![0f32; m * size];
        for (p, page, n) in task.pages() {
            let values = &cache[self.dims.offset(page, self.layer, 1, task.kv_head)..][..n * size];
            let weights = &weights[p * PAGE..];
            #[cfg(target_arch = "x86_64")]
            if task.is_small() {
                // SAFETY: [`Task::is_small`] found AVX-512.
                unsafe { avx512::mix((m, size), (weights, context), values, &mut mixed) };
                continue;
            }
            let weights = Matrix::rows(weights, context);
            let values = Matrix::rows(values, size);
            multiply((m, size, n), weights, values, (&mut mixed, size), p > 0);
        }
        mixed
    }
}

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
        let (size, group) = (self.dims.head_size, self.group());
        let (data, cache) = (as_f32(qkv, ql)?, cache(arena)?);
        let mut out = vec![0f32; rows * self.heads * size];
        let (tasks, work) = self.tasks();
        let shared = Shared::new(&mut out);
        let run = |task: &Task<'_>| {
            let queries = self.queries(task, &data, width);
            let weights = self.weights(task, &queries, cache);
            let mixed = self.mixed(task, &weights, cache);
            for (i, heads) in mixed.chunks_exact(group * size).enumerate() {
                let at = ((task.row + i) * self.heads + task.kv_head * group) * size;
                // SAFETY: tasks write disjoint rows and heads of `out`, which outlives them.
                let target = unsafe { shared.slice(at, group * size) };
                target.copy_from_slice(heads);
            }
        };
        const WORTH_WAKING: usize = 400_000;
        if work < WORTH_WAKING {
            tasks.iter().for_each(run);
        } else {
            tasks.par_iter().for_each(run);
        }
        Ok((
            from_f32(out, qkv.dtype())?,
            Shape::from((rows, self.heads * size)),
        ))
    }
}
