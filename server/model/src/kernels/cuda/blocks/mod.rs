//! Weights in blocks of 4 or 8 bits on the card: how they lie there.

mod contents;
mod products;

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::card::{Gpu, at};
use super::layout::{Address, TILE, WeightAddress};
use crate::kernels::MOST_PLAIN;
use crate::kernels::room::Room;

/// A weight [rows, k] in ggml's blocks, laid out for the card: see formats.cuh.
pub struct Blocks {
    gpu: Arc<Gpu>,
    format: GgmlDType,
    data: Tensor,
    /// The scales of q8_0 and q4_0, apart from their quants.
    scales: Option<Tensor>,
    address: WeightAddress,
    rows: usize,
    k: usize,
}

/// What the kernels call a format, its number in `Format` of formats.cuh, and how many weights a block of it has.
fn named(format: GgmlDType) -> Result<(&'static str, i32, usize)> {
    Ok(match format {
        GgmlDType::Q8_0 => ("q8_0", 1, 32),
        GgmlDType::Q4_0 => ("q4_0", 2, 32),
        GgmlDType::Q4K => ("q4k", 3, 256),
        other => bail!("no CUDA kernel for blocks of {other:?}"),
    })
}

/// Bytes of a block's scale, where it is kept apart.
const SCALE: usize = 2;

/// Bytes of a block as it lies on the card, and of those the ones that are kept apart.
fn sizes(format: GgmlDType) -> (usize, usize) {
    match format {
        // `BLOCKS` of Q4K in formats.cuh, of one row: four bytes more than ggml's, whose scales are packed.
        GgmlDType::Q4K => (148, 0),
        _ => (format.type_size(), SCALE),
    }
}

/// Blocks of a weight [rows, k], made up to whole tiles.
fn blocks_of(format: GgmlDType, (rows, k): (usize, usize)) -> usize {
    rows.next_multiple_of(TILE) * k / format.block_size()
}

impl Blocks {
    /// A weight [rows, k] in memory of its own, whose blocks are yet to be written.
    pub fn unwritten(
        format: GgmlDType,
        (rows, k): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let elements = Room::elements([Self::bytes(format, (rows, k))].into_iter());
        let mut room = Room::new(elements, DType::U8, device)?;
        Self::within(format, (rows, k), &mut room)
    }

    /// A weight [rows, k] that takes its bytes from `room`, and whose blocks are yet to be written.
    pub fn within(format: GgmlDType, (rows, k): (usize, usize), room: &mut Room) -> Result<Self> {
        let gpu = Gpu::of(room.device().as_cuda_device()?)?;
        let (_, _, block) = named(format)?;
        if !k.is_multiple_of(block) {
            bail!("rows of {k} are no whole blocks of {format:?}")
        }
        let ((size, apart), blocks) = (sizes(format), blocks_of(format, (rows, k)));
        let data = room.take(blocks * (size - apart))?;
        let scales = match apart {
            0 => None,
            _ => Some(room.take(blocks * apart)?),
        };
        let address = WeightAddress {
            data: at(&data)?.0,
            scales: scales.as_ref().map(at).transpose()?.map_or(0, |s| s.0),
            rows: rows as i32,
            k: k as i32,
        };
        let blocks = Blocks {
            gpu,
            format,
            data,
            scales,
            address,
            rows,
            k,
        };
        let plain = blocks.part(DType::BF16) * k * DType::BF16.size_in_bytes();
        blocks.gpu.scratch.lock().expect(plain);
        Ok(blocks)
    }

    /// Bytes that a weight [rows, k] takes.
    pub fn bytes(format: GgmlDType, shape: (usize, usize)) -> usize {
        blocks_of(format, shape) * sizes(format).0
    }

    /// Bytes of all blocks.
    pub fn size(&self) -> usize {
        self.data.elem_count() + self.scales.as_ref().map_or(0, Tensor::elem_count)
    }

    /// Which of the weight's blocks is the one from the weight `from` on, if there are `count` weights of whole blocks.
    fn block_at(&self, from: usize, count: usize) -> Result<usize> {
        let (_, _, block) = named(self.format)?;
        if !from.is_multiple_of(block)
            || !count.is_multiple_of(block)
            || from + count > self.rows * self.k
        {
            bail!("{count} weights from {from} of {}×{}", self.rows, self.k)
        }
        Ok(from / block)
    }

    /// The rows from `first` on, the first of a tile, as a weight.
    pub fn rows_from(&self, first: usize, rows: usize) -> Result<WeightAddress> {
        if !first.is_multiple_of(TILE) || first + rows > self.rows {
            bail!("{rows} rows from {first} of {}", self.rows)
        }
        let (size, apart) = sizes(self.format);
        let before = blocks_of(self.format, (first, self.k));
        Ok(WeightAddress {
            data: self.address.data + (before * (size - apart)) as Address,
            scales: self.address.scales + (before * apart) as Address,
            rows: rows as i32,
            ..self.address
        })
    }

    /// Rows of the weight.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the kernels call the format.
    pub fn name(&self) -> Result<&'static str> {
        named(self.format).map(|(name, ..)| name)
    }

    /// Weights of 16 bytes.
    fn unit(&self) -> usize {
        match self.format {
            GgmlDType::Q8_0 => 16,
            _ => 32,
        }
    }

    /// `Format` of formats.cuh.
    pub fn format_number(&self) -> Result<i32> {
        named(self.format).map(|(_, number, _)| number)
    }

    /// Where all of it lies.
    pub fn address(&self) -> WeightAddress {
        self.address
    }

    /// Rows that are made plain at a time: equal parts, of whole tiles of a product.
    fn part(&self, dtype: DType) -> usize {
        const TILE: usize = 128;
        let row = self.k * dtype.size_in_bytes();
        let parts = (self.rows * row).div_ceil(MOST_PLAIN).max(1);
        let part = self.rows.div_ceil(parts).next_multiple_of(TILE);
        part.min(self.rows)
    }
}
