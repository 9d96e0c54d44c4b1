//! Products with weights in blocks of 4 or 8 bits, without widening the whole weight.
//!
//! The formats are ggml's. On the CPU a weight is widened in pieces that stay in the cache, and the product itself is
//! made in f32: what comes out is what a product with the widened weight gives.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};
use rayon::prelude::*;

use super::cpu;

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in] in blocks, the result [rows, out] in `x`'s type.
pub fn quantized_product(x: &Tensor, weight: &QTensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.apply_op1_no_bwd(&Product(weight));
    }
    x.to_dtype(DType::F32)?
        .apply_op1_no_bwd(weight)?
        .to_dtype(x.dtype())
}

/// A block of weights, as ggml lays it out.
trait Format {
    /// Weights in a block.
    const LEN: usize;
    const BYTES: usize;

    /// Writes the weights of a block of [`Self::BYTES`] bytes.
    fn widen(block: &[u8], out: &mut [f32]);
}

/// A scale, and 32 whole numbers of 8 bits.
struct Q8_0;

/// A scale, and 32 numbers of 4 bits, 8 too large; byte i holds the ith and the one 16 after it.
struct Q4_0;

/// Two scales, eight pairs of 6-bit scale and minimum, and 256 numbers of 4 bits in eight runs of 32.
struct Q4K;

/// An f16's value; never infinite here.
#[inline(always)]
fn half(low: u8, high: u8) -> f32 {
    let bits = u32::from(u16::from_le_bytes([low, high]));
    // The exponent's offset is made good by a factor of 2^112.
    let size = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    if bits & 0x8000 == 0 { size } else { -size }
}

impl Format for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    fn widen(block: &[u8], out: &mut [f32]) {
        let scale = half(block[0], block[1]);
        for (o, q) in out.iter_mut().zip(&block[2..]) {
            *o = f32::from(*q as i8) * scale;
        }
    }
}

impl Format for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn widen(block: &[u8], out: &mut [f32]) {
        let scale = half(block[0], block[1]);
        let (low, high) = out.split_at_mut(16);
        for ((l, h), q) in low.iter_mut().zip(high).zip(&block[2..]) {
            *l = f32::from((q & 15) as i8 - 8) * scale;
            *h = f32::from((q >> 4) as i8 - 8) * scale;
        }
    }
}

impl Format for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = 144;

    #[inline(always)]
    fn widen(block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block[0], block[1]), half(block[2], block[3]));
        let packed = &block[4..16];
        let pair = |run: usize| {
            let (s, m) = if run < 4 {
                (packed[run] & 63, packed[run + 4] & 63)
            } else {
                (
                    packed[run + 4] & 15 | packed[run - 4] >> 6 << 4,
                    packed[run + 4] >> 4 | packed[run] >> 6 << 4,
                )
            };
            (scale * f32::from(s), least * f32::from(m))
        };
        let runs = block[16..].chunks_exact(32).zip(out.chunks_exact_mut(64));
        for (i, (quants, out)) in runs.enumerate() {
            let ((s0, m0), (s1, m1)) = (pair(2 * i), pair(2 * i + 1));
            let (low, high) = out.split_at_mut(32);
            for ((l, h), q) in low.iter_mut().zip(high).zip(quants) {
                *l = f32::from(q & 15) * s0 - m0;
                *h = f32::from(q >> 4) * s1 - m1;
            }
        }
    }
}

struct Product<'a>(&'a QTensor);

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "quantized-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, k) = layout.shape().dims2()?;
        let (n, width) = self.0.shape().dims2()?;
        if width != k {
            bail!("a product of rows of {k} with a weight of rows of {width}")
        }
        let (data, weight) = (cpu::as_f32(x, layout)?, self.0.data()?);
        let mut out = vec![0f32; rows * n];
        match self.0.dtype() {
            GgmlDType::Q8_0 => product::<Q8_0>((rows, n, k), &data, &weight, &mut out),
            GgmlDType::Q4_0 => product::<Q4_0>((rows, n, k), &data, &weight, &mut out),
            GgmlDType::Q4K => product::<Q4K>((rows, n, k), &data, &weight, &mut out),
            other => bail!("no CPU kernel for weights in {other:?}"),
        }
        Ok((cpu::from_f32(out, x.dtype())?, Shape::from((rows, n))))
    }
}

/// Up to so many rows, each weight is used as it is widened; more are worth a product of blocks.
const FEW: usize = 4;

/// out [rows, n] = x [rows, k] · weightᵀ, `weight` [n, k] in blocks.
fn product<F: Format>(
    (rows, n, k): (usize, usize, usize),
    x: &[f32],
    weight: &[u8],
    out: &mut [f32],
) {
    let row_bytes = k / F::LEN * F::BYTES;
    assert!(x.len() >= rows * k && weight.len() == n * row_bytes && out.len() == rows * n);
    let out = cpu::Shared::new(out);
    // Each task makes some columns of the result.
    let columns = if rows <= FEW { 16 } else { PANEL };
    let task = |task: usize| {
        let columns = task * columns..n.min((task + 1) * columns);
        let weight = &weight[columns.start * row_bytes..columns.end * row_bytes];
        if rows <= FEW {
            for (j, row) in columns.zip(weight.chunks_exact(row_bytes)) {
                let sums = cpu::vectorized(
                    #[inline(always)]
                    || dot::<F>(rows, k, x, row),
                );
                for (r, sum) in sums.into_iter().take(rows).enumerate() {
                    // SAFETY: tasks write disjoint columns of `out`, which outlives them.
                    let target = unsafe { out.slice(r * n + j, 1) };
                    target[0] = sum;
                }
            }
        } else {
            panel::<F>((rows, n, k), x, weight, &out, columns);
        }
    };
    let tasks = n.div_ceil(columns);
    // Waking a thread costs more than a small product.
    const WORTH_WAKING: usize = 400_000;
    if rows * n * k < WORTH_WAKING {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

/// One row of a weight times each of `rows` ≤ [`FEW`] rows of x.
#[inline(always)]
fn dot<F: Format>(rows: usize, k: usize, x: &[f32], weight: &[u8]) -> [f32; FEW] {
    let mut sums = [[0f32; 16]; FEW];
    let mut wide = [0f32; 256];
    let wide = &mut wide[..F::LEN];
    for (b, block) in weight.chunks_exact(F::BYTES).enumerate() {
        F::widen(block, wide);
        for (r, lanes) in sums.iter_mut().take(rows).enumerate() {
            let x = &x[r * k + b * F::LEN..][..F::LEN];
            for (w, x) in wide.as_chunks::<16>().0.iter().zip(x.as_chunks::<16>().0) {
                for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
                    *lane = w.mul_add(*x, *lane);
                }
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

/// Columns of the result that a task makes, and how much of their rows it widens at a time: 256 KiB.
const PANEL: usize = 64;
const DEPTH: usize = 1024;

/// The columns of x · weightᵀ whose weights `weight` holds.
fn panel<F: Format>(
    (rows, n, k): (usize, usize, usize),
    x: &[f32],
    weight: &[u8],
    out: &cpu::Shared,
    columns: std::ops::Range<usize>,
) {
    let row_bytes = k / F::LEN * F::BYTES;
    let mut wide = vec![0f32; columns.len() * DEPTH.min(k)];
    for from in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - from);
        for (row, wide) in weight
            .chunks_exact(row_bytes)
            .zip(wide.chunks_exact_mut(depth))
        {
            let blocks = row[from / F::LEN * F::BYTES..].chunks_exact(F::BYTES);
            cpu::vectorized(
                #[inline(always)]
                || {
                    for (block, wide) in blocks.zip(wide.chunks_exact_mut(F::LEN)) {
                        F::widen(block, wide);
                    }
                },
            );
        }
        // SAFETY: x has `rows` rows of k, `wide` a row of `depth` for each column, and `out` rows of n, of which tasks
        // write disjoint columns.
        unsafe {
            gemm::gemm(
                rows,
                columns.len(),
                depth,
                out.at(columns.start),
                1,
                n as isize,
                from > 0,
                x.as_ptr().add(from),
                1,
                k as isize,
                wide.as_ptr(),
                depth as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Against the widened weight in double precision, the widening by candle; odd sizes, one row to many.
    #[test]
    fn a_product_is_that_of_the_widened_weight() {
        let device = Device::Cpu;
        for (format, k) in [
            (GgmlDType::Q8_0, 32),
            (GgmlDType::Q8_0, 1376),
            (GgmlDType::Q4_0, 96),
            (GgmlDType::Q4_0, 2080),
            (GgmlDType::Q4K, 256),
            (GgmlDType::Q4K, 2304),
        ] {
            for (rows, n) in [(1, 1), (2, 37), (FEW, 130), (FEW + 1, 65), (70, 129)] {
                let weight = Tensor::randn(0.1f32, 0.5, (n, k), &device).unwrap();
                let weight = QTensor::quantize(&weight, format).unwrap();
                let x = Tensor::randn(0f32, 1.0, (rows, k), &device).unwrap();
                let got = quantized_product(&x, &weight).unwrap();
                let wide = weight.dequantize(&device).unwrap();
                let wide = wide.to_dtype(DType::F64).unwrap();
                let x = x.to_dtype(DType::F64).unwrap();
                let exact = x.matmul(&wide.t().unwrap()).unwrap();
                let off = (got.to_dtype(DType::F64).unwrap() - &exact).unwrap();
                let off = off.abs().unwrap().max_all().unwrap();
                let off = off.to_scalar::<f64>().unwrap();
                // Of sums of k products near 1/2.
                let bar = 2e-6 * (k as f64).sqrt();
                assert!(off < bar, "{format:?} {rows}×{k}×{n}: off by {off}");
            }
        }
    }

    #[test]
    fn scales_of_every_size_are_read() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7c00 != 0x7c00) {
            let [low, high] = bits.to_le_bytes();
            assert_eq!(half(low, high), half::f16::from_bits(bits).to_f32());
        }
    }
}
