//! Keeps a fault with the job that caused it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use api::Failure;
use model::device::DeviceFault;

use crate::failures::{failed, out_of_memory};
use crate::scheduler::CacheFull;

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
        match DeviceFault::of(&error) {
            Some(DeviceFault::Lost) => Fault::Lost(what),
            Some(DeviceFault::OutOfMemory) => Fault::Job(out_of_memory(what)),
            None => Fault::Job(failed(what)),
        }
    }
}

impl From<CacheFull> for Fault {
    fn from(full: CacheFull) -> Self {
        Fault::Job(out_of_memory(full.to_string()))
    }
}

/// Runs a piece of work on the model.
pub fn guarded<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, Fault> {
    match catch(work) {
        Ok(result) => result.map_err(Fault::from),
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
