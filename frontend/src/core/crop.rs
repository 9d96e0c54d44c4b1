//! Looking closer: a region of the conversation's picture becomes the picture of a conversation of its own, cut from the original
//! at full resolution. So small print is read by a model that squeezes every picture to one small square.

use serde::{Deserialize, Serialize};

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::NewPicture,
    state::State,
};
use crate::i18n::T;

/// A model that squeezes to a square still reads what is at most this much longer than it is wide, or the other way round.
const LONGEST: f64 = 2.0;
/// Less than this, in pixels, is a click and no region.
const SMALLEST: f64 = 8.0;

/// A part of a picture, in pixels from its upper left corner, upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Region {
    /// The one between two corners, within a picture of this width and height.
    pub fn between(a: (f64, f64), b: (f64, f64), of: (f64, f64)) -> Self {
        let side = |a: f64, b: f64, of: f64| {
            let (from, to) = (a.min(b).clamp(0.0, of), a.max(b).clamp(0.0, of));
            (from, to - from)
        };
        let (x, width) = side(a.0, b.0, of.0);
        let (y, height) = side(a.1, b.1, of.1);
        Region {
            x,
            y,
            width,
            height,
        }
    }

    /// Whether there is anything to be seen in it.
    pub fn is_seen(&self) -> bool {
        self.width >= SMALLEST && self.height >= SMALLEST
    }

    /// The region that is cut for it: whole pixels, grown by what surrounds it until neither side is longer than twice the
    /// other, as far as the picture goes.
    pub fn grown(&self, of: (u32, u32)) -> Self {
        let (of_width, of_height) = (f64::from(of.0), f64::from(of.1));
        let grow = |from: f64, length: f64, other: f64, of: f64| {
            let wanted = length.max(other / LONGEST).ceil().min(of);
            let begin = (from - (wanted - length) / 2.0).floor();
            (begin.clamp(0.0, of - wanted), wanted)
        };
        let (x, width) = grow(self.x, self.width, self.height, of_width);
        let (y, height) = grow(self.y, self.height, self.width, of_height);
        Region {
            x,
            y,
            width,
            height,
        }
    }
}

/// Where a picture was cut from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Crop {
    /// The kept conversation about the whole picture, if it is kept.
    pub parent: Option<String>,
    /// The last turn that stood on the page there.
    pub turn: Option<u64>,
    #[serde(rename = "box")]
    pub region: Region,
    /// Width and height of the whole picture.
    pub of: (u32, u32),
    /// The whole picture, very small, as a `data:` address.
    pub map: String,
    /// The whole picture's number on this page.
    #[serde(skip)]
    pub whole: u64,
}

/// A region that the worker is cutting out.
#[derive(Clone, Debug, PartialEq)]
pub struct Cropping {
    /// The picture's number on this page.
    picture: u64,
    region: Region,
    of: (u32, u32),
    /// When it was asked for.
    when: f64,
}

impl State {
    /// Has `region` of the conversation's picture cut out, by the event at `when`.
    pub(super) fn look_closer(&mut self, region: Region, when: f64, out: &mut Effects) {
        let usable = |state: &Self| {
            let picture = state.picture().filter(|_| state.coming.is_none())?;
            let size = picture.size.filter(|_| picture.failed().is_none())?;
            (!picture.unseen).then_some((picture.id, size))
        };
        let Some((picture, of)) = usable(self).filter(|_| region.is_seen()) else {
            return self.say(T::CantLookCloser, true, out);
        };
        let region = region.grown(of);
        out.push(Effect::Crop { picture, region });
        self.cropping.set(Some(Cropping {
            picture,
            region,
            of,
            when,
        }));
    }

    /// The worker has cut it out, with a very small copy of the whole: it is the picture of a new conversation, while the
    /// one about the whole picture goes on.
    pub(super) fn cropped(
        &mut self,
        of: u64,
        part: NewPicture,
        map: String,
        now: &Now,
        out: &mut Effects,
    ) {
        let here = self.picture().is_some_and(|p| p.id == of);
        let wanted = |cropping: &Cropping| here && cropping.picture == of;
        let Some(cropping) = self.cropping.take().filter(wanted) else {
            return out.push(Effect::Release(part.id));
        };
        let crop = Crop {
            parent: self.history.id().map(str::to_owned),
            turn: self.conversation.path().last().copied(),
            region: cropping.region,
            of: cropping.of,
            map,
            whole: cropping.picture,
        };
        self.decline(now, out);
        self.put_away(now, out);
        let crop = Some(Box::new(crop));
        self.show(NewPicture { crop, ..part }, cropping.when, now, out);
        let words = self.text(T::PartOnly);
        self.notices.say_aloud(words);
    }

    /// The worker could not cut it out.
    pub(super) fn not_cropped(&mut self, of: u64, out: &mut Effects) {
        if self
            .cropping
            .take()
            .is_some_and(|cropping| cropping.picture == of)
        {
            self.say(T::CantLookCloser, true, out);
        }
    }

    /// Goes back from a part of a picture to the conversation about all of it.
    pub(super) fn show_whole(&mut self, when: f64, now: &Now, out: &mut Effects) {
        let Some(crop) = self.picture().and_then(|picture| picture.crop.clone()) else {
            return;
        };
        let aside = self.uploads.aside.as_ref().map(|picture| picture.id);
        match crop.parent {
            _ if aside == Some(crop.whole) => self.exchange_aside(now, out),
            Some(id) => self.open(id, when, now, out),
            None => self.say(T::NotKeptAnyMore, true, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: f64, y: f64, width: f64, height: f64) -> Region {
        Region {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn a_region_lies_between_its_corners_and_in_the_picture() {
        let drawn = Region::between((90.0, 10.0), (-20.0, 40.0), (100.0, 100.0));
        assert_eq!(drawn, region(0.0, 10.0, 90.0, 30.0));
        assert!(drawn.is_seen());
        assert!(!Region::between((5.0, 5.0), (6.0, 60.0), (100.0, 100.0)).is_seen());
    }

    #[test]
    fn a_region_is_grown_to_no_more_than_two_to_one_by_what_surrounds_it() {
        let of = (4000, 3000);
        // A line of print: as much above it as below.
        assert_eq!(
            region(1000.0, 500.0, 800.0, 100.0).grown(of),
            region(1000.0, 350.0, 800.0, 400.0)
        );
        // At the upper edge it grows downwards.
        assert_eq!(
            region(0.0, 0.0, 800.0, 100.0).grown(of),
            region(0.0, 0.0, 800.0, 400.0)
        );
        // At the right edge it grows to the left.
        assert_eq!(
            region(3990.0, 100.0, 10.0, 400.0).grown(of),
            region(3800.0, 100.0, 200.0, 400.0)
        );
        // Between 1:2 and 2:1 already.
        assert_eq!(
            region(10.2, 10.0, 99.5, 60.0).grown(of),
            region(9.0, 10.0, 100.0, 60.0)
        );
    }

    #[test]
    fn a_region_never_leaves_the_picture() {
        let of = (4000, 300);
        assert_eq!(
            region(0.0, 0.0, 4000.0, 300.0).grown(of),
            region(0.0, 0.0, 4000.0, 300.0)
        );
        for x in (0..4000).step_by(37) {
            for width in [8.0, 300.0, 1500.0] {
                let grown = region(f64::from(x), 100.0, width, 9.0).grown(of);
                assert!(
                    grown.x >= 0.0 && grown.x + grown.width <= 4000.0,
                    "{grown:?}"
                );
                assert!(
                    grown.y >= 0.0 && grown.y + grown.height <= 300.0,
                    "{grown:?}"
                );
                assert!(grown.width <= 4000.0 && grown.height >= 9.0);
            }
        }
    }

    #[test]
    fn where_it_was_cut_from_is_kept_and_read_again() {
        let crop = Crop {
            parent: Some("1-2".into()),
            turn: Some(3),
            region: region(1.0, 2.0, 3.0, 4.0),
            of: (4000, 3000),
            map: "data:image/webp;base64,AAAA".into(),
            whole: 0,
        };
        let text = serde_json::to_string(&crop).unwrap();
        assert!(text.contains("\"box\"") && text.contains("\"parent\""));
        assert_eq!(serde_json::from_str::<Crop>(&text).unwrap(), crop);
    }
}
