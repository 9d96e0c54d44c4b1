//! What is measured, how often, and of which servers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::users::Kind;

pub struct Settings {
    /// The command line, for the report.
    pub command: String,
    pub servers: Servers,
    /// A picture, or a folder of them; without, one is made.
    pub image: Option<PathBuf>,
    pub prompt: String,
    /// The most tokens of an answer.
    pub max_new_tokens: u64,
    /// Rounds with each server.
    pub runs: u32,
    pub loads: Vec<Kind>,
    /// How long each load lasts.
    pub duration: Duration,
    /// The folder of the report.
    pub out: PathBuf,
    /// An earlier report.json, to be held against.
    pub compare: Option<PathBuf>,
}

pub enum Servers {
    /// One that runs already, by the URL of its socket.
    Running(String),
    Started(Launch),
}

/// Servers that are started for this.
pub struct Launch {
    /// The `glimpse` program.
    pub program: PathBuf,
    /// What each of them gets, after `glimpse serve`.
    pub flags: Vec<OsString>,
    /// What is switched off for comparison, each in a server of its own beside the one as it comes.
    pub before: Vec<Way>,
    /// Cold starts, of the server as it comes and of each of `cold_before`.
    pub cold: u32,
    pub cold_before: Vec<Way>,
}

/// A way for a server to be: as it comes, or with something switched off.
pub struct Way {
    pub name: &'static str,
    /// The server's flags, beside those that every server gets.
    pub flags: Vec<&'static str>,
    /// Whether the server encodes a picture before it is asked about it.
    pub eager: bool,
}

pub static AS_IT_COMES: Way = Way {
    name: "everything on",
    flags: Vec::new(),
    eager: true,
};
