//! Keeps a fault with the job that caused it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use api::{ErrorCode, Failure};

/// Why a piece of work on the model did not come to its end.
pub enum Fault {
    /// The next piece may succeed.
    Job(Failure),
    /// A panic, with its words: nothing that the work wrote can be trusted.
    Panic(String),
    /// The device answers this process no more, whatever is asked of it.
    Lost(String),
}

impl From<candle_core::Error> for Fault {
    fn from(error: candle_core::Error) -> Self {
        let what = error.to_string();
        if is_lost(&what) {
            Fault::Lost(what)
        } else {
            Fault::Job(job_error(&what))
        }
    }
}

/// Runs a piece of work on the model.
pub fn guarded<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, Fault> {
    match catch(work) {
        Ok(result) => result.map_err(Fault::from),
        Err(what) if is_lost(&what) => Err(Fault::Lost(what)),
        Err(what) => Err(Fault::Panic(what)),
    }
}

/// Runs any work; a panic's words if it did.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "unknown".into())
    })
}

/// Whether CUDA has said that the process's context is spoilt. After any of these every later call fails alike, and
/// the driver gives the process no other context (CUDA Runtime API, "error handling": sticky errors).
fn is_lost(what: &str) -> bool {
    const STICKY: [&str; 10] = [
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ASSERT",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    ];
    STICKY.iter().any(|code| what.contains(code))
}

fn job_error(what: &str) -> Failure {
    let lower = what.to_lowercase();
    if lower.contains("out of memory") || lower.contains("out_of_memory") {
        let message = "The device has no memory left for this: try again when others are done, or serve with a smaller --cache-bytes.";
        return Failure::new(ErrorCode::OutOfMemory, message)
            .retry_after(1000.0)
            .detail(what);
    }
    Failure::new(
        ErrorCode::WorkerFailed,
        "The worker failed in the middle of this; it goes on with the next. Try again.",
    )
    .retry_after(0.0)
    .detail(what)
}

/// For the job whose work panicked.
pub fn panicked() -> Failure {
    Failure::new(
        ErrorCode::WorkerFailed,
        "The worker failed in the middle of this and has recovered. Try again.",
    )
    .retry_after(0.0)
}

/// For every job that a lost device leaves behind.
pub fn lost() -> Failure {
    Failure::new(
        ErrorCode::WorkerFailed,
        "The device failed and the server has to start anew: ask again when it is back.",
    )
    .retry_after(5000.0)
}
