//! Which pictures there are: the conversation's, one that is to come in its place, and that of the conversation that was put away.

use wire::ClientMessage;

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::{NewPicture, Picture, PicturePhase},
    transfer::{Line, Transfer},
    upload::{Uploads, cancel},
};

impl Uploads {
    /// Takes a picture for the conversation, brought by the event at `when`. It is scaled first to `side`, if that is given.
    pub fn open(
        &mut self,
        new: NewPicture,
        side: Option<u32>,
        when: f64,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        let picture = self.arrived(new, side, when, now, out);
        self.picture.set(Some(picture));
        self.set_off(side, line, now, out);
    }

    /// Takes a picture that is to come in the place of the conversation's, whose own way to the server waits meanwhile.
    pub fn expect(
        &mut self,
        new: NewPicture,
        side: Option<u32>,
        when: f64,
        line: Line,
        now: &Now,
        out: &mut Effects,
    ) {
        out.push(Effect::Discard);
        let picture = self.arrived(new, side, when, now, out);
        self.incoming.set(Some(picture));
        self.set_off(side, line, now, out);
    }

    /// Takes a picture whose file the store has still to bring.
    pub fn await_file(&mut self, new: NewPicture) {
        self.picture.set(Some(Picture::new(new, 0.0)));
    }

    /// The server knows that picture by this name, and the model has looked.
    pub fn looked_at(&mut self, image: String) {
        if let Some(picture) = self.picture.as_mut() {
            picture.phase = PicturePhase::Ready;
            picture.image = Some(image);
        }
    }

    pub fn awaits_file(&self) -> bool {
        let awaits = |p: &Picture| p.id == 0;
        self.picture.as_ref().is_some_and(awaits)
    }

    /// The file is there.
    pub fn file_found(&mut self, new: NewPicture, line: Line, now: &Now, out: &mut Effects) {
        self.generation += 1;
        let mut transfer = Transfer::new(new.id, new.bytes, self.generation, now.ms);
        if let Some(picture) = self.picture.as_mut() {
            (picture.id, picture.preview) = (new.id, new.preview);
            picture.kind = new.kind;
            transfer.finished = picture.image.is_some();
            picture.transfer = Some(transfer);
            picture.readable = picture.preview.is_some();
            if picture.preview.is_none() {
                out.push(Effect::Preview(picture.id));
            }
        }
        self.resume(line, now, out);
    }

    fn arrived(
        &mut self,
        new: NewPicture,
        side: Option<u32>,
        when: f64,
        now: &Now,
        out: &mut Effects,
    ) -> Picture {
        let mut picture = Picture::new(new, when);
        out.push(Effect::WatchShown(picture.id));
        self.generation += 1;
        let mut transfer = Transfer::new(picture.id, picture.bytes, self.generation, now.ms);
        transfer.scaling = side.is_some();
        picture.transfer = Some(transfer);
        picture
    }

    /// The picture that was to come takes its place, which has to be free.
    pub fn accept(&mut self) {
        let picture = self.incoming.take();
        self.picture.set(picture);
    }

    /// The picture that was to come does not; what the server is to be told of that. The conversation's goes on.
    pub fn decline(&mut self, line: Line, now: &Now, out: &mut Effects) -> Option<ClientMessage> {
        let cancel = drop_picture(self.incoming.take(), out);
        out.push(Effect::Discard);
        self.resume(line, now, out);
        cancel
    }

    /// Takes the picture off the page; what the server is to be told of that.
    pub fn drop_picture(&mut self, out: &mut Effects) -> Option<ClientMessage> {
        out.push(Effect::Discard);
        drop_picture(self.picture.take(), out)
    }

    /// Takes the picture off the page and keeps it; nothing more of it is sent.
    pub fn put_aside(&mut self, out: &mut Effects) {
        if self.incoming.is_none() {
            out.push(Effect::Discard);
        }
        self.aside = self.picture.take();
    }

    /// Lets go of what was put aside; what the server is to be told of that.
    pub fn drop_aside(&mut self, out: &mut Effects) -> Option<ClientMessage> {
        drop_picture(self.aside.take(), out)
    }

    /// What was put aside is on the page again, in exchange.
    pub fn exchange(&mut self, line: Line, now: &Now, out: &mut Effects) {
        std::mem::swap(&mut *self.picture, &mut self.aside);
        out.push(Effect::Discard);
        self.resume(line, now, out);
    }
}

/// Lets go of a picture; what the server is to be told of that.
fn drop_picture(picture: Option<Picture>, out: &mut Effects) -> Option<ClientMessage> {
    let picture = picture?;
    out.push(Effect::Release(picture.id));
    if let Some(url) = picture.preview {
        out.push(Effect::Revoke(url));
    }
    let unfinished = picture.transfer.filter(|transfer| !transfer.finished);
    unfinished?.number.map(cancel)
}
