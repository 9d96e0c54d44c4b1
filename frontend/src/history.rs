//! The conversation on the page and the one in the store: kept after each change, opened again later.

use std::{cell::RefCell, collections::VecDeque};

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::Blob;
use wire::FinishReason;

use crate::{
    actions, dom,
    state::{App, PicturePhase, Turn, TurnPhase},
    store::{self, Kept},
    upload,
};

/// Where the tab keeps which conversation is open.
const OPEN: &str = "glimpse-open";

thread_local! {
    /// What is still to be kept, with its picture where that is not in the store yet.
    static QUEUE: RefCell<VecDeque<(Kept, Option<Blob>)>> = RefCell::default();
}

/// Keeps the conversation as it stands.
pub fn keep(app: App) {
    if !app.settings.with_untracked(|s| s.keep) {
        return;
    }
    let turns: Vec<_> = app
        .turns
        .with_untracked(|t| t.iter().filter_map(Turn::remembered).collect());
    let Some(picture) = app
        .picture
        .get_untracked()
        .filter(|p| !matches!(p.phase, PicturePhase::Failed(_)))
    else {
        return;
    };
    let open = |turn: &Turn| turn.phase.with_untracked(TurnPhase::open);
    let asking: Vec<_> = app.turns.with_untracked(|turns| {
        let open = turns.iter().filter(|turn| open(turn));
        open.map(|turn| turn.question.get_untracked()).collect()
    });
    if turns.is_empty() && asking.is_empty() {
        return;
    }
    let id = app.kept.get_value();
    let first = id.is_none();
    let id = id.unwrap_or_else(store::new_id);
    set_kept(app, Some(&id));
    let preview = upload::preview();
    let source = upload::source().filter(|_| first);
    let kept = Kept {
        id,
        at: dom::wall(),
        name: picture.name,
        bytes: picture.bytes as f64,
        turns,
        asking,
        preview,
    };
    // One after the other, so that what is older never overwrites what is newer.
    let alone = QUEUE.with_borrow_mut(|queue| {
        queue.push_back((kept, source));
        queue.len() == 1
    });
    if alone {
        spawn_local(async {
            while let Some((kept, source)) = QUEUE.with_borrow(|queue| queue.front().cloned()) {
                // A browser that refuses storage has said so to its user; the page works without.
                let _ = store::keep(kept, source).await;
                QUEUE.with_borrow_mut(VecDeque::pop_front);
            }
        });
    }
}

/// Opens a kept conversation: the picture is sent again, the next question carries what was said, and what had no whole
/// answer is asked again.
pub fn open(app: App, id: String) {
    let when = dom::now();
    spawn_local(async move {
        let Ok(list) = store::list().await else {
            return;
        };
        let (Some(kept), Ok(picture)) = (
            list.into_iter().find(|k| k.id == id),
            store::picture(&id).await,
        ) else {
            return;
        };
        actions::new_conversation(app);
        upload::open_blob(app, picture, kept.name, when, kept.preview);
        let turns = kept.turns.into_iter().map(|turn| {
            let shown = app.new_turn(turn.question, when);
            shown.answer.set(turn.answer);
            shown.phase.set(TurnPhase::Done(FinishReason::Stop));
            shown
        });
        app.turns.set(turns.collect());
        set_kept(app, Some(&id));
        for question in kept.asking {
            actions::ask(app, &question, when);
        }
    });
}

/// Which conversation of the store is on the page; the tab knows it over a reload.
pub fn set_kept(app: App, id: Option<&str>) {
    app.kept.set_value(id.map(str::to_owned));
    dom::keep_tab(OPEN, id);
}

/// After a reload: the conversation that was on the page, its open questions asked again.
pub fn reopen(app: App) {
    if let Some(id) = dom::tab(OPEN) {
        open(app, id);
    }
}
