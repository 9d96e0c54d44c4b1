//! What was done last, as long as it can be taken back: above the question, where it covers nothing.

use leptos::prelude::*;

use super::composer::go_on;
use crate::{
    core::{Person, undo::Undo},
    i18n::T,
    io::App,
};

#[component]
pub fn Undos() -> impl IntoView {
    let app = App::here();
    let lingers = move |lingers| app.person(Person::Lingers(lingers));
    let line = move |undo: Undo| {
        view! {
            <li data-testid="undo">
                <span>{app.t(undo.done)}</span>
                <button class="quiet" on:click=move |_| take_back(app, undo.id)>{app.t(T::Undo)}</button>
            </li>
        }
    };
    view! {
        <ul
            class="undos"
            on:focusin=move |_| lingers(true)
            on:focusout=move |_| lingers(false)
        >
            {move || app.undos().get().into_iter().map(line).collect_view()}
        </ul>
    }
}

/// Takes it back; whoever did that goes on with the question.
fn take_back(app: App, id: u64) {
    app.person(Person::Undoes(Some(id)));
    go_on();
}
