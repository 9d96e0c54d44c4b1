//! The wire, `glimpse.v1`: every message between a client and the server, as a type.
//!
//! Text frames are JSON objects with a `"type"`: [`ClientMessage`] one way, [`ServerEnvelope`] the other. Binary
//! frames carry a picture's bytes, see [`frame`]. Unknown fields are ignored everywhere. Times are milliseconds.

mod blank;
pub mod client;
pub mod frame;
mod hash;
#[cfg(test)]
mod schemas;
pub mod server;

pub use api::{
    AnswerFormat, AnswerTimings, Download, EncodeTimings, ErrorCode, Failure, FinishReason,
    MAX_INTEGER, Model, Sampling, State, TokenLogprob, TopLogprob, Usage,
};
pub use blank::is_blank;
pub use client::{Ack, Ask, Cancel, ClientMessage, Forget, Hello, Ping, Resume, Turn, Upload};
pub use hash::{parse_sha256, to_hex};
pub use server::{
    Done, Error, Forgotten, ImageEncoded, ImageReady, ImageTimings, Limits, Pong, Queued, Reason,
    ServerEnvelope, ServerMessage, Started, Status, Token, UploadAccepted, UploadProgress,
    UploadReceived, Welcome,
};

/// The WebSocket subprotocol, and `welcome.protocol`.
pub const PROTOCOL: &str = "glimpse.v1";

/// The most bytes an identifier may have: `request`, `conversation`, `image`, `session`.
pub const MAX_ID_BYTES: usize = 128;

/// Close codes of the server's own, beside RFC 6455's.
pub mod close {
    /// Close code: the server drains, come back later.
    pub const DRAINING: u16 = 1001;
    /// Close code: another connection resumed the session.
    pub const TAKEN_OVER: u16 = 4001;
    /// Close code: nothing was heard for `limits.idle_seconds`.
    pub const IDLE: u16 = 4002;
    /// Close code: the client did not read for `limits.stall_seconds`.
    pub const TOO_SLOW: u16 = 4008;
    /// Close code: no API key, or a wrong one.
    pub const UNAUTHORIZED: u16 = 4401;
    /// Close code: too many connections or requests.
    pub const RATE_LIMITED: u16 = 4429;
}
