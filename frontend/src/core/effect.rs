//! What is to be done outside of the state.

use wire::ClientMessage;

use super::{
    connection::Heard, crop::Region, handover::Handover, history::TabMessage, kept::Kept,
    settings::Settings,
};
use crate::i18n::Lang;

/// Something to do in the browser, on the wire or in the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Opens a socket and lets go of the one before, in a way that leaves its session to be resumed. What this one says
    /// comes back with `generation`.
    Open {
        generation: u64,
    },
    /// Closes the socket for good, which ends its session unless that goes on with the next page.
    Leave {
        goes_on: bool,
    },
    /// Finds out why no socket opens, which a browser tells nobody.
    AskWhy {
        generation: u64,
    },
    Send(ClientMessage),
    /// Sends the next piece that was read for this generation of the upload.
    SendFrame {
        generation: u32,
    },
    /// Throws away what was read and not sent.
    Discard,
    /// Has the worker read bytes `begin..end` of what is sent of a picture, as a frame of the wire.
    Read {
        generation: u32,
        upload: u32,
        picture: u64,
        begin: u64,
        end: u64,
    },
    /// Has the worker hash a picture as it was given.
    Hash(u64),
    /// Has the worker make a picture's reduced copy.
    Preview(u64),
    /// Has the worker make a picture smaller, with this many pixels on its shorter side; or as large as it is, in a format that
    /// every server reads.
    Scale {
        picture: u64,
        side: Option<u32>,
    },
    /// From now on the smaller copy of a picture is what is sent of it.
    SendSmaller(u64),
    /// Has the worker cut a region out of a picture as it was given, at full resolution.
    Crop {
        picture: u64,
        region: Region,
    },
    /// Tells when the picture stands on the screen.
    WatchShown(u64),
    /// Tells when the turn's first word stands on the screen.
    WatchDrawn(u64),
    /// Lets go of a picture's bytes.
    Release(u64),
    /// Lets go of a reduced copy's address, once nothing draws it any more.
    Revoke(String),
    /// Keeps a conversation, with its reduced copy of the picture and, if it is `fresh`, the picture as it was given. What
    /// another page has changed in the meantime stays as it is.
    Keep {
        kept: Box<Kept>,
        picture: u64,
        /// This page among those of the browser.
        page: String,
        /// It is not in the store yet.
        fresh: bool,
        /// Comes back with how it went.
        event: Heard,
    },
    /// Takes a conversation out of the store.
    Load(String),
    /// Marks a conversation of the store, or all, as deleted with this.
    Mark {
        id: Option<String>,
        stamp: f64,
    },
    /// What was marked with this is not deleted.
    Unmark(f64),
    /// What was marked with this goes for good.
    Purge(f64),
    /// So does what was marked before this moment, by a page that has not come to it.
    PurgeBefore(f64),
    /// A conversation of the store is called this.
    Name {
        id: String,
        title: Option<String>,
    },
    /// A conversation goes at once.
    Remove(String),
    /// Asks the browser to keep what is kept, and whether there is room for more.
    Persist,
    /// Which kept conversation is open in this tab, over a reload.
    RememberOpen(Option<String>),
    /// What the next page of this tab goes on with; nothing while this one lives.
    HandOver(Option<Box<Handover>>),
    /// Tells the other pages of this browser.
    Tell(TabMessage, String),
    /// What stands in the composer, over a reload.
    RememberDraft(String),
    /// The server's key, for this tab.
    RememberKey(String),
    RememberSettings(Settings),
    RememberLanguage(Lang),
    /// Brings [`Input::Clock`](super::Input::Clock) with `timer` after so many milliseconds.
    After {
        ms: f64,
        timer: Timer,
    },
}

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timer {
    /// A connection of this generation should have been greeted by now.
    Greeting(u64),
    /// The connection of this generation was lost: it is time for the next.
    Retry(u64),
    /// The ping that was sent at `asked` should have been answered by now, and now is `due`.
    Pong {
        generation: u64,
        asked: f64,
        due: f64,
    },
    /// One more ping.
    Ping,
    /// Every so often: is the connection alive, has the machine slept?
    Tick,
    /// Questions that waited may go.
    Questions,
    /// The browser's buffer may have drained.
    Drain,
    /// A notice has stood long enough.
    Notice(u64),
    /// What can be taken back can't any more.
    Undo(u64),
}

/// The effects of an input, in order.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    pub fn extend(&mut self, effects: impl IntoIterator<Item = Effect>) {
        self.0.extend(effects);
    }

    pub fn send(&mut self, message: ClientMessage) {
        self.push(Effect::Send(message));
    }

    pub fn after(&mut self, ms: f64, timer: Timer) {
        self.push(Effect::After { ms, timer });
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
