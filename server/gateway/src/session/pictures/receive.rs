//! Uploads, from their announcement to a file that is to be decoded.

use std::time::{Duration, Instant};

use wire::{
    EncodeTimings, ErrorCode, ImageEncoded, ImageReady, ImageTimings, ServerMessage, Upload,
    UploadAccepted, UploadProgress, UploadReceived, frame,
};

use super::file::CompleteFile;
use super::list::{Picture, Stage};
use super::uploads::{Announced, Arrived, Piece};
use super::{Outcome, Pictures, Waits};
use crate::intake::{self, retry};
use crate::session::context::seconds;
use crate::session::context::{Context, Effect};
use crate::telemetry::metrics::{METRICS, RECEIVED};
use api::{Failure, PictureKey};

impl Pictures {
    /// An `upload` message.
    pub fn announce(
        &mut self,
        upload: &Upload,
        waits: Waits<'_>,
        context: &mut Context,
        now: Instant,
    ) {
        let number = upload.upload;
        if !self.uploads.knows(number)
            && self.uploads.has_room(number)
            && let Some(sha256) = upload.sha256.as_deref().and_then(wire::parse_sha256)
            && let Some(picture) = self.list.by_sha256(&sha256)
        {
            let image = picture.id.clone();
            self.uploads.close(upload);
            let system = upload.system.clone().unwrap_or_default();
            if let Err(failure) = intake::check_system(&system, &context.limits()) {
                METRICS.upload_ended(failure.code.as_str());
                self.upload_failed(number, failure, context);
                return;
            }
            self.received_again(number, image, system, context);
            return;
        }
        match self.uploads.announce(upload, &context.limits(), now) {
            Announced::Accepted { received } => {
                context.send(ServerMessage::UploadAccepted(UploadAccepted {
                    upload: number,
                    received,
                }));
            }
            Announced::Over => {
                // The events tell what came of it; this tells that nothing more is to be sent.
                if matches!(self.outcomes.get(&number), Some(Outcome::Image(_))) {
                    context.send(ServerMessage::UploadAccepted(UploadAccepted {
                        upload: number,
                        received: upload.bytes,
                    }));
                }
            }
            // Without the number: the upload that has it goes on.
            Announced::Refused(failure) if failure.code == ErrorCode::UploadNumberUsed => {
                context.fail(failure.into());
            }
            Announced::Refused(failure) => {
                METRICS.upload_ended(failure.code.as_str());
                self.upload_failed(number, failure, context);
            }
            Announced::Arrived(arrived) => {
                context.send(ServerMessage::UploadAccepted(UploadAccepted {
                    upload: number,
                    received: 0,
                }));
                self.arrived(*arrived, waits, context);
            }
            Announced::Failed(failure) => self.upload_failed(number, failure, context),
        }
    }

    /// A file that came otherwise than in pieces, under a number that was not used before.
    pub fn give(
        &mut self,
        upload: u32,
        file: CompleteFile,
        waits: Waits<'_>,
        context: &mut Context,
    ) {
        let arrived = self.uploads.given(upload, file);
        self.arrived(arrived, waits, context);
    }

    /// A picture that came before, once more, under a number that was not used before; false if there is no such picture.
    pub fn give_again(
        &mut self,
        upload: u32,
        sha256: &[u8; 32],
        system: &str,
        context: &mut Context,
    ) -> bool {
        let Some(picture) = self.list.by_sha256(sha256) else {
            return false;
        };
        let (image, bytes) = (picture.id.clone(), picture.bytes);
        self.uploads.given_again(upload, bytes, *sha256);
        self.received_again(upload, image, system.to_owned(), context);
        true
    }

    /// A binary frame.
    pub fn piece(&mut self, bytes: &[u8], waits: Waits<'_>, context: &mut Context, now: Instant) {
        let Some((upload, piece)) = frame::decode(bytes) else {
            context.fail(Failure::new(
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
                context.send(ServerMessage::UploadProgress(UploadProgress {
                    upload,
                    received,
                }));
            }
            Piece::Arrived(arrived) => self.arrived(*arrived, waits, context),
            Piece::Failed(failure) => self.upload_failed(upload, failure, context),
            Piece::Stranger => context.fail(
                Failure::new(
                    ErrorCode::BadFrame,
                    format!("Upload {upload} was never announced: send its upload message first."),
                )
                .into(),
            ),
        }
    }

    /// `cancel {upload}`.
    pub fn cancel(&mut self, upload: u32, context: &mut Context) {
        let code = ErrorCode::UploadCancelled;
        if self.uploads.end(upload, code) {
            let failure = Failure::new(code, "The upload was cancelled.");
            self.upload_failed(upload, failure, context);
        } else if !self.uploads.knows(upload) {
            context.fail(
                Failure::new(
                    ErrorCode::UnknownUpload,
                    format!("This session has no upload {upload} to cancel."),
                )
                .into(),
            );
        }
    }

    /// Tells that an upload has ended, and with it each question that waits for it.
    fn upload_failed(&mut self, upload: u32, mut failure: Failure, context: &mut Context) {
        self.note(upload, failure.code);
        let again = match failure.code {
            ErrorCode::Busy => true,
            // Unless there are no more numbers.
            ErrorCode::TooManyUploads => self.uploads.has_room(upload),
            _ => false,
        };
        failure.retry_after_ms = again.then_some(retry::UPLOADS);
        context.fail(wire::Error {
            upload: Some(upload),
            ..failure.into()
        });
        self.settled = true;
    }

    /// Gives back the memory of an upload. Away, its client resumes it from the beginning; one that is there is told to send
    /// it again.
    pub fn evict_upload(&mut self, upload: u32, connected: bool, context: &mut Context) {
        let message = "Too many files are on their way to this server, and most of them are this client's: send this one again in a moment.";
        if self.uploads.is_open(upload) && !connected {
            self.uploads.restart(upload);
        } else if self.uploads.end(upload, ErrorCode::Busy) {
            self.upload_failed(upload, Failure::new(ErrorCode::Busy, message), context);
        } else if let Some(picture) = self.list.decoding(upload) {
            let image = picture.id.clone();
            context.effects.push_back(Effect::CancelDecode {
                image: image.clone(),
            });
            let failure = Failure::new(ErrorCode::Busy, message).retry_after(retry::UPLOADS);
            self.picture_failed(&image, failure, context);
        }
    }

    fn arrived(&mut self, mut arrived: Arrived, waits: Waits<'_>, context: &mut Context) {
        let bytes = arrived.file.bytes().len() as u64;
        if let Some(picture) = self.list.by_sha256(&arrived.sha256) {
            let image = picture.id.clone();
            self.received_again(arrived.upload, image, arrived.system, context);
            return;
        }
        if !self.make_room(bytes, waits, context) {
            let message = "Every picture of this session is being asked about: wait for an answer, then send this one again.";
            let failure = Failure::new(ErrorCode::TooManyUploads, message);
            arrived.telemetry.failed(failure.code);
            self.upload_failed(arrived.upload, failure, context);
            return;
        }
        let id = context.new_id("img");
        let used = context.clock();
        arrived.telemetry.arrived(&id, bytes);
        self.outcomes
            .insert(arrived.upload, Outcome::Image(id.clone()));
        self.list.add(Picture {
            id: id.clone(),
            key: PictureKey {
                session: context.setup.scope,
                sha256: arrived.sha256,
            },
            system: arrived.system,
            secret: api::random_secret(),
            upload: arrived.upload,
            bytes,
            upload_ms: arrived.upload_ms,
            stage: Stage::Decoding,
            used,
            telemetry: Some(arrived.telemetry),
        });
        context.send(ServerMessage::UploadReceived(UploadReceived {
            upload: arrived.upload,
            image: id.clone(),
            bytes,
            sha256: wire::to_hex(&arrived.sha256),
            cached: false,
        }));
        context.effects.push_back(Effect::Decode {
            image: id,
            file: arrived.file,
            region: arrived.region,
        });
    }

    /// The session has this picture already: says again all that is known of it.
    fn received_again(
        &mut self,
        upload: u32,
        image: String,
        system: String,
        context: &mut Context,
    ) {
        METRICS.upload_ended(RECEIVED);
        self.outcomes.insert(upload, Outcome::Image(image.clone()));
        let used = context.clock();
        let Some(picture) = self.list.get_mut(&image) else {
            return;
        };
        picture.used = used;
        picture.system = system;
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
        context.send(ServerMessage::UploadReceived(received));
        if let Some((info, encoded)) = known {
            context.send(ServerMessage::ImageReady(ImageReady {
                cached: true,
                timings: ImageTimings::default(),
                ..info
            }));
            if let Some((tokens, _)) = encoded {
                METRICS.encoded(&EncodeTimings::default(), true);
                context.send(ServerMessage::ImageEncoded(ImageEncoded {
                    image,
                    tokens,
                    timings: EncodeTimings::default(),
                    cached: true,
                }));
            }
        }
        self.settled = true;
    }

    /// Lets go of the pictures used longest ago until one more fits; false if those asked about fill the session.
    fn make_room(&mut self, bytes: u64, waits: Waits<'_>, context: &mut Context) -> bool {
        let limits = context.limits();
        loop {
            let (count, held) = self.list.live();
            if count < limits.images && held + bytes <= limits.session_image_bytes {
                return true;
            }
            if !self.evict_oldest(waits, context) {
                return false;
            }
        }
    }

    /// Extends the uploads' deadlines by a time for which no byte could come.
    pub fn extend_deadlines(&mut self, time: Duration, now: Instant) {
        self.uploads.extend_deadlines(time, now);
    }

    /// Ends the uploads of which no byte came for too long.
    pub fn expire(&mut self, context: &mut Context, now: Instant) {
        let idle = seconds(context.limits().upload_idle_seconds);
        for upload in self.uploads.expire(idle, now) {
            let message = "No byte of the upload arrived for too long: send the file again.";
            let failure = Failure::new(ErrorCode::UploadTimeout, message);
            self.upload_failed(upload, failure, context);
        }
    }
}
