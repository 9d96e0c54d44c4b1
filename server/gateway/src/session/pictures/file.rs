//! A file on its way, counted against the memory that all uploads and requests share.

use std::sync::Arc;
use std::time::Instant;

use glimpse_image::{FileBuffer, Region};

use crate::intake::decode::HasFile;
use crate::intake::{self, Eviction, Reservation};
use api::SessionId;

/// Whoever gives memory for files back when asked to.
#[derive(Clone)]
pub enum Sender {
    /// An upload, by its session and its number there.
    Upload { session: SessionId, upload: u32 },
    /// A request that brings its files along.
    Request(Arc<Eviction>),
}

/// Memory for files on their way, shared by all sessions and requests.
pub type Budget = intake::Budget<Sender>;

/// A file's bytes, counted against the budget as long as they live.
pub struct File {
    data: FileBuffer,
    place: Reservation<Sender>,
}

impl File {
    /// An empty file that is counted at this place.
    pub fn new(place: Reservation<Sender>) -> Self {
        File {
            data: FileBuffer::default(),
            place,
        }
    }

    /// The bytes that have come.
    pub fn bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// Notes that bytes of the file come: where memory is short, the file that got none for longest is evicted first.
    pub fn touch(&self, now: Instant) {
        self.place.touch(now);
    }

    /// Appends a piece of a file of `announced` bytes; false if there is no memory for it.
    pub fn push(&mut self, piece: &[u8], announced: u64) -> bool {
        if !self.place.try_grow(piece.len() as u64) {
            return false;
        }
        let pushed = self.data.push(piece, announced);
        if let Err(problem) = &pushed {
            tracing::warn!(%problem, "no memory for an upload");
            self.place.shrink(piece.len() as u64);
        }
        pushed.is_ok()
    }
}

/// A file with all that an upload of it would have told.
pub struct CompleteFile {
    pub file: File,
    /// SHA-256 of the file's bytes, and of the region where there is one: equal ones are equal pictures.
    pub sha256: [u8; 32],
    /// The part of the picture that is meant; `None` is all of it.
    pub region: Option<Region>,
    /// The system turn of the first question about the picture; empty for none.
    pub system: String,
    /// How long it took to come, in milliseconds.
    pub upload_ms: f64,
}

impl HasFile for File {
    fn file(&mut self) -> &mut FileBuffer {
        &mut self.data
    }
}
