//! Points of a device's work.

use candle_core::{Device, Result};

/// All that was asked of a device up to some moment. A card works through what it is asked for in its own time; the
/// processor has computed everything when a call returns.
pub struct Mark {
    #[cfg(feature = "cuda")]
    event: Option<super::cuda::Event>,
}

impl Mark {
    /// What was asked of `device` so far.
    pub fn set(device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        return Ok(Mark {
            event: match device.is_cuda() {
                true => Some(super::cuda::Event::record(device)?),
                false => None,
            },
        });
        #[cfg(not(feature = "cuda"))]
        {
            let _ = device;
            Ok(Mark {})
        }
    }

    /// Waits until it is computed.
    pub fn wait(self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(event) = self.event {
            return event.wait();
        }
        Ok(())
    }
}
