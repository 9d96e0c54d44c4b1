//! What of the state is drawn, each part to be listened to by itself.

use wire::{Limits, Model, Sampling};

use super::{
    app::App,
    signals::{Lens, TurnHandle},
};
use crate::{
    core::{
        State,
        connection::Link,
        crop::Cropping,
        history::StoreProblem,
        incoming::Coming,
        notices::Notice,
        picture::Picture,
        settings::Settings,
        state::{Part, Server},
        undo::Undo,
    },
    i18n::{Lang, T, fill},
};

impl App {
    pub fn lang(self) -> Lens<Lang> {
        self.signals.lens(Part::Lang, |state| &state.lang)
    }

    pub fn settings(self) -> Lens<Settings> {
        self.signals.lens(Part::Settings, |state| &state.settings)
    }

    pub fn link(self) -> Lens<Link> {
        self.signals
            .lens(Part::Link, |state| &state.connection.link)
    }

    pub fn server(self) -> Lens<Server> {
        self.signals.lens(Part::Server, |state| &state.server)
    }

    pub fn model(self) -> Lens<Option<Model>> {
        self.signals.lens(Part::Model, |state| &state.model)
    }

    pub fn limits(self) -> Lens<Limits> {
        self.signals.lens(Part::Limits, |state| &state.limits)
    }

    /// What holds for a question where the person chose nothing.
    pub fn sampling(self) -> Lens<Sampling> {
        self.signals.lens(Part::Sampling, |state| &state.sampling)
    }

    pub fn picture(self) -> Lens<Option<Picture>> {
        self.signals
            .lens(Part::Picture, |state| &state.uploads.picture)
    }

    /// The picture that the person looks at.
    pub fn card(self) -> Lens<Option<Picture>> {
        self.signals.lens(Part::Picture, State::card)
    }

    /// What comes with the picture that is to come.
    pub fn coming(self) -> Lens<Option<Coming>> {
        self.signals.lens(Part::Coming, |state| &state.coming)
    }

    /// Whether a region is being cut out of the picture.
    pub fn cropping(self) -> Lens<Option<Cropping>> {
        self.signals.lens(Part::Cropping, |state| &state.cropping)
    }

    /// The turns on the page.
    pub fn path(self) -> Lens<Vec<u64>> {
        self.signals
            .lens(Part::Turns, |state| state.conversation.path())
    }

    pub fn undos(self) -> Lens<Vec<Undo>> {
        self.signals.lens(Part::Undos, |state| &state.undos.list)
    }

    pub fn problem(self) -> Lens<Option<StoreProblem>> {
        self.signals
            .lens(Part::StoreProblem, |state| &state.history.problem)
    }

    /// Told whenever the store has changed.
    pub fn stored(self) -> Lens<u64> {
        self.signals.lens(Part::Store, |state| &state.stored)
    }

    pub fn notice(self) -> Lens<Option<Notice>> {
        self.signals
            .lens(Part::Notice, |state| &state.notices.shown)
    }

    pub fn aloud(self) -> Lens<String> {
        self.signals.lens(Part::Aloud, |state| &state.notices.aloud)
    }

    pub fn first_words(self) -> Lens<Vec<f64>> {
        self.signals
            .lens(Part::FirstWords, |state| &state.first_words)
    }

    pub fn draft(self) -> Lens<String> {
        self.signals.lens(Part::Draft, |state| &state.draft)
    }

    pub fn suggestions(self) -> Lens<Vec<String>> {
        self.signals
            .lens(Part::Suggestions, |state| &state.suggestions)
    }

    /// Whether an answer is on its way; tracked.
    pub fn running(self) -> bool {
        self.signals.running()
    }

    /// A turn, for the view that draws it.
    pub fn turn(self, id: u64) -> TurnHandle {
        self.signals.turn(id)
    }

    /// Anything of the state, without listening to it.
    pub fn read<R>(self, f: impl FnOnce(&State) -> R) -> R {
        self.signals.read(f)
    }

    /// The sentence now; for event handlers.
    pub fn text(self, text: T) -> &'static str {
        text.in_language(self.lang().get_untracked())
    }

    /// The sentence, again whenever the language changes; for views.
    pub fn t(self, text: T) -> impl Fn() -> &'static str + Copy + Send + Sync + 'static {
        let lang = self.lang();
        move || text.in_language(lang.get())
    }

    /// The sentence with its `{}` filled; for views.
    pub fn filled(self, text: T, values: &[&str]) -> String {
        fill(text.in_language(self.lang().get()), values)
    }
}
