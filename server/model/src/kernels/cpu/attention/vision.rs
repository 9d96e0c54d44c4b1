//! Attention in which every position sees every other.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, backend::BackendStorage};
use rayon::prelude::*;

use super::softmax::softmax;
use crate::kernels::cpu::matrix::{Matrix, multiply, multiply_at};
use crate::kernels::cpu::storage::{as_f32, from_f32};
use crate::kernels::cpu::tasks::Shared;
use crate::kernels::cpu::vector::vectorized;

/// Full attention of the queries of `rows`, which lie in `qkv`.
pub fn vision_attention(qkv: &Tensor, heads: usize, rows: Range<usize>) -> Result<Tensor> {
    qkv.apply_op1_no_bwd(&VisionAttention { heads, rows })
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
        let data = as_f32(qkv, ql)?;
        let queries = self.rows.len();
        let mut out = vec![0f32; queries * hidden];
        let out_ptr = Shared::new(&mut out);
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
                let (queries, keys) = (Matrix::rows(queries, width), Matrix::columns(keys, width));
                multiply((m, n, size), queries, keys, (scores, n), false);
                vectorized(
                    #[inline(always)]
                    || {
                        for row in scores.chunks_exact_mut(n) {
                            softmax(row, scale);
                        }
                    },
                );
                let (weights, values) = (Matrix::rows(scores, n), Matrix::rows(values, width));
                let target = out_ptr.at(row * hidden + head * size);
                // SAFETY: tasks write disjoint rows and heads of `out`, which outlives them and ends with its last row's
                // last head.
                unsafe { multiply_at((m, size, n), weights, values, (target, hidden), false) };
            },
        );
        Ok((from_f32(out, qkv.dtype())?, Shape::from((queries, hidden))))
    }
}
