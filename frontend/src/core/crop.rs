//! Looking closer: a region of the conversation's picture becomes the picture of a conversation of its own, cut from the original
//! at full resolution. So small print is read by a model that squeezes every picture to one small square.

pub use metadata::Region;
use serde::{Deserialize, Serialize};

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::NewPicture,
    state::State,
};
use crate::i18n::T;

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

    #[test]
    fn where_it_was_cut_from_is_kept_and_read_again() {
        let crop = Crop {
            parent: Some("1-2".into()),
            turn: Some(3),
            region: Region {
                x: 1.0,
                y: 2.0,
                width: 3.0,
                height: 4.0,
            },
            of: (4000, 3000),
            map: "data:image/webp;base64,AAAA".into(),
            whole: 0,
        };
        let text = serde_json::to_string(&crop).unwrap();
        assert!(text.contains("\"box\"") && text.contains("\"parent\""));
        assert_eq!(serde_json::from_str::<Crop>(&text).unwrap(), crop);
    }
}
