//! Decode steps on a card: made once for each number of sequences.

use parking_lot::Mutex;

use super::decoder::Decoder;
use crate::kernels::cuda::Step;
use crate::kernels::{Arena, Span};

/// The steps of a model; `None` where there can't be one.
pub struct Steps {
    /// How long a sequence can get in the cache.
    most_entries: usize,
    made: Mutex<[Option<Option<Step>>; Step::MOST_ROWS]>,
}

impl Steps {
    /// No steps yet, for sequences of at most so many cache entries.
    pub fn new(most_entries: usize) -> Self {
        Steps {
            most_entries,
            made: Mutex::default(),
        }
    }

    /// The scores of each sequence's next token, or `None` if this is no decode step that a card has kernels for.
    pub fn run(
        &self,
        decoder: &Decoder,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        arena: &Arena,
    ) -> candle_core::Result<Option<Vec<Vec<f32>>>> {
        let rows = spans.len();
        let decodes = (1..=Step::MOST_ROWS).contains(&rows) && spans.iter().all(|s| s.len == 1);
        if !decodes {
            return Ok(None);
        }
        let made = &mut self.made.lock()[rows - 1];
        // The arena is another after the worker has recovered from a fault.
        let stale = matches!(made, Some(Some(step)) if !step.is_for(arena));
        if made.is_none() || stale {
            let parts = decoder.step(self.most_entries);
            let step = parts
                .map(|parts| Step::new(&parts, rows, arena))
                .transpose()?;
            *made = Some(step.flatten());
        }
        let Some(Some(step)) = made else {
            return Ok(None);
        };
        step.run(ids, spans, positions).map(Some)
    }
}
