//! What keys do anywhere on the page, and the list of them.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Element, KeyboardEvent};

use super::{
    composer::focus_question,
    dialogs::{Open, Opened},
};
use crate::{
    core::Person,
    i18n::T,
    io::{App, dom},
};

/// What does what; several keys are separated by spaces.
const KEYS: [(&str, T); 9] = [
    ("Enter", T::KeySend),
    ("Shift+Enter", T::KeyLine),
    ("Esc", T::KeyStop),
    ("Ctrl+V", T::KeyPaste),
    ("Ctrl+Shift+O", T::KeyNew),
    ("Ctrl+K", T::KeyHistory),
    ("+ − 0 1", T::KeyZoom),
    ("← → ↑ ↓", T::KeyMove),
    ("Enter", T::KeyCloser),
];

/// Hears every key as long as the page lives. What is typed outside of any field goes to the question.
pub fn watch_keys(app: App, opened: Opened) {
    let Opened(opened) = opened;
    dom::Listener::new(&document(), "keydown", move |event| {
        let event: KeyboardEvent = event.unchecked_into();
        if event.default_prevented() || event.is_composing() {
            return;
        }
        let command = event.ctrl_key() || event.meta_key();
        let free = opened.get_untracked().is_none() && !in_field(&event);
        match event.key().as_str() {
            "k" if command && !event.shift_key() => opened.set(Some(Open::History)),
            "O" | "o" if command && event.shift_key() => {
                app.person(Person::Leaves);
                focus_question();
            }
            "?" if free && !command => opened.set(Some(Open::Help)),
            // One character is what is typed; the names of all other keys are longer.
            key if free
                && !command
                && !event.alt_key()
                && key != " "
                && key.chars().count() == 1 =>
            {
                return focus_question();
            }
            _ => return,
        }
        event.prevent_default();
    })
    .forever();
}

/// Whether the key is somebody else's: words are typed there, or something is chosen by letters.
fn in_field(event: &KeyboardEvent) -> bool {
    let target = event
        .target()
        .and_then(|target| target.dyn_into::<Element>().ok());
    target.is_some_and(|element| {
        element
            .matches("input, textarea, select, [contenteditable]")
            .unwrap_or(false)
    })
}

/// The list of keys.
#[component]
pub fn Keys() -> impl IntoView {
    let app = App::here();
    let line = move |(keys, text): (&'static str, T)| {
        let keys = keys
            .split(' ')
            .map(|key| view! { <kbd>{key}</kbd> " " })
            .collect_view();
        view! { <div><dt>{app.t(text)}</dt><dd>{keys}</dd></div> }
    };
    view! {
        <div class="words" data-testid="keys">
            <dl class="keys">{KEYS.map(line).collect_view()}</dl>
            <p class="hint">{app.t(T::KeyAny)}</p>
        </div>
    }
}
