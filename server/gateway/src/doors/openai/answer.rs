//! Chat completions, as clients read them.

use schemars::JsonSchema;
use serde::Serialize;
use wire::{AnswerTimings, Done, FinishReason, TokenLogprob, Usage};

/// The whole answer to `POST /v1/chat/completions`.
#[derive(Serialize, JsonSchema)]
pub struct Completion<'a> {
    #[serde(flatten)]
    pub head: Head<'a>,
    pub choices: Vec<Choice>,
    pub usage: UsageReport,
}

/// A piece of it, in a stream.
#[derive(Serialize, JsonSchema)]
pub struct Chunk<'a> {
    #[serde(flatten)]
    pub head: Head<'a>,
    pub choices: Vec<Delta<'a>>,
    /// With `stream_options.include_usage` null in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<UsageReport>>,
}

/// What every piece of an answer begins with.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub struct Head<'a> {
    pub id: &'a str,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created: u64,
    pub model: &'a str,
}

/// One of the answers.
#[derive(Serialize, JsonSchema)]
pub struct Choice {
    pub index: usize,
    pub message: AnswerMessage,
    pub logprobs: Option<Logprobs>,
    pub finish_reason: &'static str,
}

/// What the model says.
#[derive(Serialize, JsonSchema)]
pub struct AnswerMessage {
    pub role: &'static str,
    pub content: String,
    pub refusal: Option<()>,
}

/// What is new of one of the answers.
#[derive(Serialize, JsonSchema)]
pub struct Delta<'a> {
    pub index: usize,
    pub delta: Words<'a>,
    pub logprobs: Option<Logprobs>,
    pub finish_reason: Option<&'static str>,
}

impl Delta<'_> {
    /// Nothing new of this answer.
    pub fn of(index: usize) -> Self {
        Delta {
            index,
            delta: Words::default(),
            logprobs: None,
            finish_reason: None,
        }
    }
}

#[derive(Default, Serialize, JsonSchema)]
pub struct Words<'a> {
    /// With an answer's first piece alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
}

/// How probable the tokens of an answer, or of a piece of it, were.
#[derive(Serialize, JsonSchema)]
pub struct Logprobs {
    pub content: Vec<TokenReport>,
    pub refusal: Option<()>,
}

/// A token, and how probable it was.
#[derive(Serialize, JsonSchema)]
pub struct TokenReport {
    #[serde(flatten)]
    token: TopReport,
    top_logprobs: Vec<TopReport>,
}

#[derive(Serialize, JsonSchema)]
struct TopReport {
    /// As far as it is text.
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

impl Logprobs {
    pub fn of(tokens: &[TokenLogprob]) -> Self {
        let report = |bytes: &[u8], logprob| TopReport {
            token: String::from_utf8_lossy(bytes).into_owned(),
            logprob,
            bytes: bytes.to_vec(),
        };
        let each = tokens.iter().map(|token| TokenReport {
            token: report(&token.bytes, token.logprob),
            top_logprobs: token
                .top
                .iter()
                .map(|top| report(&top.bytes, top.logprob))
                .collect(),
        });
        Logprobs {
            content: each.collect(),
            refusal: None,
        }
    }
}

/// What a request took, all of its answers together.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct UsageReport {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub prompt_tokens_details: PromptDetails,
    /// Timings of the answer that took longest.
    pub timings: AnswerTimings,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct PromptDetails {
    /// What was in the cache.
    pub cached_tokens: u64,
    /// What the picture takes of the prompt.
    pub image_tokens: u64,
}

impl UsageReport {
    /// Counts one answer more. All answers have one prompt, which counts once.
    pub fn add(&mut self, done: &Done) {
        let Usage {
            prompt_tokens,
            image_tokens,
            cached_tokens,
            completion_tokens,
        } = done.usage;
        let details = &mut self.prompt_tokens_details;
        self.prompt_tokens = self.prompt_tokens.max(prompt_tokens);
        details.image_tokens = details.image_tokens.max(image_tokens);
        details.cached_tokens = details.cached_tokens.max(cached_tokens);
        self.completion_tokens += completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
        if done.timings.total_ms >= self.timings.total_ms {
            self.timings = done.timings;
        }
    }

    /// As a `Server-Timing` header has it.
    pub fn server_timing(&self) -> String {
        let AnswerTimings {
            image_wait_ms,
            queue_ms,
            prefill_ms,
            decode_ms,
            total_ms,
            ..
        } = self.timings;
        format!(
            "image;dur={image_wait_ms:.2}, queue;dur={queue_ms:.2}, prefill;dur={prefill_ms:.2}, decode;dur={decode_ms:.2}, total;dur={total_ms:.2}"
        )
    }
}

/// Why an answer ended, in the API's words. One that ran out of time was cut off as one that ran out of length.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Timeout | FinishReason::Cancelled => "length",
    }
}
