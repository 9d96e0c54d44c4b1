//! What goes to the card before a step, and comes back behind it.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, PinnedHostSlice};
use candle_core::{Result, bail};
use rayon::prelude::*;

use super::inputs::Inputs;
use super::model::{Dims, StepModel};
use crate::kernels::cuda::card::Gpu;
use crate::kernels::cuda::layout::Address;
use crate::kernels::plan::Span;

/// A step's inputs and scores, on both sides.
pub struct Exchange {
    pub gpu: Arc<Gpu>,
    pub inputs: Inputs,
    /// Rows of the embedding, and of the output.
    words: usize,
    vocabulary: usize,
    host: PinnedHostSlice<u32>,
    host_logits: PinnedHostSlice<f32>,
    on_card: CudaSlice<u32>,
    /// [rows, vocabulary]
    logits: CudaSlice<f32>,
}

impl Exchange {
    /// Memory for a model's step of up to `dims.rows` rows.
    pub fn new(gpu: Arc<Gpu>, model: &StepModel<'_>, dims: &Dims) -> Result<Self> {
        let inputs = Inputs::new(model, dims);
        let scores = dims.rows * dims.vocabulary;
        let context = gpu.stream.context();
        // SAFETY: the inputs are written below and in `run`, the scores by the card before they are read.
        let (mut host, host_logits, on_card, logits) = unsafe {
            (
                context.alloc_pinned_with_flags::<u32>(inputs.len, 0).w()?,
                context.alloc_pinned_with_flags::<f32>(scores, 0).w()?,
                gpu.stream.alloc(inputs.len).w()?,
                gpu.stream.alloc(scores).w()?,
            )
        };
        inputs.begin(host.as_mut_slice().w()?, dims, &model.frequencies);
        Ok(Exchange {
            inputs,
            words: model.embedding.address()?.rows as usize,
            vocabulary: dims.vocabulary,
            host,
            host_logits,
            on_card,
            logits,
            gpu,
        })
    }

    /// Where the inputs lie on the card, and where the scores are to go.
    pub fn addresses(&self) -> (Address, Address) {
        let stream = &self.gpu.stream;
        let (inputs, logits) = (&self.on_card, &self.logits);
        (inputs.device_ptr(stream).0, logits.device_ptr(stream).0)
    }

    /// The scores of the next token of each sequence after one more token each, f32, [rows][vocabulary], which `launch` has the
    /// card compute. There are as many tokens, spans and positions, and no more than the memory is for.
    ///
    /// # Errors
    /// A span is not one token with pages for all its entries, or the card fails.
    pub fn run(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        launch: impl FnOnce(&Gpu) -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let words = self.host.as_mut_slice().w()?;
        for (row, span) in spans.iter().enumerate() {
            if ids[row] as usize >= self.words {
                bail!("token {} of {}", ids[row], self.words)
            }
            self.inputs
                .put(words, row, ids[row], positions[row], span)?;
        }
        let stream = &self.gpu.stream;
        stream.memcpy_htod(&self.host, &mut self.on_card).w()?;
        launch(&self.gpu)?;
        let scores = ids.len() * self.vocabulary;
        let logits = self.logits.slice(..scores);
        stream.memcpy_dtoh(&logits, &mut self.host_logits).w()?;
        stream.synchronize().w()?;
        let logits = &self.host_logits.as_slice().w()?[..scores];
        let rows = logits.chunks(self.vocabulary);
        // Half a megabyte each: for two, waking threads takes as long.
        if rows.len() <= 2 {
            return Ok(rows.map(<[f32]>::to_vec).collect());
        }
        let rows = logits.par_chunks(self.vocabulary);
        Ok(rows.map(<[f32]>::to_vec).collect())
    }
}
