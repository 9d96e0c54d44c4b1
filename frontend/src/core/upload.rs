//! The picture's way to the server: read by the worker piece by piece, sent within the server's window and with little held
//! back in the browser, so that a "stop" is never stuck behind megabytes ([`Transfer`]).

use wire::{Cancel, ClientMessage, ErrorCode, Failure, ImageEncoded, ImageReady, UploadReceived};

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::{NewPicture, Picture, PicturePhase},
    transfer::{Line, Transfer},
    watched::Watched,
};

/// Uploads smaller than this say little about the connection.
const TELLING: u64 = 128 * 1024;

#[derive(Debug, Default)]
pub struct Uploads {
    pub picture: Watched<Option<Picture>>,
    current: Option<Transfer>,
    number: u32,
    generation: u32,
    /// Size and hash of what this session has received.
    known: Vec<(u64, String)>,
    /// Bytes per millisecond of the last real upload.
    pub uplink: Option<f64>,
    /// What the browser holds back, with what was sent since it said so.
    buffered: u32,
}

impl Uploads {
    /// So much does the browser hold back now.
    pub fn held_back(&mut self, bytes: u32) {
        self.buffered = bytes;
    }

    fn change(&mut self, which: impl Fn(&Picture) -> bool) -> Option<&mut Picture> {
        if !self.picture.as_ref().is_some_and(which) {
            return None;
        }
        self.picture.as_mut()
    }

    fn of(&mut self, number: u32) -> Option<&mut Transfer> {
        let current = self.current.as_mut();
        current.filter(|c| c.number == Some(number))
    }

    /// Takes a picture, brought by the event at `when`. It is scaled first to `side`, if that is given.
    pub fn open(
        &mut self,
        new: NewPicture,
        side: Option<u32>,
        when: f64,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        let (id, bytes) = (new.id, new.bytes);
        let previewed = new.preview.is_some();
        self.picture.set(Some(Picture::new(new, when)));
        out.push(Effect::WatchShown(id));
        self.generation += 1;
        let mut transfer = Transfer::new(id, bytes, self.generation, now.ms);
        transfer.scaling = side.is_some();
        self.current = Some(transfer);
        let known = self.known.iter().any(|(size, _)| *size == bytes);
        if let Some(side) = side {
            out.push(Effect::Scale { picture: id, side });
        } else if known && line.online {
            // Likely the same picture again: its hash decides whether it is sent.
            out.push(Effect::Hash(id));
        } else {
            self.announce(None, line, now, out);
        }
        if !previewed {
            out.push(Effect::Preview(id));
        }
    }

    /// Takes the picture off the page; what the server is to be told of that.
    pub fn drop_picture(&mut self, out: &mut Effects) -> Option<ClientMessage> {
        let unfinished = self.current.take().filter(|c| !c.finished);
        out.push(Effect::Discard);
        if let Some(picture) = self.picture.as_ref() {
            out.push(Effect::Release(picture.id));
            if let Some(url) = picture.preview.clone() {
                out.push(Effect::Revoke(url));
            }
            self.picture.set(None);
        }
        unfinished.and_then(|c| c.number).map(cancel)
    }

    /// Tells the server of the picture, under a new number, and starts sending.
    fn announce(&mut self, sha256: Option<String>, line: Line, now: &Now, out: &mut Effects) {
        let Some(current) = self.current.as_mut() else {
            return;
        };
        if !line.online || current.scaling {
            return;
        }
        self.number += 1;
        self.generation += 1;
        current.announced(self.number, self.generation, sha256.is_some(), now.ms);
        out.push(Effect::Discard);
        let (id, upload, bytes) = (current.picture, self.number, current.length);
        if let Some(picture) = self.change(|p| p.id == id) {
            picture.upload = Some(upload);
            picture.image = None;
            picture.sent = 0;
            picture.phase = PicturePhase::Uploading;
        }
        self.tell(upload, bytes, sha256, out);
        self.pump(line, now, out);
    }

    fn tell(&self, upload: u32, bytes: u64, sha256: Option<String>, out: &mut Effects) {
        out.send(ClientMessage::Upload(wire::Upload {
            upload,
            bytes,
            sha256,
            name: self.picture.as_ref().map(|picture| picture.name.clone()),
        }));
    }

    /// A new session knows nothing: the picture is announced from the start.
    pub fn restart(&mut self, line: Line, now: &Now, out: &mut Effects) {
        self.known.clear();
        self.number = 0;
        self.announce(None, line, now, out);
    }

    /// The same session again: an unfinished upload goes on where the server says.
    pub fn resume(&mut self, line: Line, now: &Now, out: &mut Effects) {
        self.generation += 1;
        let generation = self.generation;
        let Some(current) = self.current.as_mut().filter(|c| !c.finished) else {
            return;
        };
        let Some(number) = current.number else {
            return self.announce(None, line, now, out);
        };
        current.announced_again(generation);
        let bytes = current.length;
        out.push(Effect::Discard);
        self.tell(number, bytes, None, out);
    }

    /// The server has the picture no longer: when it is asked about again, it is sent again.
    pub fn lost(&mut self) {
        self.known.clear();
        if let Some(current) = self.current.as_mut() {
            (current.number, current.finished) = (None, false);
        }
        if let Some(picture) = self.change(|_| true) {
            (picture.upload, picture.image) = (None, None);
        }
    }

    /// Sends the picture once more if the server has it no longer.
    pub fn revive(&mut self, line: Line, now: &Now, out: &mut Effects) {
        let gone = |p: &Picture| {
            let refused = |failure: &Failure| failure.code != ErrorCode::ImageUnsupported;
            p.failed().is_some_and(refused) || p.upload.is_none() && p.image.is_none()
        };
        if self.picture.as_ref().is_some_and(gone) {
            self.announce(None, line, now, out);
        }
    }

    /// Forgets which pictures the server knows.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The server says where it wants the next byte.
    pub fn accepted(&mut self, number: u32, received: u64) {
        if let Some(current) = self.of(number) {
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
        let Some(current) = self.of(number) else {
            return;
        };
        let speed = current.confirmed(received, now.ms);
        let id = current.picture;
        if let Some(picture) = self.change(|p| p.id == id) {
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
        if let Some(current) = self.of(m.upload) {
            current.finish();
            out.push(Effect::Discard);
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
        if let Some(picture) = self.change(|p| p.image.as_ref() == Some(&m.image)) {
            picture.size = Some((m.width, m.height));
            picture.times.ready = Some(left);
            picture.times.image = (!m.cached).then_some(m.timings);
            picture.phase = PicturePhase::Looking;
        }
    }

    /// The model has looked.
    pub fn encoded(&mut self, m: &ImageEncoded, left: f64) {
        if let Some(picture) = self.change(|p| p.image.as_ref() == Some(&m.image)) {
            picture.times.encoded = Some(left);
            picture.times.encode = (!m.cached).then_some(m.timings);
            picture.phase = PicturePhase::Ready;
        }
    }

    /// An answer has begun. A server that looks only when asked may answer before it says that it has looked.
    pub fn answered(&mut self) {
        if let Some(picture) = self.change(|p| p.phase == PicturePhase::Looking) {
            picture.phase = PicturePhase::Ready;
        }
    }

    /// The server has ended the upload.
    pub fn refused(&mut self, number: u32, failure: Failure, out: &mut Effects) {
        if let Some(current) = self.of(number) {
            current.finish();
            out.push(Effect::Discard);
        }
        if failure.code != ErrorCode::UploadCancelled
            && let Some(picture) = self.change(|p| p.upload == Some(number))
        {
            picture.phase = PicturePhase::Failed(failure);
        }
    }

    /// The server can't use the picture.
    pub fn failed(&mut self, image: &str, failure: Failure) {
        if let Some(picture) = self.change(|p| p.image.as_deref() == Some(image)) {
            picture.phase = PicturePhase::Failed(failure);
        }
    }

    /// It stands on the screen.
    pub fn shown(&mut self, id: u64, now: &Now) {
        if let Some(picture) = self.change(|p| p.id == id) {
            picture.times.shown = Some(now.ms);
        }
    }

    /// A piece was read.
    pub fn frame(&mut self, generation: u32, bytes: u32, line: Line, now: &Now, out: &mut Effects) {
        let current = self.current.as_mut();
        let Some(current) = current.filter(|c| c.is(generation)) else {
            return;
        };
        current.piece(bytes);
        if let Some(picture) = self.change(|p| p.times.read.is_none()) {
            picture.times.read = Some(now.ms);
        }
        self.pump(line, now, out);
    }

    /// The file can't be read any more, which the person is told in these words; what the server is told of that.
    pub fn unreadable(&mut self, generation: u32, words: &str) -> Option<ClientMessage> {
        let current = self.current.take_if(|c| c.is(generation))?;
        if let Some(picture) = self.change(|p| p.id == current.picture) {
            picture.phase = PicturePhase::Failed(Failure::new(ErrorCode::ImageBroken, words));
        }
        current.number.map(cancel)
    }

    /// There is a reduced copy; whether it is the first.
    pub fn previewed(
        &mut self,
        id: u64,
        url: String,
        size: Option<(u32, u32)>,
        out: &mut Effects,
    ) -> bool {
        let Some(picture) = self.change(|p| p.id == id) else {
            out.push(Effect::Revoke(url));
            return false;
        };
        picture.size = picture.size.or(size);
        let old = picture.preview.replace(url);
        let first = old.is_none();
        if let Some(old) = old {
            out.push(Effect::Revoke(old));
        }
        first
    }

    /// The browser can't show it.
    pub fn unseen(&mut self, id: u64) {
        if let Some(picture) = self.change(|p| p.id == id) {
            picture.unseen = true;
        }
    }

    /// So many bytes are sent of it, or the original.
    pub fn scaled(
        &mut self,
        id: u64,
        bytes: Option<u64>,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        let current = self.current.as_mut();
        let Some(current) = current.filter(|c| c.picture == id && c.scaling) else {
            return;
        };
        current.scaling = false;
        current.length = bytes.unwrap_or(current.length);
        let (began, length) = (current.measured.0, current.length);
        if let Some(picture) = self.change(|p| p.id == id) {
            picture.times.scaled = (length != picture.bytes).then_some((began, now.ms));
            picture.sending = length;
        }
        self.announce(None, line, now, out);
    }

    /// Its hash says whether this session has received it before.
    pub fn hashed(
        &mut self,
        id: u64,
        sha256: Option<String>,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        let waits = |c: &Transfer| c.picture == id && c.number.is_none();
        if self.current.as_ref().is_some_and(waits) {
            let known = |hash: &String| self.known.iter().any(|(_, known)| known == hash);
            let sha256 = sha256.filter(known);
            self.announce(sha256, line, now, out);
        }
    }

    /// The browser's buffer may have drained.
    pub fn drained(&mut self, line: Line, now: &Now, out: &mut Effects) {
        if let Some(current) = self.current.as_mut() {
            current.drained();
        }
        self.pump(line, now, out);
    }

    /// Reads ahead and sends what may be sent now.
    fn pump(&mut self, line: Line, now: &Now, out: &mut Effects) {
        let Some(current) = self.current.as_mut() else {
            return;
        };
        let id = current.picture;
        if current.pump(line, &mut self.buffered, now.ms, out)
            && let Some(picture) = self.change(|p| p.id == id)
        {
            picture.times.sent = Some(now.ms);
        }
    }
}

fn cancel(number: u32) -> ClientMessage {
    ClientMessage::Cancel(Cancel {
        request: None,
        upload: Some(number),
    })
}
