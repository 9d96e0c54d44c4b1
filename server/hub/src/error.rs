//! What can go wrong, each with a name that stays.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not a model's name.
    BadName,
    /// The model's terms have to be accepted first.
    Gated,
    /// The hub wants to know who asks, or does not let them.
    Denied,
    /// There is no such model, revision or file.
    NotFound,
    RateLimited,
    /// The hub answers, but not with what was asked for.
    Unavailable,
    Unreachable,
    DiskFull,
    WrongChecksum,
    /// Nothing may be fetched, and the cache has it not.
    Offline,
    /// What the hub has is nothing that can be served.
    Unusable,
    /// Another process has it in its hands.
    Busy,
    /// The cache can't be read or written.
    Cache,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadName => "bad_name",
            Code::Gated => "gated",
            Code::Denied => "denied",
            Code::NotFound => "not_found",
            Code::RateLimited => "rate_limited",
            Code::Unavailable => "hub_unavailable",
            Code::Unreachable => "hub_unreachable",
            Code::DiskFull => "disk_full",
            Code::WrongChecksum => "wrong_checksum",
            Code::Offline => "offline",
            Code::Unusable => "unusable",
            Code::Busy => "busy",
            Code::Cache => "cache",
        }
    }

    /// Whether the hub could not answer just now, so that what the cache has is still good.
    pub(crate) fn is_passing(self) -> bool {
        matches!(
            self,
            Code::RateLimited | Code::Unavailable | Code::Unreachable
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, in a sentence that says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Error {
    pub code: Code,
    pub message: String,
    /// When it may be tried again, where the hub said so.
    pub retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// What a file of the cache could not be used for.
    pub(crate) fn file(doing: &str, path: &Path, problem: &io::Error) -> Self {
        let place = path.display();
        match problem.kind() {
            // A limit of the process or a quota is a disk that is full for this one.
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Error::new(
                Code::DiskFull,
                format!(
                    "the disk is full: {place} can't grow ({problem}); make room, or point HF_HOME or MODELSCOPE_CACHE at a \
                     larger disk, then run this again: what is there is kept"
                ),
            ),
            _ => Error::new(
                Code::Cache,
                format!(
                    "{place} can't be {doing} ({problem}): check its permissions, or point HF_HOME or MODELSCOPE_CACHE \
                     elsewhere"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_by_any_name() {
        for (errno, code) in [
            (28, Code::DiskFull),
            (122, Code::DiskFull),
            (27, Code::DiskFull),
            (13, Code::Cache),
        ] {
            let problem = io::Error::from_raw_os_error(errno);
            assert_eq!(Error::file("written", Path::new("x"), &problem).code, code);
        }
    }
}
