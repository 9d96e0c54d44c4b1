//! What both hubs have in common.

use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use crate::Error;
use crate::checksum::Checksum;

/// A file, as the hub describes it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub path: String,
    pub size: u64,
    pub checksum: Checksum,
}

/// Where a file goes in the cache.
pub(crate) struct Place {
    /// Where its bytes lie once they are whole.
    pub file: PathBuf,
    /// Where they lie until then.
    pub incomplete: PathBuf,
    /// Who has this locked fetches it.
    pub lock: PathBuf,
}

/// One revision of a model, on its hub and in the hub's cache.
pub(crate) trait Source: Sync {
    /// What the hub says of a file, if it has one of that name.
    fn describe(&self, path: &str) -> Result<Option<File>, Error>;

    /// Where its bytes are to be had.
    fn url(&self, file: &File) -> Url;

    fn place(&self, file: &File) -> Place;

    /// Whether the cache has it already.
    fn has(&self, file: &File) -> io::Result<bool>;

    /// Makes a file that lies whole at its place one of the model's.
    fn publish(&self, file: &File) -> Result<(), Error>;

    /// All files are there.
    fn finish(&self) -> Result<(), Error>;

    /// The folder that holds all files under their names.
    fn folder(&self) -> &Path;
}
