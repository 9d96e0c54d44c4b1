//! What crosses between whoever asks and whoever computes, as plain data that could cross a wire.
//!
//! Nothing here computes, waits or listens; everything else may use it, and it uses nothing of the project.

pub mod answer;
pub mod compute;
pub mod failure;
pub mod fair;
pub mod observer;
pub mod pixels;
pub mod sampling;
pub mod status;
pub mod turn;

pub use answer::{AnswerTimings, EncodeTimings, FinishReason, Usage};
pub use compute::{AskJob, Compute, Event, EventSink, PictureJob, PictureKey, Status};
pub use failure::{ErrorCode, Failure};
pub use fair::{Asker, FairQueue};
pub use observer::{Gauges, Observer};
pub use pixels::Pixels;
pub use sampling::{Defaults, Sampling, SamplingParams};
pub use status::{Model, State};
pub use turn::Turn;

/// The largest integer that a JSON number holds exactly in every client.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
