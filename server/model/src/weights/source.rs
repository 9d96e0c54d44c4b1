//! One tensor of a checkpoint where it lies: in a mapped shard, or made up.

use std::ops::Range;

use candle_core::quantized::{GgmlDType, QuantizedType};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::folder::FileBytes;
use super::formats;
#[cfg(feature = "cuda")]
use crate::kernels::cuda;

/// A tensor of the right shape, not yet read.
pub struct Source<'a> {
    pub(super) shape: Vec<usize>,
    pub(super) at: At<'a>,
}

pub(super) enum At<'a> {
    Stored(Stored<'a>),
    Random(Random),
}

/// A tensor's bytes in a mapped file.
pub(super) struct Stored<'a> {
    pub file: &'a FileBytes,
    /// Where they lie in the file.
    pub range: Range<usize>,
    pub dtype: Dtype,
}

impl Source<'_> {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes that its reading takes, as stored; as `dtype` has them where they are made up.
    pub fn bytes(&self, dtype: DType) -> u64 {
        match &self.at {
            At::Stored(stored) => stored.range.len() as u64,
            At::Random(_) => (self.elements() * dtype.size_in_bytes()) as u64,
        }
    }

    /// Copies the tensor into `all` [n] on a card, from the element `at` on, in that one's type whatever the stored type.
    #[cfg(feature = "cuda")]
    pub fn onto(&self, all: &Tensor, at: usize) -> candle_core::Result<()> {
        self.parts(all.device(), |from, part| {
            all.slice_set(&part.to_dtype(all.dtype())?, 0, at + from)
        })
    }

    /// Reads the tensor onto `device`, in `dtype` whatever the stored type.
    pub fn tensor(&self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match &self.at {
            At::Stored(stored) => {
                let plain = plain_type(stored.dtype)?;
                let bytes = stored.data()?;
                let tensor = Tensor::from_raw_buffer(bytes, plain, &self.shape, &Device::Cpu)?;
                stored.release(0..bytes.len());
                tensor.to_dtype(dtype)?.to_device(device)
            }
            At::Random(random) => {
                const PIECE: usize = 1 << 14;
                let mut values = vec![0f32; self.elements()];
                values
                    .par_chunks_mut(PIECE)
                    .enumerate()
                    .for_each(|(i, piece)| random.values(i * PIECE, piece));
                Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)
            }
        }
    }

    /// The stored type, if it is stored.
    pub fn stored_dtype(&self) -> Option<Dtype> {
        match &self.at {
            At::Stored(stored) => Some(stored.dtype),
            At::Random(_) => None,
        }
    }

    /// The tensor's bytes in the file.
    pub fn stored(&self) -> candle_core::Result<&[u8]> {
        match &self.at {
            At::Stored(stored) => stored.data(),
            At::Random(_) => candle_core::bail!("it is made up"),
        }
    }

    /// The bytes of [`Self::blocks`].
    pub fn quantized(
        &self,
        format: GgmlDType,
        done: impl FnMut(f64),
    ) -> candle_core::Result<Vec<u8>> {
        formats::bytes(self.blocks(format, done)?)
    }

    /// Reads it onto a card in slabs, in the stored type, or made up there: `each` hears where in the tensor one begins.
    #[cfg(feature = "cuda")]
    fn parts(
        &self,
        device: &Device,
        mut each: impl FnMut(usize, Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<()> {
        let count = self.elements();
        // Whole rows, since some formats scale by row.
        let slab = match self.shape[..] {
            [_, row] if row > 0 => SLAB / row.min(SLAB) * row,
            _ => SLAB,
        };
        for from in (0..count).step_by(slab) {
            let len = slab.min(count - from);
            let part = match &self.at {
                At::Stored(stored) => {
                    let dtype = plain_type(stored.dtype)?;
                    let size = dtype.size_in_bytes();
                    let bytes = from * size..(from + len) * size;
                    let Some(slab) = stored.data()?.get(bytes.clone()) else {
                        candle_core::bail!("the file got shorter")
                    };
                    let part = cuda::upload(slab, dtype, device)?;
                    stored.release(bytes);
                    part
                }
                At::Random(random) => Tensor::randn(random.mean, Random::DEVIATION, len, device)?,
            };
            each(from, part)?;
        }
        Ok(())
    }

    /// Writes the weights into `blocks` on a card, from the weight `at` on: as they are stored, or quantized there. `done`
    /// hears which share of it is.
    #[cfg(feature = "cuda")]
    pub fn blocks_on_card(
        &self,
        blocks: &cuda::Blocks,
        at: usize,
        device: &Device,
        mut done: impl FnMut(f64),
    ) -> candle_core::Result<()> {
        if let At::Stored(stored) = &self.at
            && stored.dtype == Dtype::U8
        {
            let bytes = stored.data()?;
            blocks.write(at, bytes)?;
            stored.release(0..bytes.len());
            return Ok(());
        }
        let count = self.elements();
        self.parts(device, |from, part| {
            blocks.quantize(at + from, &part)?;
            done((from + part.elem_count()) as f64 / count as f64);
            Ok(())
        })
    }

    /// Reads the weights in blocks on the CPU: as they are stored, or quantized on all threads. `done` hears which share of it
    /// is.
    pub fn blocks(
        &self,
        format: GgmlDType,
        mut done: impl FnMut(f64),
    ) -> candle_core::Result<Box<dyn QuantizedType>> {
        let count = self.elements();
        match &self.at {
            At::Stored(stored) => {
                let bytes = stored.data()?;
                if stored.dtype == Dtype::U8 {
                    let blocks = formats::from_stored(bytes, format)?;
                    stored.release(0..bytes.len());
                    return Ok(blocks);
                }
                let size = bytes.len() / count.max(1);
                let read = |at: usize, out: &mut [f32]| {
                    to_f32(&bytes[at * size..][..out.len() * size], stored.dtype, out);
                };
                let mut released = 0;
                formats::quantize(format, count, read, |at| {
                    stored.release(released * size..at * size);
                    released = at;
                    done(at as f64 / count as f64);
                })
            }
            At::Random(random) => {
                let read = |at: usize, out: &mut [f32]| random.values(at, out);
                formats::quantize(format, count, read, |at| done(at as f64 / count as f64))
            }
        }
    }
}

/// How many elements of a tensor are on a card beside what becomes of them, or one row.
#[cfg(feature = "cuda")]
const SLAB: usize = 1 << 24;

/// The type of a tensor that is stored plain.
fn plain_type(stored: Dtype) -> candle_core::Result<DType> {
    Ok(match stored {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => candle_core::bail!("stored as {other:?}"),
    })
}

/// Stored values as f32.
fn to_f32(bytes: &[u8], stored: Dtype, out: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
        for (bytes, value) in bytes.as_chunks::<N>().0.iter().zip(out) {
            *value = read(*bytes);
        }
    }
    match stored {
        Dtype::BF16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        _ => each(bytes, out, f32::from_le_bytes),
    }
}

/// Made-up values: of deviation 0.02 around 0, around 1 for the scales of norms; the same for the same seed and name.
pub(super) struct Random {
    seed: u64,
    mean: f32,
}

impl Random {
    const DEVIATION: f32 = 0.02;

    pub fn new(seed: u64, name: &str) -> Self {
        let norm = name.ends_with("norm.weight") || name.ends_with("norm1.weight");
        // The name decides too, so that the order of loading does not matter (FNV-1a).
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        Random {
            seed: seed ^ hash,
            mean: if norm { 1.0 } else { 0.0 },
        }
    }

    /// The values from `at` on; each stands alone, so that threads can make them in any order.
    fn values(&self, at: usize, out: &mut [f32]) {
        for (i, value) in (at as u64..).zip(out) {
            // SplitMix64 of the place.
            let mut z = self
                .seed
                .wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            // The sum of four uniforms is close enough to normal, and cheap: its deviation is 1/√3.
            let sum: u64 = (0..4).map(|part| (z >> (16 * part)) & 0xffff).sum();
            let normal = (sum as f32 / 65_536.0 - 2.0) * 1.732;
            *value = self.mean + normal * Self::DEVIATION;
        }
    }
}

impl<'a> Stored<'a> {
    fn data(&self) -> candle_core::Result<&'a [u8]> {
        self.file
            .get(self.range.clone())
            .ok_or_else(|| candle_core::Error::msg("the file got shorter"))
    }

    /// A part of the tensor has been read.
    fn release(&self, part: Range<usize>) {
        let start = self.range.start;
        self.file.release(start + part.start..start + part.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_values_are_normal_and_the_same_from_anywhere() {
        let random = Random::new(7, "transformer.vision.boi");
        let mut all = vec![0f32; 100_000];
        random.values(0, &mut all);
        let mut part = [0f32; 100];
        random.values(4_321, &mut part);
        assert_eq!(part, all[4_321..4_421]);
        let n = all.len() as f32;
        let mean = all.iter().sum::<f32>() / n;
        let deviation = (all.iter().map(|x| x * x).sum::<f32>() / n).sqrt();
        assert!(
            mean.abs() < 3e-4 && (deviation - 0.02).abs() < 2e-4,
            "{mean} {deviation}"
        );
        let mut norm = [0f32; 8];
        Random::new(7, "a.norm1.weight").values(0, &mut norm);
        assert!(norm.iter().all(|x| (x - 1.0).abs() < 0.1));
    }
}
