//! Weights in blocks of 4 or 8 bits on the card.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::super::MOST_PLAIN;
use super::super::room::Room;
use super::super::then::Then;
use super::gemm::{Plain, columns};
use super::gpu::{Address, Gpu, Launch, at, params, type_name, unwritten};
use super::ops::after;
use super::product;

/// `Weight` of formats.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WeightAddress {
    pub data: Address,
    pub scales: Address,
    pub rows: i32,
    pub k: i32,
}

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

/// Weights that a thread quantizes.
const RUN: usize = 32;

/// Bytes of a block's scale, where it is kept apart.
const SCALE: usize = 2;

/// Rows that lie beside each other, `TILE` of formats.cuh.
const TILE: usize = 8;

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

    /// Puts ggml's blocks of a weight [rows, k] on the card.
    pub fn upload(
        bytes: &[u8],
        format: GgmlDType,
        shape: (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let blocks = Self::unwritten(format, shape, device)?;
        if bytes.len() != shape.0 * shape.1 / format.block_size() * format.type_size() {
            bail!("{} bytes of {format:?} for {shape:?}", bytes.len())
        }
        blocks.write(0, bytes)?;
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

    /// Writes stored blocks, those of the weight `from` first.
    pub fn write(&self, from: usize, bytes: &[u8]) -> Result<()> {
        let (name, _, block) = named(self.format)?;
        let size = self.format.type_size();
        if !bytes.len().is_multiple_of(size) {
            bail!(
                "{} bytes are no whole blocks of {:?}",
                bytes.len(),
                self.format
            )
        }
        let first = self.block_at(from, bytes.len() / size * block)?;
        /// Blocks that are placed at a time.
        const SLAB: usize = 1 << 18;
        for (i, bytes) in bytes.chunks(SLAB * size).enumerate() {
            let (first, count) = (first + i * SLAB, bytes.len() / size);
            // SAFETY: it is written whole.
            let stored: CudaSlice<u8> = unsafe { self.gpu.stream.alloc(bytes.len()) }.w()?;
            let at = stored.device_ptr(&self.gpu.stream).0;
            let launch = Launch::new(((bytes.len() / 2).div_ceil(256), 1, 1), 256);
            // SAFETY: `block_at` found that there is room; what is freed here is so in the stream's order.
            unsafe {
                self.gpu.upload(bytes, at)?;
                self.gpu.launch(
                    &format!("place_{name}"),
                    launch,
                    params![at, self.address, first, count],
                )?;
            }
        }
        Ok(())
    }

    /// Quantizes plain weights, that at `from` first: as the CPU does, to the bit.
    pub fn quantize(&self, from: usize, plain: &Tensor) -> Result<()> {
        let count = plain.elem_count();
        self.block_at(from, count)?;
        let (plain, dtype, _) = at(plain)?;
        let name = format!("quantize_{}_{}", self.name()?, type_name(dtype)?);
        let (first, runs) = (from / RUN, count / RUN);
        let launch = Launch::new((runs.div_ceil(256), 1, 1), 256);
        // SAFETY: `block_at` found that there is room for as many.
        unsafe {
            self.gpu
                .launch(&name, launch, params![plain, self.address, first, runs])
        }
    }

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

    pub fn address(&self) -> WeightAddress {
        self.address
    }

    /// Writes the rows `ids` or, where it is null, the first ones as plain ones to `out`.
    ///
    /// # Safety
    /// `out` has room for `rows`, and there are as many ids, each a row; or rows.
    unsafe fn dequantize(
        &self,
        weight: WeightAddress,
        rows: usize,
        ids: Address,
        dtype: DType,
        out: Address,
    ) -> Result<()> {
        let name = format!("dequantize_{}_{}", self.name()?, type_name(dtype)?);
        // A warp takes four units of a tile's rows.
        const WARPS: usize = 8;
        let weights = 4 * WARPS * self.unit();
        let grid = (self.k.div_ceil(weights), rows.div_ceil(TILE).min(65535), 1);
        let launch = Launch::new(grid, 32 * WARPS);
        // SAFETY: the weight is as its format says; the caller's.
        unsafe {
            self.gpu
                .launch(&name, launch, params![weight, ids, out, rows as i32])
        }
    }

    /// All of it as a plain weight.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        let out = unwritten(&self.gpu, (self.rows, self.k), dtype)?;
        // SAFETY: out has a row for each of the weight.
        unsafe { self.dequantize(self.address(), self.rows, 0, dtype, at(&out)?.0)? };
        Ok(out)
    }

    /// The rows `ids`, plain.
    pub fn gather(&self, ids: &[u32], dtype: DType) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.rows) {
            bail!("token {id} of {}", self.rows)
        }
        let out = unwritten(&self.gpu, (ids.len(), self.k), dtype)?;
        let ids = Tensor::new(ids, &Device::Cuda(self.gpu.device.clone()))?;
        let rows = ids.elem_count();
        // SAFETY: out has a row for each of the ids, all of which are rows of the weight.
        unsafe { self.dequantize(self.address(), rows, at(&ids)?.0, dtype, at(&out)?.0)? };
        Ok(out)
    }

    /// Rows that are made plain at a time: equal parts, of whole tiles of a product.
    fn part(&self, dtype: DType) -> usize {
        const TILE: usize = 128;
        let row = self.k * dtype.size_in_bytes();
        let parts = (self.rows * row).div_ceil(MOST_PLAIN).max(1);
        let part = self.rows.div_ceil(parts).next_multiple_of(TILE);
        part.min(self.rows)
    }

    /// y = x · weightᵀ + bias, or y and that, part by part with the plain weight: for many rows that is fastest. False,
    /// and nothing done, where there is no fast way.
    fn product(&self, y: &Tensor, x: &Tensor, bias: Option<&Tensor>, adds: bool) -> Result<bool> {
        let (gpu, dtype, part) = (&self.gpu, x.dtype(), self.part(x.dtype()));
        if !self.rows.is_multiple_of(8) {
            return Ok(false);
        }
        let mut scratch = gpu.scratch.lock();
        let plain = scratch.address(gpu)?;
        for first in (0..self.rows).step_by(part) {
            let rows = part.min(self.rows - first);
            let weight = self.rows_from(first, rows)?;
            // SAFETY: the scratch memory has room for a part, and what used it before is before this in the stream.
            unsafe { self.dequantize(weight, rows, 0, dtype, plain)? };
            let weight = Plain {
                at: plain,
                dtype,
                out: rows,
                inp: self.k,
            };
            if !columns(y, first, x, weight, bias, adds)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same part by part with the plain weight, where that is the fast way.
    fn product_then(&self, x: &Tensor, then: Then<'_>) -> Result<Option<Tensor>> {
        let (gpu, dtype) = (&self.gpu, x.dtype());
        let of_each = product::weights_of_a_column(then);
        let columns = self.rows / of_each;
        let part = (self.part(dtype) / of_each).min(columns);
        if !columns.is_multiple_of(TILE) || !product::pays(x, of_each * part, then)? {
            return Ok(None);
        }
        let y = unwritten(gpu, (x.dim(0)?, columns), dtype)?;
        let mut scratch = gpu.scratch.lock();
        let plain = scratch.address(gpu)?;
        for first in (0..columns).step_by(part) {
            let rows = part.min(columns - first);
            for i in 0..of_each {
                let to = plain + (i * rows * self.k * dtype.size_in_bytes()) as Address;
                let of = self.rows_from(i * columns + first, rows)?;
                // SAFETY: the scratch memory has room for a part, and what used it before is before this in the stream.
                unsafe { self.dequantize(of, rows, 0, dtype, to)? };
            }
            let weight = Plain {
                at: plain,
                dtype,
                out: of_each * rows,
                inp: self.k,
            };
            if !product::columns(&y, first, x, weight, then)? {
                return Ok(None);
            }
        }
        Ok(Some(y))
    }

    /// y = x · weightᵀ + bias, or y and that, from the blocks themselves, which are read once for every 32 rows. False,
    /// and nothing done, where that is not the fast way.
    fn few_rows(&self, y: &Tensor, x: &Tensor, bias: Option<&Tensor>, adds: bool) -> Result<bool> {
        /// With more rows than these a product with the plain weight is faster.
        const MOST: usize = 64;
        /// Of quantized.cu.
        const WARPS: usize = 8;
        const TILES: usize = 4;
        const STAGES: usize = 2;
        /// `Slice` of formats.cuh: the units of a tile that are read at a time, and its bytes.
        const SLICE_UNITS: usize = 8;
        const SLICE: usize = TILE * SLICE_UNITS * 16 + 160;
        let ((rows, k), (x_at, dtype, gpu)) = (x.dims2()?, at(x)?);
        let bias_at = bias.map(at).transpose()?.map_or(0, |(b, _, _)| b);
        if rows > MOST || !x_at.is_multiple_of(8) || dtype == DType::F32 {
            return Ok(false);
        }
        if k != self.k || bias.is_some_and(|b| b.dims() != [self.rows] || b.dtype() != dtype) {
            bail!("a product of {:?} with {}×{}", x.shape(), self.rows, self.k)
        }
        let names = format!("{}_{}", self.name()?, type_name(dtype)?);
        let eights = if rows <= 16 { 2 } else { 4 };
        let groups = rows.div_ceil(8 * eights);
        let slices = k.div_ceil(SLICE_UNITS * self.unit());
        // In pieces of sixteen bytes.
        let size = groups * 8 * eights * slices * SLICE_UNITS * self.unit() / 8;
        let arranged = unwritten(&gpu, (size, 8), dtype)?;
        let (columns, y) = (at(&arranged)?.0, at(y)?.0);
        let arrange = Launch::new((size.div_ceil(256), 1, 1), 256);
        let grid = (self.rows.div_ceil(TILES * TILE), groups, 1);
        let multiply = Launch::new(grid, 32 * WARPS).shared(WARPS * STAGES * TILES * SLICE);
        // SAFETY: x and y have as many rows, of k and of the weight's rows; what lies between has its size, and is freed
        // behind this in the stream's order.
        unsafe {
            gpu.launch(
                &format!("arrange_{names}"),
                arrange,
                params![
                    x_at,
                    columns,
                    rows as i32,
                    k as i32,
                    eights as i32,
                    size as i32
                ],
            )?;
            gpu.launch(
                &format!("few_rows_{eights}_{names}"),
                multiply,
                params![
                    self.address(),
                    columns,
                    bias_at,
                    y,
                    rows as i32,
                    i32::from(adds)
                ],
            )?;
        }
        Ok(true)
    }

    /// x · weightᵀ + bias.
    pub fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let x = &x.contiguous()?;
        let y = unwritten(&self.gpu, (x.dim(0)?, self.rows), x.dtype())?;
        if self.few_rows(&y, x, bias, false)? {
            return Ok(y);
        }
        match self.product(&y, x, bias, false)? {
            true => Ok(y),
            false => super::linear(x, &self.dense(x.dtype())?, bias),
        }
    }

    /// What `then` says of x and this weight.
    pub fn linear_then(&self, x: &Tensor, then: Then<'_>) -> Result<Tensor> {
        let x = &x.contiguous()?;
        match self.product_then(x, then)? {
            Some(y) => Ok(y),
            None => after(then, self.linear(x, None)?),
        }
    }

    /// onto + x · weightᵀ, in place of `onto`.
    pub fn linear_onto(&self, onto: Tensor, x: &Tensor) -> Result<Tensor> {
        let x = &x.contiguous()?;
        if self.few_rows(&onto, x, None, true)? {
            return Ok(onto);
        }
        match self.product(&onto, x, None, true)? {
            true => Ok(onto),
            false => super::linear_onto(onto, x, &self.dense(x.dtype())?),
        }
    }
}
