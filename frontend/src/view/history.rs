//! The conversations that are kept in this browser.

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::Element;

use super::icon::{IMAGE, Icon, TRASH};
use crate::{
    core::{Person, figures, history::Trouble, undo::Undo},
    i18n::T,
    io::{
        App, dom, files, room,
        store::{self, Stored},
    },
};

#[component]
pub fn History(
    /// Closes the dialog.
    close: Callback<()>,
) -> impl IntoView {
    let app = App::here();
    let kept = StoredValue::new_local(Vec::<Stored>::new());
    // Each with whether it is marked as deleted.
    let all = RwSignal::new(None::<Vec<(String, bool)>>);
    Effect::new(move |_| {
        app.stored().track();
        spawn_local(async move {
            let list = store::list().await.unwrap_or_default();
            let line = |one: &Stored| (one.kept.id.clone(), one.deleted.is_some());
            let lines = list.iter().map(line).collect();
            if kept.try_set_value(list).is_none() {
                let _ = all.try_set(Some(lines));
            }
        });
    });
    let lists = move || {
        let undos = app.undos().get();
        let mut lines = all.get().unwrap_or_default();
        lines.retain(|(id, deleted)| !deleted || undo_of(&undos, id).is_some());
        lines
    };
    let nothing = move || all.with(|a| a.as_ref().is_some_and(|a| a.iter().all(|(_, gone)| *gone)));
    let hint = move |text| view! { <p class="hint">{app.t(text)}</p> };
    let line = move |(id, deleted): (String, bool)| {
        let one = kept.with_value(|list| list.iter().find(|one| one.kept.id == id).cloned());
        one.map(|one| {
            if deleted {
                view! { <Deleted one /> }.into_any()
            } else {
                view! { <KeptLine one close /> }.into_any()
            }
        })
    };
    // What had the focus may have gone.
    Effect::new(move |_| {
        lists();
        request_animation_frame(keep_focus);
    });
    view! {
        {move || (app.trouble().get() == Some(Trouble::Refused)).then(|| hint(T::KeepsNothing))}
        {move || nothing().then(|| hint(T::NothingKept))}
        <ul class="kept">
            {move || lists().into_iter().map(line).collect_view()}
        </ul>
        {move || (!nothing()).then(|| view! { <Room /> })}
    }
}

/// How much room there is, or why that is not known.
#[component]
fn Room() -> impl IntoView {
    let app = App::here();
    let used = RwSignal::new(None::<(f64, f64)>);
    spawn_local(async move {
        let _ = used.try_set(room::used().await);
    });
    let words = move || match used.get() {
        Some(of) => {
            let [used, of] = [of.0, of.1].map(|bytes| figures::size(bytes as u64));
            app.filled(T::Room, &[&used, &of])
        }
        None if room::can_ask() => String::new(),
        None => app.filled(T::RoomUnknown, &[]),
    };
    view! { <p class="hint room" data-testid="room">{words}</p> }
}

/// By which the deletion of this one can be taken back.
fn undo_of(undos: &[Undo], id: &str) -> Option<u64> {
    let of = |undo: &&Undo| matches!(&undo.marked, Some((_, Some(one))) if one == id);
    undos.iter().find(of).map(|undo| undo.id)
}

/// If nothing in the dialog has the focus, what can take back the last deletion gets it, or its first button.
fn keep_focus() {
    let lost = |element: &Element| matches!(element.tag_name().as_str(), "BODY" | "DIALOG");
    if document().active_element().as_ref().is_none_or(lost) {
        let _ = dom::focus("dialog[open] .deleted button") || dom::focus("dialog[open] button");
    }
}

/// In the place of a conversation that was just deleted.
#[component]
fn Deleted(one: Stored) -> impl IntoView {
    let app = App::here();
    let id = one.kept.id.clone();
    let undo = move |_| {
        let undo = app.undos().with_untracked(|undos| undo_of(undos, &id));
        app.person(Person::Undoes(undo));
    };
    view! {
        <li class="deleted" data-testid="deleted">
            <span class="title">{app.t(T::Deleted)} " " {one.kept.title().to_owned()}</span>
            <button class="quiet" on:click=undo>{app.t(T::Undo)}</button>
        </li>
    }
}

#[component]
fn KeptLine(one: Stored, close: Callback<()>) -> impl IntoView {
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
                on:click=move |_| app.person(Person::Deletes { id: removed.clone() })
            >
                <Icon path=TRASH />
            </button>
        </li>
    }
}
