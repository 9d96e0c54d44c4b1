//! A conversation's past.

use serde::{Deserialize, Serialize};

/// A question and its answer, earlier in the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The question as the user wrote it.
    pub question: String,
    /// The answer as the user read it; empty if it ended before its first word.
    pub answer: String,
    /// The answer's token ids as the model made them, leading newline included and stop token excluded. Exact ids keep a
    /// cache valid, for the same text may be spelled by other tokens; without them the answer is encoded as the original
    /// would.
    pub answer_ids: Option<Vec<u32>>,
}
