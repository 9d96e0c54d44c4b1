//! One conversation alone on the device, step by step as the engine does it.

use candle_core::{Result, Tensor};

use model::glm4v::Model;
use model::kernels::{Arena, PAGE, Span};
use model::prompt::Prompt;

/// A prompt with its answer in the making.
pub struct Solo<'a> {
    model: &'a Model,
    arena: Arena,
    pages: Vec<u32>,
    /// Entries of the prompt.
    entries: usize,
    /// Positions that it takes.
    used: usize,
}

impl<'a> Solo<'a> {
    /// With room for a prompt and an answer of so many tokens.
    ///
    /// # Errors
    /// The device has no room for it.
    pub fn new(model: &'a Model, prompt: &Prompt, most: usize) -> Result<Self> {
        let entries = prompt.entries().len();
        let pages = (entries + most).div_ceil(PAGE);
        Ok(Solo {
            model,
            arena: model.arena(pages)?,
            pages: (0..pages as u32).collect(),
            entries,
            used: prompt.used(),
        })
    }

    /// Where its entries' keys and values are.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// `len` of its entries, from `start` on.
    pub fn span(&self, start: usize, len: usize) -> Span {
        Span {
            start,
            len,
            pages: self.pages.clone(),
        }
    }

    /// Scores of the first token behind the prompt, whose picture is `vectors` [rows, hidden].
    ///
    /// # Errors
    /// The device's.
    pub fn prefill(&self, prompt: &Prompt, vectors: Option<&Tensor>) -> Result<Vec<f32>> {
        let x = self.model.embed(prompt, vectors)?;
        self.forward(x, 0, prompt.positions(0..self.entries))
    }

    /// Scores of the next token behind the answer's `at`th, from 0, which is `id`.
    ///
    /// # Errors
    /// The device's.
    pub fn next(&self, id: u32, at: usize) -> Result<Vec<f32>> {
        let x = self.model.decoder.embed(&[id])?;
        self.forward(x, self.entries + at, &[(self.used + at) as u32])
    }

    fn forward(&self, x: Tensor, start: usize, positions: &[u32]) -> Result<Vec<f32>> {
        let spans = vec![self.span(start, positions.len())];
        let hidden = self.model.forward(x, spans, positions, &self.arena, &[0])?;
        Ok(self.model.logits(&hidden)?.remove(0))
    }
}
