//! Sixteen answers at once beside questions and pictures that come, by a clock that what is computed moves on: nobody's tokens
//! come late.

use std::collections::HashMap;
use std::time::Duration;

use super::{Desk, OPENING, Question, key, limits, opening, question};
use crate::scheduler::*;
use crate::step_timings::{Alternation, Beside, StepTimings};

const US: fn(u64) -> Duration = Duration::from_micros;

/// Rows of a picture in all stages of the vision tower, and in each; layers of the decoder.
const TOWER: usize = 600;
const STAGE: usize = 40;
const LAYERS: usize = 4;

/// What a forward pass takes: all weights, each answer's token, each row of a question, and where there is one of these what a card
/// takes longer for a pass that is no step.
fn pass(answers: usize, prompts: usize) -> Duration {
    let no_step = if prompts > 0 { 1000 } else { 0 };
    US(4000 + 250 * answers as u64 + no_step + 75 * prompts as u64)
}

fn tower(rows: usize) -> Duration {
    US(50 * rows as u64)
}

fn prefill(rows: usize, layers: usize) -> Duration {
    US(25 * (rows * layers) as u64)
}

/// A picture that is being encoded: rows and layers that are done.
struct Encoding {
    cached: Cached,
    rows: usize,
    layers: usize,
}

struct Machine {
    desk: Desk,
    timings: StepTimings,
    encoding: Option<Encoding>,
    alternation: Alternation,
    pictures: usize,
    /// When each answer's tokens came.
    told: HashMap<RequestId, Vec<Instant>>,
    /// Answers that the last pass went on with.
    answers: usize,
    /// The longest gap over a step of as many answers, with nothing beside it.
    longest: f64,
}

impl Machine {
    /// One that has warmed up.
    fn new(limits: Limits) -> Self {
        let mut timings = StepTimings::new(1);
        for answers in 1..=limits.slots {
            timings.forward(pass(answers, 0), answers, answers);
        }
        timings.forward(pass(1, 40), 1 + 40, 1);
        timings.vision(0, tower(TOWER), TOWER);
        timings.prefilled(
            prefill(OPENING.into(), LAYERS),
            OPENING.into(),
            LAYERS,
            LAYERS,
        );
        Machine {
            desk: Desk::new(limits),
            timings,
            encoding: None,
            alternation: Alternation::default(),
            pictures: 0,
            told: HashMap::new(),
            answers: 0,
            longest: 0.0,
        }
    }

    /// What the worker's loop does; answers that end with it after so many tokens.
    fn turn(&mut self, tokens: usize) -> Vec<RequestId> {
        let rows = Rows {
            beside_tokens: match self.alternation.take_prompts() {
                true => self.timings.prompt_rows(),
                false => 0,
            },
            alone: StepTimings::PREFILL,
        };
        let turn = self.desk.scheduler.turn(self.desk.now, rows);
        let rows: usize = turn.pieces.iter().map(|piece| piece.span.len).sum();
        let answers = turn
            .pieces
            .iter()
            .filter(|piece| piece.span.len == 1)
            .count();
        let mut ended = Vec::new();
        let step = pass(answers.max(self.answers), 0);
        if rows > 0 {
            self.desk.now += pass(answers, rows - answers);
            self.timings
                .forward(pass(answers, rows - answers), rows, answers);
        }
        for piece in &turn.pieces {
            self.desk.scheduler.computed(piece);
            if piece.is_last {
                let told = self.told.entry(piece.request).or_default();
                if let Some(before) = told.last() {
                    let gap = self.desk.now - *before;
                    self.longest = self.longest.max(gap.as_secs_f64() / step.as_secs_f64());
                }
                told.push(self.desk.now);
                let ends = (told.len() == tokens).then_some(FinishReason::Stop);
                ended.extend(ends.map(|_| piece.request));
                self.desk.say(piece.request, ends);
            }
        }
        self.answers = answers;
        drop(turn);
        let prompts_wait = self.desk.scheduler.has_prompts();
        let may_slice = self
            .alternation
            .may_slice(self.encoding.is_some(), prompts_wait);
        match self.desk.scheduler.is_decoding() {
            true if may_slice => self.encode(Beside::Tokens),
            true => {}
            false => self.encode(Beside::Nothing),
        }
        ended
    }

    fn encode(&mut self, beside: Beside) {
        let Some(mut encoding) = self.encoding.take() else {
            if let Some((_, pages)) = self.desk.scheduler.next_to_encode(OPENING.into()) {
                let entries = opening(0).entries().to_vec();
                let pages = pages.unwrap();
                self.encoding = Some(Encoding {
                    cached: Cached { entries, pages },
                    rows: 0,
                    layers: 0,
                });
            }
            return;
        };
        if encoding.rows < TOWER {
            let (mut slice, before) = (self.timings.slice(beside), encoding.rows);
            while encoding.rows < TOWER
                && let Some(rows) = self.timings.next_rows(&slice, 0, STAGE)
            {
                let rows = rows.min(STAGE - encoding.rows % STAGE);
                self.timings.put(&mut slice, 0, rows);
                encoding.rows += rows;
                if beside == Beside::Nothing {
                    break;
                }
            }
            let took = tower(encoding.rows - before);
            self.desk.now += took;
            self.timings.sliced(slice, took);
        } else {
            let rows = OPENING.into();
            assert_eq!(self.timings.prefill_rows(rows, LAYERS, beside), rows);
            let layers = self.timings.prefill_layers(rows, LAYERS, beside);
            let layers = layers.min(LAYERS - encoding.layers);
            encoding.layers += layers;
            self.desk.now += prefill(rows, layers);
            self.timings
                .prefilled(prefill(rows, layers), rows, layers, LAYERS);
        }
        if encoding.layers < LAYERS {
            self.encoding = Some(encoding);
            return;
        }
        self.pictures += 1;
        let (scheduler, now) = (&mut self.desk.scheduler, self.desk.now);
        scheduler.encoded(encoding.cached, EncodeTimings::default(), now);
    }
}

#[test]
fn nobodys_tokens_come_late_while_others_ask_and_send_pictures() {
    const USERS: u128 = 20;
    const TOKENS: usize = 60;
    let mut machine = Machine::new(Limits {
        slots: 16,
        pages: 400,
        ..limits()
    });
    // Each asks again when answered, every other time about another picture.
    let mut rounds = [0_u8; USERS as usize];
    let mut asked = HashMap::new();
    let mut ask = |machine: &mut Machine, session: u128| {
        let round = &mut rounds[session as usize - 1];
        *round += 1;
        let picture = session as u8 * 10 + *round / 2;
        machine.desk.show(session, picture);
        let about = Question {
            picture: Some(key(picture)),
            ..question(session, 200)
        };
        asked.insert(machine.desk.ask(about), session);
        asked.clone()
    };
    let mut by = HashMap::new();
    for session in 1..=USERS {
        by = ask(&mut machine, session);
    }
    let mut answers = 0;
    while answers < 100 {
        for request in machine.turn(TOKENS) {
            answers += 1;
            by = ask(&mut machine, by[&request]);
        }
    }
    // Pictures are looked at all the while.
    assert!(machine.pictures >= 50, "{} pictures", machine.pictures);
    // No gap is longer than two steps with nothing beside them, nor than two of what is usual.
    assert!(
        machine.longest <= 2.0,
        "a gap of {:.2} steps",
        machine.longest
    );
    for told in machine.told.values().filter(|told| told.len() == TOKENS) {
        let mut gaps: Vec<Duration> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort();
        assert!(gaps[TOKENS - 2] <= 2 * gaps[TOKENS / 2], "{gaps:?}");
    }
}
