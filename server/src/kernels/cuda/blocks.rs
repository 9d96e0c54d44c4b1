//! Weights in blocks of 4 or 8 bits on the card.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::gpu::{Address, Gpu, Launch, at, params, type_name, unwritten};

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
    data: CudaSlice<u8>,
    /// The scales of q8_0 and q4_0, apart from their quants.
    scales: Option<CudaSlice<u8>>,
    rows: usize,
    k: usize,
}

/// What the kernels call a format, and how many weights a block of it has.
fn named(format: GgmlDType) -> Result<(&'static str, usize)> {
    Ok(match format {
        GgmlDType::Q8_0 => ("q8_0", 32),
        GgmlDType::Q4_0 => ("q4_0", 32),
        GgmlDType::Q4K => ("q4k", 256),
        other => bail!("no CUDA kernel for blocks of {other:?}"),
    })
}

/// Blocks that begin with an f16 scale: the scales, and what follows each.
fn split(bytes: &[u8], block: usize) -> (Vec<u8>, Vec<u8>) {
    const SCALE: usize = 2;
    let blocks = bytes.len() / block;
    let mut scales = Vec::with_capacity(blocks * SCALE);
    let mut quants = Vec::with_capacity(blocks * (block - SCALE));
    for block in bytes.chunks_exact(block) {
        scales.extend_from_slice(&block[..SCALE]);
        quants.extend_from_slice(&block[SCALE..]);
    }
    (scales, quants)
}

impl Blocks {
    /// Puts ggml's blocks of a weight [rows, k] on the card.
    pub fn upload(
        bytes: &[u8],
        format: GgmlDType,
        (rows, k): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let gpu = Gpu::of(device.as_cuda_device()?)?;
        let (_, block) = named(format)?;
        if !k.is_multiple_of(block) || bytes.len() != rows * k / block * format.type_size() {
            bail!("{} bytes of {format:?} for {rows}×{k}", bytes.len())
        }
        let (data, scales) = match format {
            GgmlDType::Q4K => (gpu.stream.clone_htod(bytes).w()?, None),
            _ => {
                let (scales, quants) = split(bytes, format.type_size());
                let scales = gpu.stream.clone_htod(&scales).w()?;
                (gpu.stream.clone_htod(&quants).w()?, Some(scales))
            }
        };
        Ok(Blocks {
            gpu,
            format,
            data,
            scales,
            rows,
            k,
        })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the kernels call the format.
    pub fn name(&self) -> Result<&'static str> {
        named(self.format).map(|(name, _)| name)
    }

    /// `Format` of formats.cuh.
    pub fn format_number(&self) -> Result<i32> {
        Ok(match self.format {
            GgmlDType::Q8_0 => 1,
            GgmlDType::Q4_0 => 2,
            GgmlDType::Q4K => 3,
            other => bail!("no CUDA kernel for blocks of {other:?}"),
        })
    }

    pub fn address(&self) -> WeightAddress {
        let stream = &self.gpu.stream;
        WeightAddress {
            data: self.data.device_ptr(stream).0,
            scales: self.scales.as_ref().map_or(0, |s| s.device_ptr(stream).0),
            rows: self.rows as i32,
            k: self.k as i32,
        }
    }

    fn plain(&self, rows: usize, ids: Address, dtype: DType) -> Result<Tensor> {
        let out = unwritten(&self.gpu, (rows, self.k), dtype)?;
        let name = format!("dequantize_{}_{}", self.name()?, type_name(dtype)?);
        // A thread takes 16 bytes: as many weights as fit, 16 at least.
        let launch = Launch::new((self.k.div_ceil(16 * 256), rows.min(65535), 1), 256);
        // SAFETY: the weight is as its format says; out has a row for each of `ids` or, where it is null, of the weight.
        unsafe {
            self.gpu.launch(
                &name,
                launch,
                params![self.address(), ids, at(&out)?.0, rows as i32],
            )?;
        }
        Ok(out)
    }

    /// All of it as a plain weight.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        self.plain(self.rows, 0, dtype)
    }

    /// The rows `ids`, plain.
    pub fn gather(&self, ids: &[u32], dtype: DType) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.rows) {
            bail!("token {id} of {}", self.rows)
        }
        let device = Device::Cuda(self.gpu.device.clone());
        let rows = ids.len();
        let ids = Tensor::new(ids, &device)?;
        self.plain(rows, at(&ids)?.0, dtype)
    }

    /// x · weightᵀ + bias. For many rows a product with the plain weight, made for it, is fastest.
    pub fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        super::linear(x, &self.dense(x.dtype())?, bias)
    }

    /// onto + x · weightᵀ, in place of `onto`.
    pub fn linear_onto(&self, onto: Tensor, x: &Tensor) -> Result<Tensor> {
        super::linear_onto(onto, x, &self.dense(x.dtype())?)
    }
}
