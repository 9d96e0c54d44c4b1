//! A step, and running it.

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{Result, bail};

use super::exchange::Exchange;
use super::memory::Memory;
use crate::kernels::cache::Arena;
use crate::kernels::cuda::card::{Launch, at, params};
use crate::kernels::cuda::layout::StepAddresses;
use crate::kernels::cuda::layout::step::MOST;
use crate::kernels::plan::Span;
use crate::scores::{Scores, Wanted};

/// A decode step of a certain number of rows.
pub struct Step {
    pub(super) exchange: Exchange,
    pub(super) kernel: String,
    pub(super) launch: Launch,
    pub(super) rows: usize,
    pub(super) addresses: StepAddresses,
    /// What the kernel works in and reads by address.
    pub(super) _memory: Memory,
    pub(super) _products: CudaSlice<u64>,
}

impl Step {
    /// The most sequences in a step.
    pub const MOST_ROWS: usize = MOST;

    /// Whether it was made for this arena.
    pub fn is_for(&self, arena: &Arena) -> bool {
        at(&arena.data).is_ok_and(|(data, _, _)| data == self.addresses.cache.data)
    }

    /// What is wanted of the scores of the first sequences' next tokens, after one more token each.
    ///
    /// # Errors
    /// There are not as many tokens, spans and positions as the step's rows, or more is wanted, or a span is not one token with pages for all
    /// its entries, or the card fails.
    pub fn run(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        wanted: &[Wanted],
    ) -> Result<Vec<Scores>> {
        if ids.len() != self.rows
            || spans.len() != self.rows
            || positions.len() != self.rows
            || wanted.len() > self.rows
        {
            bail!("a step of {} tokens got {}", self.rows, ids.len())
        }
        let (kernel, launch, addresses) = (&self.kernel, self.launch, self.addresses);
        self.exchange.run(ids, spans, positions, wanted, |gpu| {
            // SAFETY: all addresses are of memory that the step or, by its contract, the model and the arena own, as large
            // as the shapes say.
            unsafe { gpu.launch(kernel, launch, params![addresses]) }
        })
    }
}
