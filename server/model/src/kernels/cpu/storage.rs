//! A tensor's storage as f32, which everything on the CPU is computed in.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Layout, Result, bail};
use half::{bf16, f16};

/// Where a contiguous tensor's elements lie in its storage.
fn elements(layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!(
            "expected a contiguous tensor, found strides {:?}",
            layout.stride()
        ),
    }
}

/// The storage's elements as f32: borrowed where they are.
///
/// # Errors
/// The tensor is not contiguous, or of another type than f32, bf16 and f16.
pub fn as_f32<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let at = elements(layout)?;
    Ok(match storage {
        CpuStorage::F32(data) => Cow::Borrowed(&data[at]),
        CpuStorage::BF16(data) => data[at].iter().map(|x| x.to_f32()).collect(),
        CpuStorage::F16(data) => data[at].iter().map(|x| x.to_f32()).collect(),
        other => bail!("no CPU kernel for {:?}", other.dtype()),
    })
}

/// A storage of `dtype` from f32 results.
///
/// # Errors
/// `dtype` is another type than f32, bf16 and f16.
pub fn from_f32(data: Vec<f32>, dtype: DType) -> Result<CpuStorage> {
    Ok(match dtype {
        DType::F32 => CpuStorage::F32(data),
        DType::BF16 => CpuStorage::BF16(data.into_iter().map(bf16::from_f32).collect()),
        DType::F16 => CpuStorage::F16(data.into_iter().map(f16::from_f32).collect()),
        other => bail!("no CPU kernel for {other:?}"),
    })
}

/// Lets `f` change the storage's elements in place, as f32.
///
/// # Errors
/// The tensor is not contiguous, or of another type than f32, bf16 and f16.
pub fn update_f32(
    storage: &mut CpuStorage,
    layout: &Layout,
    f: impl FnOnce(&mut [f32]),
) -> Result<()> {
    let at = elements(layout)?;
    match storage {
        CpuStorage::F32(data) => f(&mut data[at]),
        CpuStorage::BF16(data) => update_wide(&mut data[at], bf16::to_f32, bf16::from_f32, f),
        CpuStorage::F16(data) => update_wide(&mut data[at], f16::to_f32, f16::from_f32, f),
        other => bail!("no CPU kernel for {:?}", other.dtype()),
    }
    Ok(())
}

/// Lets `f` change the elements through a copy in f32.
fn update_wide<T: Copy>(
    data: &mut [T],
    to_f32: impl Fn(T) -> f32,
    from_f32: impl Fn(f32) -> T,
    f: impl FnOnce(&mut [f32]),
) {
    let mut wide: Vec<f32> = data.iter().map(|x| to_f32(*x)).collect();
    f(&mut wide);
    data.iter_mut()
        .zip(wide)
        .for_each(|(d, x)| *d = from_f32(x));
}

/// The elements of the KV cache, which on the CPU is f32.
///
/// # Errors
/// It is of another type.
pub fn cache(storage: &CpuStorage) -> Result<&[f32]> {
    match storage {
        CpuStorage::F32(cache) => Ok(cache),
        other => no_cache(other),
    }
}

/// The elements of the KV cache, to be written; on the CPU it is f32.
///
/// # Errors
/// It is of another type.
pub fn cache_mut(storage: &mut CpuStorage) -> Result<&mut [f32]> {
    match storage {
        CpuStorage::F32(cache) => Ok(cache),
        other => no_cache(other),
    }
}

fn no_cache<T>(storage: &CpuStorage) -> Result<T> {
    bail!("the CPU's KV cache is f32, found {:?}", storage.dtype())
}
