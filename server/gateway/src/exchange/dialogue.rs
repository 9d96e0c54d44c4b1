//! A whole conversation as one request brings it: what stateless doors make of what they are sent.

use std::hash::{BuildHasher, RandomState};

use glimpse_image::Region;
use sha2::{Digest, Sha256};
use wire::Turn;

use crate::session::File;
use api::Failure;

/// A conversation up to the question that is to be answered.
#[derive(Default)]
pub struct Dialogue {
    /// The system turn; empty is none.
    pub system: String,
    /// What was asked and answered before.
    pub history: Vec<Turn>,
    /// What is asked now.
    pub question: String,
    pub picture: Option<Picture>,
}

/// Where a picture's file is.
pub enum Source {
    File(File),
    /// With a session that waits for the next request, most likely ([`recall`](super::Exchanges::recall)): else it is read.
    Known(Box<dyn FnOnce() -> Result<File, Failure> + Send>),
}

/// The picture of a conversation.
pub struct Picture {
    pub source: Source,
    /// SHA-256 of the file's bytes.
    pub sha256: [u8; 32],
    /// The part of it that is asked about; `None` is all of it.
    pub region: Option<Region>,
    /// The turn whose message carries it, from 0: one of the history's, or the question itself.
    pub turn: usize,
    /// How long the file took to come, in milliseconds.
    pub upload_ms: f64,
}

impl Picture {
    /// What the session knows the picture by: the hash of the file, and of the region where there is one.
    pub fn identity(&self) -> [u8; 32] {
        let Some(Region {
            x,
            y,
            width,
            height,
        }) = self.region
        else {
            return self.sha256;
        };
        let mut hash = Sha256::new_with_prefix(self.sha256);
        for side in [x, y, width, height] {
            hash.update(side.to_le_bytes());
        }
        hash.finalize().into()
    }
}

/// Tells turns apart by hashes that nobody outside can make collide.
#[derive(Default)]
pub struct Fingerprints(RandomState);

impl Fingerprints {
    /// A fingerprint of each turn together with all before it, so that equal ones mean equal beginnings.
    pub fn of(&self, system: &str, turns: &[Turn]) -> Vec<u64> {
        let mut before = self.beginning(system);
        let chain = turns.iter().map(|turn| {
            before = self.after(before, &turn.question, &turn.answer);
            before
        });
        chain.collect()
    }

    /// The fingerprint after one more turn. `before` is the last turn's, or that of none: [`Self::beginning`].
    pub fn after(&self, before: u64, question: &str, answer: &str) -> u64 {
        // Many clients trim what they show, and send it back so.
        self.0.hash_one((before, question.trim(), answer.trim()))
    }

    /// The fingerprint of a conversation without turns.
    pub fn beginning(&self, system: &str) -> u64 {
        self.0.hash_one(system)
    }
}
