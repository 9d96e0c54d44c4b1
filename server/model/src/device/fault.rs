//! What went wrong with a device, told from its errors by their types.

use std::fmt;

/// Why a device did not do what it was asked, where that says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// The device has no memory left for this.
    OutOfMemory,
    /// The device answers this process no more, whatever is asked of it.
    Lost,
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceFault::OutOfMemory => "the device has no memory left",
            DeviceFault::Lost => "the device is lost",
        })
    }
}

impl std::error::Error for DeviceFault {}

impl From<DeviceFault> for candle_core::Error {
    fn from(fault: DeviceFault) -> Self {
        candle_core::Error::Cuda(Box::new(fault))
    }
}

impl DeviceFault {
    /// What is behind an error, by its type; `None` where it is nothing of the device's.
    pub fn of(error: &candle_core::Error) -> Option<Self> {
        use candle_core::Error as E;
        match error {
            E::WithBacktrace { inner, .. }
            | E::WithPath { inner, .. }
            | E::Context { inner, .. } => Self::of(inner),
            E::Cuda(error) => match error.downcast_ref() {
                Some(fault) => Some(*fault),
                None => of_card(error.as_ref()),
            },
            _ => None,
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn of_card(_error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<DeviceFault> {
    None
}

#[cfg(feature = "cuda")]
fn of_card(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<DeviceFault> {
    use candle_core::cuda_backend::CudaError;
    use candle_core::cuda_backend::cudarc::{cublas, cublaslt};
    use cublas::sys::cublasStatus_t as Status;
    use cublaslt::sys::cublasStatus_t as LtStatus;
    if let Some(cublaslt::result::CublasError(status)) = error.downcast_ref() {
        return (*status == LtStatus::CUBLAS_STATUS_ALLOC_FAILED)
            .then_some(DeviceFault::OutOfMemory);
    }
    match error.downcast_ref()? {
        CudaError::Cuda(error) | CudaError::Load { cuda: error, .. } => of_driver(*error),
        CudaError::Cublas(cublas::result::CublasError(status)) => {
            (*status == Status::CUBLAS_STATUS_ALLOC_FAILED).then_some(DeviceFault::OutOfMemory)
        }
        _ => None,
    }
}

/// After any of those that lose the device every later call fails alike, and the driver gives the process no other context
/// (CUDA Runtime API, "error handling": sticky errors).
#[cfg(feature = "cuda")]
fn of_driver(error: candle_core::cuda_backend::cudarc::driver::DriverError) -> Option<DeviceFault> {
    use candle_core::cuda_backend::cudarc::driver::sys::CUresult as Result;
    match error.0 {
        Result::CUDA_ERROR_OUT_OF_MEMORY => Some(DeviceFault::OutOfMemory),
        Result::CUDA_ERROR_ILLEGAL_ADDRESS
        | Result::CUDA_ERROR_LAUNCH_FAILED
        | Result::CUDA_ERROR_LAUNCH_TIMEOUT
        | Result::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | Result::CUDA_ERROR_MISALIGNED_ADDRESS
        | Result::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | Result::CUDA_ERROR_INVALID_PC
        | Result::CUDA_ERROR_HARDWARE_STACK_ERROR
        | Result::CUDA_ERROR_ASSERT
        | Result::CUDA_ERROR_ECC_UNCORRECTABLE
        | Result::CUDA_ERROR_CONTEXT_IS_DESTROYED => Some(DeviceFault::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_an_error_is_told_by_its_type() {
        for fault in [DeviceFault::OutOfMemory, DeviceFault::Lost] {
            let error = candle_core::Error::from(fault)
                .context("in the middle")
                .bt();
            assert_eq!(DeviceFault::of(&error.with_path("somewhere")), Some(fault));
        }
        let words = candle_core::Error::msg("CUDA_ERROR_OUT_OF_MEMORY, they say");
        assert_eq!(DeviceFault::of(&words), None);
    }

    /// Errors as the driver and its libraries tell them.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_cards_errors_are_told_by_their_type() {
        use candle_core::cuda_backend::WrapErr;
        use candle_core::cuda_backend::cudarc::driver::{DriverError, sys::CUresult};
        for (result, fault) in [
            (
                CUresult::CUDA_ERROR_OUT_OF_MEMORY,
                Some(DeviceFault::OutOfMemory),
            ),
            (
                CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
                Some(DeviceFault::Lost),
            ),
            (CUresult::CUDA_ERROR_INVALID_VALUE, None),
        ] {
            let error = Err::<(), _>(DriverError(result)).w().unwrap_err();
            assert_eq!(DeviceFault::of(&error.context("of a card")), fault);
        }
    }
}
