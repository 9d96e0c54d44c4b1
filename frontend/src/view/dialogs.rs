//! Settings, and the conversations kept in this browser.

use leptos::{html::Dialog, prelude::*};
use wasm_bindgen_futures::spawn_local;
use web_sys::Url;

use super::icon::{CLOSE, IMAGE, Icon, TRASH};
use crate::{
    actions, history,
    i18n::{Lang, T},
    settings::Scaling,
    state::{App, Open},
    store::{self, Kept},
};

/// A modal dialog: the browser keeps the focus inside and closes it on Escape.
#[component]
fn Modal(app: App, which: Open, title: T, children: ChildrenFn) -> impl IntoView {
    let dialog = NodeRef::<Dialog>::new();
    Effect::new(move |_| {
        let open = app.dialog.get() == Some(which);
        let Some(dialog) = dialog.get() else { return };
        if open && !dialog.open() {
            let _ = dialog.show_modal();
        } else if !open && dialog.open() {
            dialog.close();
        }
    });
    let close = move || app.dialog.set(None);
    view! {
        <dialog
            aria-label=app.t(title)
            node_ref=dialog
            on:close=move |_| {
                if app.dialog.get_untracked() == Some(which) {
                    close();
                }
            }
            // A click on the backdrop is a click on the dialog itself.
            on:click=move |event| {
                if dialog.get_untracked().is_some_and(|d| event.target().as_ref() == Some(&d)) {
                    close();
                }
            }
        >
            <div class="dialog">
                <header>
                    <h2>{app.t(title)}</h2>
                    <button class="tool" aria-label=app.t(T::Close) on:click=move |_| close()>
                        <Icon path=CLOSE />
                    </button>
                </header>
                {move || (app.dialog.get() == Some(which)).then(|| children())}
            </div>
        </dialog>
    }
}

#[component]
pub fn Dialogs(app: App) -> impl IntoView {
    view! {
        <Modal app which=Open::Settings title=T::Settings>
            <SettingsForm app />
        </Modal>
        <Modal app which=Open::History title=T::History>
            <History app />
        </Modal>
    }
}

#[component]
fn SettingsForm(app: App) -> impl IntoView {
    let settings = app.settings;
    let temperature = move || {
        settings.with(|s| {
            s.temperature
                .map_or_else(String::new, |t| format!("{t:.1}"))
        })
    };
    let length =
        move || settings.with(|s| s.max_new_tokens.map_or_else(String::new, |n| n.to_string()));
    let most = move || app.limits.with(|l| l.max_new_tokens.max(1)).to_string();
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
                        settings.update(|s| s.temperature = value.map(|t| t.clamp(0.0, 2.0)));
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
                        settings.update(|s| s.max_new_tokens = value.filter(|n| *n > 0));
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
                                    on:change=move |_| settings.update(|s| s.scaling = choice)
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
                                    prop:checked=move || app.lang.get() == lang
                                    on:change=move |_| app.lang.set(lang)
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
                    on:change=move |event| settings.update(|s| s.keep = event_target_checked(&event))
                />
                <span>{app.t(T::Keep)}</span>
            </label>
            <button class="quiet danger" data-testid="clear-all" on:click=move |_| clear_all(app)>
                <Icon path=TRASH />
                {app.t(T::ClearAll)}
            </button>
        </div>
    }
}

fn clear_all(app: App) {
    actions::forget_all(app);
    app.dialog.set(None);
    spawn_local(async move {
        // Refused storage holds nothing that would have to go.
        let _ = store::clear().await;
        app.say(app.text(T::Cleared), false);
    });
}

#[component]
fn History(app: App) -> impl IntoView {
    let all = RwSignal::new(None::<Vec<String>>);
    let kept = StoredValue::new_local(Vec::<Kept>::new());
    let load = move || {
        spawn_local(async move {
            let list = store::list().await.unwrap_or_default();
            let ids = list.iter().map(|k| k.id.clone()).collect();
            if kept.try_set_value(list).is_none() {
                let _ = all.try_set(Some(ids));
            }
        });
    };
    load();
    let nothing = move || all.with(|a| a.as_ref().is_some_and(Vec::is_empty));
    view! {
        <Show when=nothing>
            <p class="hint">{app.t(T::NothingKept)}</p>
        </Show>
        <ul class="kept">
            <For each=move || all.get().unwrap_or_default() key=Clone::clone let(id)>
                {
                    let one = kept.with_value(|list| list.iter().find(|k| k.id == id).cloned());
                    one.map(|one| view! { <KeptLine app one gone=load /> })
                }
            </For>
        </ul>
    }
}

#[component]
fn KeptLine(app: App, one: Kept, gone: impl Fn() + Copy + 'static) -> impl IntoView {
    let asked = one.turns.first().map(|turn| &turn.question);
    let title = asked.or(one.asking.first()).unwrap_or(&one.name).to_owned();
    let image = one
        .preview
        .as_ref()
        .and_then(|blob| Url::create_object_url_with_blob(blob).ok());
    let shown = image.clone();
    on_cleanup(move || {
        if let Some(url) = shown {
            let _ = Url::revoke_object_url(&url);
        }
    });
    let when = move || {
        let date = js_sys::Date::new(&one.at.into());
        String::from(date.to_locale_string(app.lang.get().code(), &js_sys::Object::new()))
    };
    let label = title.clone();
    let (opened, removed) = (one.id.clone(), one.id.clone());
    view! {
        <li>
            <button
                class="line"
                data-testid="kept"
                on:click=move |_| {
                    app.dialog.set(None);
                    history::open(app, opened.clone());
                }
            >
                {match image {
                    Some(url) => view! { <img class="thumb" src=url alt="" width="56" height="42" /> }.into_any(),
                    None => view! { <span class="thumb placeholder"><Icon path=IMAGE /></span> }.into_any(),
                }}
                <span class="title">{title}</span>
                <small>{when}</small>
            </button>
            <button
                class="tool"
                aria-label=move || format!("{}: {label}", app.t(T::Delete)())
                on:click=move |_| {
                    let id = removed.clone();
                    spawn_local(async move {
                        let _ = store::remove(&id).await;
                        gone();
                    });
                }
            >
                <Icon path=TRASH />
            </button>
        </li>
    }
}
