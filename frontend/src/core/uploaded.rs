//! What the server says of pictures.

use wire::{ErrorCode, Failure, ImageEncoded, ImageReady, UploadReceived};

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::{Picture, PicturePhase},
    transfer::Line,
    upload::Uploads,
};

/// Uploads smaller than this say little about the connection.
const TELLING: u64 = 128 * 1024;

impl Uploads {
    /// The server says where it wants the next byte.
    pub fn accepted(&mut self, number: u32, received: u64) {
        if let Some((current, _)) = self.of(number) {
            current.accepted(received);
        }
    }

    /// The server has bytes up to `received`.
    pub fn progress(
        &mut self,
        number: u32,
        received: u64,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        let Some((current, _)) = self.of(number) else {
            return;
        };
        let speed = current.confirmed(received, now.ms);
        if let Some(picture) = self.change(|p| p.upload == Some(number)) {
            picture.sent = picture.sent.max(received);
            if let Some(speed) = speed {
                let smooth = |old| 0.7 * old + 0.3 * speed;
                picture.speed = Some(picture.speed.map_or(speed, smooth));
            }
        }
        self.pump(line, now, out);
    }

    /// The server has every byte, since `left`.
    pub fn received(&mut self, m: UploadReceived, left: f64, now: &Now, out: &mut Effects) {
        if let Some((current, active)) = self.of(m.upload) {
            current.finish();
            if active {
                out.push(Effect::Discard);
            }
            let (length, began) = (current.length, current.began);
            if let Some(began) = began.filter(|_| length >= TELLING) {
                self.uplink = Some(length as f64 / (now.ms - began).max(1.0));
            }
            if !self.known.iter().any(|(_, known)| *known == m.sha256) {
                self.known.push((length, m.sha256));
            }
        }
        if let Some(picture) = self.change(|p| p.upload == Some(m.upload)) {
            picture.sent = picture.sending;
            picture.image = Some(m.image);
            picture.times.received = Some(left);
            if picture.failed().is_none() {
                picture.phase = PicturePhase::Looking;
            }
        }
    }

    /// The server has decoded it.
    pub fn ready(&mut self, m: ImageReady, left: f64) {
        self.named(&m.image, |picture| {
            picture.size = Some((m.width, m.height));
            picture.times.ready = Some(left);
            picture.times.image = (!m.cached).then_some(m.timings);
            picture.phase = PicturePhase::Looking;
            picture.readable = true;
        });
    }

    /// The model has looked.
    pub fn encoded(&mut self, m: &ImageEncoded, left: f64) {
        self.named(&m.image, |picture| {
            picture.times.encoded = Some(left);
            picture.times.encode = (!m.cached).then_some(m.timings);
            picture.phase = PicturePhase::Ready;
        });
    }

    /// An answer has begun. A server that looks only when asked may answer before it says that it has looked.
    pub fn answered(&mut self) {
        let looking = |p: &mut Picture| p.phase == PicturePhase::Looking;
        if self.picture.untold().as_mut().is_some_and(looking)
            && let Some(picture) = self.picture.as_mut()
        {
            picture.phase = PicturePhase::Ready;
        }
    }

    /// The server has ended the upload.
    pub fn refused(&mut self, number: u32, failure: Failure, out: &mut Effects) {
        if let Some((current, active)) = self.of(number) {
            current.finish();
            if active {
                out.push(Effect::Discard);
            }
        }
        if failure.code != ErrorCode::UploadCancelled
            && let Some(picture) = self.change(|p| p.upload == Some(number))
        {
            picture.phase = PicturePhase::Failed(failure);
        }
    }

    /// The server can't use the picture.
    pub fn failed(&mut self, image: &str, failure: Failure) {
        self.named(image, |picture| {
            picture.phase = PicturePhase::Failed(failure.clone());
        });
    }
}
