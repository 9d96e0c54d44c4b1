//! The dialogs, one of which may be open.

use leptos::{html::Dialog, prelude::*};

use super::{
    demo::Demo,
    history::History,
    icon::{CLOSE, Icon},
    keys::Keys,
    settings::SettingsForm,
    viewer::Viewer,
};
use crate::{i18n::T, io::App};

/// Which dialog is open, if any; for whatever opens or closes one.
#[derive(Clone, Copy)]
pub struct Opened(pub RwSignal<Option<Open>>);

impl Opened {
    pub fn here() -> Self {
        expect_context()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Settings,
    History,
    Demo,
    Help,
    /// The picture on the whole screen.
    Viewer,
}

/// A modal dialog: the browser keeps the focus inside and closes it on Escape.
#[component]
fn Modal(
    which: Open,
    title: T,
    #[prop(optional)] class: &'static str,
    children: ChildrenFn,
) -> impl IntoView {
    let app = App::here();
    let Opened(opened) = Opened::here();
    let dialog = NodeRef::<Dialog>::new();
    Effect::new(move |_| {
        let open = opened.get() == Some(which);
        let Some(dialog) = dialog.get() else { return };
        if open && !dialog.open() {
            let _ = dialog.show_modal();
        } else if !open && dialog.open() {
            dialog.close();
        }
    });
    let close = move || opened.set(None);
    view! {
        <dialog
            class=class
            aria-label=app.t(title)
            node_ref=dialog
            on:close=move |_| {
                if opened.get_untracked() == Some(which) {
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
                {move || (opened.get() == Some(which)).then(|| children())}
            </div>
        </dialog>
    }
}

#[component]
pub fn Dialogs() -> impl IntoView {
    let Opened(opened) = Opened::here();
    let close = Callback::new(move |()| opened.set(None));
    view! {
        <Modal which=Open::Settings title=T::Settings>
            <SettingsForm close />
        </Modal>
        <Modal which=Open::History title=T::History class="drawer">
            <History close />
        </Modal>
        <Modal which=Open::Demo title=T::DemoTitle>
            <Demo />
        </Modal>
        <Modal which=Open::Help title=T::Help>
            <Keys />
        </Modal>
        <Modal which=Open::Viewer title=T::ThePicture class="viewer">
            <Viewer />
        </Modal>
    }
}
