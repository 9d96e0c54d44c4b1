//! The page's state as a whole: what a person, the worker, the store, the clock and the browser change in it.

use wire::{ClientMessage, Forget, Limits, Model};

use super::{
    connection::Connection,
    conversation::{Conversation, Sending, TurnChange},
    effect::{Effect, Effects, Timer},
    history::History,
    input::{Browser, Input, Now, Person, Socket, Store, Worker},
    kept::Kept,
    notices::Notices,
    picture::{NewPicture, Picture},
    scaling,
    settings::Settings,
    transfer::Line,
    upload::Uploads,
    watched::Watched,
};
use crate::i18n::{Lang, T};

/// A part of the state that is drawn by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Lang,
    Settings,
    Link,
    Server,
    Model,
    Limits,
    Picture,
    /// Which turns there are.
    Turns,
    Notice,
    Aloud,
    FirstWords,
    Draft,
    Suggestions,
}

impl Part {
    pub const COUNT: usize = Part::Suggestions as usize + 1;
}

/// What was changed, for whoever draws it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Of(Part),
    Turn(u64, TurnChange),
}

/// What the server is doing, and how far it is in loading.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub state: wire::State,
    pub progress: Option<f64>,
}

/// Everything the page knows.
#[derive(Debug)]
pub struct State {
    pub lang: Watched<Lang>,
    pub settings: Watched<Settings>,
    pub server: Watched<Server>,
    pub model: Watched<Option<Model>>,
    pub limits: Watched<Limits>,
    pub connection: Connection,
    pub uploads: Uploads,
    pub conversation: Conversation,
    pub history: History,
    pub notices: Notices,
    /// What stands in the composer.
    pub draft: Watched<String>,
    /// What might be asked of this picture.
    pub suggestions: Watched<Vec<String>>,
    /// First words of this session, milliseconds from the click.
    pub first_words: Watched<Vec<f64>>,
}

impl State {
    pub fn new(lang: Lang, settings: Settings) -> Self {
        State {
            lang: Watched::new(lang),
            settings: Watched::new(settings),
            server: Watched::new(Server {
                state: wire::State::Loading,
                progress: None,
            }),
            model: Watched::default(),
            limits: Watched::default(),
            connection: Connection::default(),
            uploads: Uploads::default(),
            conversation: Conversation::default(),
            history: History::default(),
            notices: Notices::default(),
            draft: Watched::default(),
            suggestions: Watched::default(),
            first_words: Watched::default(),
        }
    }

    /// Takes in what comes from outside, and says what is to be done, in order.
    pub fn apply(&mut self, input: Input, now: &Now) -> Effects {
        let mut out = Effects::default();
        self.uploads.held_back(now.buffered);
        match input {
            Input::Person(person) => self.person(person, now, &mut out),
            Input::Socket(socket) => self.socket(socket, now, &mut out),
            Input::Worker(worker) => self.worker(worker, now, &mut out),
            Input::Store(store) => self.store(store, now, &mut out),
            Input::Clock(timer) => self.clock(timer, now, &mut out),
            Input::Browser(browser) => self.browser(browser, now, &mut out),
        }
        if self.conversation.take_ended() {
            self.settled(now, &mut out);
        }
        out
    }

    /// Tells what was changed, once.
    pub fn take_changes(&mut self, mut tell: impl FnMut(Change)) {
        for (part, changed) in [
            (Part::Lang, self.lang.take_change()),
            (Part::Settings, self.settings.take_change()),
            (Part::Link, self.connection.link.take_change()),
            (Part::Server, self.server.take_change()),
            (Part::Model, self.model.take_change()),
            (Part::Limits, self.limits.take_change()),
            (Part::Picture, self.uploads.picture.take_change()),
            (Part::Turns, self.conversation.take_change()),
            (Part::Notice, self.notices.shown.take_change()),
            (Part::Aloud, self.notices.aloud.take_change()),
            (Part::FirstWords, self.first_words.take_change()),
            (Part::Draft, self.draft.take_change()),
            (Part::Suggestions, self.suggestions.take_change()),
        ] {
            if changed {
                tell(Change::Of(part));
            }
        }
        self.conversation
            .take_changes(|id, change| tell(Change::Turn(id, change)));
    }

    pub fn picture(&self) -> Option<&Picture> {
        self.uploads.picture.as_ref()
    }

    pub(super) fn line(&self) -> Line {
        Line {
            online: self.connection.online(),
            window: self.limits.upload_window,
        }
    }

    /// The sentence in the page's language.
    fn text(&self, text: T) -> &'static str {
        text.in_language(*self.lang)
    }

    pub(super) fn say(&mut self, text: T, bad: bool, out: &mut Effects) {
        self.notices.say(self.text(text), bad, out);
    }

    fn person(&mut self, person: Person, now: &Now, out: &mut Effects) {
        match person {
            Person::Types(draft) => self.draft.set(draft),
            Person::Sends { when } => {
                let draft = std::mem::take(self.draft.untold());
                if self.ask(&draft, when, now, out) {
                    self.draft.set(String::new());
                } else {
                    *self.draft.untold() = draft;
                }
            }
            Person::Asks { text, when } => {
                self.ask(&text, when, now, out);
            }
            Person::AsksAgain { turn, text, when } => {
                self.stop(out);
                self.conversation.ask_again(turn, text, when);
                let line = self.line();
                self.uploads.revive(line, now, out);
                self.settled(now, out);
            }
            Person::Stops => self.stop(out),
            Person::Brings {
                picture,
                suggestions,
                more,
                when,
            } => {
                self.leave(out);
                self.suggestions.set(suggestions);
                self.show(picture, when, now, out);
                if more {
                    self.say(T::OnePicture, false, out);
                }
            }
            Person::BringsNothing => self.say(T::NotAPicture, true, out),
            Person::Leaves => self.leave(out),
            Person::Opens { id, when } => self.history.open(id, when, out),
            Person::ForgetsAll => self.forget_all(out),
            Person::GivesKey(key) => self.connection.use_key(key, out),
            Person::Connects => self.connection.again(out),
            Person::Chooses(settings) => {
                out.push(Effect::RememberSettings(settings.clone()));
                self.settings.set(settings);
            }
            Person::Speaks(lang) => {
                out.push(Effect::RememberLanguage(lang));
                self.lang.set(lang);
            }
        }
    }

    fn socket(&mut self, socket: Socket, now: &Now, out: &mut Effects) {
        let (Socket::Opened { generation }
        | Socket::Said { generation, .. }
        | Socket::Closed { generation, .. }
        | Socket::Barred { generation, .. }) = socket;
        if !self.connection.is(generation) {
            return;
        }
        match socket {
            Socket::Opened { .. } => self.connection.opened(out),
            Socket::Said { envelope, when, .. } => self.heard(*envelope, when, now, out),
            Socket::Closed { code, .. } => self.connection.lost(code, now, out),
            Socket::Barred { status, why, .. } => {
                self.connection.barred(status, why, *self.lang);
            }
        }
    }

    fn worker(&mut self, worker: Worker, now: &Now, out: &mut Effects) {
        let line = self.line();
        match worker {
            Worker::Missing => self.say(T::NoWorker, true, out),
            Worker::Frame { generation, bytes } => {
                self.uploads.frame(generation, bytes, line, now, out);
            }
            Worker::Unreadable { generation } => {
                let words = self.text(T::Unreadable);
                if let Some(cancel) = self.uploads.unreadable(generation, words) {
                    self.connection.send_or_owe(cancel, out);
                }
            }
            Worker::Preview { picture, url, size } => {
                // The conversation may have been kept without it.
                if self.uploads.previewed(picture, url, size, out) {
                    self.keep(now, out);
                }
            }
            Worker::Unseen { picture } => self.uploads.unseen(picture),
            Worker::Scaled { picture, bytes } => {
                self.uploads.scaled(picture, bytes, line, now, out);
                self.flush(now, out);
            }
            Worker::Hashed { picture, sha256 } => {
                self.uploads.hashed(picture, sha256, line, now, out);
                self.flush(now, out);
            }
        }
    }

    fn store(&mut self, store: Store, now: &Now, out: &mut Effects) {
        match store {
            Store::Loaded { kept, picture } => match self.history.loaded(&kept.id) {
                Some(when) => self.reopen(kept, picture, when, now, out),
                None => {
                    out.push(Effect::Release(picture.id));
                    if let Some(url) = picture.preview {
                        out.push(Effect::Revoke(url));
                    }
                }
            },
            Store::Cleared => self.say(T::Cleared, false, out),
        }
    }

    fn clock(&mut self, timer: Timer, now: &Now, out: &mut Effects) {
        match timer {
            Timer::Greeting(generation) => self.connection.greeting_due(generation, now, out),
            Timer::Retry(generation) => self.connection.retry(generation, out),
            Timer::Pong { generation, asked } => {
                self.connection.pong_due(generation, asked, out);
            }
            Timer::Ping => self.connection.ping(now, out),
            Timer::Tick => self.connection.tick(now, out),
            Timer::Questions => self.flush(now, out),
            Timer::Drain => {
                let line = self.line();
                self.uploads.drained(line, now, out);
            }
            Timer::Notice(id) => self.notices.over(id),
        }
    }

    fn browser(&mut self, browser: Browser, now: &Now, out: &mut Effects) {
        match browser {
            Browser::Began { key, open } => {
                // The choices outlive the page.
                out.push(Effect::RememberSettings(self.settings.clone()));
                out.push(Effect::RememberLanguage(*self.lang));
                self.connection.begin(key, now, out);
                if let Some(id) = open {
                    self.history.open(id, now.ms, out);
                }
            }
            Browser::Shown { picture } => self.uploads.shown(picture, now),
            Browser::Drawn { turn } => {
                if let Some(took) = self.conversation.drawn(turn, now.ms) {
                    self.first_words.push(took);
                }
            }
            Browser::Speaks(text) => self.notices.say_aloud(&text),
            Browser::Copied(true) => self.say(T::Copied, false, out),
            Browser::Copied(false) => self.say(T::NotCopied, true, out),
            Browser::NoSample => self.say(T::Unreadable, true, out),
            Browser::Awake => self.connection.probe(now, out),
            Browser::Restored if !self.connection.online() => self.connection.again(out),
            Browser::Restored => {}
            Browser::Left => self.connection.leave(out),
        }
    }

    /// Asks `text`, sent by the event at `when`; `false` if it can't be asked.
    fn ask(&mut self, text: &str, when: f64, now: &Now, out: &mut Effects) -> bool {
        let text = text.trim();
        if wire::is_blank(text) {
            return false;
        }
        let Some(picture) = self.picture() else {
            self.say(T::PictureFirst, true, out);
            return false;
        };
        if picture.failed().is_some() {
            self.say(T::OtherPictureFirst, true, out);
            return false;
        }
        self.conversation.ask(text.to_owned(), when);
        self.flush(now, out);
        self.keep(now, out);
        true
    }

    /// Sends every question that can be sent now; a server that loads, or is on its way out, takes none.
    pub(super) fn flush(&mut self, now: &Now, out: &mut Effects) {
        use wire::State::{Draining, Loading, Warming};
        let takes_none = matches!(self.server.state, Loading | Warming | Draining);
        if takes_none || !self.connection.online() {
            return;
        }
        let sending = Sending {
            picture: self.uploads.picture.as_ref(),
            sampling: self.settings.sampling(self.limits.max_new_tokens),
            ms: now.ms,
        };
        self.conversation.flush(&sending, out);
    }

    /// Keeps the conversation as it stands, where the person wants that.
    pub(super) fn keep(&mut self, now: &Now, out: &mut Effects) {
        if self.settings.keep {
            let picture = self.uploads.picture.as_ref();
            self.history.keep(&self.conversation, picture, now, out);
        }
    }

    /// An answer has ended, or a question is asked anew: what waited for that may go.
    pub(super) fn settled(&mut self, now: &Now, out: &mut Effects) {
        self.keep(now, out);
        self.flush(now, out);
    }

    fn stop(&mut self, out: &mut Effects) {
        for cancel in self.conversation.stop() {
            self.connection.send_or_owe(cancel, out);
        }
    }

    /// Leaves the conversation for an empty page.
    fn leave(&mut self, out: &mut Effects) {
        self.stop(out);
        if let Some(cancel) = self.uploads.drop_picture(out) {
            self.connection.send_or_owe(cancel, out);
        }
        self.suggestions.set(Vec::new());
        self.history.leave(out);
        self.conversation.begin(Vec::new(), 0.0);
    }

    /// Leaves the conversation and lets the server and the store forget.
    fn forget_all(&mut self, out: &mut Effects) {
        let conversation = self.conversation.id().map(str::to_owned);
        let image = self.picture().and_then(|picture| picture.image.clone());
        self.leave(out);
        let conversation = conversation.map(|id| Forget {
            conversation: Some(id),
            image: None,
        });
        let image = image.map(|id| Forget {
            conversation: None,
            image: Some(id),
        });
        for forget in conversation.into_iter().chain(image) {
            let forget = ClientMessage::Forget(forget);
            self.connection.send_or_owe(forget, out);
        }
        self.uploads.forget();
        out.push(Effect::Clear);
    }

    /// Puts a picture on the page, and on its way.
    fn show(&mut self, picture: NewPicture, when: f64, now: &Now, out: &mut Effects) {
        let seen = self.model.as_ref().map(|model| model.image_size);
        let (scaling, uplink) = (self.settings.scaling, self.uploads.uplink);
        let side = scaling::side(scaling, seen, picture.bytes, uplink);
        let line = self.line();
        self.uploads.open(picture, side, when, line, now, out);
    }

    /// Opens a kept conversation: the picture is sent again, the next question carries what was said, and what had no
    /// whole answer is asked again.
    fn reopen(&mut self, kept: Kept, picture: NewPicture, when: f64, now: &Now, out: &mut Effects) {
        self.leave(out);
        self.show(picture, when, now, out);
        self.conversation.begin(kept.turns, when);
        self.history.is(Some(kept.id), out);
        for question in kept.asking {
            self.ask(&question, when, now, out);
        }
    }
}
