//! A question on its way to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{
    AnswerTimings, Asker, ConversationId, ErrorCode, Event, Failure, FinishReason, PictureKey,
    RequestId, Usage,
};

use super::command::Question;
use super::prefix::{Cached, Namespace};
use super::reading::Read;
use super::reports::Ticket;
use model::prompt::{Entry, Prompt};
use model::text::Answer;

/// A question and what has been generated for it. While it waits it holds no slot and no page.
pub struct Sequence {
    pub asker: Asker,
    pub conversation: ConversationId,
    pub request: RequestId,
    pub attempt: u32,
    pub picture: Option<PictureKey>,
    /// Its place in the order of arrival.
    pub order: u64,
    pub deadline: Instant,
    /// The prompt, once it is read, and behind it the answer.
    prompt: Option<Prompt>,
    /// How much of it was asked.
    prompt_entries: usize,
    /// Once its text is read.
    answer: Option<Answer>,
    /// How many [`Event::Tokens`] it may still tell.
    credit: u32,
    /// It ran beside others when the worker panicked, so it may be the cause: it runs alone until it has taken a step.
    pub suspect: bool,
    /// The queue position last told.
    told: Option<Option<u64>>,
    /// `Usage::cached_tokens`, from the first time that it ran.
    cached_tokens: Option<usize>,
    times: Times,
    ticket: Ticket,
    /// See [`Question::open`].
    _open: Arc<()>,
}

struct Times {
    received: Instant,
    /// When the picture stopped being what it waits for.
    picture: Option<Instant>,
    started: Option<Instant>,
    first_token: Option<Instant>,
    first_text: Option<Instant>,
}

impl Sequence {
    /// A question whose text is still being read.
    pub fn new(question: Question, order: u64) -> Self {
        let Question {
            ask,
            ticket,
            received,
            deadline,
            open,
        } = question;
        Sequence {
            asker: ask.asker,
            conversation: ask.conversation,
            request: ask.request,
            attempt: ask.attempt,
            picture: ask.pictures.first().map(|shown| shown.key),
            order,
            deadline,
            prompt: None,
            prompt_entries: 0,
            answer: None,
            credit: ask.credit,
            suspect: false,
            told: None,
            cached_tokens: None,
            times: Times {
                received,
                picture: None,
                started: None,
                first_token: None,
                first_text: None,
            },
            ticket,
            _open: open,
        }
    }

    /// Its text was read; why nothing is left to do, if so.
    pub fn read(&mut self, read: Read) -> Option<FinishReason> {
        let mut prompt = read.prompt;
        self.prompt_entries = prompt.entries().len();
        prompt.extend(read.so_far);
        self.prompt = Some(prompt);
        self.answer = Some(read.answer);
        read.end
    }

    pub fn is_read(&self) -> bool {
        self.prompt.is_some()
    }

    /// The cache's entries of prompt and answer; none until its text is read.
    pub fn entries(&self) -> &[Entry] {
        self.prompt.as_ref().map_or(&[], Prompt::entries)
    }

    /// Where some of them stand.
    pub fn positions(&self, entries: std::ops::Range<usize>) -> &[u32] {
        self.prompt
            .as_ref()
            .map_or(&[], |prompt| prompt.positions(entries))
    }

    pub fn namespace(&self) -> Namespace {
        Namespace {
            session: self.asker.session,
            picture: self.picture,
        }
    }

    /// Whoever asked can take no more for now.
    pub fn is_paused(&self) -> bool {
        self.credit == 0
    }

    /// So much more can be taken.
    pub fn grant(&mut self, events: u32) {
        self.credit = self.credit.saturating_add(events);
    }

    pub fn has_started(&self) -> bool {
        self.times.started.is_some()
    }

    /// How long it has had a slot, paused or not.
    pub fn running_for(&self) -> Option<Duration> {
        self.times.started.map(|at| at.elapsed())
    }

    /// There is no picture to wait for.
    pub fn picture_was_ready(&mut self) {
        self.times.picture = Some(self.times.received);
    }

    /// The picture is there: from now on it waits for its turn.
    pub fn picture_ready(&mut self) {
        self.times.picture.get_or_insert_with(Instant::now);
    }

    /// It got a slot, with `cached` entries computed before.
    pub fn start(&mut self, cached: usize) {
        if self.times.started.is_none() {
            self.times.started = Some(Instant::now());
            self.cached_tokens = Some(cached);
            self.ticket.tell(Event::Started {
                request: self.request,
                attempt: self.attempt,
            });
        }
    }

    /// Tells the position in the queue where it is news: `None` while it waits for its picture.
    pub fn tell_position(&mut self, position: Option<u64>) {
        let news = match (self.told, position) {
            (None, _) => true,
            (Some(None), Some(_)) => true,
            (Some(Some(old)), Some(new)) => new < old,
            (Some(_), None) => false,
        };
        if news && !self.has_started() {
            self.told = Some(position);
            self.ticket.tell(Event::Queued {
                request: self.request,
                attempt: self.attempt,
                position,
            });
        }
    }

    /// Chooses the next token from its scores and sends what can be shown of it; why it was the last, if it was.
    pub fn accept(&mut self, logits: &mut [f32]) -> Result<Option<FinishReason>, Failure> {
        let fault = |what: String| Failure::new(ErrorCode::WorkerFailed, what);
        let Some(answer) = &mut self.answer else {
            return Err(fault("a question was answered before it was read".into()));
        };
        let step = answer.next(logits).map_err(|e| fault(e.to_string()))?;
        self.times.first_token.get_or_insert_with(Instant::now);
        let ids = match step.is_eos {
            true => Vec::new(),
            false => vec![step.id],
        };
        self.go_on(ids, step.text);
        Ok(step.end)
    }

    /// Tells more of the answer, if it is more.
    fn go_on(&mut self, ids: Vec<u32>, text: String) {
        if ids.is_empty() && text.is_empty() {
            return;
        }
        if !text.is_empty() {
            self.times.first_text.get_or_insert_with(Instant::now);
        }
        let first = (self.entries().len() - self.prompt_entries) as u64;
        if let Some(prompt) = &mut self.prompt {
            prompt.extend(ids.iter().copied());
        }
        self.credit = self.credit.saturating_sub(1);
        self.ticket.tell(Event::Tokens {
            request: self.request,
            attempt: self.attempt,
            first,
            ids,
            text,
        });
    }

    /// Ends the answer: tells what was held back, then `Done`.
    pub fn finish(mut self, reason: FinishReason) {
        let rest = self.answer.as_mut().map(Answer::finish);
        self.go_on(Vec::new(), rest.unwrap_or_default());
        let tokens = self.answer.as_ref().map_or(0, Answer::tokens);
        let usage = Usage {
            prompt_tokens: self.prompt_entries as u64,
            image_tokens: self.prompt.as_ref().map_or(0, Prompt::picture_entries) as u64,
            cached_tokens: self.cached_tokens.unwrap_or(0) as u64,
            completion_tokens: tokens as u64,
        };
        let timings = self
            .times
            .summary(Instant::now(), self.picture.is_some(), tokens);
        self.ticket.end(Event::Done {
            request: self.request,
            attempt: self.attempt,
            finish_reason: reason,
            usage,
            timings,
        });
    }

    pub fn fail(self, failure: Failure) {
        self.ticket.fail(failure);
    }

    /// A later attempt takes its place.
    pub fn replaced(self) {
        self.ticket.replaced();
    }
}

impl Times {
    fn summary(&self, now: Instant, has_picture: bool, tokens: usize) -> AnswerTimings {
        let ms =
            |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        // What never happened took all the time there was before it, or none after.
        let started = self.started.unwrap_or(now);
        let picture = match self.picture {
            Some(at) => at.min(started),
            None if has_picture => started,
            None => self.received,
        };
        let first = self.first_token.unwrap_or(now);
        let decode_ms = ms(first, now);
        AnswerTimings {
            image_wait_ms: ms(self.received, picture),
            queue_ms: ms(picture.max(self.received), started),
            prefill_ms: ms(started, first),
            first_token_ms: ms(self.received, self.first_text.unwrap_or(first)),
            decode_ms,
            total_ms: ms(self.received, now),
            tokens_per_second: match tokens {
                0 | 1 => 0.0,
                n => (n - 1) as f64 / (decode_ms / 1e3).max(1e-9),
            },
        }
    }
}

/// A sequence in a slot, with the part of its entries that is in the cache.
pub struct Running {
    pub sequence: Sequence,
    pub cached: Cached,
}

impl Running {
    /// Entries that the next forward passes must compute; the last one's scores give the next token.
    pub fn pending(&self) -> &[Entry] {
        &self.sequence.entries()[self.cached.entries.len()..]
    }

    /// Between tokens, not in its prompt.
    pub fn is_decoding(&self) -> bool {
        self.pending().len() == 1 && self.sequence.times.first_token.is_some()
    }
}
