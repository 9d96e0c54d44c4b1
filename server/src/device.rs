//! Where the model runs and in which type it computes.

use candle_core::{DType, Device};

use crate::config;
use crate::glm4v::LoadError;
#[cfg(feature = "cuda")]
use crate::kernels;

/// A device and the one type that everything on it computes in.
#[derive(Clone, Debug)]
pub struct Target {
    pub device: Device,
    pub dtype: DType,
}

impl Target {
    pub fn choose(asked: config::Device, dtype: config::Dtype) -> Result<Self, LoadError> {
        let mut why = match asked {
            config::Device::Auto => "a card is there".to_string(),
            _ => "asked for".into(),
        };
        let cuda = |ordinal| card(ordinal).map_err(LoadError);
        let device = match asked {
            config::Device::Cpu => Device::Cpu,
            config::Device::Cuda(_) if !candle_core::utils::cuda_is_available() => {
                return Err(LoadError(
                    "this binary was built without CUDA: build it with --features cuda, or use --device cpu".into(),
                ));
            }
            config::Device::Cuda(ordinal) => cuda(ordinal)?,
            config::Device::Auto if candle_core::utils::cuda_is_available() => match card(0) {
                Ok(device) => device,
                Err(problem) => {
                    why = problem;
                    Device::Cpu
                }
            },
            config::Device::Auto => {
                why = "this binary was built without CUDA".into();
                Device::Cpu
            }
        };
        let dtype = match dtype {
            config::Dtype::Auto if device.is_cuda() => DType::BF16,
            config::Dtype::Auto | config::Dtype::F32 => DType::F32,
            config::Dtype::Bf16 => DType::BF16,
            config::Dtype::F16 => DType::F16,
        };
        let target = Target { device, dtype };
        tracing::info!(
            device = target.device_name(),
            dtype = target.dtype_name(),
            why,
            "computing"
        );
        Ok(target)
    }

    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
            candle_core::DeviceLocation::Cpu => "cpu".into(),
        }
    }

    pub fn dtype_name(&self) -> String {
        self.dtype.as_str().into()
    }

    /// Bytes free for caches.
    pub fn free_memory(&self) -> u64 {
        if let Some((free, _)) = device_memory(&self.device) {
            return free;
        }
        // What the kernel thinks can be had without swapping.
        std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| {
                let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .map_or(1 << 30, |kib| kib * 1024)
    }
}

/// The card of that number, with a stream of its own, or why it can't be used.
#[cfg(feature = "cuda")]
fn card(ordinal: usize) -> Result<Device, String> {
    let failed = |e: candle_core::Error| {
        format!(
            "the card cuda:{ordinal} can't be used ({e}): check the driver, or use --device cpu"
        )
    };
    // Not candle's plain `new_cuda`: its stream is each thread's own, so that two threads would race.
    let device = Device::new_cuda_with_stream(ordinal).map_err(failed)?;
    kernels::cuda::check(&device)?;
    // SAFETY: there is one stream, and so nothing to order by events.
    unsafe {
        device
            .as_cuda_device()
            .map_err(failed)?
            .disable_event_tracking()
    };
    kernels::cuda::keep_memory(&device).map_err(failed)?;
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn card(_ordinal: usize) -> Result<Device, String> {
    Err("this binary was built without CUDA".into())
}

/// Free and total bytes of a device that has memory of its own.
#[cfg(feature = "cuda")]
pub fn device_memory(device: &Device) -> Option<(u64, u64)> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let (free, total) = stream.context().mem_get_info().ok()?;
    Some((free as u64, total as u64))
}

/// Free and total bytes of a device that has memory of its own.
#[cfg(not(feature = "cuda"))]
pub fn device_memory(_device: &Device) -> Option<(u64, u64)> {
    None
}

/// Settles how many threads compute, before the first of them starts: as many as this process may use.
pub fn settle_threads(threads: Option<usize>) -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = threads.unwrap_or(allowed).max(1);
    // Fails only if the pool exists already, which then stays as it is.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("compute-{i}"))
        .build_global();
    threads
}
