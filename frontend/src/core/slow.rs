//! A picture whose way turns out to be slow: a smaller copy is made while it is sent, and takes its place if that is quicker.

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::PicturePhase,
    scaling,
    state::State,
    upload::{Uploads, cancel},
};

/// So long is the way watched before it is judged.
const WATCHED_MS: f64 = 1_000.0;
/// A copy goes if it is less than this share of what is left of the original.
const LESS: f64 = 0.8;

impl State {
    /// The server has told how far an upload is.
    pub(super) fn judge_rate(&mut self, number: u32, now: &Now, out: &mut Effects) {
        let wanted = self.settings.scaling;
        let seen = self.model.as_ref().map(|model| model.image_size);
        let side = |left, rate| scaling::midway(wanted, seen, left, rate);
        if let Some((picture, side)) = self.uploads.judged(number, now.ms, side) {
            let side = Some(side);
            out.push(Effect::Scale { picture, side });
        }
    }

    /// There is a smaller copy of a picture, of so many bytes, or none that is worth sending.
    pub(super) fn scaled(
        &mut self,
        picture: u64,
        bytes: Option<u64>,
        now: &Now,
        out: &mut Effects,
    ) {
        if let Some(bytes) = bytes {
            if let Some(number) = self.uploads.gives_way(picture, bytes) {
                if self.picture().is_some_and(|p| p.id == picture) {
                    for message in self.conversation.ask_anew() {
                        self.connection.send_or_owe(message, out);
                    }
                }
                self.connection.send_or_owe(cancel(number), out);
            } else if !self.uploads.awaits_copy(picture) {
                return;
            }
            out.push(Effect::SendSmaller(picture));
        }
        let line = self.line();
        self.uploads.scaled(picture, bytes, line, now, out);
        self.flush(now, out);
    }
}

impl Uploads {
    /// Watches an upload for a while, once; then the picture, and to how many pixels it is to be scaled by what `side` says of
    /// the bytes that are left and of the bytes per millisecond so far.
    fn judged(
        &mut self,
        number: u32,
        ms: f64,
        side: impl Fn(u64, f64) -> Option<u32>,
    ) -> Option<(u64, u32)> {
        let (transfer, active) = self.of(number)?;
        let (left, rate) = transfer.watched(ms, WATCHED_MS).filter(|_| active)?;
        let side = side(left, rate)?;
        let picture = self.change(|p| p.upload == Some(number))?;
        Some((picture.id, side))
    }

    /// Whether nothing of the picture is sent before there is a copy.
    fn awaits_copy(&mut self, id: u64) -> bool {
        let transfer = self
            .change(|p| p.id == id)
            .and_then(|p| p.transfer.as_ref());
        transfer.is_some_and(|transfer| transfer.scaling)
    }

    /// The original, which is on its way, gives way to a copy of so many bytes, if that is quicker: the number that is given up.
    fn gives_way(&mut self, id: u64, bytes: u64) -> Option<u32> {
        let picture = self.change(|p| p.id == id)?;
        let transfer = picture.transfer.as_mut()?;
        let left = transfer.left() as f64;
        let number = transfer.number.filter(|_| !transfer.finished)?;
        if transfer.scaling || bytes as f64 > LESS * left {
            return None;
        }
        transfer.gives_way();
        (picture.upload, picture.sent) = (None, 0);
        picture.phase = PicturePhase::Uploading;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use wire::ClientMessage;

    use crate::core::tests::world::World;

    const LARGE: u64 = 13_000_000;

    /// A page that has been sending a large picture for a while.
    fn sending(ms: f64) -> World {
        let mut world = World::new();
        world.settles();
        world.smaller = Some(400_000);
        world.bring(LARGE);
        world.ask("What is it?");
        for _ in 0..20 {
            let _ = world.works() | world.up() | world.down();
        }
        world.ms += ms;
        world
    }

    fn announced(world: &World) -> Vec<u64> {
        let said = world.said.iter().filter_map(|message| match message {
            ClientMessage::Upload(upload) => Some(upload.bytes),
            _ => None,
        });
        said.collect()
    }

    #[test]
    fn on_a_slow_line_a_smaller_copy_takes_its_place_and_what_was_asked_is_asked_of_that() {
        let mut world = sending(3_000.0);
        world.settles();
        assert_eq!(announced(&world), [LARGE, 400_000]);
        let cancelled = world.said.iter().any(
            |message| matches!(message, ClientMessage::Cancel(cancel) if cancel.upload.is_some()),
        );
        assert!(cancelled);
        assert_eq!(world.phases(), ["done"]);
    }

    #[test]
    fn on_a_quick_one_the_original_goes_and_nobody_makes_a_copy() {
        let mut world = sending(1.0);
        world.settles();
        assert_eq!(announced(&world), [LARGE]);
        assert_eq!(world.phases(), ["done"]);
    }

    #[test]
    fn a_copy_that_comes_late_or_is_hardly_less_is_not_sent() {
        let mut world = sending(3_000.0);
        world.smaller = Some(LARGE - 1_000_000);
        world.settles();
        assert_eq!(announced(&world), [LARGE]);
        assert_eq!(world.phases(), ["done"]);
    }
}
