//! Text as the model counts it.

use crate::{Failure, Turn};

/// A conversation up to the question that is to be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// The system turn; empty for none.
    pub system: &'a str,
    pub history: &'a [Turn],
    pub question: &'a str,
    /// The turn that its picture comes with, from 0: one of the history's, or the question itself. `None` without a picture.
    pub picture: Option<usize>,
}

/// Whoever knows the model's tokens. All of it is computed on the thread that asks.
pub trait Tokens: Send + Sync {
    /// The ids of plain text, after those that every conversation begins with if `begins`.
    ///
    /// # Errors
    /// `loading`, `worker_failed`; `internal` for a text that can't be split.
    fn encode(&self, text: &str, begins: bool) -> Result<Vec<u32>, Failure>;

    /// The ids of the prompt that asks for a conversation's next answer. A picture is its three placeholders.
    ///
    /// # Errors
    /// Those of [`Tokens::encode`].
    fn prompt(&self, conversation: &Conversation<'_>) -> Result<Vec<u32>, Failure>;

    /// The bytes of each id, which may be a part of a character; of a control token its name.
    ///
    /// # Errors
    /// `loading`, `worker_failed`; `bad_message` for an id that there is not.
    fn bytes(&self, ids: &[u32]) -> Result<Vec<Vec<u8>>, Failure>;
}
