//! What changes from step to step, and how it lies in the one piece that is copied to the card.

use candle_core::{Result, bail};

use super::model::{Dims, StepModel};
use crate::kernels::cache::PAGE;
use crate::kernels::cuda::layout::step::HEADS;
use crate::kernels::cuda::layout::{Address, PlanAddresses, SpanWords};
use crate::kernels::plan::Span;

/// Where each part of the inputs begins, in words.
#[derive(Clone, Copy)]
pub struct Inputs {
    /// Zero, for the card to count its meetings with.
    pub arrived: usize,
    pub ids: usize,
    positions: usize,
    spans: usize,
    row_spans: usize,
    tiles: usize,
    frequencies: usize,
    pages: usize,
    /// Pages that each row has room for.
    row_pages: usize,
    /// Words in all.
    pub len: usize,
}

impl Inputs {
    /// The inputs of a model's step, part behind part.
    pub fn new(model: &StepModel<'_>, dims: &Dims) -> Self {
        let (rows, row_pages) = (dims.rows, model.most_entries.div_ceil(PAGE) + 1);
        let mut len = 0;
        let mut part = |words: usize| {
            len += words;
            len - words
        };
        let inputs = Inputs {
            arrived: part(1),
            ids: part(rows),
            positions: part(rows),
            spans: part(4 * rows),
            row_spans: part(rows),
            tiles: part(2 * dims.tiles()),
            frequencies: part(model.frequencies.len()),
            pages: part(rows * row_pages),
            row_pages,
            len: 0,
        };
        Inputs { len, ..inputs }
    }

    /// Where a pass's plan lies, if the inputs begin at `first`; with so many pairs of a head that rotate.
    pub fn plan(&self, first: Address, pairs: usize) -> PlanAddresses {
        let word = |at: usize| first + 4 * at as Address;
        PlanAddresses {
            spans: word(self.spans),
            pages: word(self.pages),
            positions: word(self.positions),
            row_spans: word(self.row_spans),
            tiles: word(self.tiles),
            frequencies: word(self.frequencies),
            pairs: pairs as i32,
        }
    }

    /// Writes what is the same in every step.
    pub fn begin(&self, words: &mut [u32], dims: &Dims, frequencies: &[f32]) {
        words.fill(0);
        let row_tiles = dims.row_tiles();
        for row in 0..dims.rows {
            words[self.row_spans + row] = row as u32;
            for tile in 0..row_tiles {
                let at = self.tiles + 2 * (row * row_tiles + tile);
                words[at] = row as u32;
                words[at + 1] = (tile * HEADS) as u32;
            }
        }
        let to = words[self.frequencies..].iter_mut();
        for (word, frequency) in to.zip(frequencies) {
            *word = frequency.to_bits();
        }
    }

    /// Writes a row's token, its position, and where its sequence lies.
    ///
    /// # Errors
    /// The span is not one token with pages for all its entries.
    pub fn put(
        &self,
        words: &mut [u32],
        row: usize,
        id: u32,
        position: u32,
        span: &Span,
    ) -> Result<()> {
        let used = (span.start + 1).div_ceil(PAGE);
        if span.len != 1 || used > span.pages.len() || used > self.row_pages {
            bail!("a step of one token got {span:?}")
        }
        words[self.ids + row] = id;
        words[self.positions + row] = position;
        let pages_at = row * self.row_pages;
        let told = SpanWords {
            start: span.start as u32,
            len: 1,
            first_row: row as u32,
            pages_at: pages_at as u32,
        };
        words[self.spans + 4 * row..][..4].copy_from_slice(&told.words());
        words[self.pages + pages_at..][..used].copy_from_slice(&span.pages[..used]);
        Ok(())
    }
}
