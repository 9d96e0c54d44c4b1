//! What the user does: ask, stop, start anew.

use std::time::Duration;

use leptos::prelude::*;
use wire::{Ask, Cancel, ClientMessage, FinishReason, Forget, State};

use crate::{
    connection, history,
    i18n::T,
    state::{App, PicturePhase, Turn, TurnPhase},
    upload,
};

/// Asks `text`, sent by the event at `clicked`; `false` if it cannot be asked.
pub fn ask(app: App, text: &str, clicked: f64) -> bool {
    let text = text.trim();
    if wire::is_blank(text) {
        return false;
    }
    match app
        .picture
        .with_untracked(|p| p.as_ref().map(|p| p.phase.clone()))
    {
        None => {
            app.say(app.text(T::PictureFirst), true);
            return false;
        }
        Some(PicturePhase::Failed(_)) => {
            app.say(app.text(T::OtherPictureFirst), true);
            return false;
        }
        Some(_) => {}
    }
    let turn = app.new_turn(text.to_owned(), clicked);
    app.turns.update(|turns| turns.push(turn));
    flush(app);
    history::keep(app);
    true
}

/// Sends every question that can be sent now; a server that loads, or is on its way out, takes none. A conversation has no
/// name before its first `queued`: until then its later questions wait.
pub fn flush(app: App) {
    let takes_none = matches!(
        app.server.get_untracked(),
        State::Loading | State::Warming | State::Draining
    );
    if takes_none || !connection::online() {
        return;
    }
    let turns = app.turns.get_untracked();
    for (i, turn) in turns.iter().enumerate() {
        if turn.phase.get_untracked() != TurnPhase::Unsent {
            continue;
        }
        let Some((upload, image)) = app
            .picture
            .with_untracked(|p| p.as_ref().map(|p| (p.upload, p.image.clone())))
        else {
            return;
        };
        let conversation = app.conversation.get_untracked();
        let unnamed = conversation.is_none();
        let waits = unnamed && turns[..i].iter().any(|t| t.phase.get_untracked().open());
        if waits || unnamed && upload.is_none() && image.is_none() {
            return;
        }
        // A conversation that the server does not know is told from its beginning.
        let history: Vec<_> = turns[..i].iter().filter_map(Turn::remembered).collect();
        let edited = turn
            .ask
            .with_value(|ask| ask.as_ref().is_some_and(|a| a.history.is_some()));
        let ask = Ask {
            request: format!("r{}", app.number()),
            text: turn.question.get_untracked(),
            upload: upload.filter(|_| unnamed && image.is_none()),
            image: image.filter(|_| unnamed),
            history: (edited || unnamed && !history.is_empty()).then_some(history),
            conversation,
            sampling: app
                .settings
                .with_untracked(|s| s.sampling(app.limits.with_untracked(|l| l.max_new_tokens))),
            traceparent: None,
        };
        turn.ask.set_value(Some(ask.clone()));
        if !connection::send(&ClientMessage::Ask(Box::new(ask))) {
            return;
        }
        turn.times.update(|t| t.sent = Some(crate::dom::now()));
        turn.phase.set(TurnPhase::Sent);
    }
}

/// After a resume: what the server may not have heard is said again, word for word.
pub fn send_again(app: App) {
    for turn in app.turns.get_untracked() {
        if turn.phase.get_untracked() == TurnPhase::Sent
            && let Some(ask) = turn.ask.get_value()
        {
            connection::send(&ClientMessage::Ask(Box::new(ask)));
        }
    }
}

/// After the session was lost: everything unfinished is asked anew.
pub fn start_over(app: App) {
    app.conversation.set(None);
    for turn in app.turns.get_untracked() {
        if turn.phase.with_untracked(TurnPhase::open) {
            again(turn);
        }
    }
}

fn again(turn: Turn) {
    turn.answer.set(String::new());
    turn.ask.set_value(None);
    turn.phase.set(TurnPhase::Unsent);
}

/// The server takes no question for a while: this one waits, and is sent by itself.
pub fn wait(app: App, turn: Turn, ms: f64) {
    turn.phase.set(TurnPhase::Unsent);
    set_timeout(move || flush(app), Duration::from_millis(ms as u64));
}

/// Stops every answer of the conversation.
pub fn stop(app: App) {
    for turn in app.turns.get_untracked() {
        let phase = turn.phase.get_untracked();
        if !phase.open() {
            continue;
        }
        if phase == TurnPhase::Unsent {
            turn.phase.set(TurnPhase::Done(FinishReason::Cancelled));
        } else if let Some(request) = turn.request() {
            connection::send(&ClientMessage::Cancel(Cancel {
                request: Some(request),
                upload: None,
            }));
        }
    }
}

/// Asks the question of `turn` again, as `text` if it was edited; what came after it is dropped.
pub fn ask_again(app: App, turn: Turn, text: Option<String>, clicked: f64) {
    stop(app);
    let text = text.unwrap_or_else(|| turn.question.get_untracked());
    let anew = app.new_turn(text, clicked);
    // The server is told what the conversation was before this question.
    anew.ask.set_value(Some(Ask {
        history: Some(Vec::new()),
        ..Ask::default()
    }));
    app.turns.update(|turns| {
        turns.truncate(
            turns
                .iter()
                .position(|t| t.id == turn.id)
                .unwrap_or(turns.len()),
        );
        turns.push(anew);
    });
    upload::revive(app);
    flush(app);
}

/// An answer has ended: what waited for it may go.
pub fn settled(app: App) {
    history::keep(app);
    flush(app);
}

/// Leaves the conversation for an empty page.
pub fn new_conversation(app: App) {
    stop(app);
    upload::drop_picture(app);
    app.suggestions.set(Vec::new());
    history::set_kept(app, None);
    app.turns.set(Vec::new());
    app.conversation.set(None);
}

/// Leaves the conversation and lets the server forget it and its picture.
pub fn forget_all(app: App) {
    let conversation = app.conversation.get_untracked();
    let image = app
        .picture
        .with_untracked(|p| p.as_ref().and_then(|p| p.image.clone()));
    new_conversation(app);
    for forget in [
        conversation.map(|id| Forget {
            conversation: Some(id),
            image: None,
        }),
        image.map(|id| Forget {
            conversation: None,
            image: Some(id),
        }),
    ]
    .into_iter()
    .flatten()
    {
        connection::send(&ClientMessage::Forget(forget));
    }
    upload::forget();
}
