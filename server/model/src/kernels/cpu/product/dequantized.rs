//! Products with weights of fewer than 32 bits, which are dequantized in pieces that stay in the processor's cache; the
//! product itself is made in f32. What comes out is what a product with the whole weight dequantized gives.

use std::ops::Range;

use rayon::prelude::*;

use super::formats::Format;
use crate::kernels::cpu::matrix::{Matrix, multiply_at};
use crate::kernels::cpu::tasks::Shared;
use crate::kernels::cpu::vector::{has_avx2, has_avx512, vectorized};

/// Up to so many rows, each weight is used as it is dequantized, so that what a row gives does not depend on the rows beside
/// it; more are worth a product of blocks.
pub const FEW: usize = 16;

/// x [rows, k] · weightᵀ as [rows, n]; `weight` is [n, k].
pub fn multiply<F: Format>(
    (rows, n, k): (usize, usize, usize),
    x: &[f32],
    weight: &[u8],
) -> Vec<f32> {
    let mut result = vec![0f32; rows * n];
    let row_bytes = k / F::LEN * F::BYTES;
    assert!(x.len() >= rows * k && weight.len() == n * row_bytes);
    let out = Shared::new(&mut result);
    // Each task makes some columns of the result.
    let columns = if rows <= FEW { 16 } else { PANEL };
    let task = |task: usize| {
        let columns = task * columns..n.min((task + 1) * columns);
        let weight = &weight[columns.start * row_bytes..columns.end * row_bytes];
        if rows <= FEW {
            let put = |r: usize, j: usize, sum: f32| {
                // SAFETY: tasks write disjoint columns of `out`, which outlives them.
                let target = unsafe { out.slice(r * n + columns.start + j, 1) };
                target[0] = sum;
            };
            match rows {
                1 => few::<F, 1>(rows, k, x, weight, put),
                2 => few::<F, 2>(rows, k, x, weight, put),
                _ => few::<F, FEW>(rows, k, x, weight, put),
            }
        } else {
            panel::<F>((rows, n, k), x, weight, &out, columns);
        }
    };
    let tasks = n.div_ceil(columns);
    // Waking a thread, and waiting for it where it has to wait itself, costs more than a product of half a millisecond.
    const WORTH_WAKING: usize = 4_000_000;
    if rows * n * k < WORTH_WAKING {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
    result
}

/// `put(r, j, sum)` gets the product of row r of x with row j of the weight, for the widest vector units of this processor.
/// (Not by [`vectorized`]: what is inlined from a closure is unrolled before it meets them, and stays scalar.)
fn few<F: Format, const MOST: usize>(
    rows: usize,
    k: usize,
    x: &[f32],
    weight: &[u8],
    put: impl Fn(usize, usize, f32),
) {
    #[inline(always)]
    fn all<F: Format, const MOST: usize>(
        rows: usize,
        k: usize,
        x: &[f32],
        weight: &[u8],
        put: impl Fn(usize, usize, f32),
    ) {
        let row_bytes = k / F::LEN * F::BYTES;
        for (j, row) in weight.chunks_exact(row_bytes).enumerate() {
            for (r, sums) in dot::<F, MOST>(rows, k, x, row)[..rows].iter().enumerate() {
                put(r, j, total(*sums));
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn avx512<F: Format, const MOST: usize>(
            rows: usize,
            k: usize,
            x: &[f32],
            weight: &[u8],
            put: impl Fn(usize, usize, f32),
        ) {
            all::<F, MOST>(rows, k, x, weight, put);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<F: Format, const MOST: usize>(
            rows: usize,
            k: usize,
            x: &[f32],
            weight: &[u8],
            put: impl Fn(usize, usize, f32),
        ) {
            all::<F, MOST>(rows, k, x, weight, put);
        }
        if has_avx512() {
            // SAFETY: the processor has them.
            return unsafe { avx512::<F, MOST>(rows, k, x, weight, put) };
        }
        if has_avx2() {
            // SAFETY: the processor has them.
            return unsafe { avx2::<F, MOST>(rows, k, x, weight, put) };
        }
    }
    all::<F, MOST>(rows, k, x, weight, put);
}

/// One row of a weight times each of so many rows of x, `MOST` at most, as sums that are yet to be added up.
#[inline(always)]
fn dot<F: Format, const MOST: usize>(
    rows: usize,
    k: usize,
    x: &[f32],
    weight: &[u8],
) -> [[f32; 32]; MOST] {
    const PIECE: usize = 256;
    let mut sums = [[0f32; 32]; MOST];
    let mut wide = [0f32; PIECE];
    let pieces = weight.chunks(PIECE / F::LEN * F::BYTES);
    for (from, piece) in (0..k).step_by(PIECE).zip(pieces) {
        let wide = &mut wide[..PIECE.min(k - from)];
        F::dequantize_all(piece, wide);
        let (chunks, rest) = wide.as_chunks::<32>();
        for (r, sums) in sums.iter_mut().enumerate().take(rows) {
            let (x, x_rest) = x[r * k + from..][..wide.len()].as_chunks::<32>();
            let mut lanes = *sums;
            for (w, x) in chunks.iter().zip(x) {
                for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
                    *lane = w.mul_add(*x, *lane);
                }
            }
            for ((lane, w), x) in lanes.iter_mut().zip(rest).zip(x_rest) {
                *lane = w.mul_add(*x, *lane);
            }
            *sums = lanes;
        }
    }
    sums
}

/// The sum of all lanes, halves upon halves: a running sum would wait for each addition.
#[inline(always)]
fn total(mut lanes: [f32; 32]) -> f32 {
    for half in [16, 8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(l, h)| *l += *h);
    }
    lanes[0]
}

/// Columns of the result that a task makes, and how much of their rows it dequantizes at a time: 256 KiB.
const PANEL: usize = 64;
const DEPTH: usize = 1024;

/// The columns of x · weightᵀ whose weights `weight` holds.
fn panel<F: Format>(
    (rows, n, k): (usize, usize, usize),
    x: &[f32],
    weight: &[u8],
    out: &Shared,
    columns: Range<usize>,
) {
    let row_bytes = k / F::LEN * F::BYTES;
    let mut wide = vec![0f32; columns.len() * DEPTH.min(k)];
    for from in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - from);
        for (row, wide) in weight
            .chunks_exact(row_bytes)
            .zip(wide.chunks_exact_mut(depth))
        {
            let blocks = &row[from / F::LEN * F::BYTES..][..depth / F::LEN * F::BYTES];
            vectorized(
                #[inline(always)]
                || F::dequantize_all(blocks, wide),
            );
        }
        let (x, wide) = (Matrix::rows(&x[from..], k), Matrix::columns(&wide, depth));
        let target = (out.at(columns.start), n);
        // SAFETY: `out` has rows of n, of which tasks write disjoint columns, and ends with its last row's last column.
        unsafe { multiply_at((rows, columns.len(), depth), x, wide, target, from > 0) };
    }
}
