//! The page as a whole.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, DragEvent};

use crate::{
    connection,
    dom::{self, Listener},
    history,
    i18n::T,
    settings::Settings,
    state::App,
    upload,
    view::{Composer, Conversation, Dialogs, Notices, PicturePane, TopBar, take},
};

/// Puts the page in the place of its static face and connects.
pub fn mount() {
    let app = App::new();
    if let Some(boot) = document().get_element_by_id("boot") {
        boot.remove();
    }
    mount_to_body(move || view! { <Page app /> });
    upload::start(app);
    connection::start(app);
    history::reopen(app);
    take_drops(app);
}

#[component]
fn Page(app: App) -> impl IntoView {
    Effect::new(move |_| {
        let lang = app.lang.get();
        document().set_title(T::Title.in_language(lang));
        if let Some(root) = document().document_element() {
            let _ = root.set_attribute("lang", lang.code());
        }
    });
    let empty =
        Memo::new(move |_| app.picture.with(Option::is_none) && app.turns.with(Vec::is_empty));
    // The choices outlive the page.
    Effect::new(move |_| app.settings.with(Settings::store));
    Effect::new(move |_| dom::keep_local("glimpse-lang", app.lang.get().code()));
    view! {
        <a class="skip" href="#question">{app.t(T::Skip)}</a>
        <TopBar app />
        <main class:empty=empty class:dragging=app.dragging>
            <PicturePane app />
            <div class="talk">
                <Conversation app />
                <Composer app />
            </div>
        </main>
        <Dialogs app />
        <Notices app />
    }
}

/// Drops and pastes anywhere on the page.
fn take_drops(app: App) {
    let window = window();
    let inside = StoredValue::new(0i32);
    let with_files = |event: &DragEvent| {
        event
            .data_transfer()
            .is_some_and(|data| data.types().includes(&"Files".into(), 0))
    };
    Listener::new(&window, "dragenter", move |event| {
        let event: DragEvent = event.unchecked_into();
        if with_files(&event) {
            inside.update_value(|n| *n += 1);
            app.dragging.set(true);
        }
    })
    .forever();
    Listener::new(&window, "dragleave", move |event| {
        let event: DragEvent = event.unchecked_into();
        if with_files(&event) {
            inside.update_value(|n| *n -= 1);
            app.dragging.set(inside.get_value() > 0);
        }
    })
    .forever();
    Listener::new(&window, "dragover", move |event| {
        let event: DragEvent = event.unchecked_into();
        if with_files(&event) {
            event.prevent_default();
        }
    })
    .forever();
    Listener::new(&window, "drop", move |event| {
        let event: DragEvent = event.unchecked_into();
        inside.set_value(0);
        app.dragging.set(false);
        if with_files(&event) {
            event.prevent_default();
            take(
                app,
                event.data_transfer().and_then(|data| data.files()),
                event.time_stamp(),
            );
        }
    })
    .forever();
    Listener::new(&window, "paste", move |event| {
        let event: ClipboardEvent = event.unchecked_into();
        let files = event.clipboard_data().and_then(|data| data.files());
        if take(app, files, event.time_stamp()) {
            event.prevent_default();
        }
    })
    .forever();
}
