//! What the demo checkpoint is, where that is what answers.

use leptos::prelude::*;

use super::{
    dialogs::{Open, Opened},
    icon::{COPY, Icon},
};
use crate::{i18n::T, io::App};

const COMMANDS: [&str; 2] = [
    "make serve ARGS=\"--model DIR\"",
    "glimpse serve --model DIR",
];

/// Says in the bar that this is the demo checkpoint, and opens what there is to say of it.
#[component]
pub fn DemoPill() -> impl IntoView {
    let app = App::here();
    let Opened(opened) = Opened::here();
    let demo = Memo::new(move |_| app.model().with(|m| m.as_ref().is_some_and(|m| m.demo)));
    view! {
        <Show when=move || demo.get()>
            <button class="tag" data-testid="demo" aria-label=app.t(T::DemoTitle) on:click=move |_| opened.set(Some(Open::Demo))>
                {app.t(T::DemoShort)}
            </button>
        </Show>
    }
}

/// A dialog: what the demo checkpoint knows, and how the real model is served.
#[component]
pub fn Demo() -> impl IntoView {
    let app = App::here();
    let line = move |command: &'static str| {
        view! {
            <li>
                <code>{command}</code>
                <button
                    class="tool"
                    aria-label=move || format!("{}: {command}", app.t(T::Copy)())
                    title=app.t(T::Copy)
                    on:click=move |_| app.copy(command.to_owned())
                >
                    <Icon path=COPY />
                </button>
            </li>
        }
    };
    view! {
        <div class="words" data-testid="demo-words">
            <p>{app.t(T::DemoKnows)}</p>
            <p>{app.t(T::DemoServe)}</p>
            <ul class="commands">{COMMANDS.map(line).collect_view()}</ul>
        </div>
    }
}
