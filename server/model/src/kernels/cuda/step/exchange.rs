//! What goes to the card before a step, and comes back behind it.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, PinnedHostSlice};
use candle_core::{Result, bail};

use super::inputs::Inputs;
use super::model::{Dims, StepModel};
use crate::kernels::cuda::card::Gpu;
use crate::kernels::cuda::layout::Address;
use crate::kernels::cuda::scores::ScoreReader;
use crate::kernels::plan::Span;
use crate::scores::{Scores, Wanted};

/// A step's inputs and scores, on both sides.
pub struct Exchange {
    pub gpu: Arc<Gpu>,
    pub inputs: Inputs,
    /// Rows of the embedding, and of the output.
    words: usize,
    host: PinnedHostSlice<u32>,
    on_card: CudaSlice<u32>,
    /// [rows, vocabulary]
    logits: CudaSlice<f32>,
    reader: ScoreReader,
}

impl Exchange {
    /// Memory for a model's step of up to `dims.rows` rows.
    pub fn new(gpu: Arc<Gpu>, model: &StepModel<'_>, dims: &Dims) -> Result<Self> {
        let inputs = Inputs::new(model, dims);
        let scores = dims.rows * dims.vocabulary;
        let context = gpu.stream.context();
        // SAFETY: the inputs are written below and in `run`, the scores by the card before they are read.
        let (mut host, on_card, logits) = unsafe {
            (
                context.alloc_pinned_with_flags::<u32>(inputs.len, 0).w()?,
                gpu.stream.alloc(inputs.len).w()?,
                gpu.stream.alloc(scores).w()?,
            )
        };
        inputs.begin(host.as_mut_slice().w()?, dims, &model.frequencies);
        Ok(Exchange {
            inputs,
            words: model.embedding.address()?.rows as usize,
            host,
            on_card,
            logits,
            reader: ScoreReader::new(&gpu, dims.rows, dims.vocabulary)?,
            gpu,
        })
    }

    /// Where the inputs lie on the card, and where the scores are to go.
    pub fn addresses(&self) -> (Address, Address) {
        let stream = &self.gpu.stream;
        let (inputs, logits) = (&self.on_card, &self.logits);
        (inputs.device_ptr(stream).0, logits.device_ptr(stream).0)
    }

    /// What is wanted of the scores of the first sequences' next tokens after one more token each, which `launch` has the card compute.
    /// There are as many tokens, spans and positions, and no more than the memory is for.
    ///
    /// # Errors
    /// A span is not one token with pages for all its entries, or the card fails.
    pub fn run(
        &mut self,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        wanted: &[Wanted],
        launch: impl FnOnce(&Gpu) -> Result<()>,
    ) -> Result<Vec<Scores>> {
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
        let logits = self.logits.device_ptr(stream).0;
        // SAFETY: the scores of all rows lie there, which are as many as what is wanted of them.
        unsafe { self.reader.read(logits, wanted) }
    }
}
