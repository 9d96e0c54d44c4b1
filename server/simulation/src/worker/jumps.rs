//! Turns that only add a token to each answer, and a slice to a picture in the tower: they are left out, and made up for at once
//! when something happens.

use api::RequestId;
use engine::step_timings::Beside;

use super::{LEAST, TOKEN, Worker};
use crate::encoding::Tower;

/// Turns that are left out for now.
pub struct Jump {
    turns: usize,
    /// When the last of them is over.
    pub end: u64,
}

/// What such turns change, beside the answers.
#[derive(Clone, Copy)]
pub struct Steady {
    answers: usize,
    entries: usize,
    tower: Option<Tower>,
}

impl Worker {
    /// The next turns, if they can be left out until something is heard.
    pub(super) fn plan(&mut self) -> Option<Jump> {
        if !self.jumps || !self.scheduler.is_steady() {
            return None;
        }
        let mut steady = self.steady()?;
        let left = self
            .scheduler
            .running()
            .filter_map(|id| self.answers.get(&id));
        // The last token of an answer takes a turn of its own.
        let most = left.map(|answer| answer.left as usize - 1).min();
        let most = self
            .scheduler
            .turns_within_reach(most.unwrap_or(usize::from(u16::MAX)));
        let deadline = self.scheduler.first_deadline();
        if steady.answers > 0 {
            self.observe(steady.answers);
        }
        let (mut turns, mut end) = (0, self.now);
        while turns < most && deadline.is_none_or(|deadline| deadline > self.at(end)) {
            let Some((took, _)) = self.steady_turn(&mut steady) else {
                break;
            };
            end += took;
            turns += 1;
        }
        (turns > 0).then_some(Jump { turns, end })
    }

    /// Where steady turns begin; `None` if a picture's prefill is under way, or one may begin.
    fn steady(&self) -> Option<Steady> {
        let tower = match &self.encoding {
            Some(encoding) => {
                // It is still wanted.
                let wanted = self.scheduler.encoding() == Some(encoding.key);
                Some(encoding.tower.filter(|_| wanted)?)
            }
            None if self.scheduler.is_blind() => None,
            None => return None,
        };
        let answers = self.scheduler.running().count();
        (answers > 0 || tower.is_some()).then_some(Steady {
            answers,
            entries: self.scheduler.running_entries(),
            tower,
        })
    }

    /// What such a turn takes, and of this the picture; `None` if the tower is through with it.
    fn steady_turn(&self, steady: &mut Steady) -> Option<(u64, u64)> {
        let mut slice = 0;
        if let Some(tower) = &mut steady.tower {
            let beside = match steady.answers {
                0 => Beside::Nothing,
                _ => Beside::Tokens,
            };
            slice = tower.slice(&self.timings, &self.times, beside);
            if tower.is_done() {
                return None;
            }
        }
        steady.entries += steady.answers;
        let pass = match steady.answers {
            0 => 0,
            answers => self.times.pass(answers, steady.entries, 0),
        };
        Some(((pass + slice).max(LEAST), slice))
    }

    /// Computes what was left out: every turn that begins before `until`.
    pub(super) fn make_up(&mut self, until: u64) {
        let Some(jump) = self.jump.take() else {
            return;
        };
        let Some(mut steady) = self.steady() else {
            return;
        };
        let mut turns = 0;
        while turns < jump.turns && self.now < until {
            let before = steady;
            let Some((took, slice)) = self.steady_turn(&mut steady) else {
                steady = before;
                break;
            };
            self.now += took;
            self.done.busy += took;
            self.done.slots += took * steady.answers as u64;
            self.done.looking += slice;
            turns += 1;
        }
        let requests: Vec<RequestId> = self.scheduler.running().collect();
        for request in requests {
            if let Some(answer) = self.answers.get_mut(&request) {
                answer.left -= turns as u32;
                answer.told += turns as u32;
            }
        }
        self.scheduler.advance(turns, TOKEN, self.at(self.now));
        self.alternation.may_slice(steady.tower.is_some(), false);
        if let Some(encoding) = &mut self.encoding {
            encoding.tower = steady.tower;
        }
        self.done.tokens += (turns * steady.answers) as u64;
        self.done.turns += turns as u64;
        self.done.jumped += turns as u64;
    }
}
