//! Decode steps on a card: made once for each small number of sequences, and once for all larger ones.

use candle_core::Tensor;
use parking_lot::Mutex;

use super::decoder::Decoder;
use crate::kernels::cuda::{ManyStep, ScoreReader, Step};
use crate::kernels::{Arena, Span};
use crate::scores::{Chosen, Scores, Wanted};

/// The steps of a model; `None` where there can't be one.
pub struct Steps {
    /// How long a sequence can get in the cache.
    most_entries: usize,
    few: Mutex<[Option<Option<Step>>; Step::MOST_ROWS]>,
    many: Mutex<Option<Option<ManyStep>>>,
    reader: Mutex<Option<ScoreReader>>,
}

impl Steps {
    /// No steps yet, for sequences of at most so many cache entries.
    pub fn new(most_entries: usize) -> Self {
        Steps {
            most_entries,
            few: Mutex::default(),
            many: Mutex::default(),
            reader: Mutex::default(),
        }
    }

    /// What is wanted of a table of scores that came of another pass: f32, [rows, vocabulary].
    pub fn read(&self, table: &Tensor, wanted: &[Wanted]) -> candle_core::Result<Vec<Scores>> {
        let mut reader = self.reader.lock();
        let reader = match reader.take().filter(|reader| reader.fits(table)) {
            Some(fitting) => reader.insert(fitting),
            None => reader.insert(ScoreReader::of(table)?),
        };
        reader.read_table(table, wanted)
    }

    /// What is chosen of the scores of each sequence's next token, or `None` if this is no decode step that a card has kernels for.
    pub fn run(
        &self,
        decoder: &Decoder,
        ids: &[u32],
        spans: &[Span],
        positions: &[u32],
        arena: &Arena,
        chosen: &[Chosen],
    ) -> candle_core::Result<Option<Vec<Scores>>> {
        let rows = spans.len();
        let in_order = chosen.iter().map(|chosen| chosen.span).eq(0..chosen.len());
        if !in_order || !spans.iter().all(|span| span.len == 1) {
            return Ok(None);
        }
        let wanted: Vec<Wanted> = chosen.iter().map(|chosen| chosen.wanted).collect();
        match rows {
            1..=Step::MOST_ROWS => {
                let made = &mut self.few.lock()[rows - 1];
                // The arena is another after the worker has recovered from a fault.
                if matches!(made, Some(Some(step)) if !step.is_for(arena)) {
                    *made = None;
                }
                let step = made_once(made, || match decoder.step(self.most_entries) {
                    Some(parts) => Step::new(&parts, rows, arena),
                    None => Ok(None),
                })?;
                step.map(|step| step.run(ids, spans, positions, &wanted))
                    .transpose()
            }
            ..=ManyStep::MOST_ROWS if rows > 0 => {
                let made = &mut self.many.lock();
                if matches!(&**made, Some(Some(step)) if !step.is_for(arena)) {
                    **made = None;
                }
                let step = made_once(made, || match decoder.step(self.most_entries) {
                    Some(parts) => ManyStep::new(&parts, arena),
                    None => Ok(None),
                })?;
                step.map(|step| step.run(ids, spans, positions, &wanted))
                    .transpose()
            }
            _ => Ok(None),
        }
    }
}

/// What there is, made at the first call; `None` where there can't be one.
fn made_once<S>(
    made: &mut Option<Option<S>>,
    make: impl FnOnce() -> candle_core::Result<Option<S>>,
) -> candle_core::Result<Option<&mut S>> {
    let step = match made.take() {
        Some(step) => step,
        None => make()?,
    };
    Ok(made.insert(step).as_mut())
}
