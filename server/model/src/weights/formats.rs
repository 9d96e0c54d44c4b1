//! Weights of 4 or 8 bits: which tensors take them, in which format, and how ggml's blocks come to be.

use std::borrow::Cow;

use candle_core::Device;
use candle_core::quantized::k_quants::{BlockQ4_0, BlockQ4K, BlockQ8_0};
use candle_core::quantized::{GgmlDType, GgmlType, QStorage, QTensor, QuantizedType};
use rayon::prelude::*;

use super::q4k;
use super::spec::TensorSpec;
use crate::Quantize;

/// How a weight is kept that is not plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum Format {
    /// ggml's blocks of 32, of 8 bits each.
    Q8_0,
    /// ggml's blocks of 32, of 4 bits each.
    Q4_0,
    /// ggml's blocks of 256, of 4 bits each.
    Q4K,
    /// 8-bit floats (e4m3), with an f32 for each row that scales them; on cards alone.
    Fp8,
}

impl Format {
    /// ggml's name of it, if it is ggml's.
    pub fn ggml(self) -> Option<GgmlDType> {
        match self {
            Format::Q8_0 => Some(GgmlDType::Q8_0),
            Format::Q4_0 => Some(GgmlDType::Q4_0),
            Format::Q4K => Some(GgmlDType::Q4K),
            Format::Fp8 => None,
        }
    }
}

/// The format that a tensor's weights take, `None` where they stay plain. Blocks of 256 where the row's length allows, else
/// of 32.
pub fn format_of(spec: &TensorSpec, quantize: Quantize) -> Option<Format> {
    if why_plain(spec).is_some() {
        return None;
    }
    let row = *spec.shape.last()?;
    match quantize {
        Quantize::None => None,
        Quantize::Q8 => Some(Format::Q8_0),
        Quantize::Fp8 => Some(Format::Fp8),
        Quantize::Q4 if row.is_multiple_of(256) => Some(Format::Q4K),
        Quantize::Q4 => Some(Format::Q4_0),
    }
}

/// Why a tensor stays plain however the others are kept; `None` where it doesn't.
pub fn why_plain(spec: &TensorSpec) -> Option<&'static str> {
    match spec.shape[..] {
        _ if !spec.in_blocks => Some("convolutions, biases, norms and tables of positions do"),
        [_, row] if row.is_multiple_of(32) => None,
        _ => Some("rows that are no multiple of 32 long do"),
    }
}

/// Bytes of a row of `row` weights.
pub fn row_bytes(format: Format, row: usize) -> usize {
    match format.ggml() {
        Some(blocks) => row / blocks.block_size() * blocks.type_size(),
        None => row + size_of::<f32>(),
    }
}

/// How many weights are quantized between two reports of progress.
const SLAB: usize = 1 << 24;

/// Quantizes `count` values on all threads. `read(at, out)` gives those from `at` on; `done(at)` hears, in order, that
/// those before `at` are quantized.
pub fn quantize(
    format: GgmlDType,
    count: usize,
    read: impl Fn(usize, &mut [f32]) + Sync,
    done: impl FnMut(usize),
) -> candle_core::Result<Box<dyn QuantizedType>> {
    Ok(match format {
        GgmlDType::Q8_0 => blocks(BlockQ8_0::from_float, count, read, done),
        GgmlDType::Q4_0 => blocks(BlockQ4_0::from_float, count, read, done),
        GgmlDType::Q4K => blocks::<BlockQ4K>(q4k::quantize, count, read, done),
        other => candle_core::bail!("nothing is quantized to {other:?}"),
    })
}

fn blocks<T: GgmlType + 'static>(
    quantize: impl Fn(&[f32], &mut [T]) + Sync,
    count: usize,
    read: impl Fn(usize, &mut [f32]) + Sync,
    mut done: impl FnMut(usize),
) -> Box<dyn QuantizedType> {
    /// Values that a thread takes at a time.
    const PIECE: usize = 1 << 14;
    let mut blocks = vec![T::zeros(); count / T::BLCK_SIZE];
    for (s, slab) in blocks.chunks_mut(SLAB / T::BLCK_SIZE).enumerate() {
        slab.par_chunks_mut(PIECE / T::BLCK_SIZE)
            .enumerate()
            .for_each_init(
                || vec![0f32; PIECE],
                |values, (p, blocks)| {
                    let values = &mut values[..blocks.len() * T::BLCK_SIZE];
                    read(s * SLAB + p * PIECE, values);
                    quantize(values, blocks);
                },
            );
        done(s * SLAB + slab.len() * T::BLCK_SIZE);
    }
    Box::new(blocks)
}

/// Stored blocks, copied.
pub fn from_stored(bytes: &[u8], format: GgmlDType) -> candle_core::Result<Box<dyn QuantizedType>> {
    if !bytes.len().is_multiple_of(format.type_size()) {
        candle_core::bail!("{} bytes are no whole blocks of {format:?}", bytes.len())
    }
    if bytes.as_ptr().addr().is_multiple_of(2) {
        return Ok(format.from_data(Cow::Borrowed(bytes)));
    }
    // candle reads blocks only from an even address.
    let pairs = bytes.as_chunks::<2>().0.iter();
    let even: Vec<u16> = pairs.map(|pair| u16::from_ne_bytes(*pair)).collect();
    // SAFETY: as many bytes as the pairs have, of a type that any bytes make.
    let bytes = unsafe { std::slice::from_raw_parts(even.as_ptr().cast(), even.len() * 2) };
    Ok(format.from_data(Cow::Borrowed(bytes)))
}

/// The bytes of blocks.
pub fn bytes(blocks: Box<dyn QuantizedType>) -> candle_core::Result<Vec<u8>> {
    let format = blocks.dtype();
    let count = blocks.storage_size_in_bytes() / format.type_size() * format.block_size();
    Ok(QTensor::new(QStorage::Cpu(blocks), count)?
        .data()?
        .into_owned())
}

/// Blocks on the CPU, one after the other, as one weight [rows, row] on `device`.
pub fn weight(
    mut parts: Vec<Box<dyn QuantizedType>>,
    format: GgmlDType,
    (rows, row): (usize, usize),
    device: &Device,
) -> candle_core::Result<QTensor> {
    let storage = match (parts.pop(), device.is_cpu()) {
        (Some(whole), true) if parts.is_empty() => QStorage::Cpu(whole),
        (last, _) => {
            let mut bytes = Vec::new();
            for part in parts.into_iter().chain(last) {
                bytes.extend(self::bytes(part)?);
            }
            match device.is_cpu() {
                true => QStorage::Cpu(from_stored(&bytes, format)?),
                false => QStorage::from_data(Cow::Owned(bytes), device, format)?,
            }
        }
    };
    QTensor::new(storage, (rows, row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    #[test]
    fn quantizing_in_pieces_gives_what_candle_gives() {
        let (rows, row) = (70, 512);
        let dense = Tensor::randn(0f32, 1.0, (rows, row), &Device::Cpu).unwrap();
        let values = dense.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for format in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4K] {
            let mut told = Vec::new();
            let read = |at: usize, out: &mut [f32]| out.copy_from_slice(&values[at..][..out.len()]);
            let blocks = quantize(format, rows * row, read, |at| told.push(at)).unwrap();
            assert_eq!(told, [rows * row]);
            let got = weight(vec![blocks], format, (rows, row), &Device::Cpu).unwrap();
            let expected = QTensor::quantize(&dense, format).unwrap();
            assert!(got.data().unwrap() == expected.data().unwrap());

            // As read from a file, in two parts, from an odd address too.
            let bytes = got.data().unwrap();
            let part = bytes.len() / 2;
            for from in [0, 1] {
                let mut file = vec![0; from];
                file.extend_from_slice(&bytes);
                let parts = file[from..].chunks(part);
                let parts = parts.map(|part| from_stored(part, format).unwrap());
                let again = weight(parts.collect(), format, (rows, row), &Device::Cpu).unwrap();
                assert!(again.data().unwrap() == bytes);
            }
            assert!(from_stored(&bytes[1..], format).is_err());
        }
    }
}
