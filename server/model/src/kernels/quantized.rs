//! Products with weights that are kept in fewer bits than is computed with, without widening the whole weight.
//!
//! Blocks of 4 or 8 bits are ggml's. On the CPU a weight is widened in pieces that stay in the cache, and the product itself
//! is made in f32: what comes out is what a product with the widened weight gives.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor,
    backend::BackendStorage, bail,
};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{cpu, dense};

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in], in `x`'s type or, on the CPU, in 16 bits; the result [rows, out] in
/// `x`'s type.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if x.dtype() == weight.dtype() {
        return dense::product(x, weight);
    }
    x.apply_op2_no_bwd(weight, &NarrowProduct)
}

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in] in blocks, the result [rows, out] in `x`'s type.
pub fn quantized_product(x: &Tensor, weight: &QTensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.apply_op1_no_bwd(&QuantizedProduct(weight));
    }
    x.to_dtype(DType::F32)?
        .apply_op1_no_bwd(weight)?
        .to_dtype(x.dtype())
}

/// Weights as they are kept, in blocks of one or more.
trait Format {
    /// Weights in a block.
    const LEN: usize;
    const BYTES: usize;

    /// Writes the weights of a block of [`Self::BYTES`] bytes.
    fn widen(block: &[u8], out: &mut [f32]);

    /// Writes the weights of whole blocks.
    #[inline(always)]
    fn widen_all(blocks: &[u8], out: &mut [f32]) {
        let blocks = blocks.chunks_exact(Self::BYTES);
        for (block, out) in blocks.zip(out.chunks_exact_mut(Self::LEN)) {
            Self::widen(block, out);
        }
    }
}

/// bf16, one by one.
struct Bf16;

/// f16, one by one.
struct F16;

/// A scale, and 32 whole numbers of 8 bits.
struct Q8_0;

/// A scale, and 32 numbers of 4 bits, 8 too large; byte i holds the ith and the one 16 after it.
struct Q4_0;

/// Two scales, eight pairs of 6-bit scale and minimum, and 256 numbers of 4 bits in eight runs of 32.
struct Q4K;

/// An f16's value; never infinite here. By way of no denormal number, which would take the processor a hundred times as long:
/// the scales of small weights are such in f16.
#[inline(always)]
fn half(low: u8, high: u8) -> f32 {
    let bits = u32::from(u16::from_le_bytes([low, high]));
    let wide = (bits & 0x7fff) << 13;
    let normal = f32::from_bits(wide + (112 << 23));
    let small = f32::from_bits(wide + (113 << 23)) - f32::from_bits(113 << 23);
    let size = if bits & 0x7c00 == 0 { small } else { normal };
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

impl Format for Bf16 {
    const LEN: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    fn widen(block: &[u8], out: &mut [f32]) {
        out[0] = f32::from_bits(u32::from(u16::from_ne_bytes([block[0], block[1]])) << 16);
    }
}

impl Format for F16 {
    const LEN: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    fn widen(block: &[u8], out: &mut [f32]) {
        let [low, high] = u16::from_ne_bytes([block[0], block[1]]).to_le_bytes();
        out[0] = half(low, high);
    }
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

struct QuantizedProduct<'a>(&'a QTensor);

impl CustomOp1 for QuantizedProduct<'_> {
    fn name(&self) -> &'static str {
        "quantized-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let sizes = sizes(layout.shape(), self.0.shape())?;
        let (data, weight) = (cpu::as_f32(x, layout)?, self.0.data()?);
        let out = match self.0.dtype() {
            GgmlDType::Q8_0 => multiply::<Q8_0>(sizes, &data, &weight),
            GgmlDType::Q4_0 => multiply::<Q4_0>(sizes, &data, &weight),
            GgmlDType::Q4K => multiply::<Q4K>(sizes, &data, &weight),
            other => bail!("no CPU kernel for weights in {other:?}"),
        };
        let shape = Shape::from((sizes.0, sizes.1));
        Ok((cpu::from_f32(out, x.dtype())?, shape))
    }
}

struct NarrowProduct;

impl CustomOp2 for NarrowProduct {
    fn name(&self) -> &'static str {
        "narrow-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = sizes(xl.shape(), wl.shape())?;
        let Some((from, to)) = wl.contiguous_offsets() else {
            bail!("expected a contiguous weight")
        };
        let data = cpu::as_f32(x, xl)?;
        // SAFETY: both are 16 bits without padding.
        let bytes =
            |first: *const u8| unsafe { std::slice::from_raw_parts(first, (to - from) * 2) };
        let out = match weight {
            CpuStorage::BF16(w) => {
                let w: &[bf16] = &w[from..to];
                multiply::<Bf16>(sizes, &data, bytes(w.as_ptr().cast()))
            }
            CpuStorage::F16(w) => {
                let w: &[f16] = &w[from..to];
                multiply::<F16>(sizes, &data, bytes(w.as_ptr().cast()))
            }
            other => bail!("no CPU kernel for weights in {:?}", cpu::dtype_of(other)),
        };
        let shape = Shape::from((sizes.0, sizes.1));
        Ok((cpu::from_f32(out, x.dtype())?, shape))
    }
}

/// Rows of x, columns of the result, and what is summed over.
fn sizes(x: &Shape, weight: &Shape) -> Result<(usize, usize, usize)> {
    let ((rows, k), (n, width)) = (x.dims2()?, weight.dims2()?);
    if width != k {
        bail!("a product of rows of {k} with a weight of rows of {width}")
    }
    Ok((rows, n, k))
}

/// Up to so many rows, each weight is used as it is widened; more are worth a product of blocks.
const FEW: usize = 4;

/// x [rows, k] · weightᵀ as [rows, n]; `weight` is [n, k].
fn multiply<F: Format>((rows, n, k): (usize, usize, usize), x: &[f32], weight: &[u8]) -> Vec<f32> {
    let mut result = vec![0f32; rows * n];
    let row_bytes = k / F::LEN * F::BYTES;
    assert!(x.len() >= rows * k && weight.len() == n * row_bytes);
    let out = cpu::Shared::new(&mut result);
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
                1 => few::<F, 1>(k, x, weight, put),
                2 => few::<F, 2>(k, x, weight, put),
                3 => few::<F, 3>(k, x, weight, put),
                _ => few::<F, FEW>(k, x, weight, put),
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
/// (Not by [`cpu::vectorized`]: what is inlined from a closure is unrolled before it meets them, and stays scalar.)
fn few<F: Format, const ROWS: usize>(
    k: usize,
    x: &[f32],
    weight: &[u8],
    put: impl Fn(usize, usize, f32),
) {
    #[inline(always)]
    fn all<F: Format, const ROWS: usize>(
        k: usize,
        x: &[f32],
        weight: &[u8],
        put: impl Fn(usize, usize, f32),
    ) {
        let row_bytes = k / F::LEN * F::BYTES;
        for (j, row) in weight.chunks_exact(row_bytes).enumerate() {
            for (r, sum) in dot::<F, ROWS>(k, x, row).into_iter().enumerate() {
                put(r, j, sum);
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn avx512<F: Format, const ROWS: usize>(
            k: usize,
            x: &[f32],
            weight: &[u8],
            put: impl Fn(usize, usize, f32),
        ) {
            all::<F, ROWS>(k, x, weight, put);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<F: Format, const ROWS: usize>(
            k: usize,
            x: &[f32],
            weight: &[u8],
            put: impl Fn(usize, usize, f32),
        ) {
            all::<F, ROWS>(k, x, weight, put);
        }
        if cpu::has_avx512() {
            // SAFETY: the processor has them.
            return unsafe { avx512::<F, ROWS>(k, x, weight, put) };
        }
        if cpu::has_avx2() {
            // SAFETY: the processor has them.
            return unsafe { avx2::<F, ROWS>(k, x, weight, put) };
        }
    }
    all::<F, ROWS>(k, x, weight, put);
}

/// One row of a weight times each of `ROWS` rows of x.
#[inline(always)]
fn dot<F: Format, const ROWS: usize>(k: usize, x: &[f32], weight: &[u8]) -> [f32; ROWS] {
    const PIECE: usize = 256;
    let mut sums = [[0f32; 32]; ROWS];
    let mut wide = [0f32; PIECE];
    let pieces = weight.chunks(PIECE / F::LEN * F::BYTES);
    for (from, piece) in (0..k).step_by(PIECE).zip(pieces) {
        let wide = &mut wide[..PIECE.min(k - from)];
        F::widen_all(piece, wide);
        let (chunks, rest) = wide.as_chunks::<32>();
        for (r, sums) in sums.iter_mut().enumerate() {
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
    sums.map(total)
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
            let blocks = &row[from / F::LEN * F::BYTES..][..depth / F::LEN * F::BYTES];
            cpu::vectorized(
                #[inline(always)]
                || F::widen_all(blocks, wide),
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
                // Of sums of k products near 1/2, the worst of thousands.
                let bar = 4e-6 * (k as f64).sqrt();
                assert!(off < bar, "{format:?} {rows}×{k}×{n}: off by {off}");
            }
        }
    }

    /// 16-bit weights, of any width.
    #[test]
    fn a_product_with_a_narrow_weight_is_that_with_the_same_weight_in_f32() {
        let device = Device::Cpu;
        for dtype in [DType::BF16, DType::F16] {
            for (rows, n, k) in [(1, 3, 1), (2, 37, 147), (FEW, 130, 513), (33, 65, 1025)] {
                let weight = Tensor::randn(0f32, 0.5, (n, k), &device).unwrap();
                let weight = weight.to_dtype(dtype).unwrap();
                let x = Tensor::randn(0f32, 1.0, (rows, k), &device).unwrap();
                let got = product(&x, &weight).unwrap();
                let exact = product(&x, &weight.to_dtype(DType::F32).unwrap()).unwrap();
                let off = (got - exact).unwrap().abs().unwrap().max_all().unwrap();
                let off = off.to_scalar::<f32>().unwrap();
                assert!(
                    off < 4e-6 * (k as f32).sqrt(),
                    "{dtype:?} {rows}×{k}×{n}: {off}"
                );
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
