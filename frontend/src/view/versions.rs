//! The versions of a question and its answer, one of which is on the page.

use leptos::prelude::*;

use super::icon::{AFTER, BEFORE, Icon};
use crate::{
    core::Person,
    i18n::T,
    io::{App, TurnHandle, dom},
};

const BACK: &str = "version-before";
const FORTH: &str = "version-after";

#[component]
pub fn Versions(turn: TurnHandle) -> impl IntoView {
    let app = App::here();
    let versions = Memo::new(move |_| {
        app.path().track();
        app.read(|state| state.conversation.versions(turn.id()))
    });
    move || {
        let all = versions.get();
        let at = all.iter().position(|id| *id == turn.id())?;
        (all.len() > 1).then(|| view! { <Choice all at /> })
    }
}

#[component]
fn Choice(all: Vec<u64>, at: usize) -> impl IntoView {
    let app = App::here();
    let place = move |values: [usize; 2]| {
        let [at, of] = values.map(|n| n.to_string());
        app.filled(T::Version, &[&at, &of])
    };
    let before = at.checked_sub(1).and_then(|at| all.get(at).copied());
    let after = all.get(at + 1).copied();
    let numbers = [at + 1, all.len()];
    let [number, count] = numbers;
    let step = move |to: Option<u64>, by| {
        if let Some(turn) = to {
            app.person(Person::Shows { turn });
            focus(turn, by);
        }
    };
    let button = move |to: Option<u64>, by: &'static str, word, path| {
        view! {
            <button
                class="tool"
                data-testid=by
                aria-label=app.t(word)
                title=app.t(word)
                disabled=to.is_none()
                on:click=move |_| step(to, by)
            >
                <Icon path />
            </button>
        }
    };
    view! {
        <span class="versions">
            {button(before, BACK, T::VersionBefore, BEFORE)}
            <span data-testid="version" title=move || place(numbers)>{format!("{number}/{count}")}</span>
            {button(after, FORTH, T::VersionAfter, AFTER)}
        </span>
    }
}

/// Another turn stands there now: the cursor goes to the same button of it, or to the one that leads back.
fn focus(turn: u64, by: &'static str) {
    request_animation_frame(move || {
        for button in [by, BACK, FORTH] {
            if dom::focus(&format!(
                "[data-turn='{turn}'] [data-testid={button}]:enabled"
            )) {
                return;
            }
        }
    });
}
