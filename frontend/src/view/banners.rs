//! The banners under the bar: where the connection needs the person, the server before it is ready.

use leptos::prelude::*;
use wire::{Download, State};

use super::dialogs::{Open, Opened};
use crate::{
    core::{Person, connection::Link, figures, history::StoreProblem},
    i18n::T,
    io::{App, browser, dom},
};

#[component]
pub fn Banners() -> impl IntoView {
    view! {
        <Gate />
        <ServerFace />
        <KeptFace />
        <NewBuild />
    }
}

/// A newer build of the page is there: it asks before it takes over.
#[component]
fn NewBuild() -> impl IntoView {
    let app = App::here();
    let there = RwSignal::new(false);
    browser::updated(move || there.set(true));
    view! {
        <Show when=move || there.get()>
            <section class="banner" aria-label=app.t(T::Updated) data-testid="new-build">
                <p role="status">{app.t(T::NewVersion)}</p>
                <button class="quiet" on:click=|_| browser::update_page()>{app.t(T::Reload)}</button>
            </section>
        </Show>
    }
}

/// Where the connection needs the user: a key, a reload, a decision.
#[component]
fn Gate() -> impl IntoView {
    let app = App::here();
    let key = RwSignal::new(String::new());
    view! {
        {move || match app.link().get() {
            Link::NeedsKey(wrong) => view! {
                <form
                    class="banner gate"
                    aria-label=app.t(T::KeyNeeded)
                    data-testid="key-form"
                    on:submit=move |event| {
                        event.prevent_default();
                        app.person(Person::GivesKey(key.get_untracked()));
                    }
                >
                    <label for="key">{app.t(if wrong { T::WrongKey } else { T::NeedsKey })}</label>
                    <input id="key" type="password" autocomplete="current-password" required prop:value=key
                        on:input=move |event| key.set(event_target_value(&event)) />
                    <button class="primary">{app.t(T::Enter)}</button>
                </form>
            }
            .into_any(),
            Link::TakenOver => view! {
                <section class="banner gate" aria-label=app.t(T::Elsewhere)>
                    <p>{app.t(T::TakenOver)}</p>
                    <button class="primary" on:click=move |_| app.person(Person::Connects)>{app.t(T::UseHere)}</button>
                </section>
            }
            .into_any(),
            Link::Outdated => view! {
                <section class="banner gate" aria-label=app.t(T::Updated)>
                    <p>{app.t(T::Outdated)}</p>
                    <button class="primary" on:click=move |_| { let _ = window().location().reload(); }>
                        {app.t(T::Reload)}
                    </button>
                </section>
            }
            .into_any(),
            Link::Lost => view! {
                <div class="banner" role="status" data-testid="lost"><p>{app.t(T::Lost)}</p></div>
            }
            .into_any(),
            Link::Refused { why, until } => view! {
                <section class="banner" aria-label=app.t(T::Full) data-testid="refused">
                    <p><span role="status">{why}</span> " " <Wait until /></p>
                </section>
            }
            .into_any(),
            Link::Barred(why) => view! {
                <section class="banner" aria-label=app.t(T::Barred) data-testid="barred">
                    <p role="status">{why}</p>
                </section>
            }
            .into_any(),
            Link::Connecting | Link::Online => ().into_any(),
        }}
    }
}

/// The seconds until the next try, counted down.
#[component]
fn Wait(until: f64) -> impl IntoView {
    let app = App::here();
    let left = move || ((until - dom::now()) / 1e3).ceil();
    let seconds = RwSignal::new(left());
    let clock = set_interval_with_handle(
        move || seconds.set(left()),
        std::time::Duration::from_secs(1),
    );
    on_cleanup(move || {
        if let Ok(clock) = clock {
            clock.clear();
        }
    });
    move || {
        let seconds = seconds.get();
        (seconds > 0.0).then(|| app.filled(T::NextTry, &[&format!("{seconds:.0}")]))
    }
}

/// The server before it is ready, or on its way out.
#[component]
fn ServerFace() -> impl IntoView {
    let app = App::here();
    let download = move || app.server().with(|server| server.download.clone());
    let progress = move || match download() {
        Some(it) => Some(it.bytes as f64 / it.total.max(1) as f64),
        None => app.server().with(|server| server.progress),
    };
    let stands = move || app.server().with(|it| (it.state, it.download.is_some()));
    let face = Memo::new(move |_| match (app.link().get(), stands()) {
        (Link::Online, (State::Loading, true)) => Some((T::Fetching, T::LoadingHint)),
        (Link::Online, (State::Loading, false)) => Some((T::Loading, T::LoadingHint)),
        (Link::Online, (State::Warming, _)) => Some((T::Warming, T::LoadingHint)),
        (Link::Online, (State::Failed, true)) => Some((T::FetchFailed, T::FetchFailedHint)),
        (Link::Online, (State::Failed, false)) => Some((T::Failed, T::ServerFailed)),
        (Link::Online, (State::Draining, _)) => Some((T::Leaving, T::Draining)),
        _ => None,
    });
    // "9.7 GB of 27.8 GB · 31.5 MB/s · 10 min left"
    let pace = move || {
        let Download {
            bytes,
            total,
            bytes_per_second,
            ..
        } = download()?;
        let [done, all] = [bytes, total].map(figures::size);
        let fetched = app.filled(T::Fetched, &[&done, &all]);
        if bytes_per_second < 1.0 {
            return Some(fetched);
        }
        let left = figures::remaining(total.saturating_sub(bytes) as f64 / bytes_per_second);
        let left = app.filled(T::TimeLeft, &[&left]);
        let rate = figures::size(bytes_per_second as u64);
        Some(format!("{fetched} · {rate}/s · {left}"))
    };
    view! {
        {move || {
            face.get().map(|(title, hint)| view! {
                <section class="banner" aria-label=app.t(title) data-testid="server-face">
                    <p>
                        <strong role="status">{app.t(title)}</strong>
                        {move || progress().map(|p| format!(" {:.0} %", 100.0 * p))}
                        " "
                        {app.t(hint)}
                    </p>
                    {move || pace().map(|pace| view! { <p class="pace" data-testid="download">{pace}</p> })}
                    {move || progress().map(|p| view! { <progress max="1" value=p.to_string() aria-label=app.t(title)></progress> })}
                </section>
            })
        }}
    }
}

/// Where the conversation is not kept as it stands, or soon may not be.
#[component]
fn KeptFace() -> impl IntoView {
    let app = App::here();
    let Opened(opened) = Opened::here();
    let copy = move || {
        view! {
            <button class="quiet" data-testid="make-copy" on:click=move |_| app.person(Person::Copies)>
                {app.t(T::MakeCopy)}
            </button>
        }
    };
    let theirs = move |event: web_sys::MouseEvent| {
        let id = app.read(|state| state.history.id().map(str::to_owned));
        if let Some(id) = id {
            let when = event.time_stamp();
            app.person(Person::Opens { id, when });
        }
    };
    let face = move |text: T, way: AnyView| {
        view! {
            <section class="banner" aria-label=app.t(T::History) data-testid="store-notice">
                <p role="status">{app.t(text)}</p>
                {way}
            </section>
        }
    };
    move || {
        match app.problem().get() {
        Some(StoreProblem::Elsewhere) => Some(face(T::TabElsewhere, copy().into_any())),
        Some(StoreProblem::Changed) => Some(face(
            T::TabChanged,
            view! {
                <button class="quiet" data-testid="show-kept" on:click=theirs>{app.t(T::ShowKept)}</button>
                {copy()}
            }
            .into_any(),
        )),
        Some(StoreProblem::Gone) => Some(face(T::TabGone, copy().into_any())),
        Some(StoreProblem::Full) => Some(face(
            T::StoreFull,
            view! {
                <button class="quiet" on:click=move |_| opened.set(Some(Open::History))>{app.t(T::History)}</button>
            }
            .into_any(),
        )),
        // Said once, and in the list of conversations.
        Some(StoreProblem::Refused) | None => None,
    }
    }
}
