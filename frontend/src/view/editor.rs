//! A question that is asked again, edited or as it is.

use leptos::{html::Textarea, prelude::*};
use web_sys::KeyboardEvent;

use super::composer::{go_on, lines, sends};
use crate::{
    core::Person,
    i18n::T,
    io::{App, TurnHandle},
};

/// Asks the question again, as `text` if it was edited. Another turn stands there then, so the cursor goes on.
pub fn again(app: App, turn: TurnHandle, text: Option<String>, when: f64) {
    let turn = turn.id();
    app.person(Person::AsksAgain { turn, text, when });
    go_on();
}

/// A question being edited, to be asked again.
#[component]
pub fn Editor(
    turn: TurnHandle,
    text: String,
    /// Closes it.
    done: impl Fn() + Copy + 'static,
) -> impl IntoView {
    let app = App::here();
    let draft = RwSignal::new(text);
    let field = NodeRef::<Textarea>::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            let _ = field.focus();
            let end = field.value().encode_utf16().count() as u32;
            let _ = field.set_selection_range(end, end);
        }
    });
    let send = move |when: f64| {
        let text = draft.get_untracked();
        if !wire::is_blank(&text) {
            done();
            again(app, turn, Some(text.trim().to_owned()), when);
        }
    };
    let key = move |event: KeyboardEvent| {
        if sends(&event) {
            event.prevent_default();
            send(event.time_stamp());
        } else if event.key() == "Escape" && !event.is_composing() {
            done();
        }
    };
    view! {
        <form
            class="editor"
            on:submit=move |event| {
                event.prevent_default();
                send(event.time_stamp());
            }
            on:keydown=key
        >
            <textarea
                data-testid="edit-text"
                aria-label=app.t(T::Question)
                rows=move || draft.with(|text| lines(text))
                node_ref=field
                prop:value=draft
                on:input=move |event| draft.set(event_target_value(&event))
            ></textarea>
            <button type="button" class="quiet" on:click=move |_| done()>{app.t(T::Cancel)}</button>
            <button class="primary" data-testid="edit-send">{app.t(T::Send)}</button>
        </form>
    }
}
