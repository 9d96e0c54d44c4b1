//! What is kept of the conversation, and what the store says of that.

use super::{
    effect::{Effect, Effects},
    history::{History, Keeping, Opening, StoreEntry, StoreProblem, TabMessage},
    input::{Now, Store},
    kept::Kept,
    picture::{NewPicture, Picture},
    state::State,
};
use crate::i18n::T;

/// Of the room that the browser gives, so much is nearly all.
const SCARCE: f64 = 0.8;

impl State {
    /// The conversation is to be kept as it stands.
    pub(super) fn keep(&mut self) {
        self.unkept = true;
    }

    /// Has the conversation kept, where the person wants that; whether the store will tell how that went.
    pub(super) fn write(&mut self, now: &Now, out: &mut Effects) -> bool {
        if !self.settings.keep {
            return false;
        }
        // The worker hashes nothing before it has shown it.
        let seen = |p: &&Picture| p.readable || p.unseen;
        let new = self.picture().filter(|_| self.history.place.is_none());
        if let Some(picture) = new.filter(seen) {
            self.uploads.hash(picture.id, out);
        }
        let keeping = Keeping {
            conversation: &self.conversation,
            picture: self.uploads.picture.as_ref(),
            page: &self.page,
            event: self.connection.heard(),
        };
        self.history.keep(&keeping, now, out)
    }

    pub(super) fn store(&mut self, store: Store, now: &Now, out: &mut Effects) {
        match store {
            Store::Loaded { kept, picture } if self.take_file(&kept.id, &picture, now, out) => {}
            Store::Loaded { kept, picture } => match self.history.loaded(&kept.id) {
                Some(opening) => self.reopen(*kept, picture, &opening, now, out),
                None => {
                    out.push(Effect::Release(picture.id));
                    if let Some(url) = picture.preview {
                        out.push(Effect::Revoke(url));
                    }
                }
            },
            Store::Missing { id } => {
                self.take_no_file(&id, out);
                if self.history.loaded(&id).is_some() {
                    self.say(T::NotKeptAnyMore, true, out);
                    // The address says again what is on the page.
                    out.push(Effect::RememberOpen(self.history.id().map(str::to_owned)));
                }
            }
            Store::Kept { id, event } => {
                if let Some(history) = self.history_of(&id) {
                    history.kept();
                }
                out.push(Effect::Tell(TabMessage::Kept, id));
                if !std::mem::replace(&mut self.persistent, true) {
                    out.push(Effect::Persist);
                }
                self.connection.stored(event, out);
                self.stored.set(*self.stored + 1);
            }
            Store::NotKept { id, event, why } => {
                let first = self.history_of(&id).is_some_and(|history| {
                    let before = history.problem.replace(why);
                    before != Some(why)
                });
                if first && why == StoreProblem::Refused {
                    self.say(T::KeepsNothing, true, out);
                }
                self.connection.stored(event, out);
            }
            Store::Used { bytes, of } if bytes > SCARCE * of => self.say(T::Scarce, true, out),
            Store::Used { .. } => {}
            Store::Changed => self.stored.set(*self.stored + 1),
        }
    }

    /// Of the conversation on the page or the one put away, if it is the one in the store.
    fn history_of(&mut self, id: &str) -> Option<&mut History> {
        let aside = self.aside.as_mut().map(|aside| &mut aside.history);
        let mut all = [Some(&mut self.history), aside].into_iter().flatten();
        all.find(|history| history.id() == Some(id))
    }

    /// Opens a kept conversation: the picture is sent again, the next question carries what was said, and what had no
    /// whole answer is asked again.
    fn reopen(
        &mut self,
        kept: Kept,
        picture: NewPicture,
        opening: &Opening,
        now: &Now,
        out: &mut Effects,
    ) {
        let when = opening.when;
        if opening.moves {
            self.move_away(now, out);
        } else {
            self.leave_for(T::LeftForAnother, now, out);
        }
        self.show(picture, when, now, out);
        self.history.is(Some(StoreEntry::of(&kept)), out);
        let kept = kept.asked_anew();
        self.conversation.begin(kept.turns, kept.leaf, when);
        self.flush(now, out);
        // It lies there as it stands; whoever has it open elsewhere is not to be disturbed.
        self.unkept = false;
    }
}
