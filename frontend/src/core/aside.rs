//! Leaving a conversation, deleting it, and having it back.

use wire::{ClientMessage, Forget};

use super::{
    conversation::Conversation,
    effect::{Effect, Effects},
    history::{History, Keeping},
    input::Now,
    state::State,
    undo::Undo,
};
use crate::i18n::T;

/// A conversation that was left. Its answers go on, and nobody is told; its picture lies with the others.
#[derive(Debug)]
pub struct Aside {
    pub conversation: Conversation,
    pub history: History,
    suggestions: Vec<String>,
    /// The server is to forget it, once it can't be had back.
    forget: bool,
}

impl State {
    /// Whether there is nothing on the page that anybody would miss.
    pub(super) fn is_empty(&self) -> bool {
        let usable = self.picture().is_some_and(|p| p.failed().is_none());
        !usable && self.conversation.path().is_empty()
    }

    /// Leaves the conversation for an empty page.
    pub(super) fn leave_for(&mut self, done: T, now: &Now, out: &mut Effects) {
        self.decline(now, out);
        if self.is_empty() {
            self.clear_page(out);
        } else {
            self.put_away(now, out);
            self.offer(done, out).aside = true;
        }
    }

    /// Leaves the conversation by the browser's Back or Forward, which is its own undoing.
    pub(super) fn move_away(&mut self, now: &Now, out: &mut Effects) {
        self.decline(now, out);
        if self.is_empty() {
            self.clear_page(out);
        } else {
            self.put_away(now, out);
        }
    }

    /// Shows the conversation that the page's address names, or an empty page.
    pub(super) fn move_to(&mut self, to: Option<String>, when: f64, now: &Now, out: &mut Effects) {
        let aside = self.aside.as_ref().and_then(|aside| aside.history.id());
        match to {
            to if self.history.id() == to.as_deref() => self.history.opens_none(),
            Some(id) if aside == Some(id.as_str()) => self.exchange_aside(now, out),
            Some(id) => self.history.open(id, when, true, out),
            None => self.move_away(now, out),
        }
    }

    /// Puts the conversation away, in the place of the one before.
    pub(super) fn put_away(&mut self, now: &Now, out: &mut Effects) {
        self.undos.put_away();
        self.let_go(now, out);
        self.uploads.put_aside(out);
        let history = std::mem::take(&mut self.history);
        self.history.leave(out);
        self.aside = Some(Aside {
            conversation: self.conversation.begin(Vec::new(), None, 0.0),
            history,
            suggestions: std::mem::take(&mut *self.suggestions),
            forget: false,
        });
    }

    /// What was put away goes for good, if anything was.
    fn let_go(&mut self, now: &Now, out: &mut Effects) {
        let Some(mut aside) = self.aside.take() else {
            return;
        };
        let cancels = aside.conversation.stop_all();
        if !cancels.is_empty() {
            self.write_aside(&mut aside, now, out);
        }
        for cancel in cancels {
            self.connection.send_or_owe(cancel, out);
        }
        if aside.forget {
            self.forget(&aside, out);
        } else if aside.conversation.path().is_empty()
            && let Some(id) = aside.history.id()
        {
            out.push(Effect::Remove(id.to_owned()));
        }
        if let Some(cancel) = self.uploads.drop_aside(out) {
            self.connection.send_or_owe(cancel, out);
        }
    }

    /// An answer of what was put away has ended: that is kept, too.
    pub(super) fn keep_aside(&mut self, now: &Now, out: &mut Effects) {
        if let Some(mut aside) = self.aside.take() {
            self.write_aside(&mut aside, now, out);
            self.aside = Some(aside);
        }
    }

    fn write_aside(&self, aside: &mut Aside, now: &Now, out: &mut Effects) {
        if !self.settings.keep || aside.history.place.is_none() {
            return;
        }
        let keeping = Keeping {
            conversation: &aside.conversation,
            picture: self.uploads.aside.as_ref(),
            page: &self.page,
            event: self.connection.heard(),
        };
        aside.history.keep(&keeping, now, out);
    }

    /// Has the server forget a conversation, and its picture where no other is about that.
    fn forget(&mut self, aside: &Aside, out: &mut Effects) {
        let conversation = aside.conversation.id().map(|id| Forget {
            conversation: Some(id.to_owned()),
            image: None,
        });
        let image = self.uploads.aside.as_ref().and_then(|p| p.image.clone());
        let here = [&*self.uploads.picture, &*self.uploads.incoming];
        let used = here.into_iter().flatten().any(|p| p.image == image);
        let image = image.filter(|_| !used).map(|image| Forget {
            conversation: None,
            image: Some(image),
        });
        for forget in conversation.into_iter().chain(image) {
            self.connection
                .send_or_owe(ClientMessage::Forget(forget), out);
        }
        self.uploads.forget();
    }

    /// What was put away is on the page again; what is there now is put away for it, and can be had back for a while.
    fn bring_back(&mut self, now: &Now, out: &mut Effects) {
        self.exchange_aside(now, out);
        if self.aside.is_some() {
            self.offer(T::BroughtBack, out).aside = true;
        }
    }

    /// What was put away is on the page again; what is there now is put away for it.
    pub(super) fn exchange_aside(&mut self, now: &Now, out: &mut Effects) {
        self.decline(now, out);
        let Some(aside) = self.aside.take() else {
            return;
        };
        let empty = self.is_empty();
        if empty {
            self.clear_page(out);
        }
        let left = Aside {
            conversation: self.conversation.bring_back(aside.conversation),
            history: std::mem::replace(&mut self.history, aside.history),
            suggestions: std::mem::replace(&mut *self.suggestions, aside.suggestions),
            forget: false,
        };
        let line = self.line();
        self.uploads.exchange(line, now, out);
        self.undos.put_away();
        if !empty {
            self.aside = Some(left);
        }
        let marked = self.history.id().map(str::to_owned);
        if let Some(stamp) = marked.and_then(|id| self.undos.unmark(&id)) {
            out.push(Effect::Unmark(stamp));
        }
        let place = self.history.place.take();
        self.history.is(place, out);
        self.settled(now, out);
    }

    /// Opens a kept conversation.
    pub(super) fn open(&mut self, id: String, when: f64, now: &Now, out: &mut Effects) {
        let here = self.history.id() == Some(id.as_str()) && self.history.problem.is_none();
        let aside = self.aside.as_ref().and_then(|aside| aside.history.id());
        if aside == Some(id.as_str()) {
            self.bring_back(now, out);
        } else if !here {
            self.history.open(id, when, false, out);
        }
    }

    /// Deletes a kept conversation, which leaves the page if it is there.
    pub(super) fn delete(&mut self, id: String, now: &Now, out: &mut Effects) {
        let aside = self.history.id() == Some(id.as_str());
        self.forget_later(Some(id), aside, T::Deleted, now, out);
    }

    /// Deletes all that is kept, and what is on the page.
    pub(super) fn forget_all(&mut self, now: &Now, out: &mut Effects) {
        let aside = !self.is_empty();
        self.forget_later(None, aside, T::Cleared, now, out);
    }

    fn forget_later(
        &mut self,
        id: Option<String>,
        here: bool,
        done: T,
        now: &Now,
        out: &mut Effects,
    ) {
        let stamp = now.wall + now.random;
        let mark = Effect::Mark {
            id: id.clone(),
            stamp,
        };
        out.push(mark);
        if here {
            self.decline(now, out);
            self.put_away(now, out);
            if let Some(aside) = self.aside.as_mut() {
                aside.forget = true;
            }
        }
        let undo = self.offer(done, out);
        (undo.marked, undo.aside) = (Some((stamp, id)), here);
    }

    /// Takes back what was done, or what was done last.
    pub(super) fn undo(&mut self, id: Option<u64>, now: &Now, out: &mut Effects) {
        let id = id.or_else(|| self.undos.last());
        let Some(undo) = id.and_then(|id| self.undos.take(id)) else {
            return;
        };
        if let Some((stamp, _)) = undo.marked {
            out.push(Effect::Unmark(stamp));
        }
        if undo.aside {
            self.bring_back(now, out);
        }
        if let Some(again) = undo.again {
            for cancel in self.conversation.take_back(again) {
                self.connection.send_or_owe(cancel, out);
            }
            self.settled(now, out);
        }
    }

    /// What was done is not taken back any more: now it is told.
    pub(super) fn settle(&mut self, undo: Undo, now: &Now, out: &mut Effects) {
        if let Some((stamp, _)) = undo.marked {
            out.push(Effect::Purge(stamp));
        }
        if undo.aside {
            self.let_go(now, out);
        }
        if let Some(again) = undo.again {
            for cancel in self.conversation.let_go(again) {
                self.connection.send_or_owe(cancel, out);
            }
        }
    }
}
