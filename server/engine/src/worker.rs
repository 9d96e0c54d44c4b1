//! The worker: one thread that owns a device, and does between two tokens what the scheduler says.
//!
//! Each turn of its loop: read commands, run one forward pass for all slots, then, while a picture waits, a slice of encoding it.
//! With nobody decoding the slices follow each other without a break.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use api::{Event, Failure, Gauges, Measured, Pass, RequestId};
use model::scores::{Scores, Wanted};
use rayon::prelude::*;

use crate::admission::Admission;
use crate::command::{Command, Question};
use crate::encoder::Encoder;
use crate::executor::Executor;
use crate::failures::{lost, panicked};
use crate::guard::{Fault, catch, guarded};
use crate::recovery::PanicCount;
use crate::reply::Reply;
use crate::reports::Reports;
use crate::scheduler::{
    End, Job, Limits, Piece, Rows, Scheduler, SchedulerEvent, TokenOutcome, Turn,
};
use crate::settings::Settings;
use crate::step_timings::{Alternation, Beside, StepTimings};
use crate::tokenization::TokenizedQuestion;
use crate::workers::StatusPublisher;

pub struct Worker<E: Executor> {
    pub(super) executor: E,
    pub(super) scheduler: Scheduler,
    /// The way back of each open question.
    replies: HashMap<RequestId, Reply>,
    pub(super) encoder: Encoder<E>,
    alternation: Alternation,
    admission: Arc<Admission>,
    reports: Reports,
    /// On its machine.
    number: u32,
    pub(super) panics: PanicCount,
    /// Turns of the loop so far.
    turns: u64,
    /// The longest of them.
    longest_turn: Duration,
    /// When health is told next, and the device asked for its memory.
    due: Instant,
    gauges: Gauges,
    /// As they were told last.
    told: Gauges,
}

/// The scores of a sequence's next token, none before its prompt is through; or why it failed.
type Outcome = Result<Option<Scores>, Failure>;

/// The next token, if there is one yet.
type Said = Result<Option<TokenOutcome>, Failure>;

impl<E: Executor> Worker<E> {
    /// A worker whose executor has a KV cache of so many pages and room for so many of them in the host's memory; `number` is its
    /// own on this machine.
    pub fn new(
        executor: E,
        settings: &Settings,
        (pages, host_pages): (usize, usize),
        admission: Arc<Admission>,
        reports: Reports,
        number: u32,
    ) -> Self {
        Worker {
            executor,
            scheduler: Scheduler::new(Limits {
                slots: settings.max_batch,
                pages,
                host_pages,
                keeps_conversations: settings.prefix_cache,
                eager_encode: settings.eager_encode,
            }),
            replies: HashMap::new(),
            encoder: Encoder::default(),
            alternation: Alternation::default(),
            admission,
            reports,
            panics: PanicCount::default(),
            turns: 0,
            longest_turn: Duration::ZERO,
            due: Instant::now(),
            gauges: Gauges::default(),
            told: Gauges::default(),
            number,
        }
    }

    /// Serves commands until every handle is gone or the engine shuts down.
    ///
    /// # Errors
    /// If the device is lost, what it said: nothing more can be computed, and what is open has to be refused.
    pub fn run(
        &mut self,
        commands: &Receiver<Command>,
        status: &StatusPublisher,
    ) -> Result<(), String> {
        loop {
            let command = match self.scheduler.is_busy() {
                true => commands.try_recv().ok(),
                false => match commands.recv_timeout(self.rest()) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                },
            };
            if let Some(command) = command {
                self.take(command);
                while let Ok(command) = commands.try_recv() {
                    self.take(command);
                }
            }
            self.turns += 1;
            let begun = Instant::now();
            let fault = match catch(|| self.turn()) {
                Ok(Ok(())) => None,
                Ok(Err(fault)) => Some(fault),
                // Not in work on the device, which is guarded for itself.
                Err(what) => Some(Fault::Panic(what)),
            };
            self.recover(fault)?;
            self.longest_turn = self.longest_turn.max(begun.elapsed());
            self.publish_events();
            if self.due <= Instant::now() {
                self.report(status);
            }
            if self.scheduler.is_drained() {
                return Ok(());
            }
        }
    }

    /// How long nothing has to be done, as long as no command comes.
    fn rest(&self) -> Duration {
        let deadline = self.scheduler.next_deadline();
        let next = deadline.map_or(self.due, |deadline| deadline.min(self.due));
        next.saturating_duration_since(Instant::now())
    }

    /// Tells how it stands, each second.
    fn report(&mut self, status: &StatusPublisher) {
        const PAUSE: Duration = Duration::from_secs(1);
        self.due = Instant::now() + PAUSE;
        // The driver takes longer to tell than everything else here.
        if let Some((free, size)) = self.executor.memory() {
            self.gauges.memory_used = size - free;
            self.gauges.memory_size = size;
        }
        self.gauge();
        status.health(|health| {
            let (used, pages) = self.scheduler.pages();
            health.open = self.admission.open() as u64;
            health.pages = pages as u64;
            health.used_pages = used as u64;
            health.turn = self.turns;
            health.token_ms = self.executor.timings().token_ms();
            health.longest_turn_ms = self.longest_turn.as_secs_f64() * 1e3;
        });
    }

    /// Tells how it stands, where that is news.
    fn gauge(&mut self) {
        let page = self.executor.page_bytes() as u64;
        let (waiting, running) = self.scheduler.questions();
        let (used, pages) = self.scheduler.pages();
        let now = &mut self.gauges;
        now.waiting = waiting as u64;
        now.running = running as u64;
        now.cache_used = used as u64 * page;
        now.cache_size = pages as u64 * page;
        if *now != self.told {
            self.told = *now;
            let gauges = Measured::Gauges(self.told);
            self.reports.measured(self.number, gauges);
        }
    }

    /// A command, whose panic ends it alone: what it was about ends with it.
    fn take(&mut self, command: Command) {
        if let Err(what) = catch(|| self.command(command)) {
            tracing::error!(panic = %what, "the worker panicked over a command");
            self.drop_lost();
        }
        self.publish_events();
    }

    fn command(&mut self, command: Command) {
        let scheduler = &mut self.scheduler;
        match command {
            Command::Picture(picture) => scheduler.picture(picture, Instant::now()),
            Command::LookAhead {
                asker,
                key,
                opening,
            } => scheduler.look_ahead(asker, key, opening),
            Command::Ask(question) => self.ask(*question),
            Command::Tokenized {
                request,
                attempt,
                read,
            } => self.read(request, attempt, read),
            // Enough may have been answered meanwhile.
            Command::GiveWay if self.admission.has_room() => {}
            Command::GiveWay => {
                if let Some(request) = scheduler.gives_way() {
                    scheduler.fail(request, &self.admission.gave_way());
                }
            }
            Command::Credit { request, events } => scheduler.credit(request, events),
            Command::Presence { session, presence } => scheduler.presence(session, presence),
            Command::Cancel { request } => scheduler.cancel(request),
            Command::Forget { key, freeing } => {
                scheduler.forget_picture(key, freeing.session);
                self.let_go();
                drop(freeing);
            }
            Command::ForgetConversation {
                conversation,
                freeing,
            } => {
                scheduler.forget_conversation(conversation);
                self.let_go();
                drop(freeing);
            }
            Command::EndSession { session, freeing } => {
                scheduler.end_session(session);
                self.let_go();
                drop(freeing);
            }
            Command::Shutdown => scheduler.drain(),
        }
    }

    /// What was forgotten is not encoded, and its questions hear of their end, before anybody is told that it is freed.
    fn let_go(&mut self) {
        self.encoder.let_go(&self.scheduler);
        self.publish_events();
    }

    fn ask(&mut self, question: Question) {
        let Question {
            ask,
            ticket,
            received,
            deadline,
            open,
        } = question;
        let job = Job::new(&ask, received, deadline);
        let (request, attempt) = (job.request, job.attempt);
        // An earlier attempt ends before this one has its name.
        self.scheduler.replace(request);
        self.publish_events();
        let reply = Reply::new((request, attempt), ticket, open);
        self.replies.insert(request, reply);
        self.scheduler.ask(job);
    }

    /// A question's text was read, unless it has ended meanwhile.
    fn read(
        &mut self,
        request: RequestId,
        attempt: u32,
        read: Result<Box<TokenizedQuestion>, Failure>,
    ) {
        let reply = self.replies.get_mut(&request);
        let Some(reply) = reply.filter(|reply| reply.is_of(attempt)) else {
            return;
        };
        match read {
            Ok(read) => {
                let TokenizedQuestion {
                    prompt,
                    answer,
                    so_far,
                    end,
                } = *read;
                reply.read(answer, so_far.len());
                self.scheduler.read(request, prompt, so_far, end);
            }
            Err(failure) => self.scheduler.fail(request, &failure),
        }
    }

    fn turn(&mut self) -> Result<(), Fault> {
        let rows = Rows {
            beside_tokens: match self.alternation.take_prompts() {
                true => self.executor.timings().prompt_rows(),
                false => 0,
            },
            alone: StepTimings::PREFILL,
        };
        let turn = self.scheduler.turn(Instant::now(), rows);
        self.publish_events();
        self.compute(turn)?;
        let prompts_wait = self.scheduler.has_prompts();
        let may_slice = self
            .alternation
            .may_slice(self.encoder.is_busy(), prompts_wait);
        let beside = match self.scheduler.is_decoding() {
            true => Beside::Tokens,
            false => Beside::Nothing,
        };
        if may_slice || beside == Beside::Nothing {
            let (scheduler, executor) = (&mut self.scheduler, &mut self.executor);
            if let Err(failed) = self.encoder.encode(scheduler, executor, beside) {
                self.encode_failed(*failed)?;
            }
        }
        self.gauge();
        Ok(())
    }

    fn compute(&mut self, turn: Turn) -> Result<(), Fault> {
        let Turn {
            leaving,
            returning,
            copies,
            mut pieces,
        } = turn;
        let mut copied = |request, result: Result<(), Fault>| match result {
            Ok(()) => Ok(()),
            Err(Fault::Job(failure)) => {
                pieces.retain(|piece: &Piece| piece.request != request);
                self.scheduler.fail(request, &failure);
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        let executor = &mut self.executor;
        for (request, pages) in &leaving {
            let mut pages = pages.iter();
            let out = || pages.try_for_each(|(page, host)| executor.page_out(*page, host.number()));
            copied(*request, guarded(out))?;
        }
        for (request, pages) in &returning {
            let mut pages = pages.iter();
            let back = || pages.try_for_each(|(host, page)| executor.page_in(host.number(), *page));
            copied(*request, guarded(back))?;
        }
        for (request, copy) in copies {
            let (from, to) = (copy.from.number(), copy.to.number());
            copied(request, guarded(|| executor.copy(from, to)))?;
        }
        if pieces.is_empty() {
            return Ok(());
        }
        let outcomes = self.forward(&pieces)?;
        let said = self.choose(&pieces, outcomes);
        for (piece, said) in pieces.iter().zip(said) {
            self.computed(piece, said);
        }
        Ok(())
    }

    /// One forward pass for every slot: a token for those that decode, a piece of the prompt for the others. Where it fails
    /// each goes alone, so that the fault stays with its own.
    fn forward(&mut self, pieces: &[Piece]) -> Result<Vec<Outcome>, Fault> {
        match self.pass(pieces) {
            Ok(scores) => return Ok(scores.into_iter().map(Ok).collect()),
            Err(Fault::Job(failure)) if pieces.len() == 1 => return Ok(vec![Err(failure)]),
            Err(Fault::Job(_)) => {}
            Err(fault) => return Err(fault),
        }
        let mut outcomes = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match self.pass(std::slice::from_ref(piece)) {
                Ok(scores) => outcomes.extend(scores.into_iter().map(Ok)),
                Err(Fault::Job(failure)) => outcomes.push(Err(failure)),
                Err(fault) => return Err(fault),
            }
        }
        Ok(outcomes)
    }

    fn pass(&mut self, pieces: &[Piece]) -> Result<Vec<Option<Scores>>, Fault> {
        let started = Instant::now();
        let of = |piece: &Piece| self.replies.get(&piece.request).map(Reply::wanted);
        let wanted = pieces.iter().map(|piece| of(piece).unwrap_or(Wanted::All));
        let wanted: Vec<Wanted> = wanted.collect();
        let scores = guarded(|| self.executor.run(pieces, &wanted))?;
        let decode = pieces.iter().all(|piece| piece.span.len == 1);
        let pass = Pass {
            ms: started.elapsed().as_secs_f64() * 1e3,
            slots: pieces.len() as u64,
            decode,
        };
        self.reports.measured(self.number, Measured::Pass(pass));
        Ok(scores)
    }

    /// The answers' next tokens, by all threads where there are many scores to choose by.
    fn choose(&mut self, pieces: &[Piece], outcomes: Vec<Outcome>) -> Vec<Said> {
        /// As many as three answers have with a vocabulary like the published model's.
        const WORTH_WAKING: usize = 400_000;
        let mut replies: Vec<Option<&mut Reply>> = pieces.iter().map(|_| None).collect();
        for (request, reply) in &mut self.replies {
            if let Some(at) = pieces.iter().position(|piece| piece.request == *request) {
                replies[at] = Some(reply);
            }
        }
        let of_one = |outcome: &Outcome| outcome.as_ref().ok()?.as_ref().map(Scores::len);
        let scores: usize = outcomes.iter().filter_map(of_one).sum();
        let choose = |(reply, outcome): (Option<&mut Reply>, Outcome)| {
            let (Some(scores), Some(reply)) = (outcome?, reply) else {
                return Ok(None);
            };
            let said = catch(|| reply.accept(scores)).unwrap_or_else(|what| {
                tracing::error!(panic = %what, "the worker panicked over a token");
                Err(panicked())
            });
            said.map(Some)
        };
        let all: Vec<_> = replies.into_iter().zip(outcomes).collect();
        match scores < WORTH_WAKING {
            true => all.into_iter().map(choose).collect(),
            false => all.into_par_iter().map(choose).collect(),
        }
    }

    /// A piece was computed, and this came of it.
    fn computed(&mut self, piece: &Piece, said: Said) {
        match said {
            Ok(said) => {
                self.scheduler.computed(piece);
                if let Some(said) = said {
                    self.scheduler.answered(piece.request, said);
                }
            }
            Err(failure) => self.scheduler.fail(piece.request, &failure),
        }
    }

    /// Tells what the scheduler has to say.
    pub(super) fn publish_events(&mut self) {
        for news in self.scheduler.take_events() {
            match news {
                SchedulerEvent::Queued(request, position) => {
                    if let Some(reply) = self.replies.get(&request) {
                        reply.queued(position);
                    }
                }
                SchedulerEvent::Started(request) => {
                    if let Some(reply) = self.replies.get(&request) {
                        reply.started();
                    }
                }
                SchedulerEvent::Ended(job, end) => {
                    if let End::Finished { in_slot: true, .. } = end
                        && let Some(started) = job.times.started
                    {
                        self.admission.answered(started.elapsed());
                    }
                    if let Some(reply) = self.replies.remove(&job.request) {
                        reply.end(&job, end);
                    }
                }
                SchedulerEvent::Encoded(session, key, timings) => {
                    let encoded = Event::Encoded {
                        key,
                        tokens: self.executor.picture_entries() as u64,
                        timings: timings.unwrap_or_default(),
                        cached: timings.is_none(),
                    };
                    self.reports.tell(session, encoded);
                }
                SchedulerEvent::PictureFailed(session, key, failure) => {
                    let failed = Event::PictureFailed { key, failure };
                    self.reports.tell(session, failed);
                }
            }
        }
    }

    /// Ends what a panic took out of the scheduler's hands.
    pub(super) fn drop_lost(&mut self) {
        self.publish_events();
        let open = self.scheduler.open();
        self.replies.retain(|request, _| open.contains(request));
    }

    /// Refuses all that is open: the device is lost.
    pub fn refuse_all(&mut self) {
        self.scheduler.fail_all(&lost());
        self.scheduler.lose_pictures(&lost());
        self.publish_events();
    }
}
