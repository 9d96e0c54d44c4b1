//! How long things take on this device, so that slices of other work fit between two tokens.

use std::time::Duration;

use crate::glm4v::Encoding;

/// Running means of what was measured.
pub struct Pace {
    /// One decode step.
    decode: Duration,
    /// A row of each kind of the vision tower's stages.
    vision_rows: [Duration; Encoding::KINDS],
    /// A row of a long forward pass.
    row: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            decode: Duration::from_millis(10),
            vision_rows: [Duration::from_micros(20); Encoding::KINDS],
            row: Duration::from_micros(50),
        }
    }
}

impl Pace {
    /// With nobody decoding a prompt is computed in one piece.
    pub const WHOLE: usize = usize::MAX;

    /// A forward pass took `elapsed` for `rows` rows; `decode`: each slot had one.
    pub fn forward(&mut self, elapsed: Duration, rows: usize, decode: bool) {
        if decode {
            mean(&mut self.decode, elapsed);
        } else if rows >= 16 {
            mean(&mut self.row, elapsed / rows as u32);
        }
    }

    /// A slice of a stage of the vision tower took `elapsed` for `rows` rows.
    pub fn vision(&mut self, kind: usize, elapsed: Duration, rows: usize) {
        if rows >= 16 {
            mean(&mut self.vision_rows[kind], elapsed / rows as u32);
        }
    }

    /// Rows of a stage of the vision tower that take about as long as a decode step.
    pub fn vision_rows(&self, kind: usize) -> usize {
        self.rows_in_a_step(self.vision_rows[kind])
    }

    /// Rows of a prompt that take about as long as a decode step.
    pub fn prefill_rows(&self) -> usize {
        self.rows_in_a_step(self.row)
    }

    fn rows_in_a_step(&self, row: Duration) -> usize {
        let rows = self.decode.as_nanos() / row.as_nanos().max(1);
        usize::try_from(rows).unwrap_or(Self::WHOLE).max(16)
    }
}

fn mean(old: &mut Duration, new: Duration) {
    *old = (*old * 7 + new) / 8;
}
