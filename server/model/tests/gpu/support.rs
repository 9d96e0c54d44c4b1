//! The card, random inputs, and how far a result may be off.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};
use glimpse_model::device::{Choice, Dtype, Target};
use glimpse_model::kernels::cuda::{Hopper, use_hopper};

/// The card with the type that it computes in by default, or `None` and a word why.
pub fn card() -> Option<Device> {
    match Target::choose(Choice::Cuda(0), Dtype::Auto) {
        Ok(target) => Some(target.device),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// While it lives, Hopper's kernels are used as was said, and no other test can say otherwise.
pub struct WithHopper {
    _alone: MutexGuard<'static, ()>,
}

pub fn with_hopper(when: Hopper) -> WithHopper {
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    use_hopper(when);
    WithHopper { _alone }
}

impl Drop for WithHopper {
    fn drop(&mut self) {
        use_hopper(Hopper::WhereFast);
    }
}

pub const TYPES: [DType; 3] = [DType::BF16, DType::F16, DType::F32];

/// What a value of this type may be off, relative to its size and 1, when it was rounded once or twice.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.6e-2,
        DType::F16 => 2e-3,
        _ => 1e-5,
    }
}

/// Normal values, rounded to `dtype`, on the card; and the same in double precision.
pub fn random(
    shape: &[usize],
    deviation: f64,
    dtype: DType,
    device: &Device,
) -> (Tensor, Vec<f64>) {
    let x = Tensor::randn(0f32, deviation as f32, shape, &Device::Cpu).unwrap();
    let x = x.to_dtype(dtype).unwrap();
    let values = values(&x);
    (x.to_device(device).unwrap(), values)
}

pub fn values(x: &Tensor) -> Vec<f64> {
    let x = x
        .to_device(&Device::Cpu)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// Leaves memory full of NaN where the next results of up to `n` elements are likely to come: what is not written shows.
pub fn poison(n: usize, dtype: DType, device: &Device) {
    let poisons: Vec<_> = (0..3)
        .map(|_| {
            Tensor::full(f32::NAN, n, device)
                .unwrap()
                .to_dtype(dtype)
                .unwrap()
        })
        .collect();
    drop(poisons);
}

/// Every value within `tolerance` of what it must be.
pub fn close(what: &str, got: &[f64], exact: &[f64], tolerance: f64) {
    assert_eq!(got.len(), exact.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(exact).enumerate() {
        let off = (g - e).abs() / (1.0 + e.abs());
        assert!(
            off <= tolerance,
            "{what}: element {i} is {g}, and should be {e}"
        );
    }
}
