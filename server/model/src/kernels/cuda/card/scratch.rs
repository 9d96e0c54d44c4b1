//! Memory on the card that is used again and again.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use crate::kernels::cuda::layout::Address;

/// Memory that is taken once and used again and again, in the stream's order.
#[derive(Default)]
pub struct Scratch {
    memory: Option<CudaSlice<u8>>,
    bytes: usize,
}

impl Scratch {
    /// So many bytes will be asked for.
    pub fn expect(&mut self, bytes: usize) {
        self.bytes = self.bytes.max(bytes);
    }

    /// Takes what is asked for, if anything is.
    pub fn take(&mut self, stream: &Arc<CudaStream>) -> Result<()> {
        if self.bytes > 0 {
            self.address(stream)?;
        }
        Ok(())
    }

    /// Where there are as many bytes as any weight expects.
    pub fn address(&mut self, stream: &Arc<CudaStream>) -> Result<Address> {
        let memory = match self.memory.take() {
            Some(memory) if memory.len() >= self.bytes => memory,
            // SAFETY: it is written before it is read.
            _ => unsafe { stream.alloc(self.bytes) }.w()?,
        };
        let address = memory.device_ptr(stream).0;
        self.memory = Some(memory);
        Ok(address)
    }
}
