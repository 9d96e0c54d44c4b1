//! What a session may do: `welcome.limits`.

use clap::Args;
use wire::Limits;

use super::Bytes;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// No time-out is longer: a year.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// A number of seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds))
        .ok_or_else(|| format!("must be a number of seconds, 0 to {MAX_SECONDS}"))
}

macro_rules! limits {
    ($($name:ident: $type:ty = $default:expr $(, $parser:expr)?; $help:literal)*) => {
        /// What a session may do; more is refused with the code for it. All of these but the memory of the whole
        /// server are told to clients in `welcome.limits`.
        #[derive(Clone, Debug, Args)]
        #[command(next_help_heading = "Limits, per session")]
        pub struct LimitArgs {
            $(
                #[doc = $help]
                #[arg(long, default_value_t = $default $(, value_parser = $parser)?)]
                pub $name: $type,
            )*
        }

        impl Default for LimitArgs {
            fn default() -> Self {
                LimitArgs { $($name: $default,)* }
            }
        }
    };
}

limits! {
    message_bytes: Bytes = Bytes(2 * MIB); "The longest message."
    text_chars: u64 = 16_384; "The longest question, in characters."
    upload_bytes: Bytes = Bytes(64 * MIB); "The biggest picture file."
    image_pixels: u64 = 100_000_000; "The most pixels of a picture."
    open_uploads: u64 = 4; "Uploads at once."
    images: u64 = 16; "Pictures kept; the one used longest ago goes."
    session_image_bytes: Bytes = Bytes(256 * MIB); "The sizes of all kept pictures' files together, though only pixels are kept: see --picture-memory."
    open_requests: u64 = 8; "Unanswered questions."
    max_new_tokens: u64 = 2048; "The longest answer, in tokens."
    upload_window: Bytes = Bytes(MIB); "Bytes that a client may send ahead of the server's progress."
    outbox_bytes: Bytes = Bytes(256 * KIB); "Unsent bytes after which a session's answers pause."
    replay_bytes: Bytes = Bytes(4 * MIB); "Bytes kept for a resume."
    resume_seconds: f64 = 300.0, seconds; "How long a session waits for its client to come back."
    idle_seconds: f64 = 60.0, seconds; "How long a connection may be silent; the server pings three times as often."
    upload_idle_seconds: f64 = 30.0, seconds; "How long an upload may stand still."
    request_seconds: f64 = 600.0, seconds; "How long an answer may take."
    stall_seconds: f64 = 30.0, seconds; "How long a client may not read, of an answer over plain HTTP too."
    upload_memory: Bytes = Bytes(GIB); "Memory for the files on their way, of all sessions together; beyond, the stalest uploads of the key or address that has most of it end."
    session_memory: Bytes = Bytes(256 * MIB); "Memory for histories, open questions, and messages that are unsent or kept for a resume, of all sessions together; beyond, the key or address that has most of it loses some: sessions without a connection first."
    message_memory: Bytes = Bytes(64 * MIB); "Memory for messages that have begun to come and are not whole, of all connections together; beyond, connections of the key or address that has most of it close."
    picture_memory: Bytes = Bytes(4 * GIB); "Memory for the pixels of kept pictures, of all sessions together; beyond, pictures of the key or address that keeps most go: of sessions without a connection first, then those used longest ago."
    decode_memory: Bytes = Bytes(1536 * MIB); "Memory for decoding pictures, of all sessions together; three quarters of it are the most that one key or address has, and so the most of a picture."
    decode_seconds: f64 = 20.0, seconds; "Processor time that decoding one picture may take."
}

impl LimitArgs {
    /// The limits as `welcome` tells them.
    ///
    /// # Errors
    /// A sentence about limits that contradict each other.
    pub fn wire(&self) -> Result<Limits, String> {
        let positive = [
            ("--text-chars", self.text_chars),
            ("--image-pixels", self.image_pixels),
            ("--open-uploads", self.open_uploads),
            ("--images", self.images),
            ("--open-requests", self.open_requests),
            ("--max-new-tokens", self.max_new_tokens),
            ("--upload-bytes", self.upload_bytes.0),
        ];
        if let Some((flag, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{flag} must be at least 1"));
        }
        let at_least = [
            // A binary frame has 64 KiB and its header.
            ("--message-bytes", self.message_bytes, 65 * KIB),
            ("--upload-window", self.upload_window, 256 * KIB),
            ("--outbox-bytes", self.outbox_bytes, 4 * KIB),
            // What is unsent must fit into what is kept.
            ("--replay-bytes", self.replay_bytes, 2 * self.outbox_bytes.0),
            (
                "--session-image-bytes",
                self.session_image_bytes,
                self.upload_bytes.0,
            ),
            ("--upload-memory", self.upload_memory, self.upload_bytes.0),
            (
                "--session-memory",
                self.session_memory,
                self.replay_bytes.0 + 16 * self.message_bytes.0,
            ),
            (
                "--message-memory",
                self.message_memory,
                4 * self.message_bytes.0,
            ),
        ];
        if let Some((flag, _, least)) = at_least.iter().find(|(_, value, least)| value.0 < *least) {
            return Err(format!("{flag} must be at least {}", Bytes(*least)));
        }
        if self.idle_seconds < 1.0 || self.request_seconds <= 0.0 || self.stall_seconds <= 0.0 {
            return Err("--idle-seconds must be at least 1, --request-seconds and --stall-seconds more than 0".into());
        }
        Ok(Limits {
            message_bytes: self.message_bytes.0,
            text_chars: self.text_chars,
            upload_bytes: self.upload_bytes.0,
            image_pixels: self.image_pixels,
            open_uploads: self.open_uploads,
            images: self.images,
            session_image_bytes: self.session_image_bytes.0,
            open_requests: self.open_requests,
            max_new_tokens: self.max_new_tokens,
            upload_window: self.upload_window.0,
            outbox_bytes: self.outbox_bytes.0,
            replay_bytes: self.replay_bytes.0,
            resume_seconds: self.resume_seconds,
            idle_seconds: self.idle_seconds,
            upload_idle_seconds: self.upload_idle_seconds,
            request_seconds: self.request_seconds,
            stall_seconds: self.stall_seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert!(LimitArgs::default().wire().is_ok());
    }

    #[test]
    fn contradictions_are_named() {
        let limits = LimitArgs {
            session_image_bytes: Bytes(1),
            ..LimitArgs::default()
        };
        assert!(limits.wire().unwrap_err().contains("--session-image-bytes"));
        let limits = LimitArgs {
            images: 0,
            ..LimitArgs::default()
        };
        assert!(limits.wire().unwrap_err().contains("--images"));
    }
}
