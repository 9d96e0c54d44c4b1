//! A forward pass's batch: any number of sequences, each with its new entries, prefill and decode side by side.

#[cfg(feature = "cuda")]
use std::any::Any;
use std::sync::{Arc, OnceLock};

use candle_core::{Result, bail};

use super::cache::PAGE;
use super::cpu::angles;
use super::rotary::Rotary;

/// The new entries of one sequence in a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Entries in the cache before these.
    pub start: usize,
    /// New entries.
    pub len: usize,
    /// The pages of the sequence, enough for `start + len` entries.
    pub pages: Vec<u32>,
}

/// What a forward pass needs to know of its batch, made once and used by every layer.
#[derive(Clone)]
pub struct Plan(pub(super) Arc<PlanInner>);

pub(super) struct PlanInner {
    pub(super) spans: Vec<Span>,
    /// Row of the span's first entry in the batch.
    pub(super) first_rows: Vec<usize>,
    /// Positions of the new entries, one number for each axis of each.
    pub(super) positions: Vec<u32>,
    /// Frequencies of the rotary embedding, one for each pair.
    pub(super) frequencies: Vec<f64>,
    pub(super) rows: usize,
    pub(super) pairs: usize,
    /// [rows, pairs]; made at the first use, since a card makes its own.
    angles: OnceLock<Vec<(f32, f32)>>,
    /// What a card makes of the plan at its first use there.
    #[cfg(feature = "cuda")]
    pub(super) on_card: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl PlanInner {
    pub(super) fn angles(&self) -> &[(f32, f32)] {
        self.angles
            .get_or_init(|| angles(&self.frequencies, &self.positions))
    }
}

impl Plan {
    /// `positions` holds one for each new entry, span after span.
    pub fn new(spans: Vec<Span>, positions: &[u32], rotary: &Rotary) -> Result<Self> {
        let mut first_rows = Vec::with_capacity(spans.len());
        let mut rows = 0;
        for span in &spans {
            first_rows.push(rows);
            rows += span.len;
            if span.pages.len() * PAGE < span.start + span.len {
                bail!(
                    "{} pages do not hold {} entries",
                    span.pages.len(),
                    span.start + span.len
                )
            }
        }
        if rows != positions.len() {
            bail!("{rows} entries have {} positions", positions.len())
        }
        Ok(Plan(Arc::new(PlanInner {
            first_rows,
            rows,
            pairs: rotary.inverse_frequencies.len(),
            positions: positions.to_vec(),
            frequencies: rotary.inverse_frequencies.clone(),
            angles: OnceLock::new(),
            #[cfg(feature = "cuda")]
            on_card: OnceLock::new(),
            spans,
        })))
    }

    /// New entries in all.
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// The row of each span's last entry.
    pub fn last_rows(&self) -> Vec<u32> {
        let plan = &self.0;
        plan.first_rows
            .iter()
            .zip(&plan.spans)
            .map(|(first, span)| (first + span.len - 1) as u32)
            .collect()
    }
}
