//! The way up from the host's memory: through a few buffers that the card reads by itself, so that copying into one goes
//! on while another is read.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, PinnedHostSlice, result};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::gpu::{Address, Gpu, at, unwritten};

/// Bytes of a buffer, and how many there are: a picture's values fit.
const BUFFER: usize = 4 << 20;
const BUFFERS: usize = 4;

/// Bytes that a thread copies at a time.
const PIECE: usize = 256 << 10;

/// The buffers, made at the first use and kept.
#[derive(Default)]
pub struct Staging {
    buffers: Vec<Buffer>,
    next: usize,
}

struct Buffer {
    bytes: PinnedHostSlice<u8>,
    /// When the card has read it.
    read: CudaEvent,
}

impl Staging {
    /// The next buffer, once the card has read what it held.
    fn next(&mut self, gpu: &Gpu) -> Result<&mut Buffer> {
        let context = gpu.stream.context();
        if self.buffers.len() < BUFFERS {
            self.next = self.buffers.len();
            self.buffers.push(Buffer {
                // SAFETY: it is written before it is read.
                bytes: unsafe { context.alloc_pinned(BUFFER) }.w()?,
                read: context.new_event(None).w()?,
            });
        }
        let buffer = &mut self.buffers[self.next];
        self.next = (self.next + 1) % BUFFERS;
        buffer.read.synchronize().w()?;
        Ok(buffer)
    }
}

impl Gpu {
    /// Copies `bytes` to `to`, by all threads. They may change once this returns.
    ///
    /// # Safety
    /// There is room for them, which nothing but this stream uses.
    pub unsafe fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        let mut staging = self.staging.lock();
        for (i, bytes) in bytes.chunks(BUFFER).enumerate() {
            let buffer = staging.next(self)?;
            let staged = &mut buffer.bytes.as_mut_slice().w()?[..bytes.len()];
            staged
                .par_chunks_mut(PIECE)
                .zip(bytes.par_chunks(PIECE))
                .for_each(|(to, from)| to.copy_from_slice(from));
            let to = to + (i * BUFFER) as Address;
            // SAFETY: the buffer stays as it is until `read` has happened; the caller's for `to`.
            unsafe { result::memcpy_htod_async(to, staged, self.stream.cu_stream()) }.w()?;
            buffer.read.record(&self.stream).w()?;
        }
        Ok(())
    }
}

/// The elements whose bytes these are, on the card: [n] in `dtype`.
pub fn upload(bytes: &[u8], dtype: DType, device: &Device) -> Result<Tensor> {
    let size = dtype.size_in_bytes();
    if !bytes.len().is_multiple_of(size) {
        bail!("{} bytes are no whole elements of {dtype:?}", bytes.len())
    }
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    let out = unwritten(&gpu, bytes.len() / size, dtype)?;
    // SAFETY: it has as many bytes.
    unsafe { gpu.upload(bytes, at(&out)?.0)? };
    Ok(out)
}
