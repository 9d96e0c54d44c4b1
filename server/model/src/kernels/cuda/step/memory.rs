//! What a step's kernel works in.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use half::bf16;

use super::model::Dims;
use crate::kernels::cuda::layout::Address;
use crate::kernels::cuda::layout::step::{HEADS, SPLITS};

/// The card's memory of what the kernel has between two stages, which it knows by address.
pub struct Memory {
    /// The residual stream [rows, hidden], and attention's shares.
    x: CudaSlice<f32>,
    shares: CudaSlice<f32>,
    /// [rows, width of each], in 16 bits, whichever.
    qkv: CudaSlice<bf16>,
    attention: CudaSlice<bf16>,
    mlp: CudaSlice<bf16>,
}

/// Where a step's memory lies.
#[derive(Clone, Copy)]
pub struct MemoryAddresses {
    pub x: Address,
    pub shares: Address,
    pub qkv: Address,
    pub attention: Address,
    pub mlp: Address,
}

impl Memory {
    /// Memory that is yet to be written.
    pub fn new(stream: &Arc<CudaStream>, dims: &Dims) -> Result<Self> {
        let (rows, blocks) = (dims.rows, dims.tiles() * dims.kv_heads * SPLITS);
        // SAFETY: everything is written by the kernel before it is read.
        unsafe {
            Ok(Memory {
                x: stream.alloc(rows * dims.hidden).w()?,
                shares: stream.alloc(blocks * HEADS * (dims.head_size + 2)).w()?,
                qkv: stream.alloc(rows * dims.qkv()).w()?,
                attention: stream.alloc(rows * dims.attention()).w()?,
                mlp: stream.alloc(rows * dims.ffn).w()?,
            })
        }
    }

    /// Where it lies.
    pub fn addresses(&self, stream: &Arc<CudaStream>) -> MemoryAddresses {
        MemoryAddresses {
            x: self.x.device_ptr(stream).0,
            shares: self.shares.device_ptr(stream).0,
            qkv: self.qkv.device_ptr(stream).0,
            attention: self.attention.device_ptr(stream).0,
            mlp: self.mlp.device_ptr(stream).0,
        }
    }
}
