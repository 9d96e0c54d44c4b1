//! What the server sends.

use serde::{Deserialize, Serialize};

#[cfg(not(target_family = "wasm"))]
use api::TokenLogprob;
use api::{
    AnswerTimings, Download, EncodeTimings, ErrorCode, Failure, FinishReason, Model, Sampling,
    State, Usage,
};

/// A text frame from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerEnvelope {
    /// Milliseconds since the session's start, on the server's monotonic clock.
    pub at: f64,
    /// 1, 2, 3 … without gaps, on every message that a resume replays ([`ServerMessage::is_event`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    #[serde(flatten)]
    pub message: ServerMessage,
}

impl ServerEnvelope {
    /// Reads a text frame. The derived `Deserialize` does the same, but buffers every message to find its tag: slower,
    /// and in WASM several times as large.
    ///
    /// # Errors
    /// Where the text is no JSON object, or not of a type that this protocol has.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head<'a> {
            at: f64,
            #[serde(default)]
            event: Option<u64>,
            #[serde(borrow)]
            r#type: std::borrow::Cow<'a, str>,
        }
        let head: Head = serde_json::from_str(text)?;
        use ServerMessage as M;
        let message = match &*head.r#type {
            "welcome" => M::Welcome(serde_json::from_str(text)?),
            "status" => M::Status(serde_json::from_str(text)?),
            "upload_accepted" => M::UploadAccepted(serde_json::from_str(text)?),
            "upload_progress" => M::UploadProgress(serde_json::from_str(text)?),
            "upload_received" => M::UploadReceived(serde_json::from_str(text)?),
            "image_ready" => M::ImageReady(serde_json::from_str(text)?),
            "image_encoded" => M::ImageEncoded(serde_json::from_str(text)?),
            "queued" => M::Queued(serde_json::from_str(text)?),
            "started" => M::Started(serde_json::from_str(text)?),
            "token" => M::Token(serde_json::from_str(text)?),
            "done" => M::Done(serde_json::from_str(text)?),
            "forgotten" => M::Forgotten(serde_json::from_str(text)?),
            "error" => M::Error(serde_json::from_str(text)?),
            "pong" => M::Pong(serde_json::from_str(text)?),
            other => return Err(serde::de::Error::custom(format!("unknown type {other:?}"))),
        };
        Ok(ServerEnvelope {
            at: head.at,
            event: head.event,
            message,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    Welcome(Box<Welcome>),
    Status(Box<Status>),
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

/// The first message on every connection; a `hello` is answered by one more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// The formats of pictures that are read: jpeg, png, webp, gif, bmp, tiff, heic, avif …
    #[serde(default)]
    pub formats: Vec<String>,
    /// What holds for a question that leaves it out: the checkpoint's own. Absent until the checkpoint is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
}

/// Why a session could not be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Expired,
    Unknown,
    Gap,
}

/// What a session may do; refused beyond, never clamped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// A text frame's, and a binary frame's bytes.
    pub message_bytes: u64,
    /// Unicode code points of a question.
    pub text_chars: u64,
    /// Bytes of a file.
    pub upload_bytes: u64,
    /// Width × height, as the file's header says.
    pub image_pixels: u64,
    /// Uploads that are not complete.
    pub open_uploads: u64,
    /// Pictures held; the one used longest ago goes.
    pub images: u64,
    /// Bytes of the files of all pictures held.
    pub session_image_bytes: u64,
    /// Questions without `done` or `error`.
    pub open_requests: u64,
    /// Tokens of an answer.
    pub max_new_tokens: u64,
    /// Keep no more than so many bytes beyond the last `received`.
    pub upload_window: u64,
    /// Unsent bytes at which answers pause.
    pub outbox_bytes: u64,
    /// Bytes that are sent and not acknowledged, kept for a resume.
    pub replay_bytes: u64,
    /// A session without a connection is kept for so long.
    pub resume_seconds: f64,
    /// Without a sign of life (a pong to the server's ping is one) the connection closes with 4002.
    pub idle_seconds: f64,
    /// An upload without a byte ends with `upload_timeout`.
    pub upload_idle_seconds: f64,
    /// Seconds from `ask` to the end of the answer.
    pub request_seconds: f64,
    /// A client that does not read for so long is closed with 4008.
    pub stall_seconds: f64,
}

/// Whenever the server's state changes; until then it is what the `welcome` told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    pub state: State,
    /// 0–1 while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// While the model comes from its hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Download>,
    /// Requests whose answers go on elsewhere, since the machine that wrote them is lost: each until its next message. Only
    /// where many machines serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moving: Vec<String>,
    /// Once it is loaded: a `welcome` that came before may not have known it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// So is this: what holds for a question that leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
}

/// The bytes may come, from `received` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UploadAccepted {
    pub upload: u32,
    /// The offset of the client's next byte.
    pub received: u64,
}

/// Every 256 KiB or 100 ms while bytes come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UploadProgress {
    pub upload: u32,
    /// The offset of the client's next byte.
    pub received: u64,
}

/// Sent at an upload's last byte, before any decoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageReady {
    pub image: String,
    /// In pixels, upright.
    pub width: u32,
    pub height: u32,
    /// One of `welcome.formats`.
    pub format: String,
    /// The frame of an animation, from 0, where the first ones have nothing on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
    pub timings: ImageTimings,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cached: bool,
}

/// What the picture's way to its pixels took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageTimings {
    pub upload_ms: f64,
    pub decode_ms: f64,
    pub preprocess_ms: f64,
}

/// The model has looked: a question now costs only its own tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageEncoded {
    pub image: String,
    /// Cache entries that the picture takes in the decoder.
    pub tokens: u64,
    pub timings: EncodeTimings,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cached: bool,
}

/// The question is taken. Sent again when its position falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Queued {
    pub request: String,
    pub conversation: String,
    /// 0 is next; null while it waits for its picture.
    pub position: Option<u64>,
}

/// The question has a slot: its prompt is computed now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Started {
    pub request: String,
}

/// A piece of the answer: always valid UTF-8; joined, the pieces are the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Token {
    pub request: String,
    /// 0, 1, 2 … without gaps.
    pub index: u64,
    pub text: String,
    /// Where `logprobs` were asked for: the tokens since the piece before. A character may span several, and what is not shown
    /// (white space before the first word, a stop string) has some too.
    #[cfg(not(target_family = "wasm"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenLogprob>,
}

/// The answer is over; nothing of this request follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    pub request: String,
    pub conversation: String,
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timings: AnswerTimings,
}

/// The bytes, pixels and caches of it are freed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Forgotten {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Something was refused or failed; `request`, `upload` or `image` say what ends by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "FlatError", into = "FlatError")]
pub struct Error {
    pub failure: Failure,
    pub request: Option<String>,
    pub upload: Option<u32>,
    pub image: Option<String>,
    pub conversation: Option<String>,
}

/// [`Error`] as it is written. By hand, since serde's way to flatten makes the page 11 KB larger.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Error"))]
struct FlatError {
    code: ErrorCode,
    /// What happened and what to do.
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    /// Retry only if it is there: after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<f64>,
}

impl From<FlatError> for Error {
    fn from(flat: FlatError) -> Self {
        Error {
            failure: Failure {
                retry_after_ms: flat.retry_after_ms,
                ..Failure::new(flat.code, flat.message)
            },
            request: flat.request,
            upload: flat.upload,
            image: flat.image,
            conversation: flat.conversation,
        }
    }
}

impl From<Error> for FlatError {
    fn from(error: Error) -> Self {
        FlatError {
            code: error.failure.code,
            message: error.failure.message,
            request: error.request,
            upload: error.upload,
            image: error.image,
            conversation: error.conversation,
            retry_after_ms: error.failure.retry_after_ms,
        }
    }
}

impl From<Failure> for Error {
    /// About nothing in particular yet, and without what is for the log alone.
    fn from(failure: Failure) -> Self {
        Error {
            failure: Failure {
                detail: None,
                ..failure
            },
            request: None,
            upload: None,
            image: None,
            conversation: None,
        }
    }
}

/// The answer to `ping`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pong {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<serde_json::Value>,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_alone_is_told_is_told_to_no_client() {
        let failure = Failure::new(ErrorCode::OutOfMemory, "Later.")
            .retry_after(5.0)
            .detail("an address, a path");
        let error = Error {
            request: Some("r1".into()),
            ..failure.into()
        };
        let said = serde_json::to_value(error).unwrap();
        let expected = serde_json::json!({
            "code": "out_of_memory",
            "message": "Later.",
            "retry_after_ms": 5.0,
            "request": "r1",
        });
        assert_eq!(said, expected);
    }

    #[test]
    fn reading_agrees_with_the_derived_form() {
        let frames = [
            r#"{"type":"status","at":1.5,"state":"loading","progress":0.5}"#,
            r#"{"type":"upload_accepted","at":1,"upload":1,"received":0}"#,
            r#"{"type":"upload_progress","at":1,"upload":1,"received":9}"#,
            r#"{"type":"upload_received","at":1,"event":1,"upload":1,"image":"i","bytes":9,"sha256":"00"}"#,
            r#"{"type":"image_ready","at":1,"event":2,"image":"i","width":1,"height":2,"format":"png","timings":{"upload_ms":1,"decode_ms":2,"preprocess_ms":3}}"#,
            r#"{"type":"image_encoded","at":1,"event":3,"image":"i","tokens":9,"timings":{"queue_ms":1,"vision_ms":2,"prefill_ms":3},"cached":true}"#,
            r#"{"type":"queued","at":1,"event":4,"request":"r","conversation":"c","position":null}"#,
            r#"{"type":"started","at":1,"event":5,"request":"r"}"#,
            r#"{"at":1,"event":6,"index":0,"request":"r","text":"\u4e09 \"x\"","type":"token","later":[1]}"#,
            r#"{"type":"done","at":1,"event":7,"request":"r","conversation":"c","finish_reason":"stop","usage":{"prompt_tokens":1,"image_tokens":1,"cached_tokens":1,"completion_tokens":1},"timings":{"image_wait_ms":0,"queue_ms":0,"prefill_ms":0,"first_token_ms":0,"decode_ms":0,"total_ms":0,"tokens_per_second":0}}"#,
            r#"{"type":"forgotten","at":1,"event":8,"image":"i"}"#,
            r#"{"type":"error","at":1,"event":9,"code":"busy","message":"m","retry_after_ms":5}"#,
            r#"{"type":"pong","at":1,"t":{"a":1}}"#,
        ];
        for frame in frames {
            let derived: ServerEnvelope = serde_json::from_str(frame).unwrap();
            assert_eq!(ServerEnvelope::read(frame).unwrap(), derived, "{frame}");
        }
        for bad in [
            "",
            "[]",
            r#"{"at":1}"#,
            r#"{"type":"new","at":1}"#,
            r#"{"type":"token","at":1}"#,
        ] {
            assert!(ServerEnvelope::read(bad).is_err(), "{bad}");
        }
    }
}
