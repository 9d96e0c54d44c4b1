//! How long things take on this device, so that slices of other work fit between two tokens.

use std::time::Duration;

/// Running means of what was measured.
pub struct Pace {
    /// One decode step.
    decode: Duration,
    /// One slice of the vision tower.
    vision: Duration,
    /// A row of a long forward pass.
    row: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            decode: Duration::from_millis(10),
            vision: Duration::from_millis(5),
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

    pub fn vision(&mut self, elapsed: Duration) {
        mean(&mut self.vision, elapsed);
    }

    /// The time between two decode steps that other work may take.
    pub fn slice(&self) -> Duration {
        self.decode
    }

    pub fn vision_step(&self) -> Duration {
        self.vision
    }

    /// Rows of a prompt that take about as long as a decode step.
    pub fn prefill_rows(&self) -> usize {
        let rows = self.decode.as_nanos() / self.row.as_nanos().max(1);
        (rows as usize).clamp(16, 512)
    }
}

fn mean(old: &mut Duration, new: Duration) {
    *old = (*old * 7 + new) / 8;
}
