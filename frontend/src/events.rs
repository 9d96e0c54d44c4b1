//! What the server says, applied to what the page knows.

use leptos::prelude::*;
use wire::{ErrorCode, ServerMessage};

use crate::{
    actions, connection, dom,
    state::{App, Link, PicturePhase, Turn, TurnPhase},
    upload,
};

/// Applies `message`, stamped `at` by the server and heard at `when` on the page's clock.
pub fn apply(app: App, message: ServerMessage, at: f64, when: f64) {
    // The moment it left the server, on our clock, where the clocks are joined.
    let left = connection::clock().map_or(when, |clock| (at + clock.shift).min(when));
    match message {
        ServerMessage::Status(status) => {
            app.server.set(status.state);
            app.progress.set(status.progress);
            actions::flush(app);
        }
        ServerMessage::UploadAccepted(m) => upload::accepted(app, m.upload, m.received),
        ServerMessage::UploadProgress(m) => upload::progress(app, m.upload, m.received),
        ServerMessage::UploadReceived(m) => {
            upload::received(m.upload, &m.sha256);
            on_upload(app, m.upload, |picture| {
                picture.sent = picture.sending;
                picture.image = Some(m.image);
                picture.sha256 = Some(m.sha256);
                picture.times.received = Some(left);
                if !matches!(picture.phase, PicturePhase::Failed(_)) {
                    picture.phase = PicturePhase::Looking;
                }
            });
        }
        ServerMessage::ImageReady(m) => on_image(app, &m.image, |picture| {
            picture.size = Some((m.width, m.height));
            picture.times.ready = Some(left);
            picture.times.image = (!m.cached).then_some(m.timings);
            picture.phase = PicturePhase::Looking;
        }),
        ServerMessage::ImageEncoded(m) => on_image(app, &m.image, |picture| {
            picture.times.encoded = Some(left);
            picture.times.encode = (!m.cached).then_some(m.timings);
            picture.phase = PicturePhase::Ready;
        }),
        ServerMessage::Queued(m) => {
            if let Some(turn) = app.turn(&m.request) {
                turn.phase.set(TurnPhase::Queued(m.position));
                turn.times.update(|t| {
                    t.queued.get_or_insert(left);
                });
                if app.conversation.get_untracked().is_none() {
                    app.conversation.set(Some(m.conversation));
                    actions::flush(app);
                }
            }
        }
        ServerMessage::Started(m) => {
            if let Some(turn) = app.turn(&m.request) {
                turn.phase.set(TurnPhase::Thinking);
                turn.times.update(|t| t.started = Some(left));
            }
        }
        ServerMessage::Token(m) => {
            if let Some(turn) = app.turn(&m.request) {
                if m.index == 0 {
                    turn.times.update(|t| {
                        t.first_left = Some(left);
                        t.first = Some(when);
                    });
                    first_word(app, turn);
                    // A server that looks only when asked may answer before it says that it has looked.
                    app.picture.update(|picture| {
                        if let Some(picture) = picture
                            .as_mut()
                            .filter(|p| p.phase == PicturePhase::Looking)
                        {
                            picture.phase = PicturePhase::Ready;
                        }
                    });
                }
                turn.answer.update(|answer| answer.push_str(&m.text));
                if turn.phase.get_untracked() != TurnPhase::Streaming {
                    turn.phase.set(TurnPhase::Streaming);
                }
            }
        }
        ServerMessage::Done(m) => {
            if let Some(turn) = app.turn(&m.request) {
                let picture = app.picture.with_untracked(|p| p.as_ref().map(|p| p.times));
                let first = app
                    .turns
                    .with_untracked(|t| t.first().is_some_and(|f| f.id == turn.id));
                turn.times.update(|t| {
                    t.done = Some(left);
                    t.clock = connection::clock();
                    t.timings = Some(m.timings);
                    t.usage = Some(m.usage);
                    t.picture = picture.filter(|_| first);
                });
                turn.phase.set(TurnPhase::Done(m.finish_reason));
                actions::settled(app);
            }
        }
        ServerMessage::Forgotten(m) => {
            if m.conversation.is_some() && m.conversation == app.conversation.get_untracked() {
                app.conversation.set(None);
            }
        }
        ServerMessage::Error(error) => failed(app, error),
        ServerMessage::Welcome(_) | ServerMessage::Pong(_) => {}
    }
}

fn on_upload(app: App, number: u32, f: impl FnOnce(&mut crate::state::Picture)) {
    app.picture.update(|picture| {
        if let Some(picture) = picture.as_mut().filter(|p| p.upload == Some(number)) {
            f(picture);
        }
    });
}

fn on_image(app: App, image: &str, f: impl FnOnce(&mut crate::state::Picture)) {
    app.picture.update(|picture| {
        if let Some(picture) = picture
            .as_mut()
            .filter(|p| p.image.as_deref() == Some(image))
        {
            f(picture);
        }
    });
}

/// Notes when the first word stood on the screen: in the frame after it came.
fn first_word(app: App, turn: Turn) {
    request_animation_frame(move || {
        // The frame's callback runs before the paint; the next message of the loop runs after it.
        set_timeout(
            move || {
                turn.times.update(|t| t.drawn = Some(dom::now()));
                let times = turn.times.get_untracked();
                app.first_words
                    .update(|all| all.push(dom::now() - times.clicked));
            },
            std::time::Duration::ZERO,
        );
    });
}

fn failed(app: App, error: wire::Error) {
    let failure = error.failure;
    if let Some(turn) = error.request.as_deref().and_then(|r| app.turn(r)) {
        if matches!(failure.code, ErrorCode::Loading | ErrorCode::Draining) {
            return actions::wait(app, turn, failure.retry_after_ms.unwrap_or(1_000.0));
        }
        let gone = matches!(
            failure.code,
            ErrorCode::UnknownConversation | ErrorCode::ImageGone | ErrorCode::UnknownImage
        );
        if gone {
            app.conversation.set(None);
        }
        if matches!(failure.code, ErrorCode::ImageGone | ErrorCode::UnknownImage) {
            upload::lost(app);
        }
        app.say_aloud(&failure.message);
        turn.phase.set(TurnPhase::Failed(failure));
        actions::settled(app);
        return;
    }
    if error.request.is_some() {
        return;
    }
    if let Some(number) = error.upload {
        upload::failed(number);
        if failure.code != ErrorCode::UploadCancelled {
            app.say_aloud(&failure.message);
            on_upload(app, number, |picture| {
                picture.phase = PicturePhase::Failed(failure)
            });
        }
        return;
    }
    if let Some(image) = error.image.as_deref() {
        app.say_aloud(&failure.message);
        on_image(app, image, |picture| {
            picture.phase = PicturePhase::Failed(failure)
        });
        return;
    }
    match failure.code {
        // Told again, and better, by the close that follows.
        ErrorCode::Unauthorized => {}
        ErrorCode::Draining => app.server.set(wire::State::Draining),
        ErrorCode::Busy | ErrorCode::RateLimited if !connection::online() => {
            app.link.set(Link::Refused {
                why: failure.message,
                until: dom::now() + failure.retry_after_ms.unwrap_or_default(),
            });
        }
        _ => app.say(failure.message, true),
    }
}
