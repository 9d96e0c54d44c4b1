//! What the CPU kernels share: access to a storage as f32, vectorised exponentials, and who runs in parallel.

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Layout, Result, bail};
use half::{bf16, f16};
use rayon::prelude::*;

/// The storage's elements as f32: borrowed where they are.
pub fn as_f32<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "expected a contiguous tensor, found strides {:?}",
            layout.stride()
        )
    };
    Ok(match storage {
        CpuStorage::F32(data) => Cow::Borrowed(&data[start..end]),
        CpuStorage::BF16(data) => data[start..end].iter().map(|x| x.to_f32()).collect(),
        CpuStorage::F16(data) => data[start..end].iter().map(|x| x.to_f32()).collect(),
        other => bail!("no CPU kernel for {:?}", dtype_of(other)),
    })
}

/// A storage of `dtype` from f32 results.
pub fn from_f32(data: Vec<f32>, dtype: DType) -> Result<CpuStorage> {
    Ok(match dtype {
        DType::F32 => CpuStorage::F32(data),
        DType::BF16 => CpuStorage::BF16(data.into_iter().map(bf16::from_f32).collect()),
        DType::F16 => CpuStorage::F16(data.into_iter().map(f16::from_f32).collect()),
        other => bail!("no CPU kernel for {other:?}"),
    })
}

/// Lets `f` change the storage's elements in place, as f32.
pub fn update_f32(
    storage: &mut CpuStorage,
    layout: &Layout,
    f: impl FnOnce(&mut [f32]),
) -> Result<()> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "expected a contiguous tensor, found strides {:?}",
            layout.stride()
        )
    };
    match storage {
        CpuStorage::F32(data) => f(&mut data[start..end]),
        CpuStorage::BF16(data) => {
            let mut wide: Vec<f32> = data[start..end].iter().map(|x| x.to_f32()).collect();
            f(&mut wide);
            data[start..end]
                .iter_mut()
                .zip(wide)
                .for_each(|(d, x)| *d = bf16::from_f32(x));
        }
        CpuStorage::F16(data) => {
            let mut wide: Vec<f32> = data[start..end].iter().map(|x| x.to_f32()).collect();
            f(&mut wide);
            data[start..end]
                .iter_mut()
                .zip(wide)
                .for_each(|(d, x)| *d = f16::from_f32(x));
        }
        other => bail!("no CPU kernel for {:?}", dtype_of(other)),
    }
    Ok(())
}

pub fn dtype_of(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Runs `f` on each chunk of `size` elements with its index: on several threads only where there is enough to do
/// (`cost` nanoseconds per element, roughly), since waking a thread costs more than a small row.
pub fn for_chunks(
    data: &mut [f32],
    size: usize,
    cost: usize,
    f: impl Fn(usize, &mut [f32]) + Sync,
) {
    const WORTH_WAKING: usize = 50_000;
    if data.len() * cost < WORTH_WAKING {
        data.chunks_mut(size)
            .enumerate()
            .for_each(|(i, chunk)| f(i, chunk));
    } else {
        data.par_chunks_mut(size)
            .enumerate()
            .for_each(|(i, chunk)| f(i, chunk));
    }
}

/// e^x to 2 ulp, for the vector units: no branches, no table. Underflows to 0 below −87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.336_54, 88.722_83);
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that r is exact.
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    // The minimax polynomial of Cephes' expf.
    let mut p = 1.987_569_1e-4_f32;
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p.mul_add(r, c);
    }
    let y = (p * r).mul_add(r, r) + 1.0;
    let scale = f32::from_bits((((n as i32) + 127) as u32) << 23);
    y * scale
}

/// Whether there are the vector units of AVX-512 that the kernels use.
#[cfg(target_arch = "x86_64")]
pub fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
}

/// Whether there are those of AVX2, with fused multiplication and addition.
#[cfg(target_arch = "x86_64")]
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Runs `f` compiled for the widest vector units of this processor; `f` and all it calls must be inlined.
#[inline(always)]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if has_avx512() {
            // SAFETY: the processor has them.
            return unsafe { avx512(f) };
        }
        if has_avx2() {
            // SAFETY: the processor has them.
            return unsafe { avx2(f) };
        }
    }
    f()
}

/// Results that tasks write in disjoint pieces.
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    results: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: every use takes a disjoint piece.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub fn new(results: &'a mut [f32]) -> Self {
        Shared {
            start: results.as_mut_ptr(),
            len: results.len(),
            results: std::marker::PhantomData,
        }
    }

    /// # Safety
    /// Nobody else reads or writes the piece meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: it is inside, and otherwise the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Where the results from `at` on begin.
    pub fn at(&self, at: usize) -> *mut f32 {
        assert!(at <= self.len);
        // SAFETY: it is inside.
        unsafe { self.start.add(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_double_precision() {
        for i in -8_600_000..8_800_000_i32 {
            if i % 97 != 0 {
                continue;
            }
            let x = i as f32 / 1e5;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(-200.0) < 1e-37);
    }
}
