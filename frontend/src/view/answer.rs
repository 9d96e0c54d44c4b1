//! An answer as it streams: drawn at most once a frame, and only where it differs.

use std::{cell::RefCell, rc::Rc};

use leptos::{html::Div, prelude::*};

use wire::FinishReason;

use crate::{
    markdown::Document,
    state::{App, Turn, TurnPhase},
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
    app: App,
    turn: Turn,
    /// Called after each drawing.
    grown: Callback<()>,
) -> impl IntoView {
    let place = NodeRef::<Div>::new();
    // An answer from the store was heard when it came.
    let heard = turn.phase.with_untracked(|p| !p.open());
    let drawn = Rc::new(RefCell::new(Drawn {
        told: if heard {
            turn.answer.with_untracked(String::len)
        } else {
            0
        },
        ..Drawn::default()
    }));
    Effect::new(move |_| {
        turn.answer.track();
        let over = turn.phase.with(|p| !p.open());
        let Some(place) = place.get() else { return };
        if std::mem::replace(&mut drawn.borrow_mut().due, true) {
            return;
        }
        let drawn = drawn.clone();
        request_animation_frame(move || {
            let mut drawn = drawn.borrow_mut();
            drawn.due = false;
            let over = over || turn.phase.with_untracked(|p| !p.open());
            // What was cut short stays as it was drawn last, its open emphasis closed.
            let whole = turn
                .phase
                .with_untracked(|p| *p == TurnPhase::Done(FinishReason::Stop));
            turn.answer.with_untracked(|text| {
                if text.len() < drawn.length {
                    // Asked anew after the session was lost.
                    *drawn = Drawn::default();
                    place.set_text_content(None);
                }
                drawn.length = text.len();
                drawn.document.update(text, whole).apply(&place);
                if turn.phase.with_untracked(|p| *p == TurnPhase::Streaming) || drawn.told > 0 {
                    tell(app, &mut drawn.told, text, over);
                } else if over {
                    // A short answer that was over before its first frame.
                    tell(app, &mut drawn.told, text, true);
                }
            });
            drop(drawn);
            grown.run(());
        });
    });
    view! { <div class="answer" data-testid="answer" node_ref=place></div> }
}

/// Tells a screen reader the sentences that are whole.
fn tell(app: App, told: &mut usize, text: &str, over: bool) {
    let rest = text.get(*told..).unwrap_or_default();
    let whole = if over {
        rest.len()
    } else {
        rest.char_indices()
            .zip(rest.chars().skip(1).map(Some).chain([None]))
            .filter(|((_, c), next)| {
                matches!(c, '。' | '！' | '？' | '\n')
                    || matches!(c, '.' | '!' | '?') && next.is_some_and(char::is_whitespace)
            })
            .map(|((at, c), _)| at + c.len_utf8())
            .last()
            .unwrap_or(0)
    };
    if whole > 0 {
        app.say_aloud(&rest[..whole]);
        *told += whole;
    }
}
