//! How long things take on this device, so that slices of other work fit between two tokens.

use std::time::Duration;

/// What was measured.
pub struct StepTimings {
    /// One decode step.
    decode: Mean,
    /// A row of each kind of the vision tower's stages.
    vision_rows: Vec<Mean>,
    /// A row of a picture's prefill, through all layers.
    picture_row: Mean,
    /// What a row of a prompt adds to a decode step. Apart from a picture's: a card reads all weights for however few rows.
    prompt_row: Mean,
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

impl StepTimings {
    /// No measurements yet, for a vision tower with `kinds` kinds of stages.
    pub fn new(kinds: usize) -> Self {
        StepTimings {
            decode: Mean::default(),
            vision_rows: vec![Mean::default(); kinds],
            picture_row: Mean::default(),
            prompt_row: Mean::default(),
        }
    }

    /// Rows of a vision stage that are computed together while nobody decodes: all.
    pub const WHOLE: usize = usize::MAX;

    /// Rows of prompts that are computed together while nobody decodes, of all slots: enough to keep a device busy, and a
    /// bound to the memory that a long prompt takes.
    pub const PREFILL: usize = 2048;

    /// A forward pass took `elapsed` for `rows` rows; `decode`: each slot had one.
    pub fn forward(&mut self, elapsed: Duration, rows: usize, decode: bool) {
        if decode {
            self.decode.add(elapsed);
        } else if rows >= LEAST {
            // However noisy the two times, rows are never for nothing.
            let added = elapsed.saturating_sub(self.decode_step());
            self.prompt_row.add(added.max(elapsed / 16) / rows as u32);
        }
    }

    /// `layers` of all layers of a picture's prefill took `elapsed` for `rows` rows.
    pub fn prefilled(&mut self, elapsed: Duration, rows: usize, layers: usize, all: usize) {
        if rows >= LEAST && layers > 0 {
            self.picture_row
                .add(elapsed * all as u32 / (rows * layers) as u32);
        }
    }

    /// A slice of a stage of the vision tower took `elapsed` for `rows` rows.
    pub fn vision(&mut self, kind: usize, elapsed: Duration, rows: usize) {
        if rows >= LEAST {
            self.vision_rows[kind].add(elapsed / rows as u32);
        }
    }

    /// One decode step, in milliseconds; 0 before the first.
    pub fn token_ms(&self) -> f64 {
        self.decode.0.map_or(0.0, |step| step.as_secs_f64() * 1e3)
    }

    /// How many of a vision tower's stage's `rows` are computed together, in slices of one size that take a good half of a
    /// decode step at most: a card knows best how to multiply sizes that it had before.
    pub fn vision_rows(&self, kind: usize, rows: usize) -> usize {
        let most = self.rows_in_a_step(self.vision_rows[kind].or(Duration::from_micros(20)));
        rows.div_ceil(rows.div_ceil(most).max(1))
    }

    /// Rows of a prompt that a decode step takes along for a good half of its time.
    pub fn prompt_rows(&self) -> usize {
        self.rows_in_a_step(self.prompt_row.or(ROW))
    }

    /// How many of a picture's next `rows` entries are computed together, in slices that take a good half of a decode step:
    /// all of them, unless even one of the model's `layers` takes longer.
    pub fn prefill_rows(&self, rows: usize, layers: usize) -> usize {
        self.rows_in_a_step(self.picture_row.or(ROW) / layers.max(1) as u32)
            .min(rows)
    }

    /// How many of the `layers` of a pass over `rows` rows take a good half of a decode step; at least one.
    pub fn prefill_layers(&self, rows: usize, layers: usize) -> usize {
        let layer = self.picture_row.or(ROW) * rows as u32 / layers.max(1) as u32;
        let most = self.slice().as_nanos() / layer.as_nanos().max(1);
        usize::try_from(most)
            .unwrap_or(layers)
            .clamp(1, layers.max(1))
    }

    fn decode_step(&self) -> Duration {
        self.decode.or(Duration::from_millis(10))
    }

    /// What a slice may take.
    fn slice(&self) -> Duration {
        self.decode_step() * 3 / 5
    }

    fn rows_in_a_step(&self, row: Duration) -> usize {
        let rows = self.slice().as_nanos() / row.as_nanos().max(1);
        usize::try_from(rows).unwrap_or(Self::WHOLE).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const US: fn(u64) -> Duration = Duration::from_micros;

    #[test]
    fn a_picture_goes_layer_by_layer_as_many_rows_as_a_layer_has_time_for() {
        let mut card = StepTimings::new(4);
        card.forward(MS(5), 1, true);
        card.prefilled(MS(40), 1600, 40, 40); // 25 µs a row, a layer takes 1 ms
        assert_eq!(card.prefill_rows(1600, 40), 1600);
        assert_eq!(card.prefill_layers(1600, 40), 3);
        assert_eq!(card.prefill_layers(16, 40), 40);
        let mut cpu = StepTimings::new(4);
        cpu.forward(MS(1), 1, true);
        cpu.prefilled(MS(16), 160, 4, 4); // 100 µs a row, a layer of all takes 4 ms
        assert_eq!(cpu.prefill_rows(160, 4), 24);
        assert_eq!(cpu.prefill_layers(24, 4), 1);
        // A slice of few layers says as much as a whole pass.
        cpu.prefilled(US(600), 24, 1, 4);
        assert_eq!(cpu.prefill_rows(160, 4), 24);
    }

    #[test]
    fn a_stage_goes_in_slices_of_one_size() {
        let mut timings = StepTimings::new(4);
        timings.forward(MS(5), 1, true);
        timings.vision(1, US(1920), 6400); // 0.3 µs a row: all take less than a slice may
        assert_eq!(timings.vision_rows(1, 6401), 6401);
        timings.vision(2, MS(8), 6400); // 1.25 µs
        assert_eq!(timings.vision_rows(2, 6401), 2134);
        // However the mean moves meanwhile.
        timings.vision(2, US(8100), 6400);
        assert_eq!(timings.vision_rows(2, 6401), 2134);
        assert_eq!(timings.vision_rows(2, 5), 5);
    }

    #[test]
    fn questions_say_nothing_of_pictures() {
        let mut card = StepTimings::new(4);
        card.forward(MS(5), 1, true);
        card.prefilled(MS(40), 1600, 40, 40);
        for _ in 0..100 {
            card.forward(US(6700), 20, false); // all weights for twenty rows
        }
        assert_eq!(card.prefill_rows(1600, 40), 1600);
        assert_eq!(card.prefill_layers(1600, 40), 3);
        // Such a question goes along with one decode step, not in several.
        assert!(card.prompt_rows() >= 20);
        // What takes no longer than a decode step is still not for nothing.
        for _ in 0..100 {
            card.forward(MS(4), 20, false);
        }
        assert!(card.prompt_rows() < 1000);
    }

    #[test]
    fn where_rows_take_the_time_a_prompt_goes_in_pieces() {
        let mut cpu = StepTimings::new(4);
        cpu.forward(US(860), 1, true);
        cpu.forward(MS(16), 160, false);
        assert_eq!(cpu.prompt_rows(), LEAST);
    }
}
