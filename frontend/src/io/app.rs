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
    address::{self, Address},
    browser, clipboard, dom,
    drops::{self, Came},
    early::Held,
    extras::Extras,
    files::{self, Files},
    keeper::{Job, Keeper},
    memory, room, samples,
    signals::Signals,
    socket::{self, Socket},
    store::{self, Change, Stored, Writing},
    tabs::Tabs,
    worker::Worker,
};
use crate::{
    core::{self, Browser, Effect, Input, Now, Person, State, picture::NewPicture},
    i18n::T,
    worker::messages::{Command, Reply},
};

/// A hold on all of it, for whatever draws the page or hears of something.
#[derive(Clone, Copy)]
pub struct App {
    pub(super) signals: Signals,
    /// What is loaded when it is needed.
    pub extras: Extras,
    outside: StoredValue<Outside, LocalStorage>,
}

/// What the page touches.
#[derive(Default)]
struct Outside {
    socket: Socket,
    worker: Worker,
    files: Files,
    keeper: Keeper,
    tabs: Tabs,
    address: Address,
    /// What has come and is not in the state yet.
    inputs: RefCell<VecDeque<Input>>,
    /// Someone is at work on them.
    busy: Cell<bool>,
    /// Counts the pictures that had to be fetched or drawn before they were here.
    awaited: Cell<u64>,
}

impl App {
    pub fn new() -> Self {
        App {
            signals: Signals::new(State::new(memory::language(), memory::settings())),
            extras: Extras::new(),
            outside: StoredValue::new_local(Outside::default()),
        }
    }

    /// The one of this page; for components.
    pub fn here() -> Self {
        expect_context()
    }

    /// Begins once the page is drawn, with what was held until then.
    pub fn begin(self, held: Held) {
        let started = self
            .outside
            .with_value(|outside| outside.worker.start(move |reply| self.replied(reply)));
        if !started {
            self.take(Input::Worker(core::Worker::Missing));
        }
        self.outside.with_value(|outside| {
            let told = move |told, id| self.tell(Browser::TabMessage(told, id));
            outside.tabs.listen(told);
        });
        self.tell(Browser::Began {
            key: memory::key(),
            open: address::named().or_else(memory::open),
            draft: memory::draft(),
            handover: memory::handover(),
        });
        browser::watch(move |browser| self.tell(browser));
        if !held.text.is_empty() {
            self.person(Person::Types(self.draft().get_untracked() + &held.text));
        }
        if held.typing {
            dom::focus("#question");
        }
        if let Some(came) = drops::chosen(held.files) {
            self.bring(came, held.when, || ());
        }
        self.outside.with_value(|outside| {
            outside.address.watch(move |to| {
                let when = dom::now();
                self.person(Person::Moves { to, when });
            });
        });
    }

    /// Takes drops and pastes: `over` hears whether a picture is held over the page, `taken` when there is one.
    pub fn watch_drops(
        self,
        over: impl Fn(bool) + Copy + 'static,
        taken: impl Fn() + Copy + 'static,
    ) {
        drops::watch(over, move |came, when| self.bring(came, when, taken));
    }

    /// Somebody does something.
    pub fn person(self, person: Person) {
        self.take(Input::Person(person));
    }

    /// The browser tells something.
    pub fn tell(self, browser: Browser) {
        self.take(Input::Browser(browser));
    }

    /// Takes files that were chosen by an event at `when`; calls back when there is a picture.
    pub fn choose(self, files: Option<FileList>, when: f64, taken: impl FnOnce() + 'static) {
        let files = files.iter().flat_map(|files| {
            let all = (0..files.length()).filter_map(|i| files.get(i));
            all.collect::<Vec<_>>()
        });
        if let Some(came) = drops::chosen(files.collect()) {
            self.bring(came, when, taken);
        }
    }

    fn bring(self, came: Came, when: f64, taken: impl FnOnce() + 'static) {
        match came {
            Came::Picture { blob, name, more } if files::is_drawing(&blob, &name) => {
                let number = self.awaits();
                spawn_local(async move {
                    let Ok(blob) = self.extras.rasterised(&blob).await else {
                        let why = T::NotAPicture;
                        return self.person(Person::AwaitsInVain { number, why });
                    };
                    self.person(Person::Brings {
                        picture: self.picture_of(blob, name + ".png"),
                        suggestions: Vec::new(),
                        more,
                        awaited: Some(number),
                        when,
                    });
                    taken();
                });
            }
            Came::Picture { blob, name, more } => {
                self.person(Person::Brings {
                    picture: self.picture_of(blob, name),
                    suggestions: Vec::new(),
                    more,
                    awaited: None,
                    when,
                });
                taken();
            }
            Came::Sample(file) => self.bring_sample(file, when, taken),
            Came::Not(why) => self.person(Person::BringsNothing(why)),
        }
    }

    /// Takes a picture to try, by its file, chosen by an event at `when`; calls back when it is there.
    pub fn bring_sample(self, file: String, when: f64, taken: impl FnOnce() + 'static) {
        let number = self.awaits();
        spawn_local(async move {
            let found = async {
                let sample = samples::named(&file).await?;
                Ok::<_, wasm_bindgen::JsValue>((samples::picture(&sample).await?, sample))
            };
            let Ok((blob, sample)) = found.await else {
                let why = T::Unreadable;
                return self.person(Person::AwaitsInVain { number, why });
            };
            let lang = self.lang().get_untracked();
            let questions = sample.questions.iter().map(|words| words.of(lang));
            self.person(Person::Brings {
                picture: self.picture_of(blob, file),
                suggestions: questions.collect(),
                more: false,
                awaited: Some(number),
                when,
            });
            taken();
        });
    }

    /// A picture is wanted that is not here yet: the number that it comes by.
    fn awaits(self) -> u64 {
        let number = self.outside.with_value(|outside| {
            outside.awaited.set(outside.awaited.get() + 1);
            outside.awaited.get()
        });
        self.person(Person::Awaits { number });
        number
    }

    /// Takes a picture's bytes, by this name.
    fn picture_of(self, blob: Blob, name: String) -> NewPicture {
        self.outside
            .with_value(|outside| outside.files.take(blob, name, None))
    }

    /// An address to draw a picture from as it was given.
    pub fn original(self, picture: u64) -> Option<String> {
        let source = self
            .outside
            .with_value(|outside| outside.files.source(picture));
        source.as_ref().and_then(files::address)
    }

    /// Copies `text` and says how that went.
    pub fn copy(self, text: String) {
        clipboard::copy(text, move |copied| self.tell(Browser::Copied(copied)));
    }

    pub(super) fn take(self, input: Input) {
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
            Effect::Leave { goes_on } => outside.socket.leave(goes_on),
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
            Effect::SendSmaller(picture) => outside.files.send_smaller(picture),
            Effect::Crop { picture, region } => {
                if let Some(blob) = outside.files.source(picture) {
                    outside.worker.post(Command::Crop(
                        picture,
                        blob,
                        [region.x, region.y, region.width, region.height],
                    ));
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
                page,
                fresh,
                event,
            } => {
                let writing = Writing {
                    kept,
                    page,
                    fresh,
                    preview: outside.files.preview(picture),
                    picture: outside.files.source(picture).filter(|_| fresh),
                };
                self.store(outside, Job::Keep(writing, event));
            }
            Effect::Mark { id, stamp } => self.change(outside, Change::Mark(id, stamp)),
            Effect::Unmark(stamp) => self.change(outside, Change::Unmark(stamp)),
            Effect::Purge(stamp) => self.change(outside, Change::Purge(stamp)),
            Effect::PurgeBefore(moment) => self.change(outside, Change::PurgeBefore(moment)),
            Effect::Name { id, title } => self.change(outside, Change::Name(id, title)),
            Effect::Remove(id) => self.change(outside, Change::Remove(id)),
            Effect::Load(id) => spawn_local(async move { self.load(id).await }),
            Effect::Persist => spawn_local(async move {
                // Nobody is asked out of the blue: the list of conversations has a button for that.
                if !room::prompts() {
                    room::persist().await;
                }
                if let Some((bytes, of)) = room::used().await {
                    self.take(Input::Store(core::Store::Used { bytes, of }));
                }
            }),
            Effect::HandOver(handover) => memory::hand_over(handover.as_deref()),
            Effect::Tell(told, id) => outside.tabs.tell(told, &id),
            Effect::RememberDraft(draft) => memory::keep_draft(&draft),
            Effect::RememberOpen(id) => {
                memory::keep_open(id.as_deref());
                outside.address.show(id);
            }
            Effect::RememberKey(key) => memory::keep_key(&key),
            Effect::RememberSettings(settings) => memory::keep_settings(&settings),
            Effect::RememberLanguage(lang) => memory::keep_language(lang),
            Effect::After { ms, timer } => set_timeout(
                move || self.take(Input::Clock(timer)),
                Duration::from_millis(ms as u64),
            ),
        }
    }

    fn store(self, outside: &Outside, job: Job) {
        outside
            .keeper
            .take(job, move |told| self.take(Input::Store(told)));
    }

    fn change(self, outside: &Outside, change: Change) {
        self.store(outside, Job::Change(change));
    }

    async fn load(self, id: String) {
        let told = match store::load(&id).await {
            Ok((Stored { kept, preview, .. }, blob)) => {
                let name = kept.name.clone();
                let picture = self
                    .outside
                    .with_value(|outside| outside.files.take(blob, name, preview));
                let crop = kept.crop.clone();
                let picture = NewPicture { crop, ..picture };
                let kept = Box::new(kept);
                core::Store::Loaded { kept, picture }
            }
            Err(_) => core::Store::Missing { id },
        };
        self.take(Input::Store(told));
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
                Reply::Preview(picture, blob, seen) => Said::Preview {
                    picture,
                    url: outside.files.previewed(picture, blob)?,
                    size: seen.map(|seen| (seen.width, seen.height)),
                    transparent: seen.is_some_and(|seen| seen.transparent),
                },
                Reply::Cropped(of, blob, map) => {
                    let name = outside.files.name_of_part(of);
                    let part = outside.files.take(blob, name, None);
                    Said::Cropped { of, part, map }
                }
                Reply::NotCropped(of) => Said::NotCropped { of },
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
