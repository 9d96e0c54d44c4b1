//! What can go wrong, by stable codes.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($variant:ident = $code:literal, $meaning:literal;)*) => {
        /// What went wrong. With `request` an error ends that request, with `upload` that upload, with `image` the
        /// picture is unusable; with none it speaks of the message just read and ends nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $(#[doc = $meaning] $variant,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The code as it stands on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code,)* }
            }

            /// What the code means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    BadJson = "bad_json", "A text frame that is no JSON object.";
    BadMessage = "bad_message", "A message with a field missing, or of the wrong type or range.";
    UnknownType = "unknown_type", "A message with a `type` that this protocol has not.";
    BadFrame = "bad_frame", "A binary frame that is too short, too long, or for an upload never announced.";
    HelloLate = "hello_late", "A `hello` that is not the first message.";
    Unauthorized = "unauthorized", "No API key, or a wrong one.";
    RateLimited = "rate_limited", "Too many connections or requests from this key or address.";
    Busy = "busy", "The queue is full, or memory that all clients share, and this one has most of it.";
    Loading = "loading", "The model is still loading.";
    Draining = "draining", "The server is shutting down.";
    UploadTooLarge = "upload_too_large", "More bytes than `limits.upload_bytes`.";
    UploadLength = "upload_length", "More bytes arrived than were announced.";
    UploadNumberUsed = "upload_number_used", "The upload's number was used before in this session.";
    UploadCancelled = "upload_cancelled", "The client cancelled the upload.";
    UploadTimeout = "upload_timeout", "No byte arrived for `limits.upload_idle_seconds`.";
    TooManyUploads = "too_many_uploads", "More than `limits.open_uploads` at once.";
    HashMismatch = "hash_mismatch", "The bytes do not have the announced SHA-256.";
    ImageUnsupported = "image_unsupported", "A file that is no picture of a supported format.";
    ImageBroken = "image_broken", "A picture that is cut off or damaged.";
    ImageTooLarge = "image_too_large", "More pixels than `limits.image_pixels`.";
    ImageGone = "image_gone", "The picture was forgotten, or dropped to stay within `limits` or the server's memory.";
    UnknownUpload = "unknown_upload", "An upload number that this session has not.";
    UnknownImage = "unknown_image", "An image id that this session has not.";
    EmptyText = "empty_text", "A question with nothing in it to be seen: no text, or only spaces and invisible characters (U+200B, U+FEFF …).";
    TextTooLong = "text_too_long", "More characters than `limits.text_chars`.";
    BadSampling = "bad_sampling", "A sampling value out of its range.";
    BadFormat = "bad_format", "A `format` that is not understood, too large, or that no answer can have.";
    DuplicateRequest = "duplicate_request", "A request id used before for something else.";
    UnknownConversation = "unknown_conversation", "A conversation id that this session has not.";
    ConversationHasImage = "conversation_has_image", "The conversation is about another picture.";
    ContextFull = "context_full", "The conversation has reached the model's length.";
    OutOfMemory = "out_of_memory", "The device has no memory left for this request.";
    WorkerFailed = "worker_failed", "The worker failed in the middle of this request.";
    Internal = "internal", "A fault of the server's own.";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something was refused or failed: it alone, never its neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub code: ErrorCode,
    /// What happened and what to do.
    pub message: String,
    /// Retry only if it is there: after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<f64>,
    /// What the log is told beside, and no client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
            retry_after_ms: None,
            detail: None,
        }
    }

    pub fn detail(mut self, what: impl Into<String>) -> Self {
        self.detail = Some(what.into());
        self
    }

    pub fn retry_after(mut self, ms: f64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_on_the_wire_are_their_names() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
