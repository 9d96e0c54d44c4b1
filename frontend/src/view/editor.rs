//! A question that is asked again, edited or as it is.

use leptos::prelude::*;

use crate::{
    core::Person,
    i18n::T,
    io::{App, TurnHandle},
};

/// Asks the question again, as `text` if it was edited.
pub fn again(app: App, turn: TurnHandle, text: Option<String>, when: f64) {
    let turn = turn.id();
    app.person(Person::AsksAgain { turn, text, when });
}

/// A question being edited, to be asked again.
#[component]
pub fn Editor(turn: TurnHandle, text: String, done: impl Fn() + Copy + 'static) -> impl IntoView {
    let app = App::here();
    let draft = RwSignal::new(text);
    let field = NodeRef::<leptos::html::Input>::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            let _ = field.focus();
        }
    });
    view! {
        <form
            class="editor"
            on:submit=move |event| {
                event.prevent_default();
                let text = draft.get_untracked();
                if !wire::is_blank(&text) {
                    done();
                    again(app, turn, Some(text.trim().to_owned()), event.time_stamp());
                }
            }
            on:keydown=move |event| {
                if event.key() == "Escape" {
                    done();
                }
            }
        >
            <input
                data-testid="edit-text"
                aria-label=app.t(T::Question)
                node_ref=field
                prop:value=draft
                on:input=move |event| draft.set(event_target_value(&event))
            />
            <button type="button" class="quiet" on:click=move |_| done()>{app.t(T::Cancel)}</button>
            <button class="primary" data-testid="edit-send">{app.t(T::Send)}</button>
        </form>
    }
}
