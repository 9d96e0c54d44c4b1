//! The person's choices.

use leptos::{html::Button, prelude::*};
use wire::Sampling;

use super::{
    dialogs::{Open, Opened},
    icon::{Icon, TRASH},
};
use crate::{
    core::{
        Person,
        settings::{Scaling, Settings, Theme},
    },
    i18n::{Lang, T},
    io::App,
};

#[component]
pub fn SettingsForm(
    /// Closes the dialog.
    close: Callback<()>,
) -> impl IntoView {
    let app = App::here();
    let Opened(opened) = Opened::here();
    let settings = app.settings();
    let choose = move |change: &dyn Fn(&mut Settings)| {
        let mut chosen = settings.get_untracked();
        change(&mut chosen);
        app.person(Person::Chooses(chosen));
    };
    let number = move |of: fn(&Settings) -> Option<f64>| {
        move || settings.with(|s| of(s).map_or_else(String::new, |n| n.to_string()))
    };
    // What holds where nothing is chosen: the number, where the server says it.
    let own = move |of: fn(&Sampling) -> Option<f64>| {
        move || {
            let own = app.sampling().with(of);
            own.map_or_else(|| app.t(T::ByModel)().to_owned(), |n| n.to_string())
        }
    };
    let longest = move || app.limits().with(|l| l.text_chars.max(1)).to_string();
    let most = move || app.limits().with(|l| l.max_new_tokens.max(1)).to_string();
    view! {
        <div class="fields">
            <label class="system">
                <span>{app.t(T::System)}</span>
                <textarea
                    rows="3"
                    dir="auto"
                    maxlength=longest
                    data-testid="system"
                    prop:value=move || settings.with(|s| s.system.clone())
                    on:change=move |event| choose(&|s| s.system = event_target_value(&event))
                ></textarea>
                <small>{app.t(T::SystemHint)}</small>
            </label>
            <label>
                <span>{app.t(T::Temperature)}</span>
                <input
                    type="number" min="0" max="2" step="0.1"
                    data-testid="temperature"
                    placeholder=own(|s| s.temperature)
                    prop:value=number(|s| s.temperature)
                    on:change=move |event| {
                        let value = event_target_value(&event).parse::<f64>().ok();
                        choose(&|s| s.temperature = value.map(|t| t.clamp(0.0, 2.0)));
                    }
                />
                <small>{app.t(T::TemperatureHint)}</small>
            </label>
            <label>
                <span>{app.t(T::TopP)}</span>
                <input
                    type="number" min="0.05" max="1" step="0.05"
                    data-testid="top-p"
                    placeholder=own(|s| s.top_p)
                    prop:value=number(|s| s.top_p)
                    on:change=move |event| {
                        let value = event_target_value(&event).parse::<f64>().ok();
                        choose(&|s| s.top_p = value.map(|p| p.clamp(0.05, 1.0)));
                    }
                />
                <small>{app.t(T::TopPHint)}</small>
            </label>
            <label>
                <span>{app.t(T::MaxTokens)}</span>
                <input
                    type="number" min="1" max=most step="1"
                    data-testid="max-tokens"
                    placeholder=own(|s| s.max_new_tokens.map(|n| n as f64))
                    prop:value=number(|s| s.max_new_tokens.map(|n| n as f64))
                    on:change=move |event| {
                        let value = event_target_value(&event).parse::<u64>().ok();
                        choose(&|s| s.max_new_tokens = value.filter(|n| *n > 0));
                    }
                />
            </label>
            <Choices
                title=T::ScalingTitle
                name="scaling"
                all=vec![T::ScalingAuto, T::ScalingAlways, T::ScalingOriginal]
                chosen=Signal::derive(move || settings.with(|s| s.scaling) as usize)
                choose=move |at: usize| choose(&|s| s.scaling = Scaling::ALL[at])
            />
            <Choices
                title=T::ThemeTitle
                name="theme"
                all=vec![T::ThemeSystem, T::ThemeLight, T::ThemeDark]
                chosen=Signal::derive(move || settings.with(|s| s.theme) as usize)
                choose=move |at: usize| choose(&|s| s.theme = Theme::ALL[at])
            />
            <Choices
                title=T::LanguageTitle
                name="language"
                all=vec![T::English, T::Chinese]
                chosen=Signal::derive(move || app.lang().get() as usize)
                choose=move |at: usize| app.person(Person::Speaks([Lang::En, Lang::Zh][at]))
            />
            <label class="choice">
                <input
                    type="checkbox"
                    data-testid="keep"
                    prop:checked=move || settings.with(|s| s.keep)
                    on:change=move |event| choose(&|s| s.keep = event_target_checked(&event))
                />
                <span>{app.t(T::Keep)}</span>
            </label>
            <button class="quiet" on:click=move |_| opened.set(Some(Open::Help))>{app.t(T::Help)}</button>
            <button
                class="quiet"
                data-testid="reset"
                disabled=move || settings.with(|s| *s == Settings::default())
                on:click=move |_| app.person(Person::Chooses(Settings::default()))
            >
                {app.t(T::Reset)}
            </button>
            <ClearAll close />
        </div>
    }
}

/// One of several, by radio buttons.
#[component]
fn Choices(
    title: T,
    /// Of the group, unlike any other's.
    name: &'static str,
    all: Vec<T>,
    /// Which is chosen, tracked.
    #[prop(into)]
    chosen: Signal<usize>,
    #[prop(into)] choose: Callback<usize>,
) -> impl IntoView {
    let app = App::here();
    let line = move |(at, text): (usize, T)| {
        view! {
            <label class="choice">
                <input type="radio" name=name prop:checked=move || chosen.get() == at on:change=move |_| choose.run(at) />
                <span>{app.t(text)}</span>
            </label>
        }
    };
    view! {
        <fieldset>
            <legend>{app.t(title)}</legend>
            {all.into_iter().enumerate().map(line).collect_view()}
        </fieldset>
    }
}

/// Asks first.
#[component]
fn ClearAll(close: Callback<()>) -> impl IntoView {
    let app = App::here();
    let asking = RwSignal::new(false);
    let asked = NodeRef::<Button>::new();
    let no = NodeRef::<Button>::new();
    // The cursor goes where the harmless answer is, and back.
    let ask = move |ask: bool| {
        asking.set(ask);
        request_animation_frame(move || {
            let button = if ask { no } else { asked };
            // By then the settings may be closed.
            if let Some(button) = button.try_get_untracked().flatten() {
                let _ = button.focus();
            }
        });
    };
    let yes = move |_| {
        app.person(Person::ForgetsAll);
        close.run(());
    };
    move || {
        if asking.get() {
            view! {
                <div class="sure" role="group" aria-labelledby="sure" data-testid="clear-sure">
                    <p id="sure" role="alert">{app.t(T::ClearSure)}</p>
                    <p class="buttons">
                        <button class="quiet" node_ref=no on:click=move |_| ask(false)>{app.t(T::ClearNo)}</button>
                        <button class="quiet danger" data-testid="clear-yes" on:click=yes>
                            <Icon path=TRASH />
                            {app.t(T::ClearYes)}
                        </button>
                    </p>
                </div>
            }
            .into_any()
        } else {
            view! {
                <button class="quiet danger" data-testid="clear-all" node_ref=asked on:click=move |_| ask(true)>
                    <Icon path=TRASH />
                    {app.t(T::ClearAll)}
                </button>
            }
            .into_any()
        }
    }
}
