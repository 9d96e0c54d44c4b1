//! Weights of 4 or 8 bits on the card: how they lie there.

mod contents;
mod products;

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::card::{Gpu, at};
use super::layout::{Address, TILE, WeightAddress};
use crate::kernels::MOST_PLAIN;
use crate::kernels::room::Room;
use crate::weights::Format;

/// A weight [rows, k] in ggml's blocks or in 8-bit floats, of which a row is a block; laid out for the card: see formats.cuh.
pub struct Blocks {
    gpu: Arc<Gpu>,
    format: Format,
    data: Tensor,
    /// Of all formats but q4_K, whose scales lie among the quants.
    scales: Option<Tensor>,
    address: WeightAddress,
    rows: usize,
    k: usize,
}

/// What the kernels call a format.
fn name(format: Format) -> &'static str {
    match format {
        Format::Q8_0 => "q8_0",
        Format::Q4_0 => "q4_0",
        Format::Q4K => "q4k",
        Format::Fp8 => "fp8",
    }
}

/// How many weights a block of a row of `k` has.
fn block(format: Format, k: usize) -> usize {
    match format {
        Format::Q8_0 | Format::Q4_0 => 32,
        Format::Q4K => 256,
        Format::Fp8 => k,
    }
}

/// Bytes of a row of `k` weights as it lies on the card, and of its scales that are kept apart.
fn row_sizes(format: Format, k: usize) -> (usize, usize) {
    match format {
        Format::Q8_0 => (k, k / 32 * 2),
        Format::Q4_0 => (k / 2, k / 32 * 2),
        // `BLOCKS` of Q4K in formats.cuh, of one row: four bytes more than ggml's, whose scales are packed.
        Format::Q4K => (k / 256 * 148, 0),
        Format::Fp8 => (k, 4),
    }
}

impl Blocks {
    /// A weight [rows, k] in memory of its own, whose blocks are yet to be written.
    pub fn unwritten(format: Format, (rows, k): (usize, usize), device: &Device) -> Result<Self> {
        let elements = Room::elements([Self::bytes(format, (rows, k))].into_iter());
        let mut room = Room::new(elements, DType::U8, device)?;
        Self::within(format, (rows, k), &mut room)
    }

    /// A weight [rows, k] that takes its bytes from `room`, and whose blocks are yet to be written.
    pub fn within(format: Format, (rows, k): (usize, usize), room: &mut Room) -> Result<Self> {
        let gpu = Gpu::of(room.device().as_cuda_device()?)?;
        if !k.is_multiple_of(block(format, k)) || !k.is_multiple_of(32) {
            bail!("rows of {k} are no whole blocks of {format:?}")
        }
        let ((size, apart), all) = (row_sizes(format, k), rows.next_multiple_of(TILE));
        let data = room.take(all * size)?;
        let scales = match apart {
            0 => None,
            _ => Some(room.take(all * apart)?),
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
    pub fn bytes(format: Format, (rows, k): (usize, usize)) -> usize {
        let (size, apart) = row_sizes(format, k);
        rows.next_multiple_of(TILE) * (size + apart)
    }

    /// Bytes of all blocks.
    pub fn size(&self) -> usize {
        self.data.elem_count() + self.scales.as_ref().map_or(0, Tensor::elem_count)
    }

    /// Which of the weight's blocks is the one from the weight `from` on, if there are `count` weights of whole blocks.
    fn block_at(&self, from: usize, count: usize) -> Result<usize> {
        let block = block(self.format, self.k);
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
        let (size, apart) = row_sizes(self.format, self.k);
        Ok(WeightAddress {
            data: self.address.data + (first * size) as Address,
            scales: self.address.scales + (first * apart) as Address,
            rows: rows as i32,
            ..self.address
        })
    }

    /// Rows of the weight.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the kernels call the format.
    pub fn name(&self) -> &'static str {
        name(self.format)
    }

    /// How it is kept.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Weights of 16 bytes.
    fn unit(&self) -> usize {
        match self.format {
            Format::Q8_0 | Format::Fp8 => 16,
            Format::Q4_0 | Format::Q4K => 32,
        }
    }

    /// The format's number in `Format` of formats.cuh.
    pub fn format_number(&self) -> i32 {
        match self.format {
            Format::Q8_0 => 1,
            Format::Q4_0 => 2,
            Format::Q4K => 3,
            Format::Fp8 => 4,
        }
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
