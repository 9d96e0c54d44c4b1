//! A turn: who has a slot, and what is computed of each in one forward pass.

use std::collections::HashSet;
use std::time::Instant;

use api::{Failure, FinishReason, RequestId, SessionId};
use model::kernels::{PAGE, Span};
use model::prompt::tokens;
use smallvec::SmallVec;

use super::job::{Parked, Running};
use super::pages::{HeldPage, Page, numbers};
use super::prefix::{CacheFull, Copy, Opening, PrefixCache};
use super::{End, Job, Scheduler, SchedulerEvent, TokenOutcome};
use crate::failures::{gone, out_of_memory, picture_left};

/// How many rows a forward pass may have.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Rows of all prompts together in a pass that also decodes; none where they have to wait.
    pub beside_tokens: usize,
    /// Rows of all prompts together in a pass that decodes nothing.
    pub alone: usize,
}

/// What to compute next.
#[derive(Debug, Default)]
pub struct Turn {
    /// What goes into the host's memory first, since something else will be written there: pages, and where each goes.
    pub leaving: Vec<(RequestId, Vec<(u32, Page)>)>,
    /// What comes back then, and where to.
    pub returning: Vec<(RequestId, Vec<(Page, u32)>)>,
    /// Page copies to make then, in this order, each for a question.
    pub copies: Vec<(RequestId, Copy)>,
    /// Entries to compute at last, in one pass, each piece of another question.
    pub pieces: Vec<Piece>,
}

/// What of most pieces is one number.
type Few = SmallVec<[u32; 4]>;

/// The next entries of a question's sequence.
#[derive(Clone, Debug)]
pub struct Piece {
    pub request: RequestId,
    pub ids: Few,
    /// Positions of the entries: one number for each axis of each.
    pub positions: Few,
    pub span: Span,
    /// Whether the piece ends the sequence: the scores of the next token come of it.
    pub is_last: bool,
}

impl Scheduler {
    /// Gives slots to those whose turn it is, and says what to compute of all. What it says has to be computed, or end with
    /// [`Scheduler::fail`] or [`Scheduler::renew`], before the next.
    pub fn turn(&mut self, now: Instant, rows: Rows) -> Turn {
        if self.jobs().any(|job| job.deadline <= now) {
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
            running.cached.entries += piece.span.len;
            running.job.suspect = false;
        }
    }

    /// A question's answer goes on, or ends.
    pub fn answered(&mut self, request: RequestId, said: TokenOutcome) {
        let Some(slot) = self.slot(request) else {
            return;
        };
        let end = said.end;
        self.slots[slot].job.go_on(said);
        if let Some(reason) = end {
            self.finish(slot, reason);
        }
    }

    /// Whether the next turns only add a token to each answer, as long as none ends and nothing is heard: every slot decodes, and who
    /// waits can't begin. Only such turns may be left out ([`Scheduler::advance`]).
    pub fn is_steady(&self) -> bool {
        let decodes = |running: &Running| {
            let moves = running.copy.is_some() || running.returning.is_some();
            running.is_decoding() && !moves && !can_wait(&running.job, &self.away)
        };
        let full = self.slots.len() == self.limits.slots;
        // It waits for its picture, which is in line.
        let waits = |job: &Job| {
            let opening = job.missing(&self.cache);
            opening.is_some_and(|opening| self.pictures.is_wanted(job.asker, opening))
        };
        self.slots.iter().all(decodes) && (full || self.waiting.iter().all(waits))
    }

    /// How many turns all slots have credit and pages for, of `most`.
    pub fn turns_within_reach(&self, most: usize) -> usize {
        let credit = |running: &Running| running.job.credit() as usize;
        let most = self.slots.iter().map(credit).fold(most, usize::min);
        let needed = |turns: usize| -> usize {
            let of = |running: &Running| {
                let entries = running.cached.entries + turns;
                entries
                    .div_ceil(PAGE)
                    .saturating_sub(running.cached.pages.len())
            };
            self.slots.iter().map(of).sum()
        };
        let free = self.limits.pages - self.cache.used_pages();
        if needed(most) <= free {
            return most;
        }
        let reach = self.pages_within_reach();
        (0..=most)
            .rev()
            .find(|turns| needed(*turns) <= reach)
            .unwrap_or(0)
    }

    /// What `turns` turns come to in each of which every slot's answer goes on by the token `id`, if nothing else happens
    /// ([`Scheduler::is_steady`]) and there are pages for them ([`Scheduler::turns_within_reach`]).
    pub fn advance(&mut self, turns: usize, id: u32, now: Instant) {
        let Scheduler { slots, cache, .. } = self;
        for running in slots {
            for _ in 0..turns {
                running.job.go_on(TokenOutcome {
                    at: now,
                    id: Some(id),
                    has_text: true,
                    end: None,
                });
            }
            running.cached.entries += turns;
            let grown = cache.grow(&mut running.cached.pages, running.cached.entries);
            debug_assert!(grown.is_ok(), "there are pages for these turns");
        }
    }

    /// Entries that slots have in the cache.
    pub fn running_entries(&self) -> usize {
        let entries = self.slots.iter().map(|it| it.cached.entries);
        entries.sum()
    }

    /// The questions that have a slot, in their order.
    pub fn running(&self) -> impl Iterator<Item = RequestId> {
        self.slots.iter().map(|running| running.job.request)
    }

    /// When the first of all questions has to be over.
    pub fn first_deadline(&self) -> Option<Instant> {
        self.jobs().map(|job| job.deadline).min()
    }

    /// Somebody is in the middle of an answer.
    pub fn is_decoding(&self) -> bool {
        self.slots.iter().any(Running::is_decoding)
    }

    /// Somebody's question has a slot and is not computed.
    pub fn has_prompts(&self) -> bool {
        self.slots.iter().any(|running| running.pending() > 1)
    }

    fn slot(&self, request: RequestId) -> Option<usize> {
        self.slots.iter().position(|r| r.job.request == request)
    }

    /// Answers that nobody reads leave their slot: at once if the reader is too slow, for others if it is away.
    fn preempt(&mut self) {
        let here = |job: &Job| !can_wait(job, &self.away);
        let wanted = || {
            let mut waiting = self.waiting.iter();
            waiting.any(|job| here(job) && self.is_ready(job))
        };
        let is_away = |running: &Running| !here(&running.job);
        let full = self.slots.len() == self.limits.slots;
        let give_way = full && self.slots.iter().any(is_away) && wanted();
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
        has_all_but_pages(&self.cache, job)
            && (job.lacked == 0 || job.lacked <= self.pages_within_reach())
    }

    /// Pages that could be had if everything kept gave way: all but those of what runs and of the picture that is being encoded.
    pub(super) fn pages_within_reach(&self) -> usize {
        let held = self.slots.iter().flat_map(|running| &running.cached.pages);
        let encoding = self.encoding_pages.iter().filter_map(HeldPage::number);
        let mut free = vec![true; self.limits.pages];
        let newly = |number: u32| std::mem::take(&mut free[number as usize]);
        let held = held.map(Page::number).chain(encoding).map(newly);
        self.limits.pages - held.filter(|newly| *newly).count()
    }

    /// The next that may have a slot. While a suspect waits it is next, and alone.
    fn next_job(&mut self) -> Option<Job> {
        let is_alone = || self.slots.iter().any(|running| running.job.suspect);
        if self.waiting.is_empty() || self.picture_lacks || is_alone() {
            return None;
        }
        // It was there before whoever would have the pages that it lacks.
        let is_kept_out = |job: &Job| {
            job.lacked > 0 && has_all_but_pages(&self.cache, job) && !self.is_ready(job)
        };
        if self.waiting.iter().any(is_kept_out) {
            return None;
        }
        // So nobody lacks pages alone.
        let Scheduler {
            waiting,
            away,
            cache,
            ..
        } = self;
        let is_ready = |job: &Job| has_all_but_pages(cache, job);
        let suspects = waiting.iter().any(|job| job.suspect && is_ready(job));
        if suspects && !self.slots.is_empty() {
            return None;
        }
        let may = |job: &Job| job.suspect == suspects && is_ready(job);
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
            let Some(running) = self.take_up(job, now) else {
                break;
            };
            self.slots.push(running);
        }
        self.requeue_wanted();
    }

    /// A job with what there is of it in the cache, or was. None if there are too few pages for what was: then it waits on.
    fn take_up(&mut self, mut job: Job, now: Instant) -> Option<Running> {
        if let Some(parked) = job.parked.take() {
            let entries = &job.entries()[..parked.entries];
            match self.cache.resume(job.namespace(), entries, parked.first) {
                Ok(Some(cached)) => {
                    return Some(Running {
                        job,
                        cached,
                        copy: None,
                        returning: Some(parked),
                    });
                }
                // Its picture was encoded anew meanwhile, behind something else.
                Ok(None) => {}
                Err(CacheFull) => {
                    job.parked = Some(parked);
                    self.wait_for_pages(job);
                    return None;
                }
            }
        }
        let (cached, copy) = self.cache.begin(job.namespace(), job.entries());
        if job.start(cached.entries, now) {
            self.events.push(SchedulerEvent::Started(job.request));
        }
        Some(Running {
            job,
            cached,
            copy,
            returning: None,
        })
    }

    /// What waits for a picture that the cache does not have any more: it made room for others, or was forgotten while there was a
    /// slot for the question.
    fn requeue_wanted(&mut self) {
        let has_room = self.slots.len() < self.limits.slots;
        if self.queued == Some((self.standing(), has_room)) {
            return;
        }
        let Scheduler {
            waiting,
            cache,
            pictures,
            ..
        } = self;
        let mut some_lost = false;
        for job in waiting.iter() {
            match job.missing(cache) {
                Some(opening) if !pictures.has(opening.picture) => some_lost = true,
                Some(opening) if has_room => {
                    pictures.enqueue(job.asker, opening, || job.prompt_before_picture());
                }
                _ => {}
            }
        }
        if some_lost {
            let is_gone = |opening: Opening| !pictures.has(opening.picture);
            for job in waiting.take_where(|job| job.missing(cache).is_some_and(is_gone)) {
                self.events
                    .push(SchedulerEvent::Ended(Box::new(job), End::Failed(gone())));
            }
        }
        self.queued = Some((self.standing(), has_room));
    }

    /// What is computed next of each slot.
    fn pieces(&mut self, rows: Rows) -> Turn {
        let decodes = self.is_decoding();
        let share = (rows.alone / self.slots.len().max(1)).max(1);
        let mut left = rows.beside_tokens;
        let mut turn = Turn::default();
        let mut slot = 0;
        while slot < self.slots.len() {
            let pending = self.slots[slot].pending();
            let most = match decodes {
                // A single row is as quick as a token.
                true if pending == 1 => 1,
                true => left,
                false => share,
            };
            if most == 0 {
                // Whoever came before goes first.
                slot += 1;
                continue;
            }
            match self.piece(slot, most) {
                Ok(piece) => {
                    if decodes && pending > 1 {
                        left -= piece.span.len;
                    }
                    turn.pieces.push(piece);
                    slot += 1;
                }
                Err(failure) if self.slots.len() == 1 => {
                    let Running { job, .. } = self.slots.remove(slot);
                    self.ended(job, End::Failed(failure));
                }
                Err(_) => {
                    let out = self.newest_slot(slot);
                    self.make_room(out, &mut turn);
                    if out < slot {
                        slot -= 1;
                    }
                }
            }
        }
        for running in &mut self.slots {
            let request = running.job.request;
            if let Some(parked) = running.returning.take() {
                let to = running.cached.pages[parked.first..].iter();
                let pages = parked.pages.into_iter().zip(to.map(Page::number));
                turn.returning.push((request, pages.collect()));
            }
            if let Some(copy) = running.copy.take() {
                turn.copies.push((request, copy));
            }
        }
        turn
    }

    /// # Errors
    /// What the question is told if it can't be computed at all: there is no page for it.
    fn piece(&mut self, slot: usize, most: usize) -> Result<Piece, Failure> {
        let Scheduler { slots, cache, .. } = self;
        let running = &mut slots[slot];
        let start = running.cached.entries;
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
            positions: SmallVec::from_slice(job.positions(start..start + len)),
            span: Span {
                start,
                len,
                pages: numbers(&running.cached.pages),
            },
            is_last: start + len == job.entries().len(),
        })
    }

    /// Who makes room for the question in a slot: the newest, so that the oldest always has what it needs to end. What has to
    /// begin with a picture of which nothing could be copied begins later itself.
    fn newest_slot(&self, slot: usize) -> usize {
        let begins = &self.slots[slot];
        if tokens::<Few>(&begins.job.entries()[begins.cached.entries..]).is_none() {
            return slot;
        }
        let newest = (0..self.slots.len()).max_by_key(|slot| self.slots[*slot].job.order);
        newest.unwrap_or(slot)
    }

    /// What is in a slot makes room for older ones, and comes back before anybody else is begun. What was computed of it goes into
    /// the host's memory; only where that is full it is kept no better than what has ended.
    fn make_room(&mut self, slot: usize, turn: &mut Turn) {
        let request = self.slots[slot].job.request;
        turn.pieces.retain(|piece| piece.request != request);
        let job = match self.park(slot, turn) {
            Some(job) => job,
            None => self.preempt_slot(slot),
        };
        self.wait_for_pages(job);
    }

    /// Takes what is in a slot out of it and into the host's memory, if that has room and there is something to keep.
    fn park(&mut self, slot: usize, turn: &mut Turn) -> Option<Job> {
        let running = &self.slots[slot];
        let (entries, first) = (running.cached.entries, running.job.opening_pages());
        if running.returning.is_none() {
            let pages = entries.div_ceil(PAGE).checked_sub(first)?;
            if pages == 0 || running.copy.is_some() {
                return None;
            }
            let host = self.host.take_all(pages)?;
            let pages = running.cached.pages[first..].iter().map(Page::number);
            let leaving = pages.zip(host.iter().cloned()).collect();
            turn.leaving.push((running.job.request, leaving));
            let Running { mut job, .. } = self.slots.remove(slot);
            job.parked = Some(Parked {
                entries,
                first,
                pages: host,
            });
            return Some(job);
        }
        // It has not come back yet.
        let Running {
            mut job, returning, ..
        } = self.slots.remove(slot);
        job.parked = returning;
        Some(job)
    }

    /// There are too few pages for a job now. It runs again when there are as many as it has, and one more for each that runs: not
    /// just to make room again.
    fn wait_for_pages(&mut self, mut job: Job) {
        let pages = (job.entries().len() + 1).div_ceil(PAGE) + self.slots.len();
        // Never more than there are: alone it fails, and does not wait for ever.
        job.lacked = pages.min(self.limits.pages);
        self.waiting.push_first(job.asker, job);
    }
}

/// Whether nothing but a slot and pages is missing.
fn has_all_but_pages(cache: &PrefixCache, job: &Job) -> bool {
    job.is_read() && !job.is_paused() && job.missing(cache).is_none()
}

/// Whether it runs only while nobody else waits for the slot.
fn can_wait(job: &Job, away: &HashSet<SessionId>) -> bool {
    job.background || away.contains(&job.asker.session)
}
