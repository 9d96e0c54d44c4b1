//! A worker in virtual time: the scheduler that serves, driven as the engine's worker drives it, with stage times in place of a
//! device. One pass for each turn, then a slice of a picture.
//!
//! Turns that only add a token to each answer are left out and made up for at once when something happens, which changes
//! nothing (`../tests.rs`): each takes what it would have taken.

mod jumps;
mod questions;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{EncodeTimings, ErrorCode, Failure, FinishReason, Pixels, RequestId, SessionId};
use engine::scheduler::{
    Cached, End, Job, Limits, Piece, Rows, Scheduler, SchedulerEvent, TokenOutcome,
};
use engine::step_timings::{Alternation, Beside, StepTimings};
use model::prompt::Prompt;

use crate::card::{Card, StageTimes};
use crate::encoding::{Encoding, Tower, Vectors};
use jumps::Jump;
use questions::{asker, key, numbers, question, warmed_up};

/// Every answer is made of this token, and every question of a conversation that goes on: what is computed does not depend on it.
pub const TOKEN: u32 = 1;
/// A turn takes this at least.
const LEAST: u64 = 1_000;

/// What a worker is told.
#[derive(Clone, Debug)]
pub enum Message {
    Picture {
        session: u32,
        picture: u32,
    },
    Ask(Asked),
    Forget {
        session: u32,
        picture: u32,
    },
    /// It dies, with all that it has.
    Lose,
    /// It is there again, with nothing.
    Restart,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub request: u64,
    pub attempt: u32,
    pub session: u32,
    /// The session's picture, counted from 1.
    pub picture: u32,
    /// Tokens of the prompt behind the picture, and which they are: those of another number are another text.
    pub prompt: u32,
    pub text: u32,
    /// Tokens of the answer that were told by an earlier attempt.
    pub said: u32,
    /// Tokens of the whole answer.
    pub answer: u32,
    /// When the answer must be over.
    pub deadline: u64,
}

/// What a worker tells, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    pub at: u64,
    pub worker: u32,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The first word of an attempt.
    First {
        request: u64,
    },
    /// An answer is over, with so many tokens; entries of its prompt, and those of them that were cached.
    Ended {
        request: u64,
        end: Ending,
        tokens: u32,
        prompt: u32,
        cached: u32,
    },
    /// The queue is full.
    Refused {
        request: u64,
    },
    Encoded {
        session: u32,
        picture: u32,
    },
    /// How many tokens of an answer were told when its worker died.
    Told {
        request: u64,
        tokens: u32,
    },
    Lost,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Answered,
    Cancelled,
    TimedOut,
    Failed,
}

/// An answer that is not over.
struct Answer {
    /// The question's number.
    request: u64,
    attempt: u32,
    left: u32,
    told: u32,
    /// None of this attempt was told.
    silent: bool,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Nanoseconds at work.
    pub busy: u64,
    /// Of these, with pictures.
    pub looking: u64,
    /// Slots at work, each for itself.
    pub slots: u64,
    pub tokens: u64,
    pub pictures: u64,
    /// Turns, and those of them that were jumped over.
    pub turns: u64,
    pub jumped: u64,
    /// Pages in use at the end.
    pub pages: usize,
}

pub struct Worker {
    index: u32,
    times: Arc<StageTimes>,
    limits: Limits,
    queue: usize,
    /// What every question about a picture begins with.
    opening: Prompt,
    pixels: Pixels,
    tower: Tower,
    layers: usize,
    scheduler: Scheduler,
    timings: StepTimings,
    alternation: Alternation,
    encoding: Option<Encoding>,
    vectors: Vectors,
    answers: HashMap<RequestId, Answer>,
    inbox: VecDeque<(u64, Message)>,
    /// When the next turn begins.
    now: u64,
    idle: bool,
    down: bool,
    jumps: bool,
    jump: Option<Jump>,
    reports: Vec<Report>,
    done: Done,
    /// Where nanoseconds count from.
    epoch: Instant,
}

impl Worker {
    /// A worker that has warmed up; `jumps`: turns in which nothing changes are left out.
    pub fn new(index: u32, card: &Card, times: Arc<StageTimes>, jumps: bool) -> Self {
        let limits = Limits {
            slots: card.slots,
            pages: card.pages,
            host_pages: card.host_pages,
            keeps_conversations: true,
            eager_encode: true,
        };
        let mut opening = Prompt::new(1);
        let offset = vec![[0]; card.opening_entries.into()];
        opening.push_rows(0, offset.iter().map(|one| &one[..]), 1);
        opening.end_picture(card.opening_entries.into());
        Worker {
            index,
            queue: card.queue,
            opening,
            // Nobody looks at them here.
            pixels: Pixels::new(0, Vec::new()),
            tower: Tower::new(card),
            layers: card.layers,
            scheduler: Scheduler::new(limits.clone()),
            timings: warmed_up(card, &times),
            times,
            limits,
            alternation: Alternation::default(),
            encoding: None,
            vectors: Vectors::default(),
            answers: HashMap::new(),
            inbox: VecDeque::new(),
            now: 0,
            idle: true,
            down: false,
            jumps,
            jump: None,
            reports: Vec::new(),
            done: Done::default(),
            epoch: Instant::now(),
        }
    }

    /// Has looked at the first pictures of these sessions before time begins; it keeps the last ones.
    pub fn warm(&mut self, sessions: impl Iterator<Item = u32>) {
        for session in sessions {
            self.hold(session, 1);
            let plain = self.opening.entries().len();
            let Some((_, Ok(pages))) = self.scheduler.next_to_encode(plain) else {
                break;
            };
            let entries = self.opening.entries().to_vec();
            let (timings, now) = (EncodeTimings::default(), self.epoch);
            self.scheduler
                .encoded(Cached { entries, pages }, timings, now);
        }
        self.scheduler.take_events();
    }

    /// Puts a message behind all that come no later.
    pub fn send(&mut self, at: u64, message: Message) {
        let later = self.inbox.iter().rev().take_while(|(other, _)| *other > at);
        let place = self.inbox.len() - later.count();
        self.inbox.insert(place, (at, message));
    }

    /// When something happens next by what is known; `None`: nothing does.
    pub fn next(&self) -> Option<u64> {
        let message = self.inbox.front().map(|(at, _)| *at);
        let own = match (&self.jump, self.idle) {
            (Some(jump), _) => Some(jump.end),
            (None, true) => None,
            (None, false) => Some(self.now),
        };
        own.into_iter().chain(message).min()
    }

    pub fn take_reports(&mut self, into: &mut Vec<Report>) {
        into.append(&mut self.reports);
    }

    /// What it did in turns that began before `end`.
    pub fn done(&mut self, end: u64) -> Done {
        self.make_up(end);
        self.done.pages = self.scheduler.pages().0;
        self.done
    }

    /// Begins every turn that begins before `end`. All messages up to there must have been sent.
    pub fn run(&mut self, end: u64) {
        loop {
            let message = self.inbox.front().map(|(at, _)| *at);
            if let Some(jump) = &self.jump {
                let until = message.map_or(jump.end, |at| at.min(jump.end));
                if until >= end {
                    return;
                }
                self.make_up(until);
                continue;
            }
            if self.idle {
                match message.filter(|at| *at < end) {
                    Some(at) => self.now = self.now.max(at),
                    None => return,
                }
            }
            if self.now >= end {
                return;
            }
            while let Some((at, _)) = self.inbox.front()
                && *at <= self.now
                && let Some((_, message)) = self.inbox.pop_front()
            {
                self.take(message);
            }
            self.idle = self.down || !self.scheduler.is_busy();
            if self.idle {
                continue;
            }
            self.jump = self.plan();
            if self.jump.is_none() {
                self.turn();
            }
        }
    }

    fn at(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
    }

    fn tell(&mut self, at: u64, what: What) {
        let worker = self.index;
        self.reports.push(Report { at, worker, what });
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Restart => self.down = false,
            _ if self.down => {}
            Message::Picture { session, picture } => self.hold(session, picture),
            Message::Ask(asked) => self.ask(asked),
            Message::Forget { session, picture } => {
                self.scheduler
                    .forget_picture(key(session, picture), SessionId::new(session.into()));
                self.let_go();
            }
            Message::Lose => self.lose(),
        }
        self.publish();
    }

    fn hold(&mut self, session: u32, picture: u32) {
        let given = api::Picture {
            asker: asker(session),
            key: key(session, picture),
            pixels: self.pixels.clone(),
            system: String::new(),
            secret: None,
            traceparent: None,
        };
        self.scheduler.picture(given, self.at(self.now));
    }

    fn ask(&mut self, asked: Asked) {
        let request = asked.request;
        let id = RequestId::new(request.into());
        let earlier = self.answers.get(&id).map(|it| it.attempt);
        if earlier.is_some_and(|attempt| attempt >= asked.attempt) {
            return;
        }
        if earlier.is_none() && self.answers.len() >= self.queue + self.limits.slots {
            self.tell(self.now, What::Refused { request });
            return;
        }
        if earlier.is_some() {
            self.scheduler.replace(id);
            self.publish();
        }
        let ask = question(&asked);
        let received = self.at(self.now);
        self.answers.insert(
            id,
            Answer {
                request,
                attempt: asked.attempt,
                left: asked.answer.saturating_sub(asked.said).max(1),
                told: asked.said,
                silent: true,
            },
        );
        let deadline = self.at(asked.deadline);
        self.scheduler.ask(Job::new(&ask, received, deadline));
        let tokens = asked.prompt + asked.answer;
        let mut prompt = self.opening.with_room(tokens as usize);
        prompt.extend(std::iter::repeat_n(asked.text, asked.prompt as usize));
        self.scheduler.read(id, prompt, ask.so_far, None);
    }

    fn lose(&mut self) {
        let mut told: Vec<(u64, u32)> = self
            .answers
            .drain()
            .map(|(_, it)| (it.request, it.told))
            .collect();
        told.sort_unstable();
        for (request, tokens) in told {
            self.tell(self.now, What::Told { request, tokens });
        }
        self.tell(self.now, What::Lost);
        self.encoding = None;
        self.vectors = Vectors::default();
        self.alternation = Alternation::default();
        self.scheduler = Scheduler::new(self.limits.clone());
        self.down = true;
    }

    /// One turn of the worker's loop.
    fn turn(&mut self) {
        let begun = self.now;
        let rows = Rows {
            beside_tokens: match self.alternation.take_prompts() {
                true => self.timings.prompt_rows(),
                false => 0,
            },
            alone: StepTimings::PREFILL,
        };
        let turn = self.scheduler.turn(self.at(self.now), rows);
        self.publish();
        let leaving: usize = turn.leaving.iter().map(|(_, pages)| pages.len()).sum();
        let returning: usize = turn.returning.iter().map(|(_, pages)| pages.len()).sum();
        self.now += self.times.moved(leaving + returning);
        let running = turn.pieces.len() as u64;
        self.pass(&turn.pieces);
        drop(turn);
        let prompts_wait = self.scheduler.has_prompts();
        let may_slice = self
            .alternation
            .may_slice(self.encoding.is_some(), prompts_wait);
        let beside = match self.scheduler.is_decoding() {
            true => Beside::Tokens,
            false => Beside::Nothing,
        };
        if may_slice || beside == Beside::Nothing {
            let before = self.now;
            self.look(beside);
            self.done.looking += self.now - before;
        }
        self.now = self.now.max(begun + LEAST);
        self.publish();
        self.done.busy += self.now - begun;
        self.done.slots += (self.now - begun) * running;
        self.done.turns += 1;
    }

    fn pass(&mut self, pieces: &[Piece]) {
        if pieces.is_empty() {
            return;
        }
        let answers = pieces.iter().filter(|piece| piece.span.len == 1);
        let (answers, entries) = answers.fold((0, 0), |(answers, entries), piece| {
            (answers + 1, entries + piece.span.start + 1)
        });
        let rows: usize = pieces.iter().map(|piece| piece.span.len).sum();
        self.now += self.times.pass(answers, entries, rows - answers);
        self.observe(answers);
        for piece in pieces {
            self.scheduler.computed(piece);
            if piece.is_last {
                self.say(piece.request);
            }
        }
    }

    /// What the worker learns of a pass: it knows all of it already, but for how many answers there were.
    fn observe(&mut self, answers: usize) {
        let answers = answers.max(1);
        let step = Duration::from_nanos(self.times.reference(answers));
        self.timings.forward(step, answers, answers);
    }

    /// An answer goes on by a token, or ends.
    fn say(&mut self, request: RequestId) {
        let Some(answer) = self.answers.get_mut(&request) else {
            return;
        };
        answer.left -= 1;
        answer.told += 1;
        let (first, over) = (std::mem::take(&mut answer.silent), answer.left == 0);
        let number = answer.request;
        if first {
            self.tell(self.now, What::First { request: number });
        }
        self.done.tokens += 1;
        let said = TokenOutcome {
            at: self.at(self.now),
            id: Some(TOKEN),
            has_text: true,
            end: over.then_some(FinishReason::Stop),
        };
        self.scheduler.answered(request, said);
    }

    /// A slice of looking at a picture.
    fn look(&mut self, beside: Beside) {
        self.stop_unwanted();
        let Some(mut encoding) = self.encoding.take() else {
            return self.begin();
        };
        if let Some(tower) = &mut encoding.tower {
            self.now += tower.slice(&self.timings, &self.times, beside);
            if tower.is_done() {
                encoding.tower = None;
                self.vectors.keep(encoding.key);
            }
            self.encoding = Some(encoding);
            return;
        }
        let entries = self.opening.entries().len();
        self.now += encoding.prefill(entries, self.layers, &mut self.timings, &self.times, beside);
        if encoding.done < entries {
            self.encoding = Some(encoding);
            return;
        }
        self.done.pictures += 1;
        let cached = Cached {
            entries: self.opening.entries().to_vec(),
            pages: encoding.pages,
        };
        self.scheduler
            .encoded(cached, EncodeTimings::default(), self.at(self.now));
    }

    /// Begins with the next picture in line.
    fn begin(&mut self) {
        let plain = self.opening.entries().len();
        let Some((job, pages)) = self.scheduler.next_to_encode(plain) else {
            return;
        };
        let known = self.vectors.touch(job.key);
        match pages {
            Ok(pages) => {
                let tower = (!known).then_some(self.tower);
                self.encoding = Some(Encoding::new(job.key, tower, pages));
            }
            Err(full) => {
                let failure = Failure::new(ErrorCode::OutOfMemory, full.to_string());
                self.scheduler.encode_failed(job.key, &failure);
                self.let_go();
            }
        }
    }

    /// Pictures were dropped: they are looked at no longer, and their vectors go.
    fn let_go(&mut self) {
        self.stop_unwanted();
        self.vectors.retain(&self.scheduler);
    }

    /// What the scheduler has no more in hand is looked at no longer.
    fn stop_unwanted(&mut self) {
        let now_at = self.scheduler.encoding();
        self.encoding.take_if(|it| Some(it.key) != now_at);
    }

    fn publish(&mut self) {
        for event in self.scheduler.take_events() {
            match event {
                SchedulerEvent::Ended(job, end) => self.ended(&job, &end),
                SchedulerEvent::Encoded(_, key, _) => {
                    let (session, picture) = numbers(key);
                    self.tell(self.now, What::Encoded { session, picture });
                }
                SchedulerEvent::Queued(..)
                | SchedulerEvent::Started(_)
                | SchedulerEvent::PictureFailed(..) => {}
            }
        }
    }

    fn ended(&mut self, job: &Job, end: &End) {
        let end = match end {
            End::Replaced => return,
            End::Failed(_) => Ending::Failed,
            End::Finished { reason, .. } => match reason {
                FinishReason::Cancelled => Ending::Cancelled,
                FinishReason::Timeout => Ending::TimedOut,
                _ => Ending::Answered,
            },
        };
        let Some(answer) = self.answers.remove(&job.request) else {
            return;
        };
        let (prompt, _, cached) = job.usage();
        let what = What::Ended {
            request: answer.request,
            end,
            tokens: answer.told,
            prompt: prompt as u32,
            cached: cached as u32,
        };
        self.tell(self.now, what);
    }
}
