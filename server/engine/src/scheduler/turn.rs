//! A turn: who has a slot, and what is computed of each in one forward pass.

use std::collections::HashSet;
use std::time::Instant;

use api::{Failure, FinishReason, RequestId, SessionId};
use model::kernels::{PAGE, Span};
use model::prompt::tokens;

use super::job::Running;
use super::pages::{Page, numbers};
use super::prefix::Copy;
use super::{End, Job, Scheduler, SchedulerEvent, TokenOutcome, missing};
use crate::failures::{gone, out_of_memory, picture_left};

/// How many rows a forward pass may have.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Rows of each prompt in a pass that also decodes.
    pub beside_tokens: usize,
    /// Rows of all prompts together in a pass that decodes nothing.
    pub alone: usize,
}

/// What to compute next.
#[derive(Debug, Default)]
pub struct Turn {
    /// Page copies to make first, in this order, each for a question.
    pub copies: Vec<(RequestId, Copy)>,
    /// Entries to compute then, in one pass, each piece of another question.
    pub pieces: Vec<Piece>,
}

/// The next entries of a question's sequence.
#[derive(Clone, Debug)]
pub struct Piece {
    pub request: RequestId,
    pub ids: Vec<u32>,
    /// Positions of the entries: one number for each axis of each.
    pub positions: Vec<u32>,
    pub span: Span,
    /// Whether the piece ends the sequence: the scores of the next token come of it.
    pub is_last: bool,
}

impl Scheduler {
    /// Gives slots to those whose turn it is, and says what to compute of all. What it says has to be computed, or end with
    /// [`Scheduler::fail`] or [`Scheduler::renew`], before the next.
    pub fn turn(&mut self, now: Instant, rows: Rows) -> Turn {
        let running = self.slots.iter().map(|running| &running.job);
        if self
            .waiting
            .iter()
            .chain(running)
            .any(|job| job.deadline <= now)
        {
            self.finish_where(FinishReason::Timeout, |job| job.deadline <= now);
        }
        self.preempt();
        self.fill_slots(now);
        let turn = self.pieces(rows);
        self.tell_positions();
        turn
    }

    /// A piece's entries are in the cache.
    pub fn computed(&mut self, piece: &Piece) {
        if let Some(slot) = self.slot(piece.request) {
            let running = &mut self.slots[slot];
            let entries = &running.job.entries()[piece.span.start..][..piece.span.len];
            running.cached.entries.extend_from_slice(entries);
            running.job.suspect = false;
        }
    }

    /// A question's answer goes on, or ends.
    pub fn answered(&mut self, request: RequestId, said: TokenOutcome, now: Instant) {
        let Some(slot) = self.slot(request) else {
            return;
        };
        let end = said.end;
        self.slots[slot].job.go_on(said, now);
        if let Some(reason) = end {
            self.finish(slot, reason);
        }
    }

    /// Somebody is in the middle of an answer.
    pub fn is_decoding(&self) -> bool {
        self.slots.iter().any(Running::is_decoding)
    }

    fn slot(&self, request: RequestId) -> Option<usize> {
        self.slots.iter().position(|r| r.job.request == request)
    }

    /// Answers that nobody reads leave their slot: at once if the reader is too slow, for others if it is away.
    fn preempt(&mut self) {
        let here = |job: &Job| !can_wait(job, &self.away);
        let wanted = self
            .waiting
            .iter()
            .any(|job| self.is_ready(job) && here(job));
        let give_way = wanted && self.slots.len() == self.limits.slots;
        let leaves = |job: &Job| job.is_paused() || (give_way && !here(job));
        let leave: Vec<usize> = (0..self.slots.len())
            .filter(|slot| leaves(&self.slots[*slot].job))
            .collect();
        for slot in leave.into_iter().rev() {
            let job = self.preempt_slot(slot);
            self.waiting.push(job.asker, job);
        }
    }

    /// Whether nothing but a slot is missing.
    pub(super) fn is_ready(&self, job: &Job) -> bool {
        self.has_all_but_pages(job) && (job.lacked == 0 || job.lacked <= self.pages_within_reach())
    }

    fn has_all_but_pages(&self, job: &Job) -> bool {
        job.is_read() && !job.is_paused() && !self.lacks_opening(job)
    }

    /// Pages that could be had if everything kept gave way: all but those of what runs.
    fn pages_within_reach(&self) -> usize {
        let held = self.slots.iter().flat_map(|running| &running.cached.pages);
        let held: HashSet<u32> = held.map(Page::number).collect();
        self.limits.pages - held.len()
    }

    /// The next that may have a slot. While a suspect waits it is next, and alone.
    fn next_job(&mut self) -> Option<Job> {
        if self.slots.iter().any(|running| running.job.suspect) {
            return None;
        }
        let ready: HashSet<RequestId> = self
            .waiting
            .iter()
            .filter(|job| self.is_ready(job))
            .map(|job| job.request)
            .collect();
        // It was there before whoever would have the pages that it lacks.
        let is_kept_out = |job: &Job| {
            job.lacked > 0 && !ready.contains(&job.request) && self.has_all_but_pages(job)
        };
        if self.waiting.iter().any(is_kept_out) {
            return None;
        }
        let suspects = self
            .waiting
            .iter()
            .any(|job| job.suspect && ready.contains(&job.request));
        if suspects && !self.slots.is_empty() {
            return None;
        }
        let may = |job: &Job| job.suspect == suspects && ready.contains(&job.request);
        let Scheduler { waiting, away, .. } = self;
        waiting
            .pop(|job| may(job) && !can_wait(job, away))
            .or_else(|| waiting.pop(may))
    }

    fn fill_slots(&mut self, now: Instant) {
        while self.slots.len() < self.limits.slots {
            let Some(mut job) = self.next_job() else {
                break;
            };
            job.lacked = 0;
            job.times.picture.get_or_insert(now);
            if let Some(opening) = job.opening() {
                self.cache.touch_opening(job.asker.session, opening);
            }
            let (cached, copy) = self.cache.begin(job.namespace(), job.entries());
            if job.start(cached.entries.len(), now) {
                self.events.push(SchedulerEvent::Started(job.request));
            }
            self.slots.push(Running { job, cached, copy });
        }
        self.requeue_wanted();
    }

    /// What waits for a picture that the cache does not have any more: it made room for others, or was forgotten while there was a
    /// slot for the question.
    fn requeue_wanted(&mut self) {
        let Scheduler {
            waiting,
            cache,
            pictures,
            ..
        } = self;
        let lost =
            |job: &Job| missing(cache, job).is_some_and(|opening| !pictures.has(opening.picture));
        for job in waiting.take_where(lost) {
            self.events
                .push(SchedulerEvent::Ended(Box::new(job), End::Failed(gone())));
        }
        if self.slots.len() == self.limits.slots {
            return;
        }
        for job in waiting.iter() {
            if let Some(opening) = missing(cache, job) {
                pictures.enqueue(job.asker, opening, || job.prompt_before_picture());
            }
        }
    }

    /// What is computed next of each slot.
    fn pieces(&mut self, rows: Rows) -> Turn {
        let most = match self.is_decoding() {
            true => rows.beside_tokens,
            false => (rows.alone / self.slots.len().max(1)).max(1),
        };
        let mut turn = Turn::default();
        let mut slot = 0;
        while slot < self.slots.len() {
            match self.piece(slot, most) {
                Ok(piece) => {
                    turn.pieces.push(piece);
                    slot += 1;
                }
                Err(failure) => self.lacks_pages(slot, failure),
            }
        }
        for running in &mut self.slots {
            if let Some(copy) = running.copy.take() {
                turn.copies.push((running.job.request, copy));
            }
        }
        turn
    }

    /// # Errors
    /// What the question is told if it can't be computed at all: there is no page for it.
    fn piece(&mut self, slot: usize, most: usize) -> Result<Piece, Failure> {
        let Scheduler { slots, cache, .. } = self;
        let running = &mut slots[slot];
        let start = running.cached.entries.len();
        let len = most.min(running.pending());
        let entries = &running.job.entries()[start..start + len];
        // A picture's rows can't be computed here: there was no page to copy them to.
        let ids = tokens(entries).ok_or_else(picture_left)?;
        let grown = cache.grow(&mut running.cached.pages, start + len);
        grown.map_err(|full| out_of_memory(full.to_string()))?;
        let job = &running.job;
        Ok(Piece {
            request: job.request,
            ids,
            positions: job.positions(start..start + len).to_vec(),
            span: Span {
                start,
                len,
                pages: numbers(&running.cached.pages),
            },
            is_last: start + len == job.entries().len(),
        })
    }

    /// There are too few pages for the question in a slot. Beside others it waits until they have ended; alone it fails.
    fn lacks_pages(&mut self, slot: usize, failure: Failure) {
        if self.slots.len() == 1 {
            let Running { job, .. } = self.slots.remove(slot);
            return self.ended(job, End::Failed(failure));
        }
        let mut job = self.preempt_slot(slot);
        // Never more than there are: alone it fails, and does not wait for ever.
        job.lacked = (job.entries().len() + 1)
            .div_ceil(PAGE)
            .min(self.limits.pages);
        self.waiting.push_first(job.asker, job);
    }
}

/// Whether it runs only while nobody else waits for the slot.
fn can_wait(job: &Job, away: &HashSet<SessionId>) -> bool {
    job.background || away.contains(&job.asker.session)
}
