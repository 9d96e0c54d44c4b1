//! Where the model runs and in which type it computes.

mod fault;

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

#[cfg(feature = "cuda")]
use crate::kernels;
use crate::{LoadError, Quantize};

pub use fault::DeviceFault;

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU that this build can use, else the CPU.
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            "cuda" => Ok(Choice::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Choice::Cuda)
                .ok_or_else(|| "must be auto, cpu or cuda:N".into()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Cpu => f.write_str("cpu"),
            Choice::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The numbers to compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// bf16 on a card, f32 on the CPU.
    Auto,
    F32,
    Bf16,
    F16,
}

impl Dtype {
    /// All of them, by name.
    pub const NAMES: [&'static str; 4] = ["auto", "f32", "bf16", "f16"];
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::Auto => "auto",
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        })
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Dtype::Auto),
            "f32" => Ok(Dtype::F32),
            "bf16" => Ok(Dtype::Bf16),
            "f16" => Ok(Dtype::F16),
            _ => Err("must be auto, f32, bf16 or f16".into()),
        }
    }
}

/// Cards have 8-bit floats from this compute capability on, times ten.
const FP8_FROM: u32 = 89;

/// A device and the one type that everything on it computes in.
#[derive(Clone, Debug)]
pub struct Target {
    pub device: Device,
    pub dtype: DType,
}

impl Target {
    /// The device that is asked for; of several, the first that can be used.
    ///
    /// # Errors
    /// It can't be used: why, and what to do.
    pub fn choose(asked: Choice, dtype: Dtype) -> Result<Self, LoadError> {
        let (mut devices, why) = devices(asked, dtype, 1)?;
        let target = Target::new(devices.swap_remove(0), dtype)?;
        tell(std::slice::from_ref(&target), &why);
        Ok(target)
    }

    /// All devices that are asked for, at least one. Of several, those that don't have room (`fits`) are left out.
    ///
    /// # Errors
    /// Those of [`Target::choose`].
    pub fn choose_all(
        asked: Choice,
        dtype: Dtype,
        fits: impl Fn(&Target) -> Result<(), LoadError>,
    ) -> Result<Vec<Self>, LoadError> {
        let (devices, mut why) = devices(asked, dtype, usize::MAX)?;
        let targets = devices.into_iter().map(|d| Target::new(d, dtype));
        let targets = with_room(targets.collect::<Result<_, _>>()?, &mut why, fits);
        tell(&targets, &why);
        Ok(targets)
    }

    fn new(device: Device, dtype: Dtype) -> Result<Self, LoadError> {
        let dtype = dtype_on(device.is_cuda(), dtype)?;
        Ok(Target { device, dtype })
    }

    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
            candle_core::DeviceLocation::Cpu => "cpu".into(),
        }
    }

    /// The ways to keep weights that the device knows, the most exact first.
    pub fn ways(&self) -> &'static [Quantize] {
        use Quantize::{Fp8, None, Q4, Q8};
        match self.capability() {
            Some(card) if card >= FP8_FROM => &[None, Q8, Fp8, Q4],
            _ => &[None, Q8, Q4],
        }
    }

    /// Refuses a way to keep weights that the device doesn't know.
    ///
    /// # Errors
    /// Why it doesn't, and what would do.
    pub fn knows(&self, way: Quantize) -> Result<(), LoadError> {
        if self.ways().contains(&way) {
            return Ok(());
        }
        let why = match self.capability() {
            Some(card) => format!(
                "this card, of compute capability {}.{}, has no 8-bit floats; they come with 8.9",
                card / 10,
                card % 10
            ),
            _ => {
                "the processor has no 8-bit floats; cards have them from compute capability 8.9 on"
                    .into()
            }
        };
        Err(LoadError(format!(
            "--quantize {way} can't be had: {why}; use --quantize q8, which takes as much memory and is more exact"
        )))
    }

    /// A card's compute capability, times ten.
    fn capability(&self) -> Option<u32> {
        #[cfg(feature = "cuda")]
        return kernels::cuda::capability(&self.device);
        #[cfg(not(feature = "cuda"))]
        None
    }

    pub fn dtype_name(&self) -> String {
        self.dtype.as_str().into()
    }

    /// Bytes free for caches.
    pub fn free_memory(&self) -> u64 {
        self.known_memory().unwrap_or(1 << 30)
    }

    /// Bytes free, where that can be known.
    pub fn known_memory(&self) -> Option<u64> {
        if let Some((free, _)) = device_memory(&self.device) {
            return Some(free);
        }
        host_memory()
    }
}

/// Bytes free of the host's memory, where that can be known: what the kernel thinks can be had without swapping.
pub fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The type that is asked for, on a card or on the processor.
///
/// # Errors
/// f16 on a card. The processor computes in f32 whatever it keeps the weights in.
fn dtype_on(card: bool, asked: Dtype) -> Result<DType, LoadError> {
    Ok(match asked {
        Dtype::F16 if card => {
            return Err(LoadError(
                "--dtype f16 is not for a card: GLM-4's numbers outgrow its range, and the answers would be noise; leave \
                 --dtype away, or give --dtype bf16, which takes the same memory"
                    .into(),
            ));
        }
        Dtype::Auto if card => DType::BF16,
        Dtype::Auto | Dtype::F32 => DType::F32,
        Dtype::Bf16 => DType::BF16,
        Dtype::F16 => DType::F16,
    })
}

/// What is asked for, at least one and at most `most`, and why these.
fn devices(asked: Choice, dtype: Dtype, most: usize) -> Result<(Vec<Device>, String), LoadError> {
    let built = candle_core::utils::cuda_is_available();
    if let Choice::Cuda(_) = asked {
        // Said whether or not the card is there.
        dtype_on(true, dtype)?;
    }
    Ok(match asked {
        Choice::Cpu => (vec![Device::Cpu], "asked for".into()),
        Choice::Cuda(_) if !built => {
            return Err(LoadError(
                "this binary was built without CUDA: build it with --features cuda, or use --device cpu".into(),
            ));
        }
        Choice::Cuda(ordinal) => (vec![card(ordinal).map_err(LoadError)?], "asked for".into()),
        Choice::Auto if !built => (
            vec![Device::Cpu],
            "this binary was built without CUDA".into(),
        ),
        Choice::Auto => {
            let (mut cards, mut problems) = (Vec::new(), Vec::new());
            // With none, the first one's problem says why.
            for ordinal in 0..count_cards().max(1) {
                match card(ordinal) {
                    Ok(card) => cards.push(card),
                    Err(problem) => problems.push(problem),
                }
                if cards.len() == most {
                    break;
                }
            }
            match cards.len() {
                0 => cards.push(Device::Cpu),
                1 => problems.insert(0, "a card is there".into()),
                n => problems.insert(0, format!("{n} cards are there")),
            }
            (cards, problems.join("; "))
        }
    })
}

/// The targets that have room, of several. If none has, the first stays, whose loading then says what would fit.
fn with_room(
    mut targets: Vec<Target>,
    why: &mut String,
    fits: impl Fn(&Target) -> Result<(), LoadError>,
) -> Vec<Target> {
    if targets.len() == 1 {
        return targets;
    }
    let problems: Vec<_> = targets.iter().map(|t| fits(t).err()).collect();
    if problems.iter().all(Option::is_some) {
        targets.truncate(1);
        return targets;
    }
    let mut kept = Vec::new();
    for (target, problem) in targets.into_iter().zip(problems) {
        match problem {
            None => kept.push(target),
            Some(problem) => *why += &format!("; not {}: {problem}", target.device_name()),
        }
    }
    kept
}

/// Logs what was taken.
fn tell(targets: &[Target], why: &str) {
    let names: Vec<_> = targets.iter().map(Target::device_name).collect();
    tracing::info!(
        device = names.join(", "),
        dtype = targets.first().map(Target::dtype_name),
        why,
        "computing"
    );
}

/// How many cards the driver knows.
#[cfg(feature = "cuda")]
fn count_cards() -> usize {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    CudaContext::device_count().map_or(0, |n| usize::try_from(n).unwrap_or(0))
}

#[cfg(not(feature = "cuda"))]
fn count_cards() -> usize {
    0
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

/// Tells the log what is taken of a device's memory, and what was in use at most since it was last told.
#[cfg(feature = "cuda")]
pub fn tell_memory(device: &Device, when: &str) {
    if !device.is_cuda() || !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let mb = |bytes: u64| bytes / 1_000_000;
    let Ok(pool) = kernels::cuda::pool_use(device) else {
        return;
    };
    let card = device_memory(device).map(|(free, total)| mb(total - free));
    let (reserved, used, most_used) = (mb(pool.reserved), mb(pool.used), mb(pool.most_used));
    tracing::debug!(card, reserved, used, most_used, "memory in MB {when}");
}

/// Tells the log what is taken of a device's memory, and what was in use at most since it was last told.
#[cfg(not(feature = "cuda"))]
pub fn tell_memory(_device: &Device, _when: &str) {}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_without_room_are_left_out_but_for_the_last_resort() {
        let targets = |dtypes: &[DType]| -> Vec<Target> {
            let device = Device::Cpu;
            let target = |dtype: &DType| Target {
                device: device.clone(),
                dtype: *dtype,
            };
            dtypes.iter().map(target).collect()
        };
        let only_f32 = |target: &Target| match target.dtype {
            DType::F32 => Ok(()),
            _ => Err(LoadError("too small".into())),
        };
        let kept = |dtypes: &[DType]| -> (Vec<DType>, String) {
            let mut why = "because".to_string();
            let kept = with_room(targets(dtypes), &mut why, only_f32);
            (kept.iter().map(|t| t.dtype).collect(), why)
        };
        let (f32, f16, because) = (DType::F32, DType::F16, "because".to_string());
        assert_eq!(kept(&[f32, f32]), (vec![f32, f32], because.clone()));
        let one_left_out = "because; not cpu: too small".to_string();
        assert_eq!(kept(&[f16, f32]), (vec![f32], one_left_out));
        assert_eq!(kept(&[f16, f16]), (vec![f16], because.clone()));
        assert_eq!(kept(&[f16]), (vec![f16], because));
    }

    #[test]
    fn f16_is_refused_on_a_card() {
        let refused = dtype_on(true, Dtype::F16).unwrap_err().to_string();
        assert!(refused.contains("--dtype bf16"), "{refused}");
        let asked = Target::choose(Choice::Cuda(0), Dtype::F16).unwrap_err();
        assert_eq!(asked.to_string(), refused);
        let on_card = [Dtype::Auto, Dtype::F32, Dtype::Bf16].map(|it| dtype_on(true, it).unwrap());
        assert_eq!(on_card, [DType::BF16, DType::F32, DType::BF16]);
        let all = [Dtype::Auto, Dtype::F32, Dtype::Bf16, Dtype::F16];
        let on_cpu = all.map(|it| dtype_on(false, it).unwrap());
        assert_eq!(on_cpu, [DType::F32, DType::F32, DType::BF16, DType::F16]);
    }

    #[test]
    fn choices_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert!("cuda:x".parse::<Choice>().is_err());
        for name in Dtype::NAMES {
            assert_eq!(name.parse::<Dtype>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn the_processor_refuses_8_bit_floats_and_says_what_would_do() {
        let target = Target::choose(Choice::Cpu, Dtype::Auto).unwrap();
        for way in [Quantize::None, Quantize::Q8, Quantize::Q4] {
            assert!(target.knows(way).is_ok());
        }
        let refused = target.knows(Quantize::Fp8).unwrap_err().to_string();
        for part in ["--quantize fp8", "8.9", "--quantize q8"] {
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn the_processor_is_one_device() {
        let none = |_: &Target| Err(LoadError("too small".into()));
        let all = Target::choose_all(Choice::Cpu, Dtype::Auto, none).unwrap();
        let [only] = &all[..] else { panic!("{all:?}") };
        assert_eq!((only.device_name(), only.dtype), ("cpu".into(), DType::F32));
    }
}
