//! What a page leaves to the one that comes after it in the same tab, over a reload. The tab has it only while no page of it
//! lives: so a tab that is duplicated takes nothing from the one that goes on.

use serde::{Deserialize, Serialize};

use super::{
    effect::{Effect, Effects},
    history::StoreEntry,
    input::Now,
    kept::Kept,
    picture::NewPicture,
    state::State,
};
use crate::i18n::T;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// The page among those of the browser: what it has kept, the next one may change.
    page: String,
    kept: Kept,
    fresh: bool,
    suggestions: Vec<String>,
    /// The session, where an answer is on its way.
    session: Option<String>,
    /// The last event of it that was heard.
    event: u64,
    /// The numbers that are used up, of uploads and of requests.
    uploads: u32,
    requests: u64,
    /// What the server calls picture and conversation.
    image: Option<String>,
    conversation: Option<String>,
    stale: bool,
}

impl State {
    /// The page is left, for good or to be loaded again.
    pub(super) fn hand_over(&mut self, now: &Now, out: &mut Effects) {
        self.decline(now, out);
        let handover = self.handover(now);
        let goes_on = handover.as_ref().is_some_and(|h| h.session.is_some());
        out.push(Effect::HandOver(handover.map(Box::new)));
        self.connection.leave(goes_on, out);
    }

    fn handover(&self, now: &Now) -> Option<Handover> {
        let place = self.history.place.as_ref().filter(|_| self.settings.keep)?;
        let picture = self.picture()?;
        let goes_on = self.conversation.running() && picture.image.is_some();
        let (session, event) = self.connection.session().filter(|_| goes_on).unzip();
        Some(Handover {
            page: self.page.clone(),
            kept: place.record(picture, &self.conversation, now),
            fresh: place.fresh,
            suggestions: self.suggestions.clone(),
            session,
            event: event.unwrap_or_default(),
            uploads: self.uploads.number,
            requests: self.conversation.count,
            image: picture.image.clone(),
            conversation: self.conversation.id().map(str::to_owned),
            // A question of which nothing was heard is asked anew, and the server may have it already.
            stale: self.conversation.stale || self.conversation.unheard(),
        })
    }

    /// Goes on where the page before was. The picture's bytes come from the store.
    pub(super) fn take_over(&mut self, handover: Handover, now: &Now, out: &mut Effects) {
        let kept = handover.kept;
        self.page = handover.page;
        self.suggestions.set(handover.suggestions);
        let place = StoreEntry {
            fresh: handover.fresh,
            ..StoreEntry::of(&kept)
        };
        self.history.is(Some(place), out);
        out.push(Effect::Load(kept.id.clone()));
        self.uploads.await_file(NewPicture {
            name: kept.name.clone(),
            bytes: kept.bytes,
            crop: kept.crop.clone(),
            ..NewPicture::default()
        });
        let Some((session, image)) = handover.session.zip(handover.image) else {
            let kept = kept.asked_anew();
            self.conversation.begin(kept.turns, kept.leaf, now.ms);
            return;
        };
        self.conversation.count = handover.requests;
        self.conversation.begin(kept.turns, kept.leaf, now.ms);
        self.conversation.id = handover.conversation;
        self.conversation.stale = handover.stale;
        self.uploads.number = handover.uploads;
        self.uploads.looked_at(image);
        self.connection.go_on(session, handover.event);
    }

    /// The store has brought the picture of the conversation that was taken over; whether it is that.
    pub(super) fn take_file(
        &mut self,
        id: &str,
        picture: &NewPicture,
        now: &Now,
        out: &mut Effects,
    ) -> bool {
        let awaited = self.history.id() == Some(id) && self.uploads.awaits_file();
        if awaited {
            let line = self.line();
            self.uploads.file_found(picture.clone(), line, now, out);
            self.flush(now, out);
        }
        awaited
    }

    /// The store has no such picture: the server's is all there is, if it has one.
    pub(super) fn take_no_file(&mut self, id: &str, out: &mut Effects) {
        let awaited = self.history.id() == Some(id) && self.uploads.awaits_file();
        if awaited && self.picture().is_some_and(|p| p.image.is_none()) {
            self.uploads.drop_picture(out);
            self.say(T::NotKeptAnyMore, true, out);
        }
    }
}
