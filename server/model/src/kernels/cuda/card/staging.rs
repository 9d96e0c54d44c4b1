//! The way up from the host's memory: through a few buffers that the card reads by itself, so that copying into one goes
//! on while another is read.

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result};
use rayon::prelude::*;

use crate::kernels::cuda::layout::Address;

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
    fn next(&mut self, stream: &CudaStream) -> Result<&mut Buffer> {
        let context = stream.context();
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

    /// Copies `bytes` to `to`, by all threads. They may change once this returns.
    ///
    /// # Safety
    /// There is room for them, which nothing but `stream` uses.
    pub unsafe fn upload(&mut self, stream: &CudaStream, bytes: &[u8], to: Address) -> Result<()> {
        for (i, bytes) in bytes.chunks(BUFFER).enumerate() {
            let buffer = self.next(stream)?;
            let staged = &mut buffer.bytes.as_mut_slice().w()?[..bytes.len()];
            staged
                .par_chunks_mut(PIECE)
                .zip(bytes.par_chunks(PIECE))
                .for_each(|(to, from)| to.copy_from_slice(from));
            let to = to + (i * BUFFER) as Address;
            // SAFETY: the buffer stays as it is until `read` has happened; the caller's for `to`.
            unsafe { result::memcpy_htod_async(to, staged, stream.cu_stream()) }.w()?;
            buffer.read.record(stream).w()?;
        }
        Ok(())
    }
}
