//! How long things take on this device, so that slices of other work fit between two tokens.

use std::time::Duration;

/// What a slice of a picture is beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody is in the middle of an answer: there is nobody whom a slice could hold up.
    Nothing,
    /// The next tokens of answers.
    Tokens,
}

/// Slices of pictures and pieces of questions: between two tokens there is one or the other, by turns where both wait.
#[derive(Default)]
pub struct Alternation {
    /// There was a slice since the last pass.
    sliced: bool,
}

impl Alternation {
    /// Whether the next pass takes pieces of questions along.
    pub fn take_prompts(&self) -> bool {
        !self.sliced
    }

    /// Whether a slice may follow the pass that was just computed, if there is one to compute: not if questions had to wait for the
    /// last slice.
    pub fn may_slice(&mut self, is_slice: bool, prompts_wait: bool) -> bool {
        let may = !(self.sliced && prompts_wait);
        self.sliced = may && is_slice;
        may
    }
}

/// What was measured.
pub struct StepTimings {
    /// A decode step of one answer, of two, and so on.
    decode: Vec<Mean>,
    /// Answers that the last forward pass went on with.
    answers: usize,
    /// A row of each kind of the vision tower's stages.
    vision_rows: Vec<Mean>,
    /// A row of a picture's prefill, through all layers.
    picture_row: Mean,
    /// What a row of a prompt adds to a decode step. Apart from a picture's: a card reads all weights for however few rows.
    prompt_row: Mean,
}

/// A slice of encoding a picture, which is filled with parts of stages.
pub struct Slice {
    /// How long it may take.
    most: Duration,
    /// Of each part the kind of its stage, its rows, and how long they are to take.
    parts: Vec<(usize, usize, Duration)>,
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

/// A row of a forward pass, and of the vision tower, as long as none was measured.
const ROW: Duration = Duration::from_micros(50);
const VISION_ROW: Duration = Duration::from_micros(20);

/// Smaller slices cost more than they are worth.
const LEAST: usize = 8;

impl StepTimings {
    /// No measurements yet, for a vision tower with `kinds` kinds of stages.
    pub fn new(kinds: usize) -> Self {
        StepTimings {
            decode: Vec::new(),
            answers: 1,
            vision_rows: vec![Mean::default(); kinds],
            picture_row: Mean::default(),
            prompt_row: Mean::default(),
        }
    }

    /// Rows of prompts that are computed together while nobody decodes, of all slots: enough to keep a device busy, and a
    /// bound to the memory that a long prompt takes.
    pub const PREFILL: usize = 2048;

    /// A forward pass took `elapsed` for `rows` rows, of which so many were the only ones of their answers.
    pub fn forward(&mut self, elapsed: Duration, rows: usize, answers: usize) {
        self.answers = answers.max(1);
        let prompts = rows - answers;
        if prompts == 0 {
            if self.decode.len() < answers {
                self.decode.resize_with(answers, Mean::default);
            }
            self.decode[answers - 1].add(elapsed);
        } else if prompts >= LEAST {
            // However noisy the two times, rows are never for nothing.
            let added = elapsed.saturating_sub(self.decode_step());
            self.prompt_row
                .add(added.max(elapsed / 16) / prompts as u32);
        }
    }

    /// `layers` of all layers of a picture's prefill took `elapsed` for `rows` rows.
    pub fn prefilled(&mut self, elapsed: Duration, rows: usize, layers: usize, all: usize) {
        if rows >= LEAST && layers > 0 {
            self.picture_row
                .add(elapsed * all as u32 / (rows * layers) as u32);
        }
    }

    /// `rows` rows of a stage of the vision tower took `elapsed`.
    pub fn vision(&mut self, kind: usize, elapsed: Duration, rows: usize) {
        if rows >= LEAST {
            self.vision_rows[kind].add(elapsed / rows as u32);
        }
    }

    /// A slice in which nothing is yet.
    pub fn slice(&self, beside: Beside) -> Slice {
        Slice {
            most: self.longest(beside),
            parts: Vec::new(),
        }
    }

    /// How many rows of the stage at hand, which has `rows` in all, go into a slice next; `None` if it is full.
    pub fn next_rows(&self, slice: &Slice, kind: usize, rows: usize) -> Option<usize> {
        let next = self.even_rows(kind, rows, slice.most);
        let taken: Duration = slice.parts.iter().map(|(_, _, time)| *time).sum();
        let all = taken.saturating_add(self.vision_time(kind, next));
        (slice.parts.is_empty() || all <= slice.most).then_some(next)
    }

    /// So many rows of a stage were put into a slice.
    pub fn put(&self, slice: &mut Slice, kind: usize, rows: usize) {
        slice.parts.push((kind, rows, self.vision_time(kind, rows)));
    }

    /// What is in a slice took `elapsed` together.
    pub fn sliced(&mut self, slice: Slice, elapsed: Duration) {
        let expected: Duration = slice.parts.iter().map(|(_, _, time)| *time).sum();
        let off = elapsed.as_secs_f64() / expected.as_secs_f64().max(1e-9);
        for (kind, rows, time) in slice.parts {
            self.vision(kind, time.mul_f64(off), rows);
        }
    }

    fn vision_time(&self, kind: usize, rows: usize) -> Duration {
        self.vision_rows[kind].or(VISION_ROW) * rows as u32
    }

    /// One decode step, in milliseconds; 0 before the first.
    pub fn token_ms(&self) -> f64 {
        self.measured().map_or(0.0, |step| step.as_secs_f64() * 1e3)
    }

    /// How many of a vision tower's stage's `rows` are computed together, in parts of one size that take no longer than `most`: a
    /// card knows best how to multiply sizes that it had before.
    fn even_rows(&self, kind: usize, rows: usize, most: Duration) -> usize {
        let most = rows_in(most, self.vision_rows[kind].or(VISION_ROW));
        rows.div_ceil(rows.div_ceil(most).max(1))
    }

    /// Rows of all prompts that a decode step takes along.
    pub fn prompt_rows(&self) -> usize {
        self.rows_in_a_slice(self.prompt_row.or(ROW), Beside::Tokens)
    }

    /// How many of a picture's next `rows` entries are computed together, in slices: all of them, unless even one of the model's
    /// `layers` takes longer.
    pub fn prefill_rows(&self, rows: usize, layers: usize, beside: Beside) -> usize {
        self.rows_in_a_slice(self.picture_row.or(ROW) / layers.max(1) as u32, beside)
            .min(rows)
    }

    /// How many of the `layers` of a pass over `rows` rows a slice takes; at least one.
    pub fn prefill_layers(&self, rows: usize, layers: usize, beside: Beside) -> usize {
        let layer = self.picture_row.or(ROW) * rows as u32 / layers.max(1) as u32;
        let most = self.longest(beside).as_nanos() / layer.as_nanos().max(1);
        usize::try_from(most)
            .unwrap_or(layers)
            .clamp(1, layers.max(1))
    }

    /// A decode step of as many answers as there were last; of fewer or else of more, where that was never measured.
    fn measured(&self) -> Option<Duration> {
        let (fewer, more) = self.decode.split_at(self.answers.min(self.decode.len()));
        let nearest = fewer.iter().rev().chain(more);
        nearest.filter_map(|step| step.0).next()
    }

    fn decode_step(&self) -> Duration {
        self.measured().unwrap_or(Duration::from_millis(10))
    }

    /// What a slice may take, or pieces of questions: most of a decode step, so that no token comes later than after two.
    fn longest(&self, beside: Beside) -> Duration {
        match beside {
            Beside::Nothing => Duration::MAX,
            Beside::Tokens => self.decode_step() * 4 / 5,
        }
    }

    fn rows_in_a_slice(&self, row: Duration, beside: Beside) -> usize {
        rows_in(self.longest(beside), row)
    }
}

fn rows_in(time: Duration, row: Duration) -> usize {
    let rows = time.as_nanos() / row.as_nanos().max(1);
    usize::try_from(rows).unwrap_or(usize::MAX).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const US: fn(u64) -> Duration = Duration::from_micros;

    #[test]
    fn a_picture_goes_layer_by_layer_as_many_rows_as_a_layer_has_time_for() {
        let mut card = StepTimings::new(4);
        card.forward(MS(5), 1, 1);
        card.prefilled(MS(40), 1600, 40, 40); // 25 µs a row, a layer takes 1 ms
        assert_eq!(card.prefill_rows(1600, 40, Beside::Tokens), 1600);
        assert_eq!(card.prefill_layers(1600, 40, Beside::Tokens), 4);
        assert_eq!(card.prefill_layers(16, 40, Beside::Tokens), 40);
        let mut cpu = StepTimings::new(4);
        cpu.forward(MS(1), 1, 1);
        cpu.prefilled(MS(16), 160, 4, 4); // 100 µs a row, a layer of all takes 4 ms
        assert_eq!(cpu.prefill_rows(160, 4, Beside::Tokens), 32);
        assert_eq!(cpu.prefill_layers(24, 4, Beside::Tokens), 1);
        // A slice of few layers says as much as a whole pass.
        cpu.prefilled(US(600), 24, 1, 4);
        assert_eq!(cpu.prefill_rows(160, 4, Beside::Tokens), 32);
    }

    #[test]
    fn a_stage_goes_in_slices_of_one_size() {
        let mut timings = StepTimings::new(4);
        timings.forward(MS(5), 1, 1);
        timings.vision(1, US(1920), 6400); // 0.3 µs a row: all take less than a slice may
        let first = |timings: &StepTimings, kind, rows| {
            timings.next_rows(&timings.slice(Beside::Tokens), kind, rows)
        };
        assert_eq!(first(&timings, 1, 6401), Some(6401));
        timings.vision(2, MS(8), 6400); // 1.25 µs
        assert_eq!(first(&timings, 2, 6401), Some(2134));
        // However the mean moves meanwhile.
        timings.vision(2, US(8100), 6400);
        assert_eq!(first(&timings, 2, 6401), Some(2134));
        assert_eq!(first(&timings, 2, 5), Some(5));
    }

    #[test]
    fn a_slice_takes_stages_until_its_time_is_full() {
        let mut timings = StepTimings::new(4);
        timings.forward(MS(10), 1, 1); // a slice may take 7 ms
        timings.vision(1, MS(1), 100);
        timings.vision(2, MS(2), 100);
        let mut slice = timings.slice(Beside::Tokens);
        for kind in [1, 2, 1, 2] {
            assert_eq!(timings.next_rows(&slice, kind, 100), Some(100));
            timings.put(&mut slice, kind, 100);
        }
        assert_eq!(timings.next_rows(&slice, 1, 100), Some(100));
        timings.put(&mut slice, 1, 100);
        assert_eq!(timings.next_rows(&slice, 2, 100), None);
        // It took half as long again as expected, and so did each part.
        timings.sliced(slice, US(10_500));
        let next = timings.slice(Beside::Tokens);
        let row = |timings: &StepTimings, kind| timings.vision_time(kind, 1);
        assert!(row(&timings, 1) > US(10) && row(&timings, 1) < US(15));
        assert!(row(&timings, 2) > US(20) && row(&timings, 2) < US(30));
        assert_eq!(timings.next_rows(&next, 2, 100), Some(100));
    }

    #[test]
    fn questions_say_nothing_of_pictures() {
        let mut card = StepTimings::new(4);
        card.forward(MS(5), 1, 1);
        card.prefilled(MS(40), 1600, 40, 40);
        for _ in 0..100 {
            card.forward(US(6700), 20, 0); // all weights for twenty rows
        }
        assert_eq!(card.prefill_rows(1600, 40, Beside::Tokens), 1600);
        assert_eq!(card.prefill_layers(1600, 40, Beside::Tokens), 4);
        // Such a question goes along with one decode step, not in several.
        assert!(card.prompt_rows() >= 20);
        // What takes no longer than a decode step is still not for nothing.
        for _ in 0..100 {
            card.forward(MS(4), 20, 0);
        }
        assert!(card.prompt_rows() < 1000);
    }

    #[test]
    fn where_rows_take_the_time_a_prompt_goes_in_pieces() {
        let mut cpu = StepTimings::new(4);
        cpu.forward(US(860), 1, 1);
        cpu.forward(MS(16), 160, 0);
        assert_eq!(cpu.prompt_rows(), LEAST);
    }

    #[test]
    fn a_slice_is_as_long_as_the_step_of_as_many_answers() {
        let mut timings = StepTimings::new(4);
        for (answers, ms) in [(1, 4), (2, 5), (16, 8)] {
            timings.forward(MS(ms), answers, answers);
        }
        let rows = |timings: &StepTimings| timings.rows_in_a_slice(US(10), Beside::Tokens);
        assert_eq!(rows(&timings), 640);
        // From one step to the next, not in the mean of many.
        timings.forward(MS(4), 1, 1);
        assert_eq!(rows(&timings), 320);
        // Of five answers no step was measured: that of two.
        timings.forward(MS(12), 5 + 40, 5);
        assert_eq!(rows(&timings), 400);
        assert_eq!(timings.token_ms(), 5.0);
    }

    #[test]
    fn pictures_and_questions_go_by_turns() {
        let mut timings = StepTimings::new(4);
        timings.forward(MS(10), 2, 2);
        timings.forward(MS(18), 2 + 80, 2); // 100 µs a row
        timings.vision(1, MS(10), 100);
        assert_eq!(timings.prompt_rows(), 80);
        let first = |beside| timings.next_rows(&timings.slice(beside), 1, 600);
        assert_eq!(first(Beside::Tokens), Some(75));
        assert_eq!(first(Beside::Nothing), Some(600));
        let mut turns = Alternation::default();
        // A picture alone: a slice after every pass, none of which takes questions along.
        for _ in 0..3 {
            assert!(turns.may_slice(true, false) && !turns.take_prompts());
        }
        // A question comes, has waited for a slice, and goes next.
        assert!(!turns.may_slice(true, true) && turns.take_prompts());
        assert!(turns.may_slice(true, true) && !turns.take_prompts());
        assert!(!turns.may_slice(true, true) && turns.take_prompts());
        // No picture any more.
        for _ in 0..3 {
            assert!(turns.may_slice(false, true) && turns.take_prompts());
        }
    }
}
