//! What comes to the page from outside.

use wire::ServerEnvelope;

use super::{
    connection::Heard,
    crop::Region,
    effect::Timer,
    handover::Handover,
    history::{StoreProblem, TabMessage},
    kept::Kept,
    picture::NewPicture,
    settings::Settings,
};
use crate::i18n::{Lang, T};

/// How the world is at the moment of an input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// The page's monotonic clock, in milliseconds.
    pub ms: f64,
    /// Milliseconds since 1970.
    pub wall: f64,
    /// A random value from 0 to 1.
    pub random: f64,
    /// Bytes that the browser holds back of what was sent.
    pub buffered: u32,
}

#[derive(Debug)]
pub enum Input {
    Person(Person),
    Socket(Socket),
    Worker(Worker),
    Store(Store),
    Clock(Timer),
    Browser(Browser),
}

/// What a person does. `when` is the time of the event on the page's clock.
#[derive(Debug)]
pub enum Person {
    /// This stands in the composer now.
    Types(String),
    /// Asks what stands there.
    Sends {
        when: f64,
    },
    /// Asks something else.
    Asks {
        text: String,
        when: f64,
    },
    /// Asks the question of a turn again, as `text` if it was edited; what came after it stays with the version before.
    AsksAgain {
        turn: u64,
        text: Option<String>,
        when: f64,
    },
    /// Wants to see this turn in the place of another version of it.
    Shows {
        turn: u64,
    },
    /// Stops every answer.
    Stops,
    /// Chooses a picture that has still to be fetched or drawn; it comes by this number.
    Awaits {
        number: u64,
    },
    /// Drops, pastes or chooses a picture, which begins a new conversation.
    Brings {
        picture: NewPicture,
        /// What might be asked of it.
        suggestions: Vec<String>,
        /// There were more files than this one.
        more: bool,
        /// It is the one that was awaited by this number.
        awaited: Option<u64>,
        when: f64,
    },
    /// Brings what can't be taken, for this reason.
    BringsNothing(T),
    /// What was awaited by this number does not come, for this reason.
    AwaitsInVain {
        number: u64,
        why: T,
    },
    /// Wants to look closer at a region of the picture.
    LooksCloser {
        region: Region,
        when: f64,
    },
    /// Wants the whole picture again.
    ShowsWhole {
        when: f64,
    },
    /// Does not want the picture that is on its way to the page.
    Declines,
    /// Leaves the conversation for an empty page.
    Leaves,
    /// Opens a kept conversation.
    Opens {
        id: String,
        when: f64,
    },
    /// Goes back or forward to a kept conversation, or to an empty page.
    Moves {
        to: Option<String>,
        when: f64,
    },
    /// Calls a kept conversation this; by nothing it has its first question's name again.
    Names {
        id: String,
        title: String,
    },
    /// Wants a kept conversation gone.
    Deletes {
        id: String,
    },
    /// Leaves the conversation and wants everything forgotten, here and on the server.
    ForgetsAll,
    /// Takes this back, or what was done last.
    Undoes(Option<u64>),
    /// Is at what can be taken back, or not any more.
    Lingers(bool),
    /// Goes on with a copy of a conversation that another page has, too.
    Copies,
    GivesKey(String),
    /// Wants the connection here, whatever was before.
    Connects,
    Chooses(Settings),
    Speaks(Lang),
}

/// What a socket brings, by its generation.
#[derive(Debug)]
pub enum Socket {
    Opened {
        generation: u64,
    },
    Said {
        generation: u64,
        envelope: Box<ServerEnvelope>,
        when: f64,
    },
    /// It ended, or never was.
    Closed {
        generation: u64,
        code: Option<u16>,
    },
    /// What the server answered to a plain request, after a socket did not open: its status, and with 403 its words.
    Barred {
        generation: u64,
        status: u16,
        why: Option<String>,
    },
}

/// What the worker answers.
#[derive(Debug)]
pub enum Worker {
    /// This browser starts none.
    Missing,
    /// A piece of so many bytes, its header left out, has been read.
    Frame { generation: u32, bytes: u32 },
    /// The file can't be read any more.
    Unreadable { generation: u32 },
    /// A reduced copy, and of the picture itself, where the browser told, width and height and whether any of it is
    /// transparent.
    Preview {
        picture: u64,
        url: String,
        size: Option<(u32, u32)>,
        transparent: bool,
    },
    /// A region was cut out of a picture; with it comes the whole picture, very small, as a `data:` address.
    Cropped {
        of: u64,
        part: NewPicture,
        map: String,
    },
    /// It could not be.
    NotCropped { of: u64 },
    /// The browser can't decode it.
    Unseen { picture: u64 },
    /// So many bytes are sent of it; nothing where the original should go.
    Scaled { picture: u64, bytes: Option<u64> },
    /// Nothing where it can't be read.
    Hashed {
        picture: u64,
        sha256: Option<String>,
    },
}

#[derive(Debug)]
pub enum Store {
    Loaded {
        kept: Box<Kept>,
        picture: NewPicture,
    },
    /// There is no such conversation.
    Missing { id: String },
    /// Everything up to this event of the server is kept.
    Kept { id: String, event: Heard },
    /// It is not.
    NotKept {
        id: String,
        event: Heard,
        why: StoreProblem,
    },
    /// So much of the room that there is is used.
    Used { bytes: f64, of: f64 },
    /// Conversations were marked, named or imported, or went.
    Changed,
}

/// What the browser tells.
#[derive(Debug)]
pub enum Browser {
    /// The page begins, in a tab that keeps these over a reload.
    Began {
        key: Option<String>,
        open: Option<String>,
        draft: String,
        handover: Option<Box<Handover>>,
    },
    /// Another page of this browser tells something of a conversation.
    TabMessage(TabMessage, String),
    /// The picture stands on the screen.
    Shown {
        picture: u64,
    },
    /// The turn's first word stands on the screen.
    Drawn {
        turn: u64,
    },
    /// A screen reader should say this.
    Speaks(String),
    Copied(bool),
    /// The network or the person is back.
    Awake,
    /// The network seems to be gone.
    Offline,
    /// The page is shown again out of the browser's cache.
    Restored,
    /// The page is left for good, or for that cache.
    Left,
}
