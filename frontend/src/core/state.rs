//! The page's state as a whole: what a person, the worker, the store, the clock and the browser change in it.

use wire::{Failure, Limits, Model, Sampling};

use super::{
    aside::Aside,
    connection::Connection,
    conversation::{Conversation, Sending, TurnChange},
    crop::Cropping,
    effect::{Effect, Effects, Timer},
    history::History,
    incoming::Coming,
    input::{Browser, Input, Now, Person, Socket, Worker},
    notices::Notices,
    picture::{NewPicture, Picture},
    scaling,
    settings::Settings,
    transfer::Line,
    undo::{Undo, Undos},
    upload::Uploads,
    watched::Watched,
};
use crate::i18n::{Lang, T, failure_in_chinese};

/// A page that marks a conversation as deleted and is closed before it is gone has no longer than this to come back to it.
const LEFT_MARKED_MS: f64 = 60_000.0;

/// A part of the state that is drawn by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Lang,
    Settings,
    Link,
    Server,
    Model,
    Limits,
    Sampling,
    Picture,
    /// Which turns there are.
    Turns,
    Notice,
    Aloud,
    FirstWords,
    Draft,
    Suggestions,
    Coming,
    /// Whether a region is being cut out of the picture.
    Cropping,
    Undos,
    StoreProblem,
    /// What lies in the store.
    Store,
}

impl Part {
    pub const COUNT: usize = Part::Store as usize + 1;
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
    /// How much of the model has come to it, while it comes.
    pub download: Option<wire::Download>,
}

/// What a person is told of a failure: in English the server's own words, which say most.
pub fn told(failure: &Failure, lang: Lang) -> String {
    let known = match lang {
        Lang::En => None,
        Lang::Zh => failure_in_chinese(failure.code.as_str()),
    };
    known.unwrap_or(&failure.message).to_owned()
}

/// Everything the page knows.
#[derive(Debug)]
pub struct State {
    pub lang: Watched<Lang>,
    pub settings: Watched<Settings>,
    pub server: Watched<Server>,
    pub model: Watched<Option<Model>>,
    pub limits: Watched<Limits>,
    /// What holds for a question where the person chose nothing, as far as the server says.
    pub sampling: Watched<Sampling>,
    pub connection: Connection,
    pub uploads: Uploads,
    pub conversation: Conversation,
    pub history: History,
    /// What comes with the picture that is to come.
    pub coming: Watched<Option<Coming>>,
    /// The region that is being cut out of the picture.
    pub cropping: Watched<Option<Cropping>>,
    /// The conversation that was left last, as long as it can be had back.
    pub(super) aside: Option<Aside>,
    pub undos: Undos,
    pub notices: Notices,
    /// This page among those of the browser.
    pub(super) page: String,
    /// How often the store has told of a change.
    pub stored: Watched<u64>,
    /// The browser was asked to keep what is kept.
    pub(super) persistent: bool,
    /// The conversation is to be kept as it stands.
    pub(super) unkept: bool,
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
                download: None,
            }),
            model: Watched::default(),
            limits: Watched::default(),
            sampling: Watched::default(),
            connection: Connection::default(),
            uploads: Uploads::default(),
            conversation: Conversation::default(),
            history: History::default(),
            coming: Watched::default(),
            cropping: Watched::default(),
            aside: None,
            undos: Undos::default(),
            notices: Notices::default(),
            page: String::new(),
            stored: Watched::default(),
            persistent: false,
            unkept: false,
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
        self.receive(now, &mut out);
        if self.conversation.take_ended() {
            self.settled(now, &mut out);
        }
        if std::mem::take(&mut self.unkept) && !self.write(now, &mut out) {
            // Nothing will be written: what is not kept has not to be waited for.
            self.connection.stored(self.connection.heard(), &mut out);
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
            (Part::Sampling, self.sampling.take_change()),
            (
                Part::Picture,
                self.uploads.picture.take_change() | self.uploads.incoming.take_change(),
            ),
            (Part::Turns, self.conversation.take_change()),
            (Part::Notice, self.notices.shown.take_change()),
            (Part::Aloud, self.notices.aloud.take_change()),
            (Part::FirstWords, self.first_words.take_change()),
            (Part::Draft, self.draft.take_change()),
            (Part::Suggestions, self.suggestions.take_change()),
            (Part::Coming, self.coming.take_change()),
            (Part::Cropping, self.cropping.take_change()),
            (Part::Undos, self.undos.list.take_change()),
            (Part::StoreProblem, self.history.problem.take_change()),
            (Part::Store, self.stored.take_change()),
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

    /// The picture that the person looks at: the one that comes, or else the conversation's.
    pub fn card(&self) -> &Option<Picture> {
        match *self.uploads.incoming {
            Some(_) => &self.uploads.incoming,
            None => &self.uploads.picture,
        }
    }

    pub(super) fn line(&self) -> Line {
        Line {
            online: self.connection.online(),
            window: self.limits.upload_window,
        }
    }

    /// The sentence in the page's language.
    pub(super) fn text(&self, text: T) -> &'static str {
        text.in_language(*self.lang)
    }

    /// What a person is told of a failure.
    pub(super) fn words(&self, failure: &Failure) -> String {
        told(failure, *self.lang)
    }

    pub(super) fn say(&mut self, text: T, bad: bool, out: &mut Effects) {
        self.notices.say(self.text(text), bad, out);
    }

    /// From now on this can be taken back.
    pub(super) fn offer(&mut self, done: T, out: &mut Effects) -> &mut Undo {
        let words = self.text(done);
        self.notices.say_aloud(words);
        self.undos.offer(done, out)
    }

    fn person(&mut self, person: Person, now: &Now, out: &mut Effects) {
        match person {
            Person::Types(draft) => self.drafted(draft, out),
            Person::Sends { when } => {
                let draft = std::mem::take(self.draft.untold());
                if self.ask(&draft, when, now, out) {
                    self.drafted(String::new(), out);
                } else {
                    *self.draft.untold() = draft;
                }
            }
            Person::Asks { text, when } => {
                self.ask(&text, when, now, out);
            }
            Person::AsksAgain { turn, text, when } => {
                let done = if text.is_some() {
                    T::Edited
                } else {
                    T::AskedAgain
                };
                if let Some(again) = self.conversation.ask_again(turn, text, when) {
                    self.offer(done, out).again = Some(again);
                }
                let line = self.line();
                self.uploads.revive(line, now, out);
                self.settled(now, out);
            }
            Person::Shows { turn } => {
                self.conversation.show(turn);
                self.settled(now, out);
            }
            Person::Stops => {
                self.stop(out);
                self.keep();
            }
            Person::Awaits { number } => self.await_picture(number, now, out),
            Person::AwaitsInVain { number, why } => self.await_no_more(number, why, now, out),
            Person::Brings {
                picture,
                suggestions,
                more,
                awaited,
                when,
            } => {
                if awaited.is_some_and(|number| !self.awaits(number)) {
                    out.push(Effect::Release(picture.id));
                    return;
                }
                self.bring(picture, suggestions, when, now, out);
                if more {
                    self.say(T::OnePicture, false, out);
                }
            }
            Person::BringsNothing(why) => self.say(why, true, out),
            Person::LooksCloser { region, when } => self.look_closer(region, when, out),
            Person::ShowsWhole { when } => self.show_whole(when, now, out),
            Person::Declines => self.decline(now, out),
            Person::Leaves => self.leave_for(T::LeftForNew, now, out),
            Person::Opens { id, when } => self.open(id, when, now, out),
            Person::Moves { to, when } => self.move_to(to, when, now, out),
            Person::Names { id, title } => {
                let title = Some(title.trim().to_owned()).filter(|title| !title.is_empty());
                out.push(Effect::Name { id, title });
            }
            Person::Deletes { id } => self.delete(id, now, out),
            Person::ForgetsAll => self.forget_all(now, out),
            Person::Undoes(id) => self.undo(id, now, out),
            Person::Lingers(lingers) => self.undos.linger(lingers),
            Person::Copies => {
                self.history.is(None, out);
                self.keep();
            }
            Person::GivesKey(key) => self.connection.use_key(key, out),
            Person::Connects => self.connection.again(out),
            Person::Chooses(settings) => {
                // What nothing was asked about is there for this page only.
                if !settings.keep && self.conversation.path().is_empty() {
                    let id = self.history.id().map(str::to_owned);
                    out.extend(id.map(Effect::Remove));
                    self.history.is(None, out);
                }
                out.push(Effect::RememberSettings(settings.clone()));
                self.settings.set(settings);
                self.prepare_system();
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
            Worker::Preview {
                picture,
                url,
                size,
                transparent,
            } => {
                // The conversation may have been kept without it.
                if self.uploads.previewed(picture, url, size, transparent, out) {
                    self.keep();
                }
            }
            Worker::Unseen { picture } => {
                self.uploads.unseen(picture);
                self.keep();
            }
            Worker::Cropped { of, part, map } => self.cropped(of, part, map, now, out),
            Worker::NotCropped { of } => self.not_cropped(of, out),
            Worker::Scaled { picture, bytes } => self.scaled(picture, bytes, now, out),
            Worker::Hashed { picture, sha256 } => {
                self.uploads.hashed(picture, sha256, line, now, out);
                self.flush(now, out);
                // Now there is a name for it in the store.
                if self.history.place.is_none() {
                    self.keep();
                }
            }
        }
    }

    fn clock(&mut self, timer: Timer, now: &Now, out: &mut Effects) {
        match timer {
            Timer::Greeting(generation) => self.connection.greeting_due(generation, now, out),
            Timer::Retry(generation) => self.connection.retry(generation, out),
            Timer::Pong {
                generation,
                asked,
                due,
            } => self.connection.pong_due(generation, asked, due, now, out),
            Timer::Ping => self.connection.ping(now, out),
            Timer::Tick => self.connection.tick(now, out),
            Timer::Questions => self.flush(now, out),
            Timer::Drain => {
                let line = self.line();
                self.uploads.drained(line, now, out);
            }
            Timer::Notice(id) => self.notices.over(id),
            Timer::Undo(id) => {
                if let Some(undo) = self.undos.due(id, out) {
                    self.settle(undo, now, out);
                }
            }
        }
    }

    fn browser(&mut self, browser: Browser, now: &Now, out: &mut Effects) {
        match browser {
            Browser::Began {
                key,
                open,
                draft,
                handover,
            } => {
                self.page = format!("{:.0}-{:.0}", now.wall, now.random * 1e9);
                self.draft.set(draft);
                out.push(Effect::PurgeBefore(now.wall - LEFT_MARKED_MS));
                // The choices outlive the page.
                out.push(Effect::RememberSettings(self.settings.clone()));
                out.push(Effect::RememberLanguage(*self.lang));
                out.push(Effect::HandOver(None));
                match (handover, open) {
                    (Some(handover), _) => self.take_over(*handover, now, out),
                    (None, Some(id)) => self.history.open(id, now.ms, true, out),
                    (None, None) => {}
                }
                self.connection.begin(key, now, out);
            }
            Browser::TabMessage(told, id) => self.history.told(told, id, out),
            Browser::Shown { picture } => self.uploads.shown(picture, now),
            Browser::Drawn { turn } => {
                if let Some(took) = self.conversation.drawn(turn, now.ms) {
                    self.first_words.push(took);
                }
            }
            Browser::Speaks(text) => self.notices.say_aloud(&text),
            Browser::Copied(true) => self.say(T::Copied, false, out),
            Browser::Copied(false) => self.say(T::NotCopied, true, out),
            Browser::Awake | Browser::Offline => self.connection.probe(now, out),
            Browser::Restored => {
                out.push(Effect::HandOver(None));
                if !self.connection.online() {
                    self.connection.again(out);
                }
            }
            Browser::Left => self.hand_over(now, out),
        }
    }

    /// Asks `text`, sent by the event at `when`; `false` if it can't be asked.
    pub(super) fn ask(&mut self, text: &str, when: f64, now: &Now, out: &mut Effects) -> bool {
        let text = text.trim();
        if wire::is_blank(text) {
            return false;
        }
        // What is asked while a picture comes is asked about that.
        if self.coming.is_some()
            && let Some(coming) = self.coming.as_mut()
        {
            coming.asks.push((text.to_owned(), when));
            return true;
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
        self.keep();
        true
    }

    /// This stands in the composer.
    pub(super) fn drafted(&mut self, draft: String, out: &mut Effects) {
        out.push(Effect::RememberDraft(draft.clone()));
        self.draft.set(draft);
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
            system: self.settings.system_turn(self.limits.text_chars),
            ms: now.ms,
        };
        self.conversation.flush(&sending, out);
    }

    /// An answer has ended, or a question is asked anew: what waited for that may go.
    pub(super) fn settled(&mut self, now: &Now, out: &mut Effects) {
        self.keep();
        self.flush(now, out);
    }

    /// What the next picture is announced with.
    pub(super) fn prepare_system(&mut self) {
        self.uploads.system = self.settings.system_turn(self.limits.text_chars);
    }

    fn stop(&mut self, out: &mut Effects) {
        for cancel in self.conversation.stop() {
            self.connection.send_or_owe(cancel, out);
        }
    }

    /// To how many pixels a picture of so many bytes is scaled before it is sent, if at all.
    pub(super) fn scaled_to(&self, bytes: u64) -> Option<u32> {
        let seen = self.model.as_ref().map(|model| model.image_size);
        scaling::side(self.settings.scaling, seen, bytes, self.uploads.uplink)
    }

    /// Puts a picture on the page, where there is none, and on its way.
    pub(super) fn show(&mut self, picture: NewPicture, when: f64, now: &Now, out: &mut Effects) {
        let side = self.scaled_to(picture.bytes);
        let line = self.line();
        self.uploads.open(picture, side, when, line, now, out);
        self.keep();
    }
}
