//! What whoever computes tells. All of it could cross a wire.

use serde::{Deserialize, Serialize};

use crate::{
    AnswerTimings, ConversationId, EncodeTimings, Failure, FinishReason, Fleet, Health, Measured,
    PictureKey, RequestId, SessionId, TokenLogprob, Usage,
};

/// What a session is told. Whatever names an `attempt` speaks of that one alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The picture was looked at. Once for each [`Command::Picture`](crate::Command::Picture) or, with eager encoding off,
    /// at the first question.
    Encoded {
        key: PictureKey,
        /// Cache entries that it takes in the decoder.
        tokens: u64,
        timings: EncodeTimings,
        /// Whether the picture's encoding was in the cache before.
        cached: bool,
    },
    /// The picture could not be looked at. Each question that waits for it gets its own [`Event::Failed`].
    PictureFailed {
        key: PictureKey,
        failure: Failure,
    },
    /// `position` 0 is next; `None` while the question waits for its picture.
    Queued {
        request: RequestId,
        attempt: u32,
        position: Option<u64>,
    },
    Started {
        request: RequestId,
        attempt: u32,
    },
    /// The answer went on.
    Tokens {
        request: RequestId,
        attempt: u32,
        /// Tokens that the answer had before.
        first: u64,
        /// The new ones, whether or not their text is shown yet; without the stop token, which is no part of the answer. A
        /// later [`Turn`](crate::Turn) holds them, so that the cache stays valid; a later attempt goes on behind them.
        ids: Vec<u32>,
        /// What they add to what can be shown: valid UTF-8, often a word, sometimes nothing.
        text: String,
        /// How probable each of `ids` was, where that was asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    Done {
        request: RequestId,
        attempt: u32,
        finish_reason: FinishReason,
        usage: Usage,
        timings: AnswerTimings,
    },
    Failed {
        request: RequestId,
        attempt: u32,
        failure: Failure,
    },
    /// Whoever computed the answer is lost; somebody else goes on with it, behind so many tokens.
    Moved {
        request: RequestId,
        attempt: u32,
        so_far: u64,
    },
    Freed(Freed),
}

/// What takes no memory any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freed {
    Picture(PictureKey),
    Conversation(ConversationId),
    /// All that the session had.
    Session,
}

/// What whoever computes tells, and whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Session {
        session: SessionId,
        event: Event,
    },
    /// Each second, and when its state changes: for whoever chooses a worker.
    Health(Health),
    /// What the worker with this number on its machine counts: for whoever watches.
    Measured {
        worker: u32,
        measured: Measured,
    },
    /// What was to be kept of a session is ([`Log::keep`](crate::Log::keep)).
    Kept {
        session: SessionId,
    },
    /// What was kept of a session is lost: all of it is to be kept anew.
    Unkept {
        session: SessionId,
    },
    /// What was kept of a session is lost, as was seen beside: all of it is to be kept anew, unless something is on its way, which
    /// finds that out too.
    Missing {
        session: SessionId,
    },
    /// Another process has the session by now.
    Taken {
        session: SessionId,
    },
    /// How the fleet stands, each second: for whoever watches.
    Fleet(Box<Fleet>),
}
