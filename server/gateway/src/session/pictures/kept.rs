//! A session's pictures, as they are kept outside of this process: without files and pixels.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::{EncodeTimings, ErrorCode, ImageReady, ServerMessage};

use super::list::{Picture, PictureList, Ready, Stage};
use super::uploads::KeptUploads;
use super::{LookUp, Outcome, PictureName, Pictures};
use crate::intake::retry;
use crate::session::context::{Context, Setup};
use api::{Failure, KnownPicture, PictureKey, Shown};

/// All pictures of a session, and the uploads that bring them.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptPictures {
    uploads: KeptUploads,
    outcomes: BTreeMap<u32, Outcome>,
    list: Vec<KeptPicture>,
}

/// [`Picture`], without what only its own process has.
#[derive(Debug, Serialize, Deserialize)]
struct KeptPicture {
    id: String,
    key: PictureKey,
    system: String,
    secret: [u8; 32],
    upload: u32,
    bytes: u64,
    upload_ms: f64,
    stage: KeptStage,
    used: u64,
}

/// [`Stage`].
#[derive(Debug, Serialize, Deserialize)]
enum KeptStage {
    Decoding,
    Ready {
        info: Box<ImageReady>,
        side: u32,
        encoded: Option<(u64, EncodeTimings)>,
    },
    Failed(Failure),
    Leaving,
    Gone,
}

impl Pictures {
    /// What is kept of them.
    pub fn kept(&self) -> KeptPictures {
        KeptPictures {
            uploads: self.uploads.kept(),
            outcomes: self
                .outcomes
                .iter()
                .map(|(at, it)| (*at, it.clone()))
                .collect(),
            list: self.list.iter().map(Picture::kept).collect(),
        }
    }

    /// What was kept. Files were never kept: uploads begin again, and [`Pictures::fail_undecoded`] is to follow.
    pub fn restore(kept: KeptPictures, setup: &Setup, now: Instant) -> Self {
        let mut pictures = Pictures::new(setup);
        pictures.uploads.restore(kept.uploads, now);
        pictures.outcomes = kept.outcomes.into_iter().collect();
        pictures.list = PictureList::restore(kept.list.into_iter().map(KeptPicture::restored));
        pictures
    }

    /// Pictures whose file was lost before it was decoded have to be sent again; those that were to be forgotten are.
    pub fn fail_undecoded(&mut self, context: &mut Context) {
        for picture in self.list.iter_mut() {
            if matches!(picture.stage, Stage::Leaving) {
                picture.stage = Stage::Gone;
                let forgotten = super::look::forgotten(&picture.id);
                context.send(ServerMessage::Forgotten(forgotten));
            }
        }
        let undecoded = self
            .list
            .iter()
            .filter(|it| matches!(it.stage, Stage::Decoding));
        for image in undecoded.map(|it| it.id.clone()).collect::<Vec<_>>() {
            let message = "The server that had the file is lost: send the picture again.";
            let failure = Failure::new(ErrorCode::Busy, message).retry_after(retry::UPLOADS);
            self.picture_failed(&image, failure, context);
        }
    }

    /// The counts of uses in them, each to be replaced by one of this process.
    pub fn uses(&mut self) -> impl Iterator<Item = &mut u64> {
        self.list.iter_mut().map(|picture| &mut picture.used)
    }

    /// Those that whoever computes has been given.
    pub fn known(&self, setup: &Setup) -> Vec<KnownPicture> {
        let ready = self.list.iter().filter_map(|picture| match &picture.stage {
            Stage::Ready(ready) => Some(KnownPicture {
                asker: setup.asker,
                key: picture.key,
                system: picture.system.clone(),
                secret: Some(picture.secret),
                side: ready.side,
                told: ready.encoded.is_some(),
            }),
            _ => None,
        });
        ready.collect()
    }

    /// A picture that can be asked about.
    pub fn shown(&self, name: &PictureName) -> Option<Shown> {
        match self.look_up(name) {
            LookUp::Ready(shown) => Some(shown),
            _ => None,
        }
    }
}

impl Picture {
    fn kept(&self) -> KeptPicture {
        KeptPicture {
            id: self.id.clone(),
            key: self.key,
            system: self.system.clone(),
            secret: self.secret,
            upload: self.upload,
            bytes: self.bytes,
            upload_ms: self.upload_ms,
            stage: match &self.stage {
                Stage::Decoding => KeptStage::Decoding,
                Stage::Ready(ready) => KeptStage::Ready {
                    info: Box::new(ready.info.clone()),
                    side: ready.side,
                    encoded: ready.encoded,
                },
                Stage::Failed(failure) => KeptStage::Failed(failure.clone()),
                Stage::Leaving => KeptStage::Leaving,
                Stage::Gone => KeptStage::Gone,
            },
            used: self.used,
        }
    }
}

impl KeptPicture {
    fn restored(self) -> Picture {
        Picture {
            id: self.id,
            key: self.key,
            system: self.system,
            secret: self.secret,
            upload: self.upload,
            bytes: self.bytes,
            upload_ms: self.upload_ms,
            stage: match self.stage {
                KeptStage::Decoding => Stage::Decoding,
                KeptStage::Ready {
                    info,
                    side,
                    encoded,
                } => Stage::Ready(Box::new(Ready {
                    info: *info,
                    side,
                    encoded,
                    _hold: None,
                })),
                KeptStage::Failed(failure) => Stage::Failed(failure),
                KeptStage::Leaving => Stage::Leaving,
                KeptStage::Gone => Stage::Gone,
            },
            used: self.used,
            telemetry: None,
        }
    }
}
