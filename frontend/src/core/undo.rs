//! What replaces or deletes can be taken back for a while, and nobody outside is told of it before that has passed.

use super::{
    conversation::Again,
    effect::{Effects, Timer},
    watched::Watched,
};
use crate::i18n::T;

/// For how long.
pub const UNDO_MS: f64 = 8_000.0;

/// What can be taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    pub id: u64,
    /// What was done, in words.
    pub done: T,
    /// The conversations that are marked as deleted with this in the store; which one, if it is one.
    pub marked: Option<(f64, Option<String>)>,
    /// The conversation that was on the page is put away.
    pub aside: bool,
    /// A question was asked again.
    pub again: Option<Again>,
}

#[derive(Debug, Default)]
pub struct Undos {
    pub list: Watched<Vec<Undo>>,
    /// The person is at them: they stay.
    lingering: bool,
    count: u64,
}

impl Undos {
    /// From now on this can be taken back.
    pub fn offer(&mut self, done: T, out: &mut Effects) -> &mut Undo {
        self.count += 1;
        out.after(UNDO_MS, Timer::Undo(self.count));
        let undo = Undo {
            id: self.count,
            done,
            marked: None,
            aside: false,
            again: None,
        };
        self.list.push(undo);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Takes it from the list.
    pub fn take(&mut self, id: u64) -> Option<Undo> {
        let at = self.list.iter().position(|undo| undo.id == id)?;
        let undo = self.list.remove(at);
        self.lingering &= !self.list.is_empty();
        Some(undo)
    }

    /// The latest.
    pub fn last(&self) -> Option<u64> {
        self.list.last().map(|undo| undo.id)
    }

    /// Takes an offer whose time has passed from the list, unless the person is at it.
    pub fn due(&mut self, id: u64, out: &mut Effects) -> Option<Undo> {
        if self.lingering && self.list.iter().any(|undo| undo.id == id) {
            out.after(UNDO_MS, Timer::Undo(id));
            return None;
        }
        self.take(id)
    }

    pub fn linger(&mut self, lingering: bool) {
        self.lingering = lingering;
    }

    /// The conversation on the page is put away: what was asked again in it is not taken back from here any more, and what
    /// was put away before can't be.
    pub fn put_away(&mut self) {
        for undo in self.list.iter_mut() {
            (undo.aside, undo.again) = (false, None);
        }
        self.list.retain(|undo| undo.marked.is_some());
        self.lingering &= !self.list.is_empty();
    }

    /// Whoever brings a conversation back does not want it deleted: what marks it in the store.
    pub fn unmark(&mut self, id: &str) -> Option<f64> {
        let is = |undo: &Undo| matches!(&undo.marked, Some((_, Some(one))) if one == id);
        let at = self.list.iter().position(is)?;
        self.list.remove(at).marked.map(|(stamp, _)| stamp)
    }
}
