//! A step, and running it.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, PinnedHostSlice};
use candle_core::{Result, bail};

use super::inputs::Inputs;
use super::memory::Memory;
use crate::kernels::cache::Arena;
use crate::kernels::cuda::card::{Gpu, Launch, at, params};
use crate::kernels::cuda::layout::StepAddresses;
use crate::kernels::cuda::layout::step::MOST;
use crate::kernels::plan::Span;

/// A decode step of a certain number of rows.
pub struct Step {
    pub(super) gpu: Arc<Gpu>,
    pub(super) kernel: String,
    pub(super) launch: Launch,
    pub(super) rows: usize,
    /// Rows of the embedding, and of the output.
    pub(super) words: usize,
    pub(super) vocabulary: usize,
    pub(super) inputs: Inputs,
    pub(super) addresses: StepAddresses,
    pub(super) host: PinnedHostSlice<u32>,
    pub(super) host_logits: PinnedHostSlice<f32>,
    pub(super) memory: Memory,
    /// What the kernel reads by address.
    pub(super) _products: CudaSlice<u64>,
}

impl Step {
    /// The most sequences in a step.
    pub const MOST_ROWS: usize = MOST;

    /// Whether it was made for this arena.
    pub fn is_for(&self, arena: &Arena) -> bool {
        at(&arena.data).is_ok_and(|(data, _, _)| data == self.addresses.cache.data)
    }

    /// The scores of the next token of each sequence after one more token each: f32, [rows][vocabulary].
    ///
    /// # Errors
    /// There are not as many tokens, spans and positions as the step's rows, or a span is not one token with pages for all
    /// its entries, or the card fails.
    pub fn run(&mut self, ids: &[u32], spans: &[Span], positions: &[u32]) -> Result<Vec<Vec<f32>>> {
        if ids.len() != self.rows || spans.len() != self.rows || positions.len() != self.rows {
            bail!("a step of {} tokens got {}", self.rows, ids.len())
        }
        let stream = self.gpu.stream.clone();
        let words = self.host.as_mut_slice().w()?;
        for (row, span) in spans.iter().enumerate() {
            if ids[row] as usize >= self.words {
                bail!("token {} of {}", ids[row], self.words)
            }
            self.inputs
                .put(words, row, ids[row], positions[row], span)?;
        }
        stream
            .memcpy_htod(&self.host, &mut self.memory.inputs)
            .w()?;
        // SAFETY: all addresses are of memory that the step or, by its contract, the model and the arena own, as large
        // as the shapes say.
        unsafe {
            self.gpu
                .launch(&self.kernel, self.launch, params![self.addresses])?
        };
        stream
            .memcpy_dtoh(&self.memory.logits, &mut self.host_logits)
            .w()?;
        stream.synchronize().w()?;
        let logits = self.host_logits.as_slice().w()?;
        Ok(logits
            .chunks(self.vocabulary)
            .map(<[f32]>::to_vec)
            .collect())
    }
}
