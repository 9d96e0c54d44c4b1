//! How an answer ends, and what it took.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model said that it is done, or a stop string appeared.
    Stop,
    /// `max_new_tokens` or the model's length is reached.
    Length,
    Cancelled,
    /// `limits.request_seconds` ran out.
    Timeout,
}

impl FinishReason {
    /// The reason's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Timeout => "timeout",
        }
    }
}

/// A token of the answer, and how probable it was: by the model's own distribution, before sampling settings, penalties
/// and a format change it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct TokenLogprob {
    /// The token's id.
    pub id: u32,
    /// The token's text in UTF-8, which may be a part of a character; none of a control token.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability; -9999 where that is 0.
    pub logprob: f64,
    /// The most probable tokens in its place, as many as were asked for, the most probable first.
    pub top: Vec<TopLogprob>,
}

/// A token that might have been in a place, and how probable it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct TopLogprob {
    /// The token's id.
    pub id: u32,
    /// The token's text in UTF-8, which may be a part of a character; none of a control token.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability; -9999 where that is 0.
    pub logprob: f64,
}

/// The most tokens that may be told beside each of an answer's.
pub const MAX_LOGPROBS: u32 = 20;

/// How many tokens it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Usage {
    /// The picture's vectors included.
    pub prompt_tokens: u64,
    pub image_tokens: u64,
    /// How many of `prompt_tokens` came from a cache.
    pub cached_tokens: u64,
    /// The stop token included.
    pub completion_tokens: u64,
}

/// `image_wait_ms + queue_ms + prefill_ms + decode_ms = total_ms`; `first_token_ms` runs from the receipt of `ask` to
/// the first piece of text leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct AnswerTimings {
    pub image_wait_ms: f64,
    pub queue_ms: f64,
    pub prefill_ms: f64,
    pub first_token_ms: f64,
    pub decode_ms: f64,
    pub total_ms: f64,
    pub tokens_per_second: f64,
}

/// What looking at the picture took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct EncodeTimings {
    pub queue_ms: f64,
    pub vision_ms: f64,
    pub prefill_ms: f64,
}
