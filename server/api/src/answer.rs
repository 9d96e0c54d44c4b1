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
