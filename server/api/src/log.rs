//! Whoever keeps sessions, so that another process can go on with them.

use std::pin::Pin;

use crate::{Asker, Failure, PictureKey, SessionId};

/// What a session's log is called: SHA-256 of the id by which its client resumes it, which nobody else may know.
pub type LogName = [u8; 32];

/// What comes later.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something that is kept of a session, in the words of whoever has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: RecordKind,
    pub bytes: Vec<u8>,
}

/// What a record is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// It goes behind them.
    More,
    /// It is all of the session: they are not needed any more.
    Whole,
    /// It is all of the session that may be known: what they say must not be readable any more.
    Erasing,
}

/// A picture that another process gave to whoever computes, which has its pixels or finds them.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownPicture {
    pub asker: Asker,
    pub key: PictureKey,
    /// As [`Picture::system`](crate::Picture::system).
    pub system: String,
    /// As [`Picture::secret`](crate::Picture::secret).
    pub secret: Option<[u8; 32]>,
    /// The side of its square of pixels.
    pub side: u32,
    /// Its session knows that it was looked at; otherwise [`Event::Encoded`](crate::Event::Encoded) follows.
    pub told: bool,
}

/// Keeps what sessions are, outside of the process that has them. Each is had by one process at a time.
pub trait Log: Send + Sync {
    /// Keeps a session's record behind those that are there; one at a time for each session.
    /// [`Report::Kept`](crate::Report::Kept) follows, however long it takes; or [`Report::Unkept`](crate::Report::Unkept) if what
    /// was there is lost; or [`Report::Taken`](crate::Report::Taken) if another process has the session by now. Then nothing was kept.
    fn keep(&self, session: SessionId, name: LogName, record: Record);

    /// Whether this process still has a session that it kept something of. While that can't be found out it has.
    fn has(&self, name: LogName) -> Answer<bool>;

    /// Makes a session this process's. Its records from the last whole one on, in order; `None` if nothing is kept.
    ///
    /// # Errors
    /// `busy`, with a time, while it can't be found out.
    fn take(&self, name: LogName) -> Answer<Result<Option<Vec<Record>>, Failure>>;

    /// A session's picture, once the session was taken.
    fn known(&self, picture: KnownPicture);

    /// The session is this process's, and called so, before anything else is said of it.
    fn enter(&self, session: SessionId, name: LogName);

    /// Another process has the session by now: nothing of it is told here any more, and nothing of it is freed.
    fn release(&self, session: SessionId, name: LogName);

    /// A session is over here. Unless another process has it by now, nobody can read any more what was kept of it, and then it
    /// ends for whoever computes too, as by [`Command::EndSession`](crate::Command::EndSession).
    fn end(&self, session: SessionId, name: LogName);
}

/// Something to seal with that nobody else has.
pub fn random_secret() -> [u8; 32] {
    rand::random()
}
