//! Conversations and their histories.

use std::collections::VecDeque;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::session::pictures::PictureName;
use api::{ConversationId, RequestId, Turn};

/// What each takes in memory beside its texts, allocations included.
const TURN_BYTES: usize = 128;
const CONVERSATION_BYTES: usize = 512;

/// A conversation about at most one picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Conversation {
    /// The conversation's id in the engine.
    pub id: ConversationId,
    pub picture: Option<PictureName>,
    /// The picture was named in the middle of the conversation and no turn about it is in the history yet: if that
    /// question fails it never happened, and the conversation has no picture.
    pub tentative: bool,
    pub history: History,
    /// The system turn, empty for none; not settled before a question was answered.
    pub system: Option<String>,
    /// The turn that the picture came with.
    pub picture_turn: u32,
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
        let system = self.system.as_ref().map_or(0, String::capacity);
        let queue = size_of::<RequestId>() * self.queue.capacity();
        CONVERSATION_BYTES + self.history.bytes() + system + queue
    }

    /// Removes the picture, as if none had ever been named.
    pub fn lose_picture(&mut self) {
        self.picture = None;
        self.tentative = false;
    }
}

/// Turns, and what they take in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Turn>", into = "Vec<Turn>")]
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

impl From<History> for Vec<Turn> {
    fn from(history: History) -> Self {
        history.turns
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

/// The client's history, with the token ids that the server remembers for turns that are unchanged, so that the cache
/// stays valid for them. Many clients trim what they show: an answer that differs by blanks at its ends alone is taken to be
/// the one that was given.
pub fn restore(given: Vec<wire::Turn>, remembered: &[Turn]) -> History {
    let turns: Vec<Turn> = given
        .into_iter()
        .enumerate()
        .map(|(index, turn)| {
            let known = remembered
                .get(index)
                .filter(|known| known.question == turn.question)
                .filter(|known| known.answer.trim() == turn.answer.trim());
            known.cloned().unwrap_or_else(|| turn.into())
        })
        .collect();
    turns.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_turns_keep_their_tokens() {
        let turn = |question: &str, answer: &str| wire::Turn {
            question: question.into(),
            answer: answer.into(),
        };
        let remembered = [("q1", "\na1"), ("q2", "a2")].map(|(question, answer)| Turn {
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
        // Its ids are of what was said.
        assert_eq!(restored[0].answer, "\na1");
    }
}
