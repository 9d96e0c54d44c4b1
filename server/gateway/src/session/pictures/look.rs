//! Pictures, from a decoded file to what the model has seen, and their end.

use glimpse_image::Picture as Decoded;
use wire::{
    EncodeTimings, ErrorCode, Forgotten, ImageEncoded, ImageReady, ImageTimings, ServerMessage,
};

use super::Pictures;
use super::list::{Ready, Stage};
use crate::intake::Retained;
use crate::session::context::{Context, Effect};
use api::{Command, Failure, Freed, PictureKey};

impl Pictures {
    /// The file was decoded, or can't be.
    pub fn decoded(
        &mut self,
        image: &str,
        result: Result<(Decoded, Retained), Failure>,
        context: &mut Context,
    ) {
        let Some(picture) = self.list.get_mut(image) else {
            return;
        };
        if matches!(picture.stage, Stage::Leaving) {
            picture.stage = Stage::Gone;
            picture.telemetry = None;
            context.send(ServerMessage::Forgotten(forgotten(image)));
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
                let telemetry = picture.telemetry.as_mut();
                let traceparent = telemetry.and_then(|it| it.decoded(&info.timings));
                picture.stage = Stage::Ready(Box::new(Ready {
                    info: info.clone(),
                    side: decoded.pixels.size(),
                    encoded: None,
                    _hold: Some(hold),
                }));
                let command = Command::Picture(api::Picture {
                    asker: context.setup.asker,
                    key: picture.key,
                    pixels: decoded.pixels,
                    system: picture.system.clone(),
                    secret: Some(picture.secret),
                    traceparent,
                });
                context.send(ServerMessage::ImageReady(info));
                context.command(command);
                self.settled = true;
            }
            Err(failure) => self.picture_failed(image, failure, context),
        }
    }

    /// The model has looked at a picture.
    pub fn encoded(
        &mut self,
        key: &PictureKey,
        tokens: u64,
        timings: EncodeTimings,
        cached: bool,
        context: &mut Context,
    ) {
        let Some(picture) = self.list.by_key(key) else {
            return;
        };
        let Stage::Ready(ready) = &mut picture.stage else {
            return;
        };
        if ready.encoded.is_some() {
            return;
        }
        ready.encoded = Some((tokens, timings));
        if let Some(telemetry) = picture.telemetry.take() {
            telemetry.encoded(&timings, cached);
        }
        let message = ImageEncoded {
            image: picture.id.clone(),
            tokens,
            timings,
            cached,
        };
        context.send(ServerMessage::ImageEncoded(message));
    }

    /// The engine could not look at a picture.
    pub fn encode_failed(&mut self, key: &PictureKey, failure: Failure, context: &mut Context) {
        if let Some(picture) = self.list.by_key(key) {
            let (image, code) = (picture.id.clone(), failure.code);
            self.picture_failed(&image, failure, context);
            // The engine has dropped it: asking about it again leads nowhere.
            if let Some(picture) = self.list.get_mut(&image) {
                let message = "The picture could not be looked at: upload it again.";
                picture.stage = Stage::Failed(Failure::new(code, message));
            }
        }
    }

    pub(super) fn picture_failed(&mut self, image: &str, failure: Failure, context: &mut Context) {
        let Some(picture) = self.list.get_mut(image) else {
            return;
        };
        picture.fail(failure.clone());
        let upload = picture.upload;
        context.fail(wire::Error {
            upload: Some(upload),
            image: Some(image.to_owned()),
            ..failure.into()
        });
        self.settled = true;
    }

    /// `forget {image}`: what is asked about it was cancelled.
    pub fn forget(&mut self, image: &str, context: &mut Context) {
        match self.list.get(image).map(|picture| &picture.stage) {
            None => context.fail(wire::Error {
                image: Some(image.to_owned()),
                ..Failure::new(
                    ErrorCode::UnknownImage,
                    format!("This session has no picture {image:?} to forget."),
                )
                .into()
            }),
            Some(Stage::Leaving) => {}
            Some(Stage::Gone | Stage::Failed(_)) => {
                context.send(ServerMessage::Forgotten(forgotten(image)));
            }
            Some(Stage::Decoding | Stage::Ready(_)) => {
                self.let_go(image, context);
                self.settled = true;
            }
        }
    }

    /// Drops a live picture; `forgotten` follows when everything of it is freed.
    pub(super) fn let_go(&mut self, image: &str, context: &mut Context) {
        let Some(picture) = self.list.get_mut(image) else {
            return;
        };
        match picture.stage {
            Stage::Decoding => {
                picture.stage = Stage::Leaving;
                context.effects.push_back(Effect::CancelDecode {
                    image: image.to_owned(),
                });
            }
            Stage::Ready(_) => {
                picture.stage = Stage::Gone;
                picture.telemetry = None;
                let (session, picture) = (context.session(), picture.key);
                context.free(
                    Freed::Picture(picture),
                    forgotten(image),
                    Command::Forget { session, picture },
                );
            }
            Stage::Failed(_) | Stage::Leaving | Stage::Gone => {}
        }
    }
}

/// Nothing of the picture is left.
pub(super) fn forgotten(image: &str) -> Forgotten {
    Forgotten {
        image: Some(image.to_owned()),
        conversation: None,
    }
}
