//! Where the model runs and in which type it computes.

use std::str::FromStr;

use candle_core::{DType, Device};

use crate::glm4v::LoadError;

/// `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A card where there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => s
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| format!("{s:?} is not one of auto, cpu, cuda:N")),
        }
    }
}

/// `--dtype`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DTypeChoice {
    /// bf16 on CUDA, f32 on the CPU.
    #[default]
    Auto,
    F32,
    BF16,
    F16,
}

impl FromStr for DTypeChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "auto" => DTypeChoice::Auto,
            "f32" => DTypeChoice::F32,
            "bf16" => DTypeChoice::BF16,
            "f16" => DTypeChoice::F16,
            _ => return Err(format!("{s:?} is not one of auto, f32, bf16, f16")),
        })
    }
}

/// A device and the one type that everything on it computes in.
#[derive(Clone, Debug)]
pub struct Target {
    pub device: Device,
    pub dtype: DType,
}

impl Target {
    pub fn choose(device: DeviceChoice, dtype: DTypeChoice) -> Result<Self, LoadError> {
        let cuda = |ordinal| {
            Device::new_cuda(ordinal).map_err(|e| {
                LoadError(format!("the card cuda:{ordinal} can't be used ({e}): check the driver, or use --device cpu"))
            })
        };
        let device = match device {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(_) if !candle_core::utils::cuda_is_available() => {
                return Err(LoadError(
                    "this binary was built without CUDA: build it with --features cuda, or use --device cpu".into(),
                ));
            }
            DeviceChoice::Cuda(ordinal) => cuda(ordinal)?,
            DeviceChoice::Auto if candle_core::utils::cuda_is_available() => {
                cuda(0).unwrap_or(Device::Cpu)
            }
            DeviceChoice::Auto => Device::Cpu,
        };
        let dtype = match dtype {
            DTypeChoice::Auto if device.is_cuda() => DType::BF16,
            DTypeChoice::Auto | DTypeChoice::F32 => DType::F32,
            DTypeChoice::BF16 => DType::BF16,
            DTypeChoice::F16 => DType::F16,
        };
        Ok(Target { device, dtype })
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
