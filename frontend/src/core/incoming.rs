//! A picture that is still to come: it has to be fetched first, or it comes in the place of another, whose conversation stays until
//! the new one is known to be readable, and for good if it is not.

use super::{
    effect::{Effect, Effects},
    input::Now,
    picture::NewPicture,
    state::State,
};
use crate::i18n::{T, fill};

/// What comes with a picture that is to come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coming {
    /// It is not here yet, and will come by this number.
    awaited: Option<u64>,
    /// What might be asked of it.
    pub suggestions: Vec<String>,
    /// What is asked of it as soon as it is there, and when that was sent.
    pub asks: Vec<(String, f64)>,
}

impl State {
    /// A picture is on its way to the page: what is asked from now on waits for it.
    pub(super) fn await_picture(&mut self, number: u64, now: &Now, out: &mut Effects) {
        let before = self.give_way(now, out).unwrap_or_default();
        self.coming.set(Some(Coming {
            awaited: Some(number),
            asks: before.asks,
            ..Coming::default()
        }));
    }

    /// Whether the picture of this number is still wanted.
    pub(super) fn awaits(&self, number: u64) -> bool {
        let coming = self.coming.as_ref();
        coming.is_some_and(|coming| coming.awaited == Some(number))
    }

    /// The picture of this number does not come: what was asked of it is a draft again.
    pub(super) fn await_no_more(&mut self, number: u64, why: T, now: &Now, out: &mut Effects) {
        if self.awaits(number) {
            self.decline(now, out);
            self.say(why, true, out);
        }
    }

    /// A picture is brought by the event at `when`.
    pub(super) fn bring(
        &mut self,
        picture: NewPicture,
        suggestions: Vec<String>,
        when: f64,
        now: &Now,
        out: &mut Effects,
    ) {
        let asks = self.give_way(now, out).unwrap_or_default().asks;
        // Whatever was to be opened is not wanted any more.
        self.history.opens_none();
        if self.is_empty() {
            self.clear_page(out);
            self.suggestions.set(suggestions);
            self.show(picture, when, now, out);
            for (text, when) in asks {
                self.ask(&text, when, now, out);
            }
            return;
        }
        self.coming.set(Some(Coming {
            awaited: None,
            suggestions,
            asks,
        }));
        let side = self.scaled_to(picture.bytes);
        let line = self.line();
        self.uploads.expect(picture, side, when, line, now, out);
    }

    /// The picture that was to come, if there is one, does not; what came with it.
    fn give_way(&mut self, now: &Now, out: &mut Effects) -> Option<Coming> {
        self.coming.as_ref()?;
        if self.uploads.incoming.is_some() {
            let line = self.line();
            if let Some(cancel) = self.uploads.decline(line, now, out) {
                self.connection.send_or_owe(cancel, out);
            }
        }
        self.coming.take()
    }

    /// The person does not want the picture that was to come, or it can't be used: what was asked of it is a draft again.
    pub(super) fn decline(&mut self, now: &Now, out: &mut Effects) {
        let Some(coming) = self.give_way(now, out) else {
            return;
        };
        let asked = coming.asks.into_iter().map(|(text, _)| text);
        let draft = Some(self.draft.clone()).filter(|draft| !wire::is_blank(draft));
        let words: Vec<_> = asked.chain(draft).collect();
        if !words.is_empty() {
            self.drafted(words.join("\n"), out);
        }
    }

    /// The picture that was to come takes its place, or is given up, if that is known by now.
    pub(super) fn receive(&mut self, now: &Now, out: &mut Effects) {
        let Some(picture) = self.uploads.incoming.as_ref() else {
            return;
        };
        if let Some(failure) = picture.failed() {
            let why = fill(
                T::NotTaken.in_language(*self.lang),
                &[&picture.name, &self.words(failure)],
            );
            self.notices.say_aloud(&why);
            self.notices.say(why, true, out);
            return self.decline(now, out);
        }
        if !picture.readable {
            return;
        }
        let Some(coming) = self.coming.take() else {
            return;
        };
        self.put_away(now, out);
        self.offer(T::LeftForPicture, out).aside = true;
        self.uploads.accept();
        self.suggestions.set(coming.suggestions);
        self.keep();
        for (text, when) in coming.asks {
            self.ask(&text, when, now, out);
        }
    }

    /// Takes what can't be used, or what is nothing yet, off the page.
    pub(super) fn clear_page(&mut self, out: &mut Effects) {
        if let Some(cancel) = self.uploads.drop_picture(out) {
            self.connection.send_or_owe(cancel, out);
        }
        if let Some(id) = self.history.id() {
            out.push(Effect::Remove(id.to_owned()));
        }
        self.suggestions.set(Vec::new());
        self.history.leave(out);
        self.conversation.begin(Vec::new(), None, 0.0);
    }
}
