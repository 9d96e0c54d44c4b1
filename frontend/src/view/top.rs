//! The bar at the top, with what the server is doing.

use leptos::prelude::*;
use wire::State;

use super::{
    demo::DemoPill,
    dialogs::{Open, Opened},
    icon::{CLOCK, Icon, PLUS, SLIDERS},
};
use crate::{
    core::{Person, connection::Link},
    i18n::T,
    io::App,
};

#[component]
pub fn TopBar() -> impl IntoView {
    let app = App::here();
    let Opened(opened) = Opened::here();
    let server = move || app.server().with(|server| server.state);
    let light = move || match (app.link().get(), server()) {
        (Link::Online, State::Ready) => "good",
        (Link::Online, State::Failed)
        | (
            Link::Refused { .. }
            | Link::Barred(_)
            | Link::NeedsKey(_)
            | Link::TakenOver
            | Link::Outdated,
            _,
        ) => "bad",
        _ => "busy",
    };
    let status = move || match (app.link().get(), server()) {
        (Link::Connecting, _) => app.filled(T::Connecting, &[]),
        (Link::Online, State::Ready) => app
            .model()
            .with(|m| m.as_ref().map(|m| format!("{} · {}", m.name, m.device)))
            .unwrap_or_default(),
        (Link::Online, State::Loading) => app.filled(T::Loading, &[]),
        (Link::Online, State::Warming) => app.filled(T::Warming, &[]),
        (Link::Online, State::Draining) => app.filled(T::Leaving, &[]),
        (Link::Online, State::Failed) => app.filled(T::Failed, &[]),
        // What to do about it stands in the banner below.
        (Link::Lost, _) => app.filled(T::Reconnecting, &[]),
        (Link::NeedsKey(_), _) => app.filled(T::KeyNeeded, &[]),
        (Link::Refused { .. }, _) => app.filled(T::Full, &[]),
        (Link::Barred(_), _) => app.filled(T::Barred, &[]),
        (Link::TakenOver, _) => app.filled(T::Elsewhere, &[]),
        (Link::Outdated, _) => app.filled(T::Updated, &[]),
    };
    view! {
        <header class="top">
            <h1 class="brand">
                <svg class="logo" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
                    <path class="frame" d="M3 10V6a3 3 0 0 1 3-3h4M22 3h4a3 3 0 0 1 3 3v4M29 22v4a3 3 0 0 1-3 3h-4M10 29H6a3 3 0 0 1-3-3v-4" />
                    <path class="lid" d="M6 16q10-10 20 0q-10 10-20 0z" />
                    <circle class="iris" cx="16" cy="16" r="3.4" />
                </svg>
                <span class="wordmark">"Glimpse"</span>
            </h1>
            <p class="status" data-light=light data-testid="server-state" role="status">
                <span class="dot"></span>
                <span class="status-text">{status}</span>
            </p>
            <DemoPill />
            <nav>
                <button class="quiet" data-testid="new" title=app.t(T::NewLong) on:click=move |_| app.person(Person::Leaves)>
                    <Icon path=PLUS />
                    <span class="wide">{app.t(T::New)}</span>
                </button>
                <button
                    class="tool"
                    data-testid="history"
                    aria-label=app.t(T::History)
                    title=app.t(T::History)
                    on:click=move |_| opened.set(Some(Open::History))
                >
                    <Icon path=CLOCK />
                </button>
                <button
                    class="tool"
                    data-testid="settings"
                    aria-label=app.t(T::Settings)
                    title=app.t(T::Settings)
                    on:click=move |_| opened.set(Some(Open::Settings))
                >
                    <Icon path=SLIDERS />
                </button>
                <button
                    class="tool language"
                    data-testid="language"
                    on:click=move |_| app.person(Person::Speaks(app.lang().get_untracked().other()))
                >
                    {app.t(T::Language)}
                </button>
            </nav>
        </header>
    }
}
