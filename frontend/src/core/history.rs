//! Which conversation of the store is on the page, and what is kept of it.

use super::{
    conversation::Conversation,
    effect::{Effect, Effects},
    input::Now,
    kept::Kept,
    picture::Picture,
};

#[derive(Debug, Default)]
pub struct History {
    /// The conversation's id in the store, once it is kept.
    kept: Option<String>,
    /// A conversation that the person wants to be opened, and when they said so.
    opening: Option<(String, f64)>,
}

impl History {
    /// Keeps the conversation as it stands, if there is anything to be kept.
    pub fn keep(
        &mut self,
        conversation: &Conversation,
        picture: Option<&Picture>,
        now: &Now,
        out: &mut Effects,
    ) {
        let Some(picture) = picture.filter(|p| p.failed().is_none()) else {
            return;
        };
        let (turns, asking) = (conversation.remembered(), conversation.asking());
        if turns.is_empty() && asking.is_empty() {
            return;
        }
        let whole = self.kept.is_none();
        // An id that no other conversation of this browser has.
        let new = || format!("{:.0}-{:.0}", now.wall, now.random * 1e9);
        let id = self.kept.clone().unwrap_or_else(new);
        self.is(Some(id.clone()), out);
        out.push(Effect::Keep {
            kept: Kept {
                id,
                at: now.wall,
                name: picture.name.clone(),
                bytes: picture.bytes,
                turns,
                asking,
            },
            picture: picture.id,
            whole,
        });
    }

    /// Which conversation of the store is on the page; the tab knows it over a reload.
    pub fn is(&mut self, id: Option<String>, out: &mut Effects) {
        self.kept.clone_from(&id);
        out.push(Effect::RememberOpen(id));
    }

    /// The conversation is left: what is kept of it stays, and whatever was to be opened is not wanted any more.
    pub fn leave(&mut self, out: &mut Effects) {
        self.opening = None;
        self.is(None, out);
    }

    /// Opens a kept conversation, as soon as the store has brought it.
    pub fn open(&mut self, id: String, when: f64, out: &mut Effects) {
        out.push(Effect::Load(id.clone()));
        self.opening = Some((id, when));
    }

    /// The store has brought it; when it was asked for, if it is still wanted.
    pub fn loaded(&mut self, id: &str) -> Option<f64> {
        let (_, when) = self.opening.take_if(|(wanted, _)| wanted == id)?;
        Some(when)
    }
}
