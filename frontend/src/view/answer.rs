//! An answer as it streams: drawn at most once a frame, and only where it differs.

use std::{cell::RefCell, rc::Rc};

use leptos::{html::Div, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{Element, MouseEvent};

use wire::FinishReason;

use crate::{
    core::{Browser, conversation::TurnChange, speech::sentences, turn::TurnPhase},
    i18n::T,
    io::{App, TurnHandle, extras::AnswerDrawing},
};

#[derive(Default)]
struct Drawn {
    /// What draws it, once that is loaded; until then the text stands there as it came.
    drawing: Option<AnswerDrawing>,
    /// How much of it a screen reader was told, in bytes.
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
    app.extras.load();
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
        if drawn.borrow().drawing.is_none() {
            drawn.borrow_mut().drawing = app.extras.drawing(&place);
        }
        if std::mem::replace(&mut drawn.borrow_mut().due, true) {
            return;
        }
        let drawn = drawn.clone();
        request_animation_frame(move || {
            let mut drawn = drawn.borrow_mut();
            drawn.due = false;
            let told = turn.read(|turn| {
                let text = turn.answer.as_str();
                // What was cut short stays as it was drawn last, its open emphasis closed.
                let whole = *turn.phase == TurnPhase::Done(FinishReason::Stop);
                match &drawn.drawing {
                    Some(drawing) => drawing.draw(text, whole, app.text(T::Copy)),
                    None => place.set_text_content(Some(text)),
                }
                let over = !turn.phase.open();
                // Asked anew after the session was lost, it is told anew.
                drawn.told = drawn.told.min(text.len());
                let rest = text.get(drawn.told..).unwrap_or_default();
                let sentences = &rest[..sentences(rest, over)];
                drawn.told += sentences.len();
                sentences.to_owned()
            });
            if !told.is_empty() {
                app.tell(Browser::Speaks(told));
            }
            drop(drawn);
            // Where the answer is gone by now, so may be who wants to know.
            grown.try_run(());
        });
    });
    view! { <div class="answer" dir="auto" data-testid="answer" node_ref=place on:click=move |event| copy_code(app, &event)></div> }
}

/// A click on the button of a piece of code copies that.
fn copy_code(app: App, event: &MouseEvent) {
    let button = event
        .target()
        .and_then(|target| target.dyn_into::<Element>().ok())
        .and_then(|element| element.closest(".code > button").ok()?);
    let code = button.and_then(|button| button.previous_element_sibling());
    if let Some(text) = code.and_then(|code| code.text_content()) {
        app.copy(text);
    }
}
