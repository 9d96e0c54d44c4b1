//! Points of the card's work.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::CudaEvent;
use candle_core::{Device, Result};

use super::gpu::Gpu;

/// All that was asked of a card up to here.
pub struct Event(CudaEvent);

impl Event {
    /// What was asked of `device` so far.
    pub fn record(device: &Device) -> Result<Self> {
        let gpu = Gpu::of(device.as_cuda_device()?)?;
        Ok(Event(gpu.stream.record_event(None).w()?))
    }

    /// Waits until it is computed.
    pub fn wait(self) -> Result<()> {
        self.0.synchronize().w()
    }
}
