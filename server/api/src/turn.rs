//! A conversation's past.

use serde::{Deserialize, Serialize};

/// A question and its answer, earlier in the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// As the user wrote it.
    pub question: String,
    /// As the user read it; empty if it ended before its first word.
    pub answer: String,
    /// As the model made it, leading newline included and stop token excluded. Exact ids keep a cache valid, for
    /// the same text may be spelled by other tokens; without them the answer is encoded as the original would.
    pub answer_ids: Option<Vec<u32>>,
}
