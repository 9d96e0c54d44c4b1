//! A question that is not answered yet.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::Token;

use super::conversation::History;
use crate::telemetry;
use api::{AnswerFormat, SamplingParams, TokenLogprob};

/// What it takes in memory beside its texts, allocations included.
const ASK_BYTES: usize = 2048;

/// How often the engine may tell how an answer goes on before it is told that it may tell more: what can come at most of a
/// client that does not read.
pub const WINDOW: u32 = 32;

/// A question that has no `done` or `error` yet, or waits to enter its conversation's history.
pub struct Ask {
    /// The client's id.
    pub request: String,
    pub conversation: String,
    pub question: String,
    /// Replaces the conversation's.
    pub history: Option<History>,
    /// The conversation's system turn from here on; where the question has none, settled when the engine is given it.
    pub system: Option<String>,
    /// The turn that the picture came with, from here on.
    pub picture_turn: Option<u32>,
    pub sampling: SamplingParams,
    pub format: Option<AnswerFormat>,
    pub logprobs: Option<u32>,
    /// The span that its answer is a part of.
    pub traceparent: Option<String>,
    pub telemetry: telemetry::Question,
    /// When it came, by the server's count of uses.
    pub order: u64,
    pub received: Instant,
    pub deadline: Instant,
    pub stage: AskStage,
    /// The engine has it with the conversation's picture.
    pub pictured: bool,
    /// The engine is at it.
    pub started: bool,
    /// Whoever was at it is lost, and nothing has come from the next one yet.
    pub moving: bool,
    /// The position that the client was told.
    pub told: Option<Option<u64>>,
    /// Counts how often the engine was given it: events of an earlier time are not its own.
    pub attempt: u32,
    /// How often the engine may still tell how its answer goes on.
    pub credit: u32,
    /// The next piece's number.
    pub index: u64,
    /// The answer's text so far.
    pub answer: String,
    /// The answer's token ids so far; the text of the last may be yet to come.
    pub ids: Vec<u32>,
    /// How probable the tokens were of which no piece tells yet.
    pub untold: Vec<TokenLogprob>,
}

impl Ask {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let history = self.history.as_ref().map_or(0, History::bytes);
        let answer = self.answer.capacity() + 4 * self.ids.capacity();
        let system = self.system.as_ref().map_or(0, String::capacity);
        let format = self.format.as_ref().map_or(0, AnswerFormat::bytes);
        ASK_BYTES
            + self.question.capacity()
            + answer
            + history
            + system
            + format
            + self.untold_bytes()
    }

    /// A piece of the answer, with all that is to be told of its tokens.
    pub fn next_piece(&mut self, text: String) -> Token {
        let index = self.index;
        self.index += 1;
        Token {
            request: self.request.clone(),
            index,
            text,
            tokens: std::mem::take(&mut self.untold),
        }
    }

    fn untold_bytes(&self) -> usize {
        const EACH: usize = size_of::<TokenLogprob>() + 16;
        let tokens = self.untold.iter().map(|token| EACH * (1 + token.top.len()));
        tokens.sum()
    }

    /// How often the engine may tell more of its answer, where it is time to say so; that is said once.
    pub fn credit_due(&mut self) -> Option<u32> {
        let spent = WINDOW - self.credit;
        (self.stage == AskStage::Given && spent >= WINDOW / 2).then(|| {
            self.credit = WINDOW;
            spent
        })
    }

    /// The engine has told `ids`, which come behind the first so many of the answer's; whether anything of that is news.
    /// `logprobs` are theirs, or none.
    pub fn apply_tokens(&mut self, first: u64, ids: &[u32], logprobs: Vec<TokenLogprob>) -> bool {
        self.credit = self.credit.saturating_sub(1);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let known = self.ids.len().saturating_sub(first);
        let new = ids.get(known..).unwrap_or_default();
        self.ids.extend(new);
        self.untold.extend(logprobs.into_iter().skip(known));
        known == 0 || !new.is_empty()
    }
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum AskStage {
    /// The question waits for its picture or for its turn.
    Waiting,
    /// The engine has the question.
    Given,
    /// Ended by `cancel` or time while it waited: only its place in the history is still to come.
    Over,
}
