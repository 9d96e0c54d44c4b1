//! A picture that is looked at: through the tower stage by stage, then through the decoder layer by layer.

use std::collections::VecDeque;

use api::PictureKey;
use engine::scheduler::{Page, Scheduler};
use engine::step_timings::{Beside, StepTimings};

use crate::card::{Card, StageTimes};

/// Pictures whose vectors a worker keeps, as the engine does.
const KEPT: usize = 8;

/// How far a picture is in the tower.
#[derive(Clone, Copy, Debug)]
pub struct Tower {
    stages: usize,
    /// Rows left of the stage at hand, and of each stage.
    rows: usize,
    of_stage: usize,
}

impl Tower {
    pub fn new(card: &Card) -> Self {
        Tower {
            stages: card.tower_stages,
            rows: card.stage_rows,
            of_stage: card.stage_rows,
        }
    }

    pub fn is_done(&self) -> bool {
        self.stages == 0
    }

    /// What goes into a slice, and what that takes, in nanoseconds.
    pub fn slice(&mut self, timings: &StepTimings, times: &StageTimes, beside: Beside) -> u64 {
        let mut slice = timings.slice(beside);
        let mut all = 0;
        while !self.is_done()
            && let Some(most) = timings.next_rows(&slice, 0, self.of_stage)
        {
            let rows = most.min(self.rows);
            timings.put(&mut slice, 0, rows);
            all += rows as u64;
            self.rows -= rows;
            if self.rows == 0 {
                self.stages -= 1;
                self.rows = self.of_stage;
            }
            if beside == Beside::Nothing {
                break;
            }
        }
        times.tower(all)
    }
}

/// A picture that is being looked at.
pub struct Encoding {
    pub key: PictureKey,
    /// None once it is out of it.
    pub tower: Option<Tower>,
    pub pages: Vec<Page>,
    /// Entries that are in the cache.
    pub done: usize,
    /// Entries that are on their way there, and the layers that they are through.
    pass: Option<(usize, usize)>,
}

impl Encoding {
    pub fn new(key: PictureKey, tower: Option<Tower>, pages: Vec<Page>) -> Self {
        Encoding {
            key,
            tower,
            pages,
            done: 0,
            pass: None,
        }
    }

    /// A slice of the decoder's part, as the engine's executor cuts it; what it takes, in nanoseconds.
    pub fn prefill(
        &mut self,
        entries: usize,
        layers: usize,
        timings: &mut StepTimings,
        times: &StageTimes,
        beside: Beside,
    ) -> u64 {
        let left = (entries - self.done).min(StepTimings::PREFILL);
        let (len, through) = self
            .pass
            .unwrap_or_else(|| (timings.prefill_rows(left, layers, beside), 0));
        let most = timings.prefill_layers(len, layers, beside);
        let computed = most.min(layers - through);
        self.pass = match through + computed == layers {
            true => {
                self.done += len;
                None
            }
            false => Some((len, through + computed)),
        };
        times.picture(len, computed)
    }
}

/// The pictures whose vectors a worker has, the latest used last.
#[derive(Default)]
pub struct Vectors(VecDeque<PictureKey>);

impl Vectors {
    /// Whether a picture's are there; it was used last.
    pub fn touch(&mut self, key: PictureKey) -> bool {
        let at = self.0.iter().position(|known| *known == key);
        let known = at.and_then(|at| self.0.remove(at));
        self.0.extend(known);
        known.is_some()
    }

    pub fn keep(&mut self, key: PictureKey) {
        self.0.push_back(key);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    pub fn retain(&mut self, scheduler: &Scheduler) {
        self.0.retain(|key| scheduler.holds(*key));
    }
}
