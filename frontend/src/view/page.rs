//! The page as a whole.

use leptos::prelude::*;

use super::{
    banners::Banners,
    composer::Composer,
    conversation::Conversation,
    dialogs::{Dialogs, Opened},
    keys::watch_keys,
    notices::Notices,
    picture::{PicturePane, focus_after_picture},
    top::TopBar,
    undos::Undos,
};
use crate::{
    i18n::T,
    io::{App, early},
};

/// Puts the page in the place of its static face and connects.
pub fn mount() {
    let app = App::new();
    let held = early::take();
    if let Some(boot) = document().get_element_by_id("boot") {
        boot.remove();
    }
    let dragging = RwSignal::new(false);
    mount_to_body(move || {
        let opened = Opened(RwSignal::new(None));
        provide_context(app);
        provide_context(opened);
        watch_keys(app, opened);
        view! { <Page dragging /> }
    });
    app.begin(held);
    app.watch_drops(move |over| dragging.set(over), focus_after_picture);
}

#[component]
fn Page(
    /// Files are held over the page.
    dragging: RwSignal<bool>,
) -> impl IntoView {
    let app = App::here();
    Effect::new(move |_| {
        let lang = app.lang().get();
        document().set_title(T::Title.in_language(lang));
        if let Some(root) = document().document_element() {
            let _ = root.set_attribute("lang", lang.code());
        }
    });
    Effect::new(move |_| {
        let theme = app.settings().with(|settings| settings.theme);
        if let Some(root) = document().document_element() {
            let _ = root.set_attribute("data-theme", theme.name());
        }
    });
    let empty =
        Memo::new(move |_| app.card().with(Option::is_none) && app.path().with(Vec::is_empty));
    view! {
        <a class="skip" href="#question">{app.t(T::Skip)}</a>
        <TopBar />
        <Banners />
        <main class:empty=empty class:dragging=dragging>
            <PicturePane />
            <div class="talk">
                <Conversation />
                <Undos />
                <Composer />
            </div>
        </main>
        <Dialogs />
        <Notices />
    }
}
