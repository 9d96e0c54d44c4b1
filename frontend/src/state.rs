//! What the page knows, as signals. Plain data: what talks to the browser lives in the modules that do so.

use leptos::prelude::*;
use wire::{
    AnswerTimings, Ask, EncodeTimings, Failure, FinishReason, ImageTimings, Limits, Model, State,
    Usage,
};

use crate::{
    clock::Offset,
    i18n::{Lang, T},
    settings::Settings,
};

/// The connection to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// The first connection is on its way.
    Connecting,
    Online,
    /// Lost; the next try is on its way or due.
    Lost,
    /// The server asks for a key; `true`: the one given was wrong.
    NeedsKey(bool),
    /// The server refused for now and said why, and until when (page's clock, milliseconds).
    Refused {
        why: String,
        until: f64,
    },
    /// The socket never opened, and this is why: who runs the server or the proxy before it has to let the page in.
    Barred(String),
    /// Another tab took the session over.
    TakenOver,
    /// The server speaks another protocol: the page is out of date.
    Outdated,
}

/// Where the picture is on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum PicturePhase {
    /// In the page; no byte has left.
    Received,
    Uploading,
    /// The server has every byte; the model looks.
    Looking,
    /// The model has looked, or will at the first question.
    Ready,
    Failed(Failure),
}

impl PicturePhase {
    /// A stable name, for styles and tests.
    pub fn name(&self) -> &'static str {
        match self {
            PicturePhase::Received => "received",
            PicturePhase::Uploading => "uploading",
            PicturePhase::Looking => "looking",
            PicturePhase::Ready => "ready",
            PicturePhase::Failed(_) => "failed",
        }
    }
}

/// Times of the picture on the page's clock, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PictureTimes {
    /// The event that brought it: drop, change or paste.
    pub dropped: f64,
    /// "Received" stood on the page.
    pub shown: Option<f64>,
    /// The first bytes were read.
    pub read: Option<f64>,
    /// It was scaled, from and to.
    pub scaled: Option<(f64, f64)>,
    /// The first frame left.
    pub sent: Option<f64>,
    /// The server's word that it has all.
    pub received: Option<f64>,
    pub ready: Option<f64>,
    pub encoded: Option<f64>,
    pub image: Option<ImageTimings>,
    pub encode: Option<EncodeTimings>,
}

/// The picture of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Counts the page's pictures.
    pub id: u64,
    pub name: String,
    /// Of the file that was picked.
    pub bytes: u64,
    /// Of what is sent: less where the page scales it.
    pub sending: u64,
    /// How much of it the server has.
    pub sent: u64,
    /// Bytes per second.
    pub speed: Option<f64>,
    pub phase: PicturePhase,
    /// A reduced copy, as an object URL.
    pub preview: Option<String>,
    /// The browser cannot show it; the server may still read it.
    pub unseen: bool,
    /// Width and height, upright.
    pub size: Option<(u32, u32)>,
    /// Its number on the wire, in this session.
    pub upload: Option<u32>,
    /// Its id on the wire, in this session.
    pub image: Option<String>,
    pub sha256: Option<String>,
    pub times: PictureTimes,
}

/// Where a question is on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnPhase {
    /// Not sent: no connection yet, or the conversation has no name yet.
    Unsent,
    /// Sent, not heard of.
    Sent,
    /// Its place; `None` while it waits for the picture.
    Queued(Option<u64>),
    Thinking,
    Streaming,
    Done(FinishReason),
    Failed(Failure),
}

impl TurnPhase {
    pub fn name(&self) -> &'static str {
        match self {
            TurnPhase::Unsent => "unsent",
            TurnPhase::Sent => "sent",
            TurnPhase::Queued(None) => "waiting",
            TurnPhase::Queued(_) => "queued",
            TurnPhase::Thinking => "thinking",
            TurnPhase::Streaming => "streaming",
            TurnPhase::Done(FinishReason::Stop) => "done",
            TurnPhase::Done(FinishReason::Length) => "length",
            TurnPhase::Done(FinishReason::Cancelled) => "stopped",
            TurnPhase::Done(FinishReason::Timeout) => "timeout",
            TurnPhase::Failed(_) => "failed",
        }
    }

    /// Whether it will still change by itself.
    pub fn open(&self) -> bool {
        !matches!(self, TurnPhase::Done(_) | TurnPhase::Failed(_))
    }
}

/// Times of an answer on the page's clock, milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerTimes {
    /// The event that sent it: click or key.
    pub clicked: f64,
    pub sent: Option<f64>,
    pub queued: Option<f64>,
    pub started: Option<f64>,
    /// The first token left the server, by its clock joined to ours.
    pub first_left: Option<f64>,
    /// The first token came.
    pub first: Option<f64>,
    /// The first word was drawn.
    pub drawn: Option<f64>,
    pub done: Option<f64>,
    pub clock: Option<Offset>,
    pub timings: Option<AnswerTimings>,
    pub usage: Option<Usage>,
    /// The picture's times, in the first answer about it.
    pub picture: Option<PictureTimes>,
}

/// A question and its answer.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Counts the page's turns.
    pub id: u64,
    pub question: RwSignal<String>,
    pub phase: RwSignal<TurnPhase>,
    /// The answer so far; grows only.
    pub answer: RwSignal<String>,
    pub times: RwSignal<AnswerTimes>,
    /// What was sent, to send it again after a reconnection.
    pub ask: StoredValue<Option<Ask>>,
}

impl Turn {
    fn new(id: u64, question: String, clicked: f64) -> Self {
        Turn {
            id,
            question: RwSignal::new(question),
            phase: RwSignal::new(TurnPhase::Unsent),
            answer: RwSignal::new(String::new()),
            times: RwSignal::new(AnswerTimes {
                clicked,
                ..Default::default()
            }),
            ask: StoredValue::new(None),
        }
    }

    /// The request's id on the wire.
    pub fn request(&self) -> Option<String> {
        self.ask
            .with_value(|ask| ask.as_ref().map(|a| a.request.clone()))
    }

    /// What the model remembers of it; nothing where it failed or is not answered.
    pub fn remembered(&self) -> Option<wire::Turn> {
        let kept = self
            .phase
            .with_untracked(|p| matches!(p, TurnPhase::Done(_)));
        let answer = self.answer.get_untracked();
        (kept && !answer.is_empty()).then(|| wire::Turn {
            question: self.question.get_untracked(),
            answer,
        })
    }
}

/// A short word to the user that goes by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub id: u64,
    pub text: String,
    pub bad: bool,
}

/// Which dialog is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Settings,
    History,
}

/// Everything the page knows.
#[derive(Clone, Copy)]
pub struct App {
    pub lang: RwSignal<Lang>,
    pub link: RwSignal<Link>,
    /// What the server is doing, and how far it is in loading.
    pub server: RwSignal<State>,
    pub progress: RwSignal<Option<f64>>,
    pub model: RwSignal<Option<Model>>,
    pub limits: RwSignal<Limits>,
    pub picture: RwSignal<Option<Picture>>,
    pub turns: RwSignal<Vec<Turn>>,
    /// The conversation's id on the wire.
    pub conversation: RwSignal<Option<String>>,
    pub notice: RwSignal<Option<Notice>>,
    /// First words of this session, milliseconds from the click.
    pub first_words: RwSignal<Vec<f64>>,
    /// What a screen reader should say next.
    pub said: RwSignal<String>,
    pub dragging: RwSignal<bool>,
    /// What stands in the composer.
    pub draft: RwSignal<String>,
    /// What might be asked of this picture.
    pub suggestions: RwSignal<Vec<String>>,
    pub settings: RwSignal<Settings>,
    pub dialog: RwSignal<Option<Open>>,
    /// The conversation's id in the store, once it is kept.
    pub kept: StoredValue<Option<String>>,
    /// Owns the turns: what a handler makes would else go with the view that it was in.
    root: StoredValue<Owner>,
    counter: StoredValue<u64>,
}

impl App {
    pub fn new() -> Self {
        App {
            lang: RwSignal::new(Lang::of_browser()),
            link: RwSignal::new(Link::Connecting),
            server: RwSignal::new(State::Loading),
            progress: RwSignal::new(None),
            model: RwSignal::new(None),
            limits: RwSignal::new(Limits::default()),
            picture: RwSignal::new(None),
            turns: RwSignal::new(Vec::new()),
            conversation: RwSignal::new(None),
            notice: RwSignal::new(None),
            first_words: RwSignal::new(Vec::new()),
            said: RwSignal::new(String::new()),
            dragging: RwSignal::new(false),
            draft: RwSignal::new(String::new()),
            suggestions: RwSignal::new(Vec::new()),
            settings: RwSignal::new(Settings::load()),
            dialog: RwSignal::new(None),
            kept: StoredValue::new(None),
            root: StoredValue::new(Owner::new()),
            counter: StoredValue::new(0),
        }
    }

    /// The next number, for anything that needs one of its own on this page.
    pub fn number(&self) -> u64 {
        self.counter.update_value(|n| *n += 1);
        self.counter.get_value()
    }

    /// A turn that lives as long as the page, not sent by the event at `clicked` yet.
    pub fn new_turn(&self, question: String, clicked: f64) -> Turn {
        let id = self.number();
        self.root
            .with_value(|root| root.with(|| Turn::new(id, question, clicked)))
    }

    /// The turn of `request`.
    pub fn turn(&self, request: &str) -> Option<Turn> {
        self.turns.with_untracked(|turns| {
            turns.iter().rev().copied().find(|turn| {
                turn.ask
                    .with_value(|ask| ask.as_ref().is_some_and(|a| a.request == request))
            })
        })
    }

    /// Changes the picture, if it is still the one.
    pub fn with_picture(&self, id: u64, f: impl FnOnce(&mut Picture)) {
        self.picture.update(|picture| {
            if let Some(picture) = picture.as_mut().filter(|p| p.id == id) {
                f(picture);
            }
        });
    }

    /// Whether an answer is on its way; tracked.
    pub fn running(&self) -> bool {
        self.turns
            .with(|turns| turns.iter().any(|turn| turn.phase.with(TurnPhase::open)))
    }

    /// Lets a screen reader say it.
    pub fn say_aloud(&self, text: &str) {
        self.said.set(text.to_owned());
    }

    /// Copies `text` and says how that went.
    pub fn copy(self, text: String) {
        crate::dom::copy(text, move |copied| {
            self.say(
                self.text(if copied { T::Copied } else { T::NotCopied }),
                !copied,
            );
        });
    }

    /// Shows it for a while.
    pub fn say(&self, text: impl Into<String>, bad: bool) {
        let id = self.number();
        self.notice.set(Some(Notice {
            id,
            text: text.into(),
            bad,
        }));
        let notice = self.notice;
        set_timeout(
            move || {
                if notice.with_untracked(|n| n.as_ref().is_some_and(|n| n.id == id)) {
                    notice.set(None);
                }
            },
            std::time::Duration::from_secs(6),
        );
    }
}
