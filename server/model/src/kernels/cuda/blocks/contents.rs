//! What is in a weight's blocks: written as stored, quantized, and made plain.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::{Blocks, named};
use crate::kernels::cuda::card::{Launch, at, params, type_name, unwritten};
use crate::kernels::cuda::layout::{Address, TILE, WeightAddress};

impl Blocks {
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
        /// Weights that a thread quantizes.
        const RUN: usize = 32;
        let (first, runs) = (from / RUN, count / RUN);
        let launch = Launch::new((runs.div_ceil(256), 1, 1), 256);
        // SAFETY: `block_at` found that there is room for as many.
        unsafe {
            self.gpu
                .launch(&name, launch, params![plain, self.address, first, runs])
        }
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
}
