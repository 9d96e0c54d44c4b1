//! What whoever computes is asked for, and what comes of it.

use std::sync::Arc;
use std::time::Instant;

use crate::{
    AnswerTimings, Asker, Defaults, EncodeTimings, Failure, FinishReason, Model, Pixels,
    SamplingParams, State, Turn, Usage,
};

/// Names a picture's encoding. Sessions never share one unless the operator says so (`--share-pictures`), since the
/// time to the first token would tell one user what another looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PictureKey {
    /// The session's number, or 0 where pictures are shared.
    pub scope: u64,
    /// Of the file's bytes.
    pub sha256: [u8; 32],
}

/// A picture to look at.
pub struct PictureJob {
    pub asker: Asker,
    pub key: PictureKey,
    pub pixels: Arc<Pixels>,
    pub events: Arc<dyn EventSink>,
}

/// A question to answer.
pub struct AskJob {
    pub asker: Asker,
    /// Unique in the server too: what [`Compute::forget_conversation`] frees.
    pub conversation: u64,
    /// Unique in the server ([`Compute::next_id`]).
    pub request: u64,
    /// A picture given before; `None` is a conversation without one.
    pub picture: Option<PictureKey>,
    pub history: Vec<Turn>,
    pub question: String,
    pub sampling: SamplingParams,
    /// When the client's `ask` was read.
    pub received: Instant,
    /// When the answer must be over.
    pub deadline: Instant,
    pub events: Arc<dyn EventSink>,
    /// Lives as long as the question is open: what still waits to be done for one that is over is dropped.
    pub open: Arc<()>,
}

/// Where a session's events go. Called on the worker's thread: it must not block.
pub trait EventSink: Send + Sync {
    fn event(&self, event: Event);

    /// Whether the reader is too slow: its answers pause and leave their slot until it has caught up.
    fn stalled(&self) -> bool {
        false
    }

    /// Whether nobody is connected: its answers go on while nobody else waits for the slot, and otherwise later.
    fn away(&self) -> bool {
        false
    }
}

/// What whoever computes tells a session.
#[derive(Debug)]
pub enum Event {
    /// The picture is in the cache. Once per [`PictureJob`] or, with eager encoding off, at the first question.
    Encoded {
        key: PictureKey,
        /// Cache entries that it takes in the decoder.
        tokens: usize,
        timings: EncodeTimings,
        /// It was in the cache before.
        cached: bool,
    },
    /// The picture could not be encoded. Each question that waits for it gets its own [`Event::Failed`].
    PictureFailed {
        key: PictureKey,
        error: Failure,
    },
    /// `position` 0 is next; `None` while the question waits for its picture.
    Queued {
        request: u64,
        position: Option<usize>,
    },
    Started {
        request: u64,
    },
    /// A piece of the answer: valid UTF-8, never empty.
    Token {
        request: u64,
        text: String,
    },
    Done {
        request: u64,
        finish_reason: FinishReason,
        usage: Usage,
        timings: AnswerTimings,
        /// The answer as generated, without the stop token: a later [`Turn`] holds it, so that the cache stays valid.
        answer_ids: Vec<u32>,
    },
    Failed {
        request: u64,
        error: Failure,
    },
}

/// How the engine stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub state: State,
    /// 0–1 while loading.
    pub progress: Option<f64>,
    /// Known from the configuration on, so before the weights are loaded.
    pub model: Model,
    /// The checkpoint's own sampling settings, for what a question leaves open.
    pub sampling: Defaults,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// It failed because the device is lost while serving: a new process may get it back.
    pub lost: bool,
}

/// Whoever computes. Nothing here blocks.
pub trait Compute: Send + Sync {
    /// A number unique in this server: for requests and sessions. Never 0.
    fn next_id(&self) -> u64;

    /// Gives it a picture; with eager encoding it is looked at as soon as the device is free. Giving the same key again is
    /// cheap and answers `Encoded { cached: true }` if it is still there. While the model loads it waits.
    fn picture(&self, job: PictureJob);

    /// Queues a question; events follow, the first being `Queued`.
    ///
    /// # Errors
    /// The queue is full and no client has more in it (`busy`, with an honest `retry_after_ms`), or the model is loading or
    /// has failed.
    fn ask(&self, job: AskJob) -> Result<(), Failure>;

    /// Ends a request wherever it is; it answers with `Done { Cancelled }`.
    fn cancel(&self, request: u64);

    /// Frees what the session has of the picture in the caches, and the picture itself once no session holds it; `done` is
    /// called when that is freed.
    fn forget(&self, session: u64, key: PictureKey, done: Box<dyn FnOnce() + Send>);

    /// Frees what is kept of a conversation, then calls `done`; its unanswered questions are cancelled before.
    fn forget_conversation(&self, conversation: u64, done: Box<dyn FnOnce() + Send>);

    /// Cancels everything of the session and frees its caches.
    fn end_session(&self, session: u64);
}
