//! The session's pictures: from the announcement of an upload to the picture the model has seen, and its end.

use std::time::Instant;

use wire::{
    EncodeTimings, ErrorCode, Forgotten, ImageEncoded, ImageReady, ImageTimings, ServerMessage,
    Upload, UploadAccepted, UploadProgress, UploadReceived, frame,
};

use super::picture::{Picture, Ready, Stage};
use super::room::Hold;
use super::state::{Effect, Outcome, State};
use super::talk::{AskStage, PictureName};
use super::upload::{Announced, Arrived, Piece};
use api::{Command, Failure, Freed, PictureKey, RequestId};
use glimpse_image::Picture as Decoded;

/// What a client is told to wait before it tries again when there is no room for its upload now.
const RETRY_MS: f64 = 1000.0;

impl State {
    /// An `upload` message.
    pub fn announce(&mut self, upload: &Upload, now: Instant) {
        let number = upload.upload;
        if !self.uploads.knows(number)
            && self.uploads.has_room(number)
            && let Some(sha256) = upload.sha256.as_deref().and_then(wire::parse_sha256)
            && let Some(picture) = self.pictures.by_sha256(&sha256)
        {
            let image = picture.id.clone();
            self.uploads.close(upload);
            self.received_again(number, image);
            return;
        }
        let limits = self.setup.limits.clone();
        match self.uploads.announce(upload, &limits, now) {
            Announced::Accepted { received } => {
                self.send(ServerMessage::UploadAccepted(UploadAccepted {
                    upload: number,
                    received,
                }));
            }
            Announced::Over => {
                // The events tell what came of it; this tells that nothing more is to be sent.
                if matches!(self.outcomes.get(&number), Some(Outcome::Image(_))) {
                    // Without a span, which nothing would end.
                    self.outbox
                        .push(ServerMessage::UploadAccepted(UploadAccepted {
                            upload: number,
                            received: upload.bytes,
                        }));
                }
            }
            // Without the number: the upload that has it goes on.
            Announced::Refused(failure) if failure.code == ErrorCode::UploadNumberUsed => {
                self.fail(failure.into());
            }
            Announced::Refused(failure) => self.upload_failed(number, failure),
            Announced::Arrived(arrived) => {
                self.send(ServerMessage::UploadAccepted(UploadAccepted {
                    upload: number,
                    received: 0,
                }));
                self.arrived(*arrived);
            }
        }
    }

    /// A binary frame.
    pub fn piece(&mut self, bytes: &[u8], now: Instant) {
        let Some((upload, piece)) = frame::decode(bytes) else {
            self.fail(Failure::new(
                ErrorCode::BadFrame,
                format!(
                    "A binary frame is a 4-byte big-endian upload number and 1 to {} bytes; this one has {} bytes in all.",
                    frame::MAX_PAYLOAD,
                    bytes.len()
                ),
            ).into());
            return;
        };
        match self.uploads.piece(upload, piece, now) {
            Piece::Nothing => {}
            Piece::Progress { received } => {
                self.send(ServerMessage::UploadProgress(UploadProgress {
                    upload,
                    received,
                }));
            }
            Piece::Arrived(arrived) => self.arrived(*arrived),
            Piece::Failed(failure) => self.upload_failed(upload, failure),
            Piece::Stranger => self.fail(
                Failure::new(
                    ErrorCode::BadFrame,
                    format!("Upload {upload} was never announced: send its upload message first."),
                )
                .into(),
            ),
        }
    }

    /// `cancel {upload}`.
    pub fn cancel_upload(&mut self, upload: u32) {
        if self.uploads.cancel(upload) {
            let message = "The upload was cancelled.";
            self.upload_failed(upload, Failure::new(ErrorCode::UploadCancelled, message));
        } else if !self.uploads.knows(upload) {
            self.fail(
                Failure::new(
                    ErrorCode::UnknownUpload,
                    format!("This session has no upload {upload} to cancel."),
                )
                .into(),
            );
        }
    }

    /// Ends an upload, and each question that waits for it.
    pub(super) fn upload_failed(&mut self, upload: u32, mut failure: Failure) {
        if self.uploads.knows(upload) {
            self.outcomes.insert(upload, Outcome::Failed(failure.code));
        }
        let again = match failure.code {
            ErrorCode::Busy => true,
            // Unless there are no more numbers.
            ErrorCode::TooManyUploads => self.uploads.has_room(upload),
            _ => false,
        };
        failure.retry_after_ms = again.then_some(RETRY_MS);
        self.fail(wire::Error {
            upload: Some(upload),
            ..failure.into()
        });
        self.advance_all();
    }

    /// Gives back the memory of an upload. Away, its client resumes it from the beginning; one that is there is told to send
    /// it again.
    pub fn upload_gives_way(&mut self, upload: u32, connected: bool) {
        let message = "Too many files are on their way to this server, and most of them are this client's: send this one again in a moment.";
        if self.uploads.is_open(upload) && !connected {
            self.uploads.restart(upload);
        } else if self.uploads.cancel(upload) {
            self.upload_failed(upload, Failure::new(ErrorCode::Busy, message));
        } else if let Some(picture) = self.pictures.decoding(upload) {
            let image = picture.id.clone();
            self.effects.push_back(Effect::Undecode {
                image: image.clone(),
            });
            let failure = Failure::new(ErrorCode::Busy, message).retry_after(RETRY_MS);
            self.picture_failed(&image, failure);
        }
    }

    fn arrived(&mut self, arrived: Arrived) {
        let bytes = arrived.file.bytes().len() as u64;
        if let Some(picture) = self.pictures.by_sha256(&arrived.sha256) {
            let image = picture.id.clone();
            self.received_again(arrived.upload, image);
            return;
        }
        if !self.make_room(bytes) {
            let message = "Every picture of this session is being asked about: wait for an answer, then send this one again.";
            let failure = Failure::new(ErrorCode::TooManyUploads, message);
            self.upload_failed(arrived.upload, failure);
            return;
        }
        let id = self.new_id("img");
        let used = self.clock();
        self.outcomes
            .insert(arrived.upload, Outcome::Image(id.clone()));
        self.pictures.add(Picture {
            id: id.clone(),
            key: PictureKey {
                session: self.setup.scope,
                sha256: arrived.sha256,
            },
            upload: arrived.upload,
            bytes,
            upload_ms: arrived.upload_ms,
            stage: Stage::Decoding,
            used,
        });
        self.send(ServerMessage::UploadReceived(UploadReceived {
            upload: arrived.upload,
            image: id.clone(),
            bytes,
            sha256: wire::to_hex(&arrived.sha256),
            cached: false,
        }));
        self.effects.push_back(Effect::Decode {
            image: id,
            file: arrived.file,
        });
    }

    /// The session has this picture already: says again all that is known of it.
    fn received_again(&mut self, upload: u32, image: String) {
        self.outcomes.insert(upload, Outcome::Image(image.clone()));
        let used = self.clock();
        let Some(picture) = self.pictures.get_mut(&image) else {
            return;
        };
        picture.used = used;
        let received = UploadReceived {
            upload,
            image: image.clone(),
            bytes: picture.bytes,
            sha256: wire::to_hex(&picture.key.sha256),
            cached: true,
        };
        let known = match &picture.stage {
            Stage::Ready(ready) => Some((ready.info.clone(), ready.encoded)),
            _ => None,
        };
        self.send(ServerMessage::UploadReceived(received));
        if let Some((info, encoded)) = known {
            self.send(ServerMessage::ImageReady(ImageReady {
                cached: true,
                timings: ImageTimings::default(),
                ..info
            }));
            if let Some((tokens, _)) = encoded {
                self.send(ServerMessage::ImageEncoded(ImageEncoded {
                    image,
                    tokens,
                    timings: EncodeTimings::default(),
                    cached: true,
                }));
            }
        }
        self.advance_all();
    }

    /// Lets go of the pictures used longest ago until one more fits; false if those asked about fill the session.
    fn make_room(&mut self, bytes: u64) -> bool {
        loop {
            let (count, held) = self.pictures.live();
            if count < self.setup.limits.images
                && held + bytes <= self.setup.limits.session_image_bytes
            {
                return true;
            }
            if !self.let_oldest_go() {
                return false;
            }
        }
    }

    /// The picture used longest ago of those that no question is about.
    fn oldest_spare(&self) -> Option<&Picture> {
        let asked: Vec<PictureName> = self
            .asks
            .values()
            .filter_map(|ask| self.conversations.get(&ask.conversation))
            .filter_map(|conversation| conversation.picture.as_ref())
            .map(|name| self.resolve(name))
            .collect();
        self.pictures.oldest(|picture| {
            matches!(picture.stage, Stage::Ready(_))
                && !asked.contains(&PictureName::Image(picture.id.clone()))
        })
    }

    /// How many pictures there are, if one can go, and when that was used, by the server's count of uses.
    pub fn spare(&self) -> Option<(u64, u64)> {
        let spare = self.oldest_spare()?;
        Some((self.pictures.live().0, spare.used))
    }

    /// Lets go of it; false if there is none.
    pub fn let_oldest_go(&mut self) -> bool {
        let Some(oldest) = self.oldest_spare().map(|picture| picture.id.clone()) else {
            return false;
        };
        self.let_go(&oldest);
        true
    }

    /// The file was decoded, or can't be.
    pub fn decoded(&mut self, image: &str, result: Result<(Decoded, Hold), Failure>) {
        let Some(picture) = self.pictures.get_mut(image) else {
            return;
        };
        if matches!(picture.stage, Stage::Leaving) {
            picture.stage = Stage::Gone;
            self.send(ServerMessage::Forgotten(forgotten(image)));
            return;
        }
        if !matches!(picture.stage, Stage::Decoding) {
            return;
        }
        match result {
            Ok((decoded, hold)) => {
                let info = ImageReady {
                    image: image.to_owned(),
                    width: decoded.width,
                    height: decoded.height,
                    format: decoded.format.as_str().to_owned(),
                    frame: Some(decoded.frame).filter(|&frame| frame > 0),
                    timings: ImageTimings {
                        upload_ms: picture.upload_ms,
                        decode_ms: decoded.decode_ms,
                        preprocess_ms: decoded.preprocess_ms,
                    },
                    cached: false,
                };
                picture.stage = Stage::Ready(Box::new(Ready {
                    info: info.clone(),
                    side: decoded.pixels.size(),
                    encoded: None,
                    _hold: hold,
                }));
                let command = Command::Picture(api::Picture {
                    asker: self.setup.asker,
                    key: picture.key,
                    pixels: decoded.pixels,
                });
                self.send(ServerMessage::ImageReady(info));
                self.command(command);
                self.advance_all();
            }
            Err(failure) => self.picture_failed(image, failure),
        }
    }

    /// The model has looked at a picture.
    pub(super) fn encoded(
        &mut self,
        key: &PictureKey,
        tokens: u64,
        timings: EncodeTimings,
        cached: bool,
    ) {
        let Some(picture) = self.pictures.by_key(key) else {
            return;
        };
        let Stage::Ready(ready) = &mut picture.stage else {
            return;
        };
        if ready.encoded.is_some() {
            return;
        }
        ready.encoded = Some((tokens, timings));
        let message = ImageEncoded {
            image: picture.id.clone(),
            tokens,
            timings,
            cached,
        };
        self.send(ServerMessage::ImageEncoded(message));
    }

    /// The engine could not look at a picture.
    pub(super) fn not_encoded(&mut self, key: &PictureKey, failure: Failure) {
        if let Some(picture) = self.pictures.by_key(key) {
            let (image, code) = (picture.id.clone(), failure.code);
            self.picture_failed(&image, failure);
            // The engine has dropped it: asking about it again leads nowhere.
            if let Some(picture) = self.pictures.get_mut(&image) {
                let message = "The picture could not be looked at: upload it again.";
                picture.stage = Stage::Failed(Failure::new(code, message));
            }
        }
    }

    fn picture_failed(&mut self, image: &str, failure: Failure) {
        let Some(picture) = self.pictures.get_mut(image) else {
            return;
        };
        picture.stage = Stage::Failed(failure.clone());
        let upload = picture.upload;
        self.fail(wire::Error {
            upload: Some(upload),
            image: Some(image.to_owned()),
            ..failure.into()
        });
        self.advance_all();
    }

    /// `forget {image}`.
    pub fn forget_image(&mut self, image: &str) {
        match self.pictures.get(image).map(|picture| &picture.stage) {
            None => self.fail(wire::Error {
                image: Some(image.to_owned()),
                ..Failure::new(
                    ErrorCode::UnknownImage,
                    format!("This session has no picture {image:?} to forget."),
                )
                .into()
            }),
            Some(Stage::Leaving) => {}
            Some(Stage::Gone | Stage::Failed(_)) => {
                self.send(ServerMessage::Forgotten(forgotten(image)));
            }
            Some(Stage::Decoding | Stage::Ready(_)) => {
                let given: Vec<RequestId> = self
                    .asks
                    .iter()
                    .filter(|(_, ask)| ask.stage == AskStage::Given)
                    .filter(|(_, ask)| self.asks_about(ask, image))
                    .map(|(request, _)| *request)
                    .collect();
                for request in given {
                    self.cancel_given(request);
                }
                self.let_go(image);
                self.advance_all();
            }
        }
    }

    fn asks_about(&self, ask: &super::talk::Ask, image: &str) -> bool {
        self.conversations
            .get(&ask.conversation)
            .and_then(|conversation| conversation.picture.as_ref())
            .is_some_and(|name| self.resolve(name) == PictureName::Image(image.to_owned()))
    }

    /// Drops a live picture; `forgotten` follows when everything of it is freed.
    fn let_go(&mut self, image: &str) {
        let Some(picture) = self.pictures.get_mut(image) else {
            return;
        };
        match picture.stage {
            Stage::Decoding => {
                picture.stage = Stage::Leaving;
                self.effects.push_back(Effect::Undecode {
                    image: image.to_owned(),
                });
            }
            Stage::Ready(_) => {
                picture.stage = Stage::Gone;
                let picture = picture.key;
                let session = self.session();
                self.leaving
                    .push((Freed::Picture(picture), forgotten(image)));
                self.command(Command::Forget { session, picture });
            }
            Stage::Failed(_) | Stage::Leaving | Stage::Gone => {}
        }
    }
}

/// Nothing of the picture is left.
fn forgotten(image: &str) -> Forgotten {
    Forgotten {
        image: Some(image.to_owned()),
        conversation: None,
    }
}
