//! What a question's asker is told: its answer, piece by piece, and its end.

use std::sync::Arc;
use std::time::Instant;

use api::{ErrorCode, Event, Failure, FinishReason, RequestId, TokenLogprob, Usage};
use model::scores::{Scores, Wanted};
use model::text::{Answer, TextError};

use crate::reports::Permit;
use crate::scheduler::{End, Job, TokenOutcome};

/// An open question's way back to its asker.
pub struct Reply {
    request: RequestId,
    attempt: u32,
    ticket: Permit,
    /// Once the question's text is read.
    answer: Option<Answer>,
    /// Ids of the answer so far.
    ids: u64,
    /// Held as long as the question is open: [`Question::open`](crate::command::Question::open).
    _open: Arc<()>,
}

impl Reply {
    pub fn new((request, attempt): (RequestId, u32), ticket: Permit, open: Arc<()>) -> Self {
        Reply {
            request,
            attempt,
            ticket,
            answer: None,
            ids: 0,
            _open: open,
        }
    }

    /// The question's text was read; so many ids of its answer are known.
    pub fn read(&mut self, answer: Answer, so_far: usize) {
        self.answer = Some(answer);
        self.ids = so_far as u64;
    }

    pub fn is_of(&self, attempt: u32) -> bool {
        self.attempt == attempt
    }

    /// How many of the next token's scores it takes to choose.
    pub fn wanted(&self) -> Wanted {
        self.answer.as_ref().map_or(Wanted::All, Answer::wanted)
    }

    pub fn queued(&self, position: Option<u64>) {
        self.ticket.tell(Event::Queued {
            request: self.request,
            attempt: self.attempt,
            position,
        });
    }

    pub fn started(&self) {
        self.ticket.tell(Event::Started {
            request: self.request,
            attempt: self.attempt,
        });
    }

    /// Chooses the next token from its scores and tells what can be shown of it.
    ///
    /// # Errors
    /// No token can be chosen from such scores.
    pub fn accept(&mut self, scores: Scores) -> Result<TokenOutcome, Failure> {
        let fault = |what: String| Failure::new(ErrorCode::WorkerFailed, what);
        let Some(answer) = &mut self.answer else {
            return Err(fault("a question was answered before it was read".into()));
        };
        let step = match scores {
            Scores::All(mut scores) => answer.next(&mut scores),
            Scores::Largest(largest) => answer.next_among(&largest),
        };
        let step = step.map_err(|error| match error {
            TextError::Format(_) => Failure::new(ErrorCode::BadFormat, error.to_string()),
            _ => fault(error.to_string()),
        })?;
        let id = (!step.is_eos).then_some(step.id);
        let has_text = !step.text.is_empty();
        let logprob = step.logprob.filter(|_| id.is_some());
        let (ids, logprobs) = (id.into_iter().collect(), logprob.into_iter().collect());
        // Before whoever asked can have it, who may be faster than this thread is awake again.
        let at = Instant::now();
        self.tell(ids, step.text, logprobs);
        Ok(TokenOutcome {
            at,
            id,
            has_text,
            end: step.end,
        })
    }

    /// Tells more of the answer, if it is more.
    fn tell(&mut self, ids: Vec<u32>, text: String, logprobs: Vec<TokenLogprob>) {
        if ids.is_empty() && text.is_empty() {
            return;
        }
        let first = self.ids;
        self.ids += ids.len() as u64;
        self.ticket.tell(Event::Tokens {
            request: self.request,
            attempt: self.attempt,
            first,
            ids,
            text,
            logprobs,
        });
    }

    /// Tells the end, and before that what was held back of the answer.
    pub fn end(self, job: &Job, end: End) {
        match end {
            End::Finished { reason, .. } => self.finish(job, reason),
            End::Failed(failure) => self.ticket.fail(failure),
            End::Replaced => self.ticket.replaced(),
        }
    }

    fn finish(mut self, job: &Job, finish_reason: FinishReason) {
        let now = Instant::now();
        let rest = self.answer.as_mut().map(Answer::finish).unwrap_or_default();
        let mut times = job.times.clone();
        if !rest.is_empty() {
            times.first_text.get_or_insert(now);
        }
        self.tell(Vec::new(), rest, Vec::new());
        let tokens = self.answer.as_ref().map_or(0, Answer::tokens);
        let (prompt, pictures, cached) = job.usage();
        let usage = Usage {
            prompt_tokens: prompt as u64,
            image_tokens: pictures as u64,
            cached_tokens: cached as u64,
            completion_tokens: tokens as u64,
        };
        self.ticket.end(Event::Done {
            request: self.request,
            attempt: self.attempt,
            finish_reason,
            usage,
            timings: times.summary(now, job.picture.is_some(), tokens),
        });
    }
}
