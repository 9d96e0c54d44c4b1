//! What crosses between whoever asks and whoever computes, as plain data that could cross a wire.
//!
//! Nothing here computes, waits or listens; everything else may use it, and it uses nothing of the project. Without the
//! feature `compute` it is what the socket's messages are made of, small enough for a browser.

pub mod answer;
#[cfg(feature = "compute")]
pub mod asker;
#[cfg(feature = "compute")]
pub mod command;
#[cfg(feature = "compute")]
pub mod compute;
#[cfg(feature = "compute")]
pub mod encoding;
#[cfg(feature = "compute")]
pub mod event;
pub mod failure;
#[cfg(feature = "compute")]
pub mod fleet;
pub mod format;
#[cfg(feature = "compute")]
pub mod health;
#[cfg(feature = "compute")]
pub mod id;
#[cfg(feature = "compute")]
pub mod log;
#[cfg(feature = "compute")]
pub mod measured;
#[cfg(feature = "compute")]
pub mod pixels;
pub mod sampling;
pub mod status;
#[cfg(feature = "compute")]
pub mod tokens;
pub mod turn;

pub use answer::{AnswerTimings, EncodeTimings, FinishReason, TokenLogprob, TopLogprob, Usage};
#[cfg(feature = "compute")]
pub use asker::Asker;
#[cfg(feature = "compute")]
pub use command::{Ask, Command, Picture, PictureKey, Presence, Shown};
#[cfg(feature = "compute")]
pub use compute::{Compute, Loaded, Status};
#[cfg(feature = "compute")]
pub use event::{Event, Freed, Report};
pub use failure::{ErrorCode, Failure};
#[cfg(feature = "compute")]
pub use fleet::{Fleet, FleetWorker, WorkerStanding};
pub use format::AnswerFormat;
#[cfg(feature = "compute")]
pub use health::Health;
#[cfg(feature = "compute")]
pub use id::{ConversationId, RequestId, SessionId};
#[cfg(feature = "compute")]
pub use log::{Answer, KnownPicture, Log, LogName, Record, RecordKind, random_secret};
#[cfg(feature = "compute")]
pub use measured::{Counted, Gauges, Measured, Pass, Passes};
#[cfg(feature = "compute")]
pub use pixels::Pixels;
#[cfg(feature = "compute")]
pub use sampling::random_seed;
pub use sampling::{Defaults, Sampling, SamplingParams};
pub use status::{Download, Model, State};
#[cfg(feature = "compute")]
pub use tokens::{Conversation, Tokens};
pub use turn::Turn;

/// The largest integer that a JSON number holds exactly in every client.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
