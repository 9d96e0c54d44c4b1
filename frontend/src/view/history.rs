//! The conversations that are kept in this browser.

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::icon::{IMAGE, Icon, TRASH};
use crate::{
    core::Person,
    i18n::T,
    io::{
        App, files,
        store::{self, Stored},
    },
};

#[component]
pub fn History(
    /// Closes the dialog.
    close: Callback<()>,
) -> impl IntoView {
    let app = App::here();
    let all = RwSignal::new(None::<Vec<String>>);
    let kept = StoredValue::new_local(Vec::<Stored>::new());
    let load = move || {
        spawn_local(async move {
            let list = store::list().await.unwrap_or_default();
            let ids = list.iter().map(|one| one.kept.id.clone()).collect();
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
                    let one = kept.with_value(|list| list.iter().find(|one| one.kept.id == id).cloned());
                    one.map(|one| view! { <KeptLine one close gone=load /> })
                }
            </For>
        </ul>
    }
}

#[component]
fn KeptLine(one: Stored, close: Callback<()>, gone: impl Fn() + Copy + 'static) -> impl IntoView {
    let app = App::here();
    let image = one.preview.as_ref().and_then(files::address);
    let shown = image.clone();
    on_cleanup(move || {
        if let Some(url) = shown {
            files::revoke(url);
        }
    });
    let one = one.kept;
    let title = one.title().to_owned();
    let when = move || {
        let date = js_sys::Date::new(&one.at.into());
        String::from(date.to_locale_string(app.lang().get().code(), &js_sys::Object::new()))
    };
    let label = title.clone();
    let (opened, removed) = (one.id.clone(), one.id.clone());
    view! {
        <li>
            <button
                class="line"
                data-testid="kept"
                on:click=move |event| {
                    close.run(());
                    app.person(Person::Opens {
                        id: opened.clone(),
                        when: event.time_stamp(),
                    });
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
