//! What a worker is told.

use api::{AskJob, Failure, PictureJob, PictureKey};

use crate::reading::Read;

/// What the handle sends to a worker.
pub enum Command {
    Picture(PictureJob),
    Ask(AskJob),
    /// A question's text was read.
    Read {
        request: u64,
        read: Result<Box<Read>, Failure>,
    },
    /// There is a question too many, of somebody who has fewer than another: the newest of whoever has most ends with `busy`.
    GiveWay,
    /// Ends a request wherever it is; it answers with `Done { Cancelled }`.
    Cancel {
        request: u64,
    },
    /// Frees what the session has of the picture in the caches, and the picture itself once no session holds it;
    /// `done` is called when that is freed.
    Forget {
        session: u64,
        key: PictureKey,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Frees what is kept of a conversation; what of it still waits or runs is cancelled. `done` is called when that is freed.
    ForgetConversation {
        conversation: u64,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Cancels everything of the session and frees its caches.
    EndSession {
        session: u64,
    },
    /// Ends the worker when everything accepted before is answered.
    Shutdown,
}
