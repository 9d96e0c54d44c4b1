//! The pictures that a session has, or had.

use wire::{EncodeTimings, ImageReady};

use crate::intake::Retained;
use crate::telemetry;
use api::{Failure, PictureKey};

/// Records of failed and forgotten pictures kept, so that asking for one gets the right answer.
const MAX_PAST: usize = 256;

/// One picture of a session.
pub struct Picture {
    pub id: String,
    pub key: PictureKey,
    /// The system turn of the first question about it, as its last upload had it.
    pub system: String,
    /// What its pixels are sealed with where they are kept outside of this process.
    pub secret: [u8; 32],
    /// The upload that brought it.
    pub upload: u32,
    /// The file's size; the file itself is dropped once it is decoded.
    pub bytes: u64,
    pub upload_ms: f64,
    pub stage: Stage,
    /// When it was last used, by the server's count of uses.
    pub used: u64,
    /// The picture's spans, until the model has encoded it or never will.
    pub telemetry: Option<telemetry::Picture>,
}

/// How far a picture is.
pub enum Stage {
    Decoding,
    Ready(Box<Ready>),
    Failed(Failure),
    /// Forgotten while it was being decoded: `forgotten` follows when that is over.
    Leaving,
    Gone,
}

/// Decoded, and perhaps seen by the model.
pub struct Ready {
    pub info: ImageReady,
    /// The side of the square of pixels that the model sees.
    pub side: u32,
    pub encoded: Option<(u64, EncodeTimings)>,
    /// What the picture takes of the server's memory for pictures, kept as long as this lives; nothing where another process
    /// had it decoded.
    pub _hold: Option<Retained>,
}

impl Picture {
    /// Whether the picture takes memory and can be asked about.
    pub fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Decoding | Stage::Ready(_))
    }

    /// Nothing can be asked about it.
    pub fn fail(&mut self, failure: Failure) {
        if let Some(telemetry) = self.telemetry.take() {
            telemetry.failed(failure.code);
        }
        self.stage = Stage::Failed(failure);
    }
}

/// All of a session's pictures. There are few, so they are found by looking at each.
#[derive(Default)]
pub struct PictureList(Vec<Picture>);

impl PictureList {
    pub fn restore(pictures: impl Iterator<Item = Picture>) -> Self {
        PictureList(pictures.collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Picture> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Picture> {
        self.0.iter_mut()
    }

    pub fn add(&mut self, picture: Picture) {
        self.0.push(picture);
        let past = self.0.iter().filter(|picture| !picture.is_live()).count();
        if past > MAX_PAST
            && let Some(oldest) = self
                .0
                .iter()
                .position(|picture| matches!(picture.stage, Stage::Gone | Stage::Failed(_)))
        {
            self.0.remove(oldest);
        }
    }

    /// Bytes of memory, but for the pictures themselves.
    pub fn bytes(&self) -> usize {
        const PICTURE: usize = 1024;
        let systems = self.0.iter().map(|picture| picture.system.capacity());
        PICTURE * self.0.len() + systems.sum::<usize>()
    }

    pub fn get(&self, id: &str) -> Option<&Picture> {
        self.0.iter().find(|picture| picture.id == id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Picture> {
        self.0.iter_mut().find(|picture| picture.id == id)
    }

    /// The live picture with this content.
    pub fn by_sha256(&self, sha256: &[u8; 32]) -> Option<&Picture> {
        self.0
            .iter()
            .find(|picture| picture.key.sha256 == *sha256 && picture.is_live())
    }

    /// The picture that this upload brought, as long as it is being decoded.
    pub fn decoding(&self, upload: u32) -> Option<&Picture> {
        self.0
            .iter()
            .find(|picture| picture.upload == upload && matches!(picture.stage, Stage::Decoding))
    }

    /// The live picture that the engine speaks of.
    pub fn by_key(&mut self, key: &PictureKey) -> Option<&mut Picture> {
        self.0
            .iter_mut()
            .find(|picture| picture.key == *key && picture.is_live())
    }

    /// The live picture used longest ago, of those that `spare` lets go.
    pub fn oldest(&self, spare: impl Fn(&Picture) -> bool) -> Option<&Picture> {
        self.0
            .iter()
            .filter(|picture| picture.is_live() && spare(picture))
            .min_by_key(|picture| picture.used)
    }

    /// How many are live, and their files' bytes.
    pub fn live(&self) -> (u64, u64) {
        self.0
            .iter()
            .filter(|picture| picture.is_live())
            .fold((0, 0), |(count, bytes), picture| {
                (count + 1, bytes + picture.bytes)
            })
    }
}
