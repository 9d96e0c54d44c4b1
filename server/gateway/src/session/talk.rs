//! Conversations, and the questions that are not answered yet.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::Deref;
use std::time::Instant;

use api::{ConversationId, RequestId, SamplingParams, Turn};

/// Request ids remembered, so that one used again is noticed.
const MAX_REQUESTS: usize = 16_384;

/// What each takes in memory beside its texts, allocations included.
const TURN_BYTES: usize = 128;
const CONVERSATION_BYTES: usize = 512;
const ASK_BYTES: usize = 2048;

/// How often the engine may tell how an answer goes on before it is told that it may tell more: what can come at most of a
/// client that does not read.
pub const WINDOW: u32 = 32;

/// Turns, and what they take in memory.
#[derive(Clone, Debug, Default)]
pub struct History {
    turns: Vec<Turn>,
    bytes: usize,
}

impl History {
    pub fn push(&mut self, turn: Turn) {
        self.bytes += turn_bytes(&turn);
        self.turns.push(turn);
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl From<Vec<Turn>> for History {
    fn from(turns: Vec<Turn>) -> Self {
        History {
            bytes: turns.iter().map(turn_bytes).sum(),
            turns,
        }
    }
}

impl Deref for History {
    type Target = [Turn];

    fn deref(&self) -> &[Turn] {
        &self.turns
    }
}

fn turn_bytes(turn: &Turn) -> usize {
    let ids = turn.answer_ids.as_ref().map_or(0, |ids| 4 * ids.capacity());
    TURN_BYTES + turn.question.capacity() + turn.answer.capacity() + ids
}

/// What a conversation's picture is known as.
#[derive(Clone, Debug, PartialEq)]
pub enum PictureName {
    /// By its upload, from the moment that was announced.
    Upload(u32),
    Image(String),
}

/// A conversation about at most one picture.
pub struct Conversation {
    /// Its id in the engine.
    pub id: ConversationId,
    pub picture: Option<PictureName>,
    /// The picture was named in the middle of the conversation and no turn about it is in the history yet: if that
    /// question fails it never happened, and the conversation has no picture.
    pub unproven: bool,
    pub history: History,
    /// Unanswered questions in order of arrival; the first may be with the engine.
    pub queue: VecDeque<RequestId>,
    /// `forget` was asked for: it goes when its last question is over.
    pub leaving: bool,
    /// When it was last used, by the server's count of uses.
    pub used: u64,
}

impl Conversation {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        CONVERSATION_BYTES + self.history.bytes() + size_of::<RequestId>() * self.queue.capacity()
    }

    /// It goes on as if its picture had never been named.
    pub fn lose_picture(&mut self) {
        self.picture = None;
        self.unproven = false;
    }
}

/// A question that has no `done` or `error` yet, or waits to enter its conversation's history.
pub struct Ask {
    /// The client's id.
    pub request: String,
    pub conversation: String,
    pub question: String,
    /// Replaces the conversation's.
    pub history: Option<History>,
    pub sampling: SamplingParams,
    /// The span that its answer is a part of.
    pub traceparent: Option<String>,
    /// When it came, by the server's count of uses.
    pub order: u64,
    pub received: Instant,
    pub deadline: Instant,
    pub stage: AskStage,
    /// The engine has it with the conversation's picture.
    pub pictured: bool,
    /// The engine is at it.
    pub started: bool,
    /// The position that the client was told.
    pub told: Option<Option<u64>>,
    /// Counts how often the engine was given it: events of an earlier time are not its own.
    pub attempt: u32,
    /// How often the engine may still tell how its answer goes on.
    pub credit: u32,
    /// The next piece's number.
    pub index: u64,
    /// The pieces so far, …
    pub answer: String,
    /// … and the answer's token ids, whose text may be yet to come.
    pub ids: Vec<u32>,
}

impl Ask {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let history = self.history.as_ref().map_or(0, History::bytes);
        let answer = self.answer.capacity() + 4 * self.ids.capacity();
        ASK_BYTES + self.question.capacity() + answer + history
    }

    /// How often the engine may tell more of its answer, where it is time to say so; that is said once.
    pub fn top_up(&mut self) -> Option<u32> {
        let spent = WINDOW - self.credit;
        (self.stage == AskStage::Given && spent >= WINDOW / 2).then(|| {
            self.credit = WINDOW;
            spent
        })
    }

    /// The engine has told `ids`, which come behind the first so many of the answer's; whether anything of that is news.
    pub fn hear(&mut self, first: u64, ids: &[u32]) -> bool {
        self.credit = self.credit.saturating_sub(1);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let known = self.ids.len().saturating_sub(first);
        let new = ids.get(known..).unwrap_or_default();
        self.ids.extend(new);
        known == 0 || !new.is_empty()
    }
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AskStage {
    /// For its picture or for its turn.
    Waiting,
    /// With the engine.
    Given,
    /// Ended by `cancel` or time while it waited: only its place in the history is still to come.
    Over,
}

/// The request ids that were used, each with what was asked, as hashes.
#[derive(Default)]
pub struct Requests {
    hasher: RandomState,
    seen: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

/// Whether a request id is new.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    New,
    /// The same question under the same id: a repetition after a resume.
    Same,
    Different,
}

impl Requests {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        17 * self.seen.capacity() + 8 * self.order.capacity()
    }

    pub fn contains(&self, request: &str) -> bool {
        self.seen.contains_key(&self.hasher.hash_one(request))
    }

    pub fn enter(&mut self, ask: &wire::Ask) -> Seen {
        let id = self.hasher.hash_one(&ask.request);
        // The types hold nothing that JSON can't: an empty string never stands for two different questions in practice.
        let content = self
            .hasher
            .hash_one(serde_json::to_string(ask).unwrap_or_default());
        match self.seen.get(&id) {
            Some(before) if *before == content => Seen::Same,
            Some(_) => Seen::Different,
            None => {
                if self.order.len() >= MAX_REQUESTS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.seen.remove(&oldest);
                }
                self.seen.insert(id, content);
                self.order.push_back(id);
                Seen::New
            }
        }
    }

    /// The request was refused, to be tried again later: its id may be used for that.
    pub fn release(&mut self, request: &str) {
        let id = self.hasher.hash_one(request);
        self.seen.remove(&id);
        self.order.retain(|seen| *seen != id);
    }
}

/// The client's history, with the token ids that the server remembers for turns that are unchanged, so that the cache
/// stays valid for them.
pub fn restore(given: Vec<wire::Turn>, remembered: &[Turn]) -> History {
    let turns: Vec<Turn> = given
        .into_iter()
        .enumerate()
        .map(|(index, turn)| {
            let known = remembered
                .get(index)
                .filter(|known| known.question == turn.question && known.answer == turn.answer);
            Turn {
                answer_ids: known.and_then(|known| known.answer_ids.clone()),
                question: turn.question,
                answer: turn.answer,
            }
        })
        .collect();
    turns.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_used_once() {
        let mut requests = Requests::default();
        let ask = |request: &str, text: &str| wire::Ask {
            request: request.into(),
            text: text.into(),
            ..wire::Ask::default()
        };
        assert_eq!(requests.enter(&ask("a", "?")), Seen::New);
        assert_eq!(requests.enter(&ask("a", "?")), Seen::Same);
        assert_eq!(requests.enter(&ask("a", "!")), Seen::Different);
        assert_eq!(requests.enter(&ask("b", "?")), Seen::New);
        for i in 0..2 * MAX_REQUESTS {
            requests.enter(&ask(&format!("r{i}"), "?"));
        }
        assert_eq!(requests.seen.len(), MAX_REQUESTS);
        assert_eq!(requests.order.len(), MAX_REQUESTS);
    }

    #[test]
    fn unchanged_turns_keep_their_tokens() {
        let turn = |question: &str, answer: &str| wire::Turn {
            question: question.into(),
            answer: answer.into(),
        };
        let remembered = [("q1", "a1"), ("q2", "a2")].map(|(question, answer)| Turn {
            question: question.into(),
            answer: answer.into(),
            answer_ids: Some(vec![1, 2]),
        });
        let restored = restore(
            vec![turn("q1", "a1"), turn("q2", "edited"), turn("q3", "a3")],
            &remembered,
        );
        let ids: Vec<_> = restored
            .iter()
            .map(|turn| turn.answer_ids.is_some())
            .collect();
        assert_eq!(ids, [true, false, false]);
    }
}
