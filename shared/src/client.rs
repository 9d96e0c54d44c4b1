//! What a client sends.

#[cfg(not(target_family = "wasm"))]
use api::AnswerFormat;
use api::Sampling;
use serde::{Deserialize, Serialize};

/// A text frame from a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    Hello(Hello),
    Upload(Upload),
    Ask(Box<Ask>),
    Cancel(Cancel),
    Forget(Forget),
    Ack(Ack),
    Ping(Ping),
}

/// The `type`s of [`ClientMessage`]: anything else is `unknown_type`.
pub const CLIENT_TYPES: [&str; 7] = ["hello", "upload", "ask", "cancel", "forget", "ack", "ping"];

/// Only as the first message; optional where the server asks for no key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hello {
    /// An API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// Goes on with an earlier session after its last seen `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Resume {
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub session: String,
    pub last_event: u64,
}

/// Announces a picture; its bytes follow in binary frames ([`crate::frame`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Upload {
    /// The client's number for this upload, used once in a session.
    pub upload: u32,
    /// The whole file's size.
    pub bytes: u64,
    /// Lower-case hex of the whole file; known to the session, it is answered without any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The system turn that the first question about the picture will have: the model looks at the picture behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ask {
    /// The client's id for the question, unique in the session, 1–128 bytes.
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub request: String,
    pub text: String,
    /// Goes on with a conversation; without it a new one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub conversation: Option<String>,
    /// The picture, by the number of its upload, from the moment that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<u32>,
    /// The picture, by the id that `upload_received` gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub image: Option<String>,
    /// The conversation's system turn from now on, none if it is empty. Without it the conversation keeps the one that it has;
    /// one that begins has its upload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Replaces what the server remembers of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Turn>>,
    /// The turn that the picture came with, from 0: one of the history's, or behind them the question itself. Without it the
    /// conversation keeps the one that it has; one that begins or brings a `history` has the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_turn: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    // As what follows, not for the page, which would be some KB larger.
    /// The format that the answer has to have.
    #[cfg(not(target_family = "wasm"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<AnswerFormat>,
    /// 0–20: tells how probable each token was, beside so many others in its place.
    #[cfg(not(target_family = "wasm"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(max = 20)))]
    pub logprobs: Option<u32>,
    /// The trace that the answer is a part of, as W3C Trace Context writes it; what can't be read as one is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A question and its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Turn {
    pub question: String,
    pub answer: String,
}

/// Without the tokens that the model wrote, which no client is told.
impl From<Turn> for api::Turn {
    fn from(turn: Turn) -> Self {
        api::Turn {
            question: turn.question,
            answer: turn.answer,
            answer_ids: None,
        }
    }
}

/// Ends a request or an upload: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cancel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<u32>,
}

/// Frees a conversation or a picture now: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Forget {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub image: Option<String>,
}

/// Acknowledges an event and all before it: they need not be kept for a resume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ack {
    pub event: u64,
}

/// Answered by `pong` with the same `t`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ping {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<serde_json::Value>,
}
