//! What the server sends.

use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// A text frame from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerEnvelope {
    /// Milliseconds since the session's start, on the server's monotonic clock.
    pub at: f64,
    /// 1, 2, 3 … without gaps, on every message that a resume replays ([`ServerMessage::is_event`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    #[serde(flatten)]
    pub message: ServerMessage,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    Welcome(Box<Welcome>),
    Status(Status),
    UploadAccepted(UploadAccepted),
    UploadProgress(UploadProgress),
    UploadReceived(UploadReceived),
    ImageReady(ImageReady),
    ImageEncoded(ImageEncoded),
    Queued(Queued),
    Started(Started),
    Token(Token),
    Done(Box<Done>),
    Forgotten(Forgotten),
    Error(Error),
    Pong(Pong),
}

impl ServerMessage {
    /// Whether it is numbered and kept for a resume.
    pub fn is_event(&self) -> bool {
        !matches!(
            self,
            ServerMessage::Welcome(_)
                | ServerMessage::Pong(_)
                | ServerMessage::Status(_)
                | ServerMessage::UploadAccepted(_)
                | ServerMessage::UploadProgress(_)
        )
    }
}

/// What the server is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    Loading,
    Warming,
    Ready,
    Draining,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session's id: whoever has it can resume the session, so keep it as a secret.
    pub session: String,
    /// [`crate::PROTOCOL`].
    pub protocol: String,
    /// Present when the client asked to resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<bool>,
    /// Why a resume was not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub state: State,
    pub model: Model,
    pub limits: Limits,
}

/// Why a session could not be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Expired,
    Unknown,
    Gap,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    /// The embedded demo checkpoint: it knows generated scenes, not photographs.
    pub demo: bool,
    /// Pictures are seen at `image_size` × `image_size` pixels.
    pub image_size: u32,
    /// The model's length in positions; a picture takes 3 of them.
    pub max_positions: u32,
    pub device: String,
    pub dtype: String,
    pub quantization: String,
}

/// What a session may do; refused beyond, never clamped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub message_bytes: u64,
    pub text_chars: u64,
    pub upload_bytes: u64,
    pub image_pixels: u64,
    pub open_uploads: u64,
    pub images: u64,
    pub session_image_bytes: u64,
    pub open_requests: u64,
    pub max_new_tokens: u64,
    pub upload_window: u64,
    pub outbox_bytes: u64,
    pub replay_bytes: u64,
    pub resume_seconds: f64,
    pub idle_seconds: f64,
    pub upload_idle_seconds: f64,
    pub request_seconds: f64,
    pub stall_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub state: State,
    /// 0–1 while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadAccepted {
    pub upload: u32,
    /// The offset of the client's next byte.
    pub received: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadProgress {
    pub upload: u32,
    /// The offset of the client's next byte.
    pub received: u64,
}

/// At the last byte, before any decoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadReceived {
    pub upload: u32,
    pub image: String,
    pub bytes: u64,
    pub sha256: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cached: bool,
}

/// The picture is decoded and scaled to the model's size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageReady {
    pub image: String,
    /// In pixels, upright.
    pub width: u32,
    pub height: u32,
    /// jpeg, png, webp, gif, bmp, tiff …
    pub format: String,
    pub timings: ImageTimings,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cached: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageTimings {
    pub upload_ms: f64,
    pub decode_ms: f64,
    pub preprocess_ms: f64,
}

/// The model has looked: a question now costs only its own tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageEncoded {
    pub image: String,
    /// Cache entries that the picture takes in the decoder.
    pub tokens: u64,
    pub timings: EncodeTimings,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cached: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodeTimings {
    pub queue_ms: f64,
    pub vision_ms: f64,
    pub prefill_ms: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    pub request: String,
    pub conversation: String,
    /// 0 is next; null while it waits for its picture.
    pub position: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    pub request: String,
}

/// A piece of the answer: always valid UTF-8; joined, the pieces are the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub request: String,
    /// 0, 1, 2 … without gaps.
    pub index: u64,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub request: String,
    pub conversation: String,
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timings: AnswerTimings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The picture's vectors included.
    pub prompt_tokens: u64,
    pub image_tokens: u64,
    /// Of `prompt_tokens`, how many came from a cache.
    pub cached_tokens: u64,
    /// The stop token included.
    pub completion_tokens: u64,
}

/// `image_wait_ms + queue_ms + prefill_ms + decode_ms = total_ms`; `first_token_ms` runs from the receipt of `ask` to
/// the first piece of text leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerTimings {
    pub image_wait_ms: f64,
    pub queue_ms: f64,
    pub prefill_ms: f64,
    pub first_token_ms: f64,
    pub decode_ms: f64,
    pub total_ms: f64,
    pub tokens_per_second: f64,
}

/// The bytes, pixels and caches of it are freed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forgotten {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    pub code: ErrorCode,
    /// What happened and what to do.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Retry only if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<serde_json::Value>,
}

fn is_false(value: &bool) -> bool {
    !value
}
