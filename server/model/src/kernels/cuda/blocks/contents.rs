//! What is in a weight's blocks: written as stored, quantized, and made plain.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{DType, Device, Result, Tensor, bail};

use super::{Blocks, block};
use crate::kernels::cuda::card::{Launch, at, params, type_name, unwritten};
use crate::kernels::cuda::layout::{Address, TILE, WeightAddress};
use crate::weights::{Format, row_bytes};

impl Blocks {
    /// Puts ggml's blocks of a weight [rows, k] on the card.
    pub fn upload(
        bytes: &[u8],
        format: Format,
        shape: (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let blocks = Self::unwritten(format, shape, device)?;
        if bytes.len() != shape.0 * row_bytes(format, shape.1) {
            bail!("{} bytes of {format:?} for {shape:?}", bytes.len())
        }
        blocks.write(0, bytes)?;
        Ok(blocks)
    }

    /// Writes stored blocks, those of the weight `from` first.
    pub fn write(&self, from: usize, bytes: &[u8]) -> Result<()> {
        let Some(size) = self.format.ggml().map(|blocks| blocks.type_size()) else {
            bail!("{:?} is not stored", self.format)
        };
        let (name, block) = (self.name(), block(self.format, self.k));
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
        let name = format!("quantize_{}_{}", self.name(), type_name(dtype)?);
        /// Weights that a thread quantizes, and threads of a block; of 8-bit floats a warp quantizes a row.
        const RUN: usize = 32;
        const THREADS: usize = 256;
        let (first, runs) = (from / RUN, count / RUN);
        let threads = match self.format {
            Format::Fp8 => count / self.k * 32,
            _ => runs,
        };
        let launch = Launch::new((threads.div_ceil(THREADS), 1, 1), THREADS);
        // SAFETY: `block_at` found that there is room for as many.
        unsafe {
            self.gpu
                .launch(&name, launch, params![plain, self.address, first, runs])
        }
    }

    /// The 8-bit floats, row after row, and the rows' scales: for holding them against their definition.
    pub fn stored_fp8(&self) -> Result<(Vec<u8>, Vec<f32>)> {
        let (Format::Fp8, Some(scales)) = (self.format, &self.scales) else {
            bail!("{:?} has no 8-bit floats", self.format)
        };
        let (units, data) = (self.k / self.unit(), self.data.to_vec1::<u8>()?);
        let unit = |row: usize, unit: usize| {
            let at = ((row / TILE * units + unit) * TILE + row % TILE) * self.unit();
            &data[at..][..self.unit()]
        };
        let rows = 0..self.rows;
        let bytes = rows.flat_map(|row| (0..units).flat_map(move |u| unit(row, u).iter().copied()));
        let scales = scales.to_vec1::<u8>()?;
        let scales = scales.as_chunks::<4>().0.iter().take(self.rows);
        Ok((
            bytes.collect(),
            scales.map(|scale| f32::from_le_bytes(*scale)).collect(),
        ))
    }

    /// Writes the rows `ids` or, where it is null, the first ones as plain ones to `out`.
    ///
    /// # Safety
    /// `out` has room for `rows`, and there are as many ids, each a row; or rows.
    pub(super) unsafe fn dequantize(
        &self,
        weight: WeightAddress,
        rows: usize,
        ids: Address,
        dtype: DType,
        out: Address,
    ) -> Result<()> {
        let name = format!("dequantize_{}_{}", self.name(), type_name(dtype)?);
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
}
