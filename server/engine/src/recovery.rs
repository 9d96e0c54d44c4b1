//! What becomes of the others when work fails: a fault stays with its own job, and costs the others their cache at most.

use crate::encoder::Failed;
use crate::executor::Executor;
use crate::failures::panicked;
use crate::guard::{Fault, guarded};
use crate::worker::Worker;

/// PanicCount since the last turn that came to its end.
#[derive(Default)]
pub struct PanicCount(usize);

impl PanicCount {
    /// PanicCount in a row that no single job can be blamed for, before everything open is given up.
    const MOST: usize = 8;

    /// One more; whether everything has to be given up.
    fn count(&mut self) -> bool {
        self.0 += 1;
        let is_enough = self.0 > Self::MOST;
        if is_enough {
            self.0 = 0;
        }
        is_enough
    }
}

impl<E: Executor> Worker<E> {
    /// Recovers from what went wrong in a turn, if anything did.
    ///
    /// # Errors
    /// The device is lost, or its memory is not to be had any more: what it said.
    pub(super) fn recover(&mut self, fault: Option<Fault>) -> Result<(), String> {
        match fault {
            None => self.panics = PanicCount::default(),
            Some(Fault::Job(_)) => {}
            Some(Fault::Lost(what)) => return Err(what),
            Some(Fault::Panic(what)) => {
                tracing::error!(panic = %what, "the worker panicked and starts its cache anew");
                if self.panics.count() {
                    self.scheduler.fail_all(&panicked());
                }
                self.scheduler.renew(Some(&panicked()));
                self.drop_lost();
                self.renew()?;
            }
        }
        Ok(())
    }

    /// Ends the picture that was encoded, and whoever waits for it.
    pub(super) fn encode_failed(&mut self, failed: Failed) -> Result<(), Fault> {
        let Failed { key, fault } = failed;
        let failure = match fault {
            Fault::Job(failure) => failure,
            Fault::Lost(_) => return Err(fault),
            Fault::Panic(what) => {
                tracing::error!(panic = %what, "the worker panicked over a picture and starts its cache anew");
                self.scheduler.encode_failed(key, &panicked());
                self.scheduler.renew(None);
                return self.renew().map_err(Fault::Lost);
            }
        };
        self.scheduler.encode_failed(key, &failure);
        Ok(())
    }

    /// Nothing on the device is trusted after a panic. One that is lost says so now, whatever the panic was about.
    fn renew(&mut self) -> Result<(), String> {
        self.encoder.clear();
        match guarded(|| self.executor.renew()) {
            Ok(()) => Ok(()),
            Err(Fault::Lost(what) | Fault::Panic(what)) => Err(what),
            Err(Fault::Job(failure)) => Err(failure.detail.unwrap_or(failure.message)),
        }
    }
}
