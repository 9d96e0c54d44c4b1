//! The picture of the conversation, as it is shown.

use wire::{EncodeTimings, Failure, ImageTimings};

use super::{crop::Crop, transfer::Transfer};

/// Where the picture is on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum PicturePhase {
    /// In the page; no byte has left.
    Received,
    Uploading,
    /// The server has every byte; the model looks.
    Looking,
    /// The model has looked, or will at the first question.
    Ready,
    Failed(Failure),
}

impl PicturePhase {
    /// A stable name, for styles and tests.
    pub fn name(&self) -> &'static str {
        match self {
            PicturePhase::Received => "received",
            PicturePhase::Uploading => "uploading",
            PicturePhase::Looking => "looking",
            PicturePhase::Ready => "ready",
            PicturePhase::Failed(_) => "failed",
        }
    }
}

/// Times of the picture on the page's clock, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PictureTimes {
    /// The event that brought it: drop, change or paste.
    pub dropped: f64,
    /// "Received" stood on the page.
    pub shown: Option<f64>,
    /// The first bytes were read.
    pub read: Option<f64>,
    /// When scaling began and ended, if the page scaled the picture.
    pub scaled: Option<(f64, f64)>,
    /// The first frame left.
    pub sent: Option<f64>,
    /// The server's word that it has all.
    pub received: Option<f64>,
    pub ready: Option<f64>,
    pub encoded: Option<f64>,
    pub image: Option<ImageTimings>,
    pub encode: Option<EncodeTimings>,
}

/// A picture that comes to the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewPicture {
    /// A number of its own on this page, by which its bytes are found.
    pub id: u64,
    pub name: String,
    /// Its type, as the browser has it.
    pub kind: String,
    pub bytes: u64,
    /// The address of its reduced copy, where there is one already.
    pub preview: Option<String>,
    /// Where the picture was cut from, if it is a part of another.
    pub crop: Option<Box<Crop>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub id: u64,
    pub name: String,
    pub kind: String,
    /// Bytes of the file that was picked.
    pub bytes: u64,
    /// Bytes of what is sent: fewer than the file's where the page scales it.
    pub sending: u64,
    /// How much of it the server has.
    pub sent: u64,
    /// Bytes per second.
    pub speed: Option<f64>,
    pub phase: PicturePhase,
    /// The address of a reduced copy.
    pub preview: Option<String>,
    /// The browser cannot show it; the server may still read it.
    pub unseen: bool,
    /// The browser or the server has decoded it.
    pub readable: bool,
    /// Some of it is transparent, where the browser told.
    pub transparent: bool,
    /// Where the picture was cut from, if it is a part of another.
    pub crop: Option<Box<Crop>>,
    /// Width and height, upright.
    pub size: Option<(u32, u32)>,
    /// The upload's number on the wire, in this session.
    pub upload: Option<u32>,
    /// The picture's id on the wire, in this session.
    pub image: Option<String>,
    /// SHA-256 of the file that was picked, in hex.
    pub sha256: Option<String>,
    /// The system turn that it was announced with, in any session.
    pub system: Option<String>,
    pub(super) hashing: bool,
    /// A copy of it is sent, or was to be, in a format that the server reads.
    pub(super) copied: bool,
    pub times: PictureTimes,
    /// Its way to the server.
    pub(super) transfer: Option<Transfer>,
}

impl Picture {
    pub fn new(new: NewPicture, when: f64) -> Self {
        Picture {
            id: new.id,
            name: new.name,
            kind: new.kind,
            bytes: new.bytes,
            sending: new.bytes,
            sent: 0,
            speed: None,
            phase: PicturePhase::Received,
            preview: new.preview,
            unseen: false,
            readable: false,
            transparent: false,
            crop: new.crop,
            size: None,
            upload: None,
            image: None,
            sha256: None,
            system: None,
            hashing: false,
            copied: false,
            transfer: None,
            times: PictureTimes {
                dropped: when,
                ..PictureTimes::default()
            },
        }
    }

    /// Whether what was read for `generation` is of it, and still wanted.
    pub(super) fn reads(&self, generation: u32) -> bool {
        self.transfer.as_ref().is_some_and(|t| t.is(generation))
    }

    pub fn failed(&self) -> Option<&Failure> {
        match &self.phase {
            PicturePhase::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}
