//! The page at work: what happens goes into the state one after the other, and what that asks for is done in order.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::Duration,
};

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Blob, FileList};
use wire::frame;

use super::{
    browser, clipboard, dom, drops,
    files::{self, Files},
    memory, samples,
    samples::Sample,
    signals::Signals,
    socket::{self, Socket},
    store::{self, Keeper, Stored},
    worker::Worker,
};
use crate::{
    core::{self, Browser, Effect, Input, Now, Person, State, picture},
    worker::messages::{Command, Reply},
};

/// A hold on all of it, for whatever draws the page or hears of something.
#[derive(Clone, Copy)]
pub struct App {
    pub(super) signals: Signals,
    outside: StoredValue<Outside, LocalStorage>,
}

/// What the page touches.
#[derive(Default)]
struct Outside {
    socket: Socket,
    worker: Worker,
    files: Files,
    keeper: Keeper,
    /// What has come and is not in the state yet.
    inputs: RefCell<VecDeque<Input>>,
    /// Someone is at work on them.
    busy: Cell<bool>,
}

impl App {
    pub fn new() -> Self {
        App {
            signals: Signals::new(State::new(memory::language(), memory::settings())),
            outside: StoredValue::new_local(Outside::default()),
        }
    }

    /// The one of this page; for components.
    pub fn here() -> Self {
        expect_context()
    }

    /// Begins once the page is drawn.
    pub fn begin(self) {
        let started = self
            .outside
            .with_value(|outside| outside.worker.start(move |reply| self.replied(reply)));
        if !started {
            self.take(Input::Worker(core::Worker::Missing));
        }
        self.tell(Browser::Began {
            key: memory::key(),
            open: memory::open(),
        });
        browser::watch(move |browser| self.tell(browser));
    }

    /// Takes drops and pastes: `over` hears whether files are held over the page, `taken` when there is a picture.
    pub fn watch_drops(
        self,
        over: impl Fn(bool) + Copy + 'static,
        taken: impl Fn() + Copy + 'static,
    ) {
        drops::watch(over, move |files, when| {
            let found = files.as_ref().is_some_and(|files| files.length() > 0);
            if self.bring(files, when) {
                taken();
            }
            found
        });
    }

    /// Somebody does something.
    pub fn person(self, person: Person) {
        self.take(Input::Person(person));
    }

    /// The browser tells something.
    pub fn tell(self, browser: Browser) {
        self.take(Input::Browser(browser));
    }

    /// Takes the first picture of `files`, as brought by an event at `when`; whether there is one.
    pub fn bring(self, files: Option<FileList>, when: f64) -> bool {
        let files: Vec<_> = files
            .iter()
            .flat_map(|files| (0..files.length()).filter_map(|i| files.get(i)))
            .collect();
        if files.is_empty() {
            return false;
        }
        let kinds: Vec<_> = files.iter().map(|file| file.type_()).collect();
        let Some(file) =
            picture::pick(kinds.iter().map(String::as_str)).and_then(|at| files.get(at))
        else {
            self.person(Person::BringsNothing);
            return false;
        };
        let name = file.name();
        self.bring_blob(file.clone().into(), name, Vec::new(), files.len() > 1, when);
        true
    }

    /// Takes a picture to try, chosen by an event at `when`; calls back when it is there.
    pub fn bring_sample(self, sample: Sample, when: f64, taken: impl FnOnce() + 'static) {
        spawn_local(async move {
            let Ok(blob) = samples::picture(&sample).await else {
                return self.tell(Browser::NoSample);
            };
            let lang = self.lang().get_untracked();
            let questions = sample.questions.iter().map(|words| words.of(lang));
            self.bring_blob(blob, sample.file.clone(), questions.collect(), false, when);
            taken();
        });
    }

    fn bring_blob(self, blob: Blob, name: String, suggestions: Vec<String>, more: bool, when: f64) {
        let picture = self
            .outside
            .with_value(|outside| outside.files.take(blob, name, None));
        self.person(Person::Brings {
            picture,
            suggestions,
            more,
            when,
        });
    }

    /// Copies `text` and says how that went.
    pub fn copy(self, text: String) {
        clipboard::copy(text, move |copied| self.tell(Browser::Copied(copied)));
    }

    fn take(self, input: Input) {
        self.outside.with_value(|outside| {
            outside.inputs.borrow_mut().push_back(input);
            if outside.busy.replace(true) {
                return;
            }
            let next = || outside.inputs.borrow_mut().pop_front();
            while let Some(input) = next() {
                let now = Now {
                    ms: dom::now(),
                    wall: js_sys::Date::now(),
                    random: js_sys::Math::random(),
                    buffered: outside.socket.buffered(),
                };
                for effect in self.signals.apply(input, &now) {
                    self.perform(outside, effect);
                }
            }
            outside.busy.set(false);
        });
    }

    fn perform(self, outside: &Outside, effect: Effect) {
        match effect {
            Effect::Open { generation } => outside
                .socket
                .open(generation, move |said| self.take(Input::Socket(said))),
            Effect::Leave => outside.socket.leave(),
            Effect::AskWhy { generation } => spawn_local(async move {
                if let Some((status, why)) = socket::ask_why().await {
                    self.take(Input::Socket(core::Socket::Barred {
                        generation,
                        status,
                        why,
                    }));
                }
            }),
            Effect::Send(message) => outside.socket.send(&message),
            Effect::SendFrame { generation } => {
                if let Some(frame) = outside.worker.next(generation) {
                    outside.socket.send_frame(&frame);
                }
            }
            Effect::Discard => outside.worker.discard(),
            Effect::Read {
                generation,
                upload,
                picture,
                begin,
                end,
            } => {
                if let Some(blob) = outside.files.body(picture) {
                    outside.worker.post(Command::Read {
                        generation,
                        upload,
                        blob,
                        begin,
                        end,
                    });
                }
            }
            Effect::Hash(id) => {
                if let Some(blob) = outside.files.source(id) {
                    outside.worker.post(Command::Hash(id, blob));
                }
            }
            Effect::Preview(id) => {
                if let Some(blob) = outside.files.source(id) {
                    outside.worker.post(Command::Preview(id, blob));
                }
            }
            Effect::Scale { picture, side } => {
                if let Some(blob) = outside.files.source(picture) {
                    outside.worker.post(Command::Scale(picture, blob, side));
                }
            }
            Effect::WatchShown(picture) => {
                request_animation_frame(move || self.tell(Browser::Shown { picture }));
            }
            Effect::WatchDrawn(turn) => {
                browser::drawn(move || self.tell(Browser::Drawn { turn }));
            }
            Effect::Release(id) => outside.files.release(id),
            Effect::Revoke(url) => files::revoke(url),
            Effect::Keep {
                kept,
                picture,
                whole,
            } => {
                let preview = outside.files.preview(picture);
                let source = outside.files.source(picture).filter(|_| whole);
                outside.keeper.keep(Stored { kept, preview }, source);
            }
            Effect::Load(id) => spawn_local(async move { self.load(&id).await }),
            Effect::Clear => spawn_local(async move {
                // Refused storage holds nothing that would have to go.
                let _ = store::clear().await;
                self.take(Input::Store(core::Store::Cleared));
            }),
            Effect::RememberOpen(id) => memory::keep_open(id.as_deref()),
            Effect::RememberKey(key) => memory::keep_key(&key),
            Effect::RememberSettings(settings) => memory::keep_settings(&settings),
            Effect::RememberLanguage(lang) => memory::keep_language(lang),
            Effect::After { ms, timer } => set_timeout(
                move || self.take(Input::Clock(timer)),
                Duration::from_millis(ms as u64),
            ),
        }
    }

    async fn load(self, id: &str) {
        if let Ok((Stored { kept, preview }, blob)) = store::load(id).await {
            let name = kept.name.clone();
            let picture = self
                .outside
                .with_value(|outside| outside.files.take(blob, name, preview));
            self.take(Input::Store(core::Store::Loaded { kept, picture }));
        }
    }

    fn replied(self, reply: Reply) {
        use core::Worker as Said;
        let said = self.outside.with_value(|outside| {
            Some(match reply {
                Reply::Frame(generation, bytes) => {
                    let length = bytes.byte_length().saturating_sub(frame::HEADER as u32);
                    outside.worker.keep(generation, bytes);
                    Said::Frame {
                        generation,
                        bytes: length,
                    }
                }
                Reply::Unreadable(generation) => Said::Unreadable { generation },
                Reply::Preview(picture, blob, size) => Said::Preview {
                    picture,
                    url: outside.files.previewed(picture, blob)?,
                    size,
                },
                Reply::Unseen(picture) => Said::Unseen { picture },
                Reply::Scaled(picture, blob) => {
                    let bytes = blob.as_ref().map(|blob| blob.size() as u64);
                    if let Some(blob) = blob {
                        outside.files.scaled(picture, blob);
                    }
                    Said::Scaled { picture, bytes }
                }
                Reply::Hashed(picture, sha256) => Said::Hashed { picture, sha256 },
            })
        });
        if let Some(said) = said {
            self.take(Input::Worker(said));
        }
    }
}
