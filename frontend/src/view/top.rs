//! The bar at the top, what the server is doing, and notices.

use leptos::prelude::*;
use wire::State;

use super::icon::{CLOCK, Icon, PLUS, SLIDERS};
use crate::{
    actions, connection, dom,
    i18n::T,
    state::{App, Link, Open},
};

#[component]
pub fn TopBar(app: App) -> impl IntoView {
    let light = move || match (app.link.get(), app.server.get()) {
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
    let status = move || match (app.link.get(), app.server.get()) {
        (Link::Connecting, _) => app.filled(T::Connecting, &[]),
        (Link::Online, State::Ready) => app
            .model
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
                "Glimpse"
            </h1>
            <p class="status" data-light=light data-testid="server-state" role="status">
                <span class="dot"></span>
                <span class="status-text">{status}</span>
            </p>
            <nav>
                <button class="quiet" data-testid="new" title=app.t(T::NewLong) on:click=move |_| actions::new_conversation(app)>
                    <Icon path=PLUS />
                    <span class="wide">{app.t(T::New)}</span>
                </button>
                <button
                    class="tool"
                    data-testid="history"
                    aria-label=app.t(T::History)
                    title=app.t(T::History)
                    on:click=move |_| app.dialog.set(Some(Open::History))
                >
                    <Icon path=CLOCK />
                </button>
                <button
                    class="tool"
                    data-testid="settings"
                    aria-label=app.t(T::Settings)
                    title=app.t(T::Settings)
                    on:click=move |_| app.dialog.set(Some(Open::Settings))
                >
                    <Icon path=SLIDERS />
                </button>
                <button
                    class="tool language"
                    data-testid="language"
                    on:click=move |_| app.lang.update(|lang| *lang = lang.other())
                >
                    {app.t(T::Language)}
                </button>
            </nav>
        </header>
        <Gate app />
        <ServerFace app />
        <DemoBanner app />
    }
}

/// Where the connection needs the user: a key, a reload, a decision.
#[component]
fn Gate(app: App) -> impl IntoView {
    let key = RwSignal::new(String::new());
    view! {
        {move || match app.link.get() {
            Link::NeedsKey(wrong) => view! {
                <form
                    class="banner gate"
                    aria-label=app.t(T::KeyNeeded)
                    data-testid="key-form"
                    on:submit=move |event| {
                        event.prevent_default();
                        connection::use_key(app, key.get_untracked());
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
                    <button class="primary" on:click=move |_| connection::again(app)>{app.t(T::UseHere)}</button>
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
                    <p><span role="status">{why}</span> " " <Wait app until /></p>
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
fn Wait(app: App, until: f64) -> impl IntoView {
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
fn ServerFace(app: App) -> impl IntoView {
    let face = move || match (app.link.get(), app.server.get()) {
        (Link::Online, State::Loading) => Some((T::Loading, T::LoadingHint)),
        (Link::Online, State::Warming) => Some((T::Warming, T::LoadingHint)),
        (Link::Online, State::Failed) => Some((T::Failed, T::ServerFailed)),
        (Link::Online, State::Draining) => Some((T::Leaving, T::Draining)),
        _ => None,
    };
    view! {
        {move || {
            face().map(|(title, hint)| view! {
                <div class="banner" data-testid="server-face" role="status">
                    <p>
                        <strong>{app.t(title)}</strong>
                        {move || app.progress.get().map(|p| format!(" {:.0} %", 100.0 * p))}
                        " "
                        {app.t(hint)}
                    </p>
                    {move || app.progress.get().map(|p| view! { <progress max="1" value=p.to_string() aria-label=app.t(title)></progress> })}
                </div>
            })
        }}
    }
}

/// Says plainly what the demo checkpoint knows.
#[component]
fn DemoBanner(app: App) -> impl IntoView {
    let dismissed = dom::local("glimpse-demo-seen").is_some();
    let narrow = window()
        .match_media("(max-width: 760px)")
        .ok()
        .flatten()
        .is_some_and(|m| m.matches());
    let seen = RwSignal::new(dismissed);
    // On a phone it makes room for the conversation.
    Effect::new(move |_| {
        if narrow && app.picture.with(Option::is_some) {
            seen.set(true);
        }
    });
    let demo = Memo::new(move |_| app.model.with(|m| m.as_ref().is_some_and(|m| m.demo)));
    view! {
        <Show when=move || demo.get()>
            <aside class="banner demo" class:folded=seen data-testid="demo-banner">
                <p>
                    <button
                        class="tag"
                        aria-expanded=move || (!seen.get()).to_string()
                        on:click=move |_| seen.update(|s| *s = !*s)
                    >
                        {app.t(T::DemoTitle)}
                    </button>
                    <span class="more">
                        {app.t(T::DemoKnows)} " " {app.t(T::DemoServe)} " "
                        <code>"make serve ARGS=\"--model DIR\""</code> " " {app.t(T::DemoOr)} " "
                        <code>"glimpse serve --model DIR"</code> "."
                    </span>
                </p>
                <button
                    class="quiet more"
                    on:click=move |_| {
                        dom::keep_local("glimpse-demo-seen", "1");
                        seen.set(true);
                    }
                >
                    {app.t(T::Dismiss)}
                </button>
            </aside>
        </Show>
    }
}

/// Short words that go by themselves, and what a screen reader is told.
#[component]
pub fn Notices(app: App) -> impl IntoView {
    let region = NodeRef::<leptos::html::Div>::new();
    Effect::new(move |_| {
        let said = app.said.get();
        let (Some(region), false) = (region.get(), said.trim().is_empty()) else {
            return;
        };
        if let Ok(line) = document().create_element("p") {
            line.set_text_content(Some(&said));
            let _ = region.append_child(&line);
        }
        while region.child_element_count() > 12 {
            if let Some(first) = region.first_element_child() {
                first.remove();
            }
        }
    });
    view! {
        <div class="offscreen" role="log" aria-live="polite" data-testid="said" node_ref=region></div>
        <div class="notices" role="status">
            {move || app.notice.get().map(|n| view! { <p class="notice" class:bad=n.bad data-testid="notice">{n.text}</p> })}
        </div>
    }
}
