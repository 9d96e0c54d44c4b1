//! The conversations that are kept in this browser.

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Element, Event, HtmlInputElement};

use super::icon::{IMAGE, Icon, MORE, TRASH};
use crate::{
    core::{Person, figures, history::StoreProblem, undo::Undo},
    i18n::T,
    io::{
        App, dom,
        exchange::Format,
        files, room,
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
    let words = RwSignal::new(String::new());
    let found = move |id: &String| {
        let words = words.with(|words| words.trim().to_lowercase());
        kept.with_value(|list| {
            list.iter()
                .any(|one| one.kept.id == *id && one.kept.has(&words))
        })
    };
    let lists = move || {
        let undos = app.undos().get();
        let mut lines = all.get().unwrap_or_default();
        lines.retain(|(id, deleted)| found(id) && (!deleted || undo_of(&undos, id).is_some()));
        lines
    };
    // A memo, so that what stands below the list stays as it is, with its focus, while the list changes.
    let nothing = Memo::new(move |_| {
        all.with(|a| a.as_ref().is_some_and(|a| a.iter().all(|(_, gone)| *gone)))
    });
    let hint = move |text| view! { <p class="hint">{app.t(text)}</p> };
    let line = move |(id, deleted): (String, bool), day: &mut String| {
        let one = kept.with_value(|list| list.iter().find(|one| one.kept.id == id).cloned())?;
        let of = day_of(app, one.kept.at);
        let heading =
            (of != *day).then(|| view! { <li class="day" data-testid="day">{of.clone()}</li> });
        *day = of;
        let line = if deleted {
            view! { <Deleted one /> }.into_any()
        } else {
            view! { <KeptLine one close /> }.into_any()
        };
        Some((heading, line))
    };
    let lines = move || {
        let mut day = String::new();
        lists()
            .into_iter()
            .map(|one| line(one, &mut day))
            .collect_view()
    };
    // What had the focus may have gone.
    Effect::new(move |_| {
        lists();
        request_animation_frame(keep_focus);
    });
    let chosen = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        if let Some(file) = input.files().and_then(|files| files.get(0)) {
            spawn_local(app.import(file));
        }
        input.set_value("");
    };
    view! {
        {move || (app.problem().get() == Some(StoreProblem::Refused)).then(|| hint(T::KeepsNothing))}
        <input
            type="search"
            class="search"
            data-testid="search"
            aria-label=app.t(T::Search)
            placeholder=app.t(T::Search)
            prop:value=words
            on:input=move |event| words.set(event_target_value(&event))
        />
        // What can still be had back stands there.
        {move || (nothing.get() && lists().is_empty()).then(|| hint(T::NothingKept))}
        {move || (!nothing.get() && all.with(Option::is_some) && lists().is_empty()).then(|| hint(T::NothingFound))}
        <ul class="kept">{lines}</ul>
        <label class="import">
            <input type="file" class="offscreen" accept=".json,application/json" data-testid="import" on:change=chosen />
            {app.t(T::Import)}
        </label>
        {move || (!nothing.get()).then(|| view! { <Room /> })}
    }
}

/// The day of a moment, in words.
fn day_of(app: App, at: f64) -> String {
    const DAY_MS: f64 = 86_400_000.0;
    let lang = app.lang().get();
    let day = |at: f64| {
        let date = js_sys::Date::new(&at.into());
        String::from(date.to_locale_date_string(lang.code(), &js_sys::Object::new()))
    };
    let now = js_sys::Date::now();
    match day(at) {
        today if today == day(now) => app.filled(T::Today, &[]),
        yesterday if yesterday == day(now - DAY_MS) => app.filled(T::Yesterday, &[]),
        other => other,
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
    let stays = RwSignal::new(None::<bool>);
    spawn_local(async move {
        let _ = stays.try_set(room::persistent().await);
    });
    let keep = move |_| {
        spawn_local(async move {
            let kept = room::persist().await;
            let _ = stays.try_set(Some(kept));
            if !kept {
                app.person(Person::BringsNothing(T::NotForGood));
            }
        });
    };
    view! {
        <p class="hint room" data-testid="room">{words}</p>
        {move || (stays.get() == Some(false)).then(|| view! {
            <p class="hint room" data-testid="may-go">
                {app.t(T::MayGo)} " "
                <button class="quiet" data-testid="keep-for-good" on:click=keep>{app.t(T::KeepForGood)}</button>
            </p>
        })}
    }
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
        // To the minute.
        let parts = js_sys::Object::new();
        for (part, form) in [("hour", "numeric"), ("minute", "2-digit")] {
            let _ = js_sys::Reflect::set(&parts, &part.into(), &form.into());
        }
        String::from(date.to_locale_string(app.lang().get().code(), &parts))
    };
    let label = title.clone();
    let [opened, removed, named] = [(); 3].map(|()| one.id.clone());
    let current = app.read(|state| state.history.id() == Some(&*one.id));
    let more = RwSignal::new(false);
    view! {
        <li>
            <button
                class="line"
                data-testid="kept"
                aria-current=current.then_some("true")
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
                <span class="title">{title.clone()}</span>
                <small>{when}</small>
            </button>
            <button
                class="tool"
                data-testid="more"
                aria-label=move || format!("{}: {label}", app.t(T::More)())
                aria-expanded=move || more.get().to_string()
                title=app.t(T::More)
                on:click=move |_| more.update(|more| *more = !*more)
            >
                <Icon path=MORE />
            </button>
            <button
                class="tool"
                aria-label={
                    let title = title.clone();
                    move || format!("{}: {title}", app.t(T::Delete)())
                }
                on:click=move |_| app.person(Person::Deletes { id: removed.clone() })
            >
                <Icon path=TRASH />
            </button>
            {move || more.get().then(|| view! { <MoreOf id=named.clone() title=title.clone() /> })}
        </li>
    }
}

/// What a kept conversation is called, and its files.
#[component]
fn MoreOf(id: String, title: String) -> impl IntoView {
    let app = App::here();
    let name = RwSignal::new(title);
    let [named, markdown, json] = [(); 3].map(|()| id.clone());
    let export = move |id: String, format| spawn_local(app.export(id, format));
    view! {
        <form
            class="more"
            on:submit=move |event| {
                event.prevent_default();
                app.person(Person::Names {
                    id: named.clone(),
                    title: name.get_untracked(),
                });
            }
        >
            <input
                type="text"
                maxlength="200"
                aria-label=app.t(T::Name)
                data-testid="name"
                prop:value=name
                on:input=move |event| name.set(event_target_value(&event))
            />
            <button class="quiet" data-testid="save-name">{app.t(T::Save)}</button>
            <button
                type="button"
                class="quiet"
                data-testid="export-markdown"
                on:click=move |_| export(markdown.clone(), Format::Markdown)
            >
                {app.t(T::ExportMarkdown)}
            </button>
            <button
                type="button"
                class="quiet"
                data-testid="export-json"
                on:click=move |_| export(json.clone(), Format::Json)
            >
                {app.t(T::ExportJson)}
            </button>
        </form>
    }
}
