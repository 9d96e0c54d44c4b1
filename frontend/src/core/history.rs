//! Which conversation of the store is on the page, and what is kept of it.

use super::{
    connection::Heard,
    conversation::Conversation,
    effect::{Effect, Effects},
    input::Now,
    kept::Kept,
    picture::Picture,
    watched::Watched,
};

/// Where a conversation lies in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreEntry {
    pub id: String,
    /// How often it was written when this page took it from there.
    pub rev: u64,
    /// The store does not have this conversation yet.
    pub fresh: bool,
    /// By which its picture lies there.
    pub picture: String,
}

impl StoreEntry {
    /// The conversation as it stands, to be kept there.
    pub fn record(&self, picture: &Picture, conversation: &Conversation, now: &Now) -> Kept {
        let (turns, leaf) = conversation.to_keep();
        Kept {
            id: self.id.clone(),
            rev: self.rev,
            at: now.wall,
            name: picture.name.clone(),
            bytes: picture.bytes,
            picture: self.picture.clone(),
            // The store has that, and lets no page but its list change it.
            title: None,
            turns,
            leaf,
            crop: picture.crop.clone(),
        }
    }

    /// The place of a conversation that came out of the store.
    pub fn of(kept: &Kept) -> Self {
        StoreEntry {
            id: kept.id.clone(),
            rev: kept.rev,
            fresh: false,
            picture: kept.picture.clone(),
        }
    }
}

/// Why a conversation is not kept as it stands, or soon may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreProblem {
    /// Another page of this browser has it open.
    Elsewhere,
    /// Another page has changed it.
    Changed,
    /// Another page has deleted it.
    Gone,
    /// The browser has no room left.
    Full,
    /// The browser keeps nothing.
    Refused,
}

/// What pages of one browser tell each other of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TabMessage {
    /// It was opened here.
    Opened,
    /// It was open here before.
    Here,
    /// It was kept as it stands here.
    Kept,
    /// It is not open here any more.
    Left,
}

/// A conversation that is to be opened as soon as the store has brought it.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    id: String,
    /// When that was asked for.
    pub when: f64,
    /// By the browser's Back or Forward, which is its own undoing.
    pub moves: bool,
}

#[derive(Debug, Default)]
pub struct History {
    /// Where the conversation lies, once it is to be kept.
    pub place: Option<StoreEntry>,
    pub problem: Watched<Option<StoreProblem>>,
    /// A conversation that the person wants to be opened, and when they said so.
    opening: Option<Opening>,
}

/// What is kept, and by whom.
pub struct Keeping<'a> {
    pub conversation: &'a Conversation,
    pub picture: Option<&'a Picture>,
    /// This page's name among those that the browser has open.
    pub page: &'a str,
    /// What the server has said and is in it.
    pub event: Heard,
}

impl History {
    /// Keeps the conversation as it stands, if there is anything to be kept; whether the store will tell how that went.
    pub fn keep(&mut self, what: &Keeping, now: &Now, out: &mut Effects) -> bool {
        let Some(picture) = what.picture.filter(|p| p.failed().is_none()) else {
            return false;
        };
        // What another page has made of it stays.
        if matches!(
            *self.problem,
            Some(StoreProblem::Changed | StoreProblem::Gone)
        ) {
            return false;
        }
        if self.place.is_none()
            && let Some(sha256) = &picture.sha256
        {
            let place = StoreEntry {
                // An id that no other conversation of this browser has.
                id: format!("{:.0}-{:.0}", now.wall, now.random * 1e9),
                rev: 0,
                fresh: true,
                picture: sha256.clone(),
            };
            self.is(Some(place), out);
        }
        let Some(place) = self.place.clone() else {
            return false;
        };
        out.push(Effect::Keep {
            kept: Box::new(place.record(picture, what.conversation, now)),
            picture: picture.id,
            page: what.page.to_owned(),
            fresh: place.fresh,
            event: what.event,
        });
        true
    }

    /// Which conversation of the store is on the page; the tab knows it over a reload.
    pub fn is(&mut self, place: Option<StoreEntry>, out: &mut Effects) {
        let id = |place: &Option<StoreEntry>| place.as_ref().map(|place| place.id.clone());
        let (old, new) = (id(&self.place), id(&place));
        out.push(Effect::RememberOpen(new.clone()));
        if old != new {
            out.extend(old.map(|id| Effect::Tell(TabMessage::Left, id)));
            out.extend(new.map(|id| Effect::Tell(TabMessage::Opened, id)));
        }
        self.place = place;
        if self.problem.is_some() {
            self.problem.set(None);
        }
    }

    pub fn id(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.id.as_str())
    }

    /// Notes that the store has the conversation as it stands.
    pub fn kept(&mut self) {
        if let Some(place) = self.place.as_mut() {
            place.fresh = false;
        }
        if matches!(
            *self.problem,
            Some(StoreProblem::Full | StoreProblem::Refused)
        ) {
            self.problem.set(None);
        }
    }

    /// Another page tells something of a conversation.
    pub fn told(&mut self, told: TabMessage, id: String, out: &mut Effects) {
        if self.id() != Some(&id) {
            return;
        }
        match (told, *self.problem) {
            (TabMessage::Opened, _) => out.push(Effect::Tell(TabMessage::Here, id)),
            (TabMessage::Here, None) => self.problem.set(Some(StoreProblem::Elsewhere)),
            (TabMessage::Kept, _) => self.problem.set(Some(StoreProblem::Changed)),
            (TabMessage::Left, Some(StoreProblem::Elsewhere)) => self.problem.set(None),
            _ => {}
        }
    }

    /// Leaves the conversation: what is kept of it stays, and whatever was to be opened is not wanted any more.
    pub fn leave(&mut self, out: &mut Effects) {
        self.opens_none();
        self.is(None, out);
    }

    pub fn opens_none(&mut self) {
        self.opening = None;
    }

    /// Opens a kept conversation, as soon as the store has brought it; `moves` by the browser's Back or Forward.
    pub fn open(&mut self, id: String, when: f64, moves: bool, out: &mut Effects) {
        out.push(Effect::Load(id.clone()));
        self.opening = Some(Opening { id, when, moves });
    }

    /// The store has brought it; how it was asked for, if it is still wanted.
    pub fn loaded(&mut self, id: &str) -> Option<Opening> {
        self.opening.take_if(|wanted| wanted.id == id)
    }
}
