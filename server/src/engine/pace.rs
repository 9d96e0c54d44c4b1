//! How long things take on this device, so that slices of other work fit between two tokens.

use std::time::Duration;

use crate::glm4v::Encoding;

/// What was measured.
#[derive(Default)]
pub struct Pace {
    /// One decode step.
    decode: Mean,
    /// A row of each kind of the vision tower's stages.
    vision_rows: [Mean; Encoding::KINDS],
    /// A row of a long forward pass.
    row: Mean,
}

/// A running mean.
#[derive(Clone, Copy, Default)]
struct Mean(Option<Duration>);

impl Mean {
    fn add(&mut self, new: Duration) {
        self.0 = Some(self.0.map_or(new, |old| (old * 7 + new) / 8));
    }

    /// `guess`: as long as nothing was measured.
    fn or(self, guess: Duration) -> Duration {
        self.0.unwrap_or(guess)
    }
}

/// A row of a forward pass, as long as none was measured.
const ROW: Duration = Duration::from_micros(50);

/// Smaller slices cost more than they are worth.
const LEAST: usize = 8;

impl Pace {
    /// With nobody decoding a stage of looking at a picture is computed in one piece.
    pub const WHOLE: usize = usize::MAX;

    /// With nobody decoding a prompt is computed in pieces of so many rows, for all slots together: enough to keep a device
    /// busy, and a bound to the memory that a long one takes.
    pub const PREFILL: usize = 2048;

    /// A forward pass took `elapsed` for `rows` rows; `decode`: each slot had one.
    pub fn forward(&mut self, elapsed: Duration, rows: usize, decode: bool) {
        if decode {
            self.decode.add(elapsed);
        } else if rows >= LEAST {
            self.row.add(elapsed / rows as u32);
        }
    }

    /// A slice of a stage of the vision tower took `elapsed` for `rows` rows.
    pub fn vision(&mut self, kind: usize, elapsed: Duration, rows: usize) {
        if rows >= LEAST {
            self.vision_rows[kind].add(elapsed / rows as u32);
        }
    }

    /// Rows of a stage of the vision tower that take a good half of a decode step.
    pub fn vision_rows(&self, kind: usize) -> usize {
        self.rows_in_a_step(self.vision_rows[kind].or(Duration::from_micros(20)))
    }

    /// Rows of a prompt that take a good half of a decode step, as far as rows are what takes the time: a card reads all
    /// weights for however few, so that [`Pace::prefill`] is better there.
    pub fn prefill_rows(&self) -> usize {
        self.rows_in_a_step(self.row.or(ROW))
    }

    /// How a prompt's next `rows` rows are computed in slices that take a good half of a decode step: all of them, so many of
    /// the model's `layers` at a time, if a layer of them takes no longer; otherwise fewer rows, and all layers.
    pub fn prefill(&self, rows: usize, layers: usize) -> (usize, usize) {
        let layer = self.row.or(ROW) * rows as u32 / layers.max(1) as u32;
        let slice = self.slice();
        if layer > slice {
            return (self.prefill_rows().min(rows), layers);
        }
        let most = slice.as_nanos() / layer.as_nanos().max(1);
        (rows, usize::try_from(most).unwrap_or(layers).min(layers))
    }

    /// What a slice may take.
    fn slice(&self) -> Duration {
        self.decode.or(Duration::from_millis(10)) * 3 / 5
    }

    fn rows_in_a_step(&self, row: Duration) -> usize {
        let rows = self.slice().as_nanos() / row.as_nanos().max(1);
        usize::try_from(rows).unwrap_or(Self::WHOLE).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_layers_where_rows_are_cheap_and_rows_where_they_are_not() {
        let ms = Duration::from_millis;
        let mut card = Pace::default();
        card.forward(ms(5), 1, true);
        card.forward(ms(40), 1600, false); // 25 µs a row, a layer of 40 takes 1 ms
        assert_eq!(card.prefill(1600, 40), (1600, 3));
        assert_eq!(card.prefill(16, 40), (16, 40));
        let mut cpu = Pace::default();
        cpu.forward(ms(1), 1, true);
        cpu.forward(ms(16), 160, false); // 100 µs a row, a layer of 4 takes 4 ms
        assert_eq!(cpu.prefill(160, 4), (8, 4));
    }
}
