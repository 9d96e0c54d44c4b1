//! Pictures on their way to the server: read by the worker piece by piece, sent within the server's window and with little held
//! back in the browser, so that a "stop" is never stuck behind megabytes ([`Transfer`]). One is on its way at a time: the one
//! that came last.

use wire::{Cancel, ClientMessage, ErrorCode, Failure};

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::{Picture, PicturePhase},
    scaling,
    transfer::{Line, Transfer},
    watched::Watched,
};

#[derive(Debug, Default)]
pub struct Uploads {
    /// The conversation's.
    pub picture: Watched<Option<Picture>>,
    /// One that comes in its place once it is known to be readable.
    pub incoming: Watched<Option<Picture>>,
    /// The picture of the conversation that was put away.
    pub aside: Option<Picture>,
    pub(super) number: u32,
    pub(super) generation: u32,
    /// Size and hash of what this session has received.
    pub(super) known: Vec<(u64, String)>,
    /// The system turn that the first question about a picture will have.
    pub system: Option<String>,
    /// What the server reads, where it said so.
    pub formats: Vec<String>,
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

    /// A picture, to be changed.
    pub(super) fn change(&mut self, which: impl Fn(&Picture) -> bool) -> Option<&mut Picture> {
        for place in [&mut self.picture, &mut self.incoming] {
            if place.as_ref().is_some_and(&which) {
                return place.as_mut();
            }
        }
        self.aside.as_mut().filter(|picture| which(picture))
    }

    /// The picture whose bytes are on their way; what is changed of it this way is not drawn.
    fn active(&mut self) -> Option<&mut Picture> {
        let place = match *self.incoming {
            Some(_) => &mut self.incoming,
            None => &mut self.picture,
        };
        place.untold().as_mut()
    }

    fn transfer(&mut self) -> Option<&mut Transfer> {
        self.active()?.transfer.as_mut()
    }

    /// The way to the server that has this number, and whether it is the one that is gone now.
    pub(super) fn of(&mut self, number: u32) -> Option<(&mut Transfer, bool)> {
        let active = self.transfer().is_some_and(|t| t.number == Some(number));
        let all = [
            self.picture.untold(),
            self.incoming.untold(),
            &mut self.aside,
        ];
        let transfers = all.into_iter().flatten();
        let mut transfers = transfers.filter_map(|picture| picture.transfer.as_mut());
        let found = transfers.find(|transfer| transfer.number == Some(number))?;
        Some((found, active))
    }

    /// The pictures that the server knows by this name, to be changed: the same file may have been brought twice.
    pub(super) fn named(&mut self, image: &str, mut change: impl FnMut(&mut Picture)) {
        let is = |picture: &Picture| picture.image.as_deref() == Some(image);
        for place in [&mut self.picture, &mut self.incoming] {
            if place.as_ref().is_some_and(is) {
                place.as_mut().into_iter().for_each(&mut change);
            }
        }
        let aside = self.aside.as_mut().filter(|picture| is(picture));
        aside.into_iter().for_each(change);
    }

    pub(super) fn set_off(&mut self, side: Option<u32>, line: Line, now: &Now, out: &mut Effects) {
        let Some(picture) = self.active() else { return };
        let (id, bytes, previewed) = (picture.id, picture.bytes, picture.preview.is_some());
        let known = self.known.iter().any(|(size, _)| *size == bytes);
        if let Some(side) = side {
            let side = Some(side);
            out.push(Effect::Scale { picture: id, side });
        } else if known && line.online {
            // Likely the same picture again: its hash decides whether it is sent.
            self.hash(id, out);
        } else {
            self.announce(None, line, now, out);
        }
        if !previewed {
            out.push(Effect::Preview(id));
        }
    }

    /// Wants the hash of a picture.
    pub fn hash(&mut self, id: u64, out: &mut Effects) {
        if let Some(picture) = self.change(|p| p.id == id)
            && picture.sha256.is_none()
            && !std::mem::replace(&mut picture.hashing, true)
        {
            out.push(Effect::Hash(id));
        }
    }

    /// Whether the picture that is to be sent is of a format that the server does not read. The browser may.
    fn unread(&self) -> bool {
        let picture = self.incoming.as_ref().or(self.picture.as_ref());
        picture.is_some_and(|p| !p.copied && !p.unseen && !scaling::is_read(&self.formats, &p.kind))
    }

    /// Tells the server of the picture, under a new number, and starts sending.
    fn announce(&mut self, sha256: Option<String>, line: Line, now: &Now, out: &mut Effects) {
        let unread = self.unread();
        let (number, generation) = (self.number + 1, self.generation + 1);
        let Some(picture) = self.active() else { return };
        let Some(current) = picture.transfer.as_mut() else {
            return;
        };
        if !line.online || current.scaling {
            return;
        }
        if unread {
            (current.scaling, picture.copied) = (true, true);
            let (picture, side) = (picture.id, None);
            return out.push(Effect::Scale { picture, side });
        }
        current.announced(number, generation, sha256, now.ms);
        let id = picture.id;
        (self.number, self.generation) = (number, generation);
        out.push(Effect::Discard);
        if let Some(picture) = self.change(|p| p.id == id) {
            picture.upload = Some(number);
            picture.image = None;
            picture.sent = 0;
            picture.phase = PicturePhase::Uploading;
        }
        let system = self.system.clone();
        if let Some(picture) = self.active() {
            tell(picture, system, out);
        }
        self.pump(line, now, out);
    }

    /// A new session knows nothing: the picture is announced from the start.
    pub fn restart(&mut self, line: Line, now: &Now, out: &mut Effects) {
        self.known.clear();
        self.number = 0;
        for picture in [
            self.picture.untold(),
            self.incoming.untold(),
            &mut self.aside,
        ] {
            picture.iter_mut().for_each(unknown);
        }
        self.announce(None, line, now, out);
    }

    /// Goes on in a resumed session: the server may not have heard of what waits, and may have been asked about it.
    pub fn reconnected(&mut self, line: Line, now: &Now, out: &mut Effects) {
        let all = [
            self.picture.untold(),
            self.incoming.untold(),
            &mut self.aside,
        ];
        for transfer in all
            .into_iter()
            .flatten()
            .filter_map(|p| p.transfer.as_mut())
        {
            transfer.cut();
        }
        let waiting = match *self.incoming {
            Some(_) => self.picture.untold().as_mut(),
            None => None,
        };
        for picture in waiting.into_iter().chain(&mut self.aside) {
            tell(picture, self.system.clone(), out);
        }
        self.resume(line, now, out);
    }

    /// Sends the picture again: an unfinished upload goes on where the server says.
    pub fn resume(&mut self, line: Line, now: &Now, out: &mut Effects) {
        self.generation += 1;
        let generation = self.generation;
        let Some(current) = self.transfer().filter(|t| !t.finished && line.online) else {
            return;
        };
        if current.number.is_none() {
            return self.announce(None, line, now, out);
        }
        current.announced_again(generation);
        out.push(Effect::Discard);
        let system = self.system.clone();
        if let Some(picture) = self.active() {
            tell(picture, system, out);
        }
    }

    /// The server has the picture no longer, or the one put away: when it is asked about again, it is sent again.
    pub fn lost(&mut self, aside: bool) {
        self.known.clear();
        let picture = if aside {
            &mut self.aside
        } else {
            &mut *self.picture
        };
        picture.iter_mut().for_each(unknown);
    }

    /// Sends the picture once more if the server has it no longer.
    pub fn revive(&mut self, line: Line, now: &Now, out: &mut Effects) {
        let gone = |p: &Picture| {
            let refused = |failure: &Failure| failure.code != ErrorCode::ImageUnsupported;
            p.failed().is_some_and(refused) || p.upload.is_none() && p.image.is_none()
        };
        if self.incoming.is_none() && self.picture.as_ref().is_some_and(gone) {
            self.announce(None, line, now, out);
        }
    }

    /// Forgets which pictures the server knows.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Notes that the picture stands on the screen.
    pub fn shown(&mut self, id: u64, now: &Now) {
        if let Some(picture) = self.change(|p| p.id == id) {
            picture.times.shown = Some(now.ms);
        }
    }

    /// A piece was read.
    pub fn frame(&mut self, generation: u32, bytes: u32, line: Line, now: &Now, out: &mut Effects) {
        let Some(picture) = self.active().filter(|p| p.reads(generation)) else {
            return;
        };
        let (id, first) = (picture.id, picture.times.read.is_none());
        if let Some(transfer) = picture.transfer.as_mut() {
            transfer.piece(bytes);
        }
        if first && let Some(picture) = self.change(|p| p.id == id) {
            picture.times.read = Some(now.ms);
        }
        self.pump(line, now, out);
    }

    /// The file can't be read any more, which the person is told in these words; what the server is told of that.
    pub fn unreadable(&mut self, generation: u32, words: &str) -> Option<ClientMessage> {
        let picture = self.change(|p| p.reads(generation))?;
        picture.phase = PicturePhase::Failed(Failure::new(ErrorCode::ImageBroken, words));
        picture.transfer.take()?.number.map(cancel)
    }

    /// There is a reduced copy; whether it is wanted.
    pub fn previewed(
        &mut self,
        id: u64,
        url: String,
        size: Option<(u32, u32)>,
        transparent: bool,
        out: &mut Effects,
    ) -> bool {
        let Some(picture) = self.change(|p| p.id == id) else {
            out.push(Effect::Revoke(url));
            return false;
        };
        // The small copy that a camera has put in front comes without a size, and says nothing of the rest.
        picture.readable |= size.is_some();
        picture.size = picture.size.or(size);
        picture.transparent |= transparent;
        if let Some(old) = picture.preview.replace(url) {
            out.push(Effect::Revoke(old));
        }
        true
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
        let Some(picture) = self.change(|p| p.id == id) else {
            return;
        };
        let Some(current) = picture.transfer.as_mut().filter(|t| t.scaling) else {
            return;
        };
        current.scaling = false;
        picture.copied |= bytes.is_some();
        current.length = bytes.unwrap_or(current.length);
        let (began, length) = (current.measured.0, current.length);
        picture.times.scaled = (length != picture.bytes).then_some((began, now.ms));
        picture.sending = length;
        if self.active().is_some_and(|p| p.id == id) {
            self.announce(None, line, now, out);
        }
    }

    /// Takes the file's hash, which says whether this session has received it before.
    pub fn hashed(
        &mut self,
        id: u64,
        sha256: Option<String>,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        let Some(picture) = self.change(|p| p.id == id) else {
            return;
        };
        picture.hashing = false;
        picture.sha256.clone_from(&sha256);
        let waits = picture
            .transfer
            .as_ref()
            .is_some_and(|t| t.number.is_none());
        if waits && self.active().is_some_and(|p| p.id == id) {
            let known = |hash: &String| self.known.iter().any(|(_, known)| known == hash);
            let sha256 = sha256.filter(known);
            self.announce(sha256, line, now, out);
        }
    }

    /// The browser's buffer may have drained.
    pub fn drained(&mut self, line: Line, now: &Now, out: &mut Effects) {
        if let Some(current) = self.transfer() {
            current.drained();
        }
        self.pump(line, now, out);
    }

    /// Reads ahead and sends what may be sent now.
    pub(super) fn pump(&mut self, line: Line, now: &Now, out: &mut Effects) {
        let mut buffered = self.buffered;
        let Some(picture) = self.active() else { return };
        let id = picture.id;
        let Some(current) = picture.transfer.as_mut() else {
            return;
        };
        let first = current.pump(line, &mut buffered, now.ms, out);
        self.buffered = buffered;
        if first && let Some(picture) = self.change(|p| p.id == id) {
            picture.times.sent = Some(now.ms);
        }
    }
}

/// Tells the server of a picture that it does not have yet, and what the model is to read before it.
fn tell(picture: &mut Picture, system: Option<String>, out: &mut Effects) {
    let transfer = picture.transfer.as_mut().filter(|t| !t.finished);
    let Some((transfer, upload)) = transfer.and_then(|t| t.number.map(|number| (t, number))) else {
        return;
    };
    transfer.told();
    if system.is_some() {
        picture.system.clone_from(&system);
    }
    out.send(ClientMessage::Upload(wire::Upload {
        upload,
        bytes: transfer.length,
        sha256: transfer.sha256.clone(),
        name: Some(picture.name.clone()),
        system,
    }));
}

/// This session knows nothing of it.
fn unknown(picture: &mut Picture) {
    (picture.upload, picture.image) = (None, None);
    if let Some(transfer) = picture.transfer.as_mut() {
        (transfer.number, transfer.finished) = (None, false);
    }
}

pub(super) fn cancel(number: u32) -> ClientMessage {
    ClientMessage::Cancel(Cancel {
        request: None,
        upload: Some(number),
    })
}
