//! An answer as it streams: drawn at most once a frame, and only where it differs.

use std::{cell::RefCell, rc::Rc};

use leptos::{html::Div, prelude::*};

use wire::FinishReason;

use super::patch::patch;
use crate::{
    core::{
        Browser, conversation::TurnChange, markdown::Document, speech::sentences, turn::TurnPhase,
    },
    io::{App, TurnHandle},
};

#[derive(Default)]
struct Drawn {
    document: Document,
    /// How much of the text is drawn.
    length: usize,
    /// How much of it a screen reader was told.
    told: usize,
    due: bool,
}

#[component]
pub fn Answer(
    turn: TurnHandle,
    /// Called after each drawing.
    grown: Callback<()>,
) -> impl IntoView {
    let app = App::here();
    let place = NodeRef::<Div>::new();
    // An answer from the store was heard when it came.
    let told = turn.read(|turn| {
        if turn.phase.open() {
            0
        } else {
            turn.answer.len()
        }
    });
    let drawn = Rc::new(RefCell::new(Drawn {
        told,
        ..Drawn::default()
    }));
    Effect::new(move |_| {
        turn.track(TurnChange::Answer);
        turn.track(TurnChange::Phase);
        let Some(place) = place.get() else { return };
        if std::mem::replace(&mut drawn.borrow_mut().due, true) {
            return;
        }
        let drawn = drawn.clone();
        request_animation_frame(move || {
            let mut drawn = drawn.borrow_mut();
            drawn.due = false;
            let told = turn.read(|turn| {
                let text = turn.answer.as_str();
                if text.len() < drawn.length {
                    // Asked anew after the session was lost.
                    *drawn = Drawn::default();
                    place.set_text_content(None);
                }
                drawn.length = text.len();
                // What was cut short stays as it was drawn last, its open emphasis closed.
                let whole = *turn.phase == TurnPhase::Done(FinishReason::Stop);
                let change = drawn.document.update(text, whole);
                patch(&place, &change.old, &change.new, change.from as u32);
                change.keep();
                let over = !turn.phase.open();
                let rest = text.get(drawn.told..).unwrap_or_default();
                let sentences = &rest[..sentences(rest, over)];
                drawn.told += sentences.len();
                sentences.to_owned()
            });
            if !told.is_empty() {
                app.tell(Browser::Speaks(told));
            }
            drop(drawn);
            grown.run(());
        });
    });
    view! { <div class="answer" data-testid="answer" node_ref=place></div> }
}
