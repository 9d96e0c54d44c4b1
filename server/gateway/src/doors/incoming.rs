//! Files that requests bring, in the share of the memory for files that is their client's.

use std::io::{self, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wire::ErrorCode;

use crate::intake::{Eviction, Reservation, retry};
use crate::session::{File, Sender, Shared};
use api::Failure;

/// Read at once of a file that is elsewhere.
const PIECE: usize = 64 << 10;

/// A client's share of the memory for files, which those that one request brings take.
pub struct Share {
    /// [`Client::number`](crate::intake::Client::number).
    client: u128,
    /// Asked when that memory is short and this client has most of it.
    pub eviction: Arc<Eviction>,
}

impl Share {
    /// `client` is [`Client::number`](crate::intake::Client::number).
    pub fn of(client: u128) -> Self {
        Share {
            client,
            eviction: Arc::default(),
        }
    }

    /// [`Client::number`](crate::intake::Client::number).
    pub fn client(&self) -> u128 {
        self.client
    }

    /// Memory that is counted as this client's.
    pub fn place(&self, shared: &Shared) -> Reservation<Sender> {
        let sender = Sender::Request(self.eviction.clone());
        shared.budget.place(self.client, sender)
    }

    /// A file of at most `announced` bytes, before the first of them.
    pub fn receive<'a>(&self, announced: u64, shared: &'a Shared) -> Incoming<'a> {
        Incoming {
            shared,
            announced,
            file: File::new(self.place(shared)),
            hash: Sha256::new(),
        }
    }

    /// All that a source has, and its SHA-256. It takes as long as it takes, on the thread that asks. `what` is what the source is
    /// called where it is too large, `broken` why there is no more of it.
    ///
    /// # Errors
    /// `upload_too_large`, `busy`, and what `broken` says.
    pub fn read(
        &self,
        mut source: impl Read,
        what: &str,
        broken: impl Fn(io::Error) -> Failure,
        shared: &Shared,
    ) -> Result<(File, [u8; 32]), Failure> {
        let most = shared.limits.upload_bytes;
        let mut incoming = self.receive(most, shared);
        let mut piece = vec![0; PIECE];
        loop {
            let count = source.read(&mut piece).map_err(&broken)?;
            if count == 0 {
                return Ok(incoming.finish());
            }
            if incoming.len() + count as u64 > most {
                let message = format!(
                    "{what} has more than the {most} bytes that are taken: name a smaller one."
                );
                return Err(Failure::new(ErrorCode::UploadTooLarge, message));
            }
            incoming.push(&piece[..count])?;
        }
    }
}

/// A file that comes piece by piece.
pub struct Incoming<'a> {
    shared: &'a Shared,
    announced: u64,
    file: File,
    hash: Sha256,
}

impl Incoming<'_> {
    /// Takes in the next piece.
    ///
    /// # Errors
    /// `busy`.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.hash.update(piece);
        append(&mut self.file, piece, self.announced, self.shared)
    }

    /// Bytes so far.
    fn len(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// The whole file, and its SHA-256.
    pub fn finish(self) -> (File, [u8; 32]) {
        (self.file, self.hash.finalize().into())
    }
}

/// Adds a piece to a file of `announced` bytes; where memory is short, whoever has most gives way, if that is not this client.
///
/// # Errors
/// `busy`.
pub fn append(
    file: &mut File,
    piece: &[u8],
    announced: u64,
    shared: &Shared,
) -> Result<(), Failure> {
    with_memory(piece.len(), shared, || file.push(piece, announced))
}

/// Does what needs so many bytes of the memory for files: once more if others have to give way for them first.
///
/// # Errors
/// `busy`.
pub fn with_memory(
    bytes: usize,
    shared: &Shared,
    mut done: impl FnMut() -> bool,
) -> Result<(), Failure> {
    if !done() {
        shared.reclaim_memory(bytes as u64);
        if !done() {
            return Err(short_of_memory());
        }
    }
    Ok(())
}

/// What whoever sends a file is told that there is no memory for.
pub fn short_of_memory() -> Failure {
    let message = "Too many files are on their way to this server: try again in a moment.";
    Failure::new(ErrorCode::Busy, message).retry_after(retry::UPLOADS)
}
