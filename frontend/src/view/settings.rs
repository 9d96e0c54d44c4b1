//! The person's choices.

use leptos::{html::Button, prelude::*};

use super::icon::{Icon, TRASH};
use crate::{
    core::{
        Person,
        settings::{Scaling, Settings},
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
    let settings = app.settings();
    let choose = move |change: &dyn Fn(&mut Settings)| {
        let mut chosen = settings.get_untracked();
        change(&mut chosen);
        app.person(Person::Chooses(chosen));
    };
    let temperature = move || {
        settings.with(|s| {
            s.temperature
                .map_or_else(String::new, |t| format!("{t:.1}"))
        })
    };
    let length =
        move || settings.with(|s| s.max_new_tokens.map_or_else(String::new, |n| n.to_string()));
    let most = move || app.limits().with(|l| l.max_new_tokens.max(1)).to_string();
    view! {
        <div class="fields">
            <label>
                <span>{app.t(T::Temperature)}</span>
                <input
                    type="number" min="0" max="2" step="0.1"
                    data-testid="temperature"
                    placeholder=app.t(T::ByModel)
                    prop:value=temperature
                    on:change=move |event| {
                        let value = event_target_value(&event).parse::<f64>().ok();
                        choose(&|s| s.temperature = value.map(|t| t.clamp(0.0, 2.0)));
                    }
                />
                <small>{app.t(T::TemperatureHint)}</small>
            </label>
            <label>
                <span>{app.t(T::MaxTokens)}</span>
                <input
                    type="number" min="1" max=most step="1"
                    data-testid="max-tokens"
                    placeholder=app.t(T::ByModel)
                    prop:value=length
                    on:change=move |event| {
                        let value = event_target_value(&event).parse::<u64>().ok();
                        choose(&|s| s.max_new_tokens = value.filter(|n| *n > 0));
                    }
                />
            </label>
            <fieldset>
                <legend>{app.t(T::ScalingTitle)}</legend>
                {Scaling::ALL
                    .map(|choice| {
                        let text = match choice {
                            Scaling::Auto => T::ScalingAuto,
                            Scaling::Always => T::ScalingAlways,
                            Scaling::Original => T::ScalingOriginal,
                        };
                        view! {
                            <label class="choice">
                                <input
                                    type="radio" name="scaling"
                                    prop:checked=move || settings.with(|s| s.scaling == choice)
                                    on:change=move |_| choose(&|s| s.scaling = choice)
                                />
                                <span>{app.t(text)}</span>
                            </label>
                        }
                    })
                    .collect_view()}
            </fieldset>
            <fieldset>
                <legend>{app.t(T::LanguageTitle)}</legend>
                {[Lang::En, Lang::Zh]
                    .map(|lang| {
                        view! {
                            <label class="choice">
                                <input
                                    type="radio" name="language"
                                    prop:checked=move || app.lang().get() == lang
                                    on:change=move |_| app.person(Person::Speaks(lang))
                                />
                                <span>{T::Language.in_language(lang.other())}</span>
                            </label>
                        }
                    })
                    .collect_view()}
            </fieldset>
            <label class="choice">
                <input
                    type="checkbox"
                    data-testid="keep"
                    prop:checked=move || settings.with(|s| s.keep)
                    on:change=move |event| choose(&|s| s.keep = event_target_checked(&event))
                />
                <span>{app.t(T::Keep)}</span>
            </label>
            <ClearAll close />
        </div>
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
            if let Some(button) = button.get_untracked() {
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
