//! What a worker is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{
    Ask, Asker, ConversationId, Failure, Picture, PictureKey, Presence, RequestId, SessionId,
};

use model::prompt::Prompt;

use crate::reports::{FreedNotice, Permit};
use crate::tokenization::TokenizedQuestion;

/// What the handle sends to a worker.
pub enum Command {
    Picture(Picture),
    /// What the first question about a picture will begin with, up to the picture's end; none if nothing stands before the
    /// picture.
    LookAhead {
        asker: Asker,
        key: PictureKey,
        opening: Option<Prompt>,
    },
    Ask(Box<Question>),
    /// A question's text was read.
    Tokenized {
        request: RequestId,
        attempt: u32,
        read: Result<Box<TokenizedQuestion>, Failure>,
    },
    /// There is a question too many, of somebody who has fewer than another: the newest of whoever has most ends with `busy`.
    GiveWay,
    /// An answer may tell so much more.
    Credit {
        request: RequestId,
        events: u32,
    },
    Presence {
        session: SessionId,
        presence: Presence,
    },
    /// Ends a request wherever it is; it answers with `Done { Cancelled }`.
    Cancel {
        request: RequestId,
    },
    /// Frees what the session has of the picture in the caches, and the picture itself once no session holds it.
    Forget {
        key: PictureKey,
        freeing: FreedNotice,
    },
    /// Frees what is kept of a conversation; what of it still waits or runs is cancelled.
    ForgetConversation {
        conversation: ConversationId,
        freeing: FreedNotice,
    },
    /// Cancels everything of the session and frees its caches.
    EndSession {
        session: SessionId,
        /// The notice that all workers share: it is told once the last has freed what it had.
        freeing: Arc<FreedNotice>,
    },
    /// Ends the worker when everything accepted before is answered.
    Shutdown,
}

/// A question on its way to a worker.
pub struct Question {
    pub ask: Ask,
    pub ticket: Permit,
    /// When the client's question was read.
    pub received: Instant,
    /// When the answer must be over.
    pub deadline: Instant,
    /// Lives as long as the question is open: what still waits to be read for one that is over is dropped.
    pub open: Arc<()>,
}

impl Question {
    pub fn new(ask: Ask, ticket: Permit) -> Self {
        /// No answer takes longer; and later moments may not exist.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        let time = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or(LONGEST);
        let now = Instant::now();
        Question {
            received: now.checked_sub(time(ask.waited_ms)).unwrap_or(now),
            deadline: now + time(ask.left_ms.max(0.0)).min(LONGEST),
            open: Arc::new(()),
            ticket,
            ask,
        }
    }
}
