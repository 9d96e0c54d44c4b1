//! What the server says, applied to what the page knows.

use wire::{ErrorCode, ServerEnvelope, ServerMessage, Welcome};

use super::{
    connection::Come,
    effect::{Effects, Timer},
    input::Now,
    state::{Server, State},
};
use crate::i18n::T;

/// A question that the server takes not yet is asked again after this, where it does not say when.
const WAIT_MS: f64 = 1_000.0;

impl State {
    /// Takes in what the server said, heard at `when` on the page's clock.
    pub(super) fn heard(
        &mut self,
        envelope: ServerEnvelope,
        when: f64,
        now: &Now,
        out: &mut Effects,
    ) {
        let at = envelope.at;
        let Some(message) = self.connection.hear(envelope, when, now) else {
            return;
        };
        if let ServerMessage::Welcome(welcome) = message {
            return self.welcomed(*welcome, now, out);
        }
        let done = matches!(message, ServerMessage::Done(_));
        self.message(message, at, when, now, out);
        self.connection.acknowledge(done, out);
    }

    fn welcomed(&mut self, welcome: Welcome, now: &Now, out: &mut Effects) {
        let Some(come) = self.connection.welcomed(&welcome, now, out) else {
            return;
        };
        self.server.state = welcome.state;
        self.model.set(Some(welcome.model));
        self.limits.set(welcome.limits);
        let line = self.line();
        match come {
            Come::Twice => return,
            Come::First => self.uploads.restart(line, now, out),
            Come::Resumed => {
                self.say(T::Back, false, out);
                self.uploads.resume(line, now, out);
                self.conversation.send_again(out);
            }
            Come::Anew => {
                self.conversation.start_over();
                self.uploads.restart(line, now, out);
            }
        }
        self.flush(now, out);
    }

    fn message(
        &mut self,
        message: ServerMessage,
        at: f64,
        when: f64,
        now: &Now,
        out: &mut Effects,
    ) {
        // The moment it left the server, on our clock, where the clocks are joined.
        let clock = self.connection.clock.best();
        let left = clock.map_or(when, |clock| (at + clock.shift).min(when));
        match message {
            ServerMessage::Status(status) => {
                self.server.set(Server {
                    state: status.state,
                    progress: status.progress,
                });
                self.flush(now, out);
            }
            ServerMessage::UploadAccepted(m) => {
                self.uploads.accepted(m.upload, m.received);
                let line = self.line();
                self.uploads.progress(m.upload, m.received, line, now, out);
            }
            ServerMessage::UploadProgress(m) => {
                let line = self.line();
                self.uploads.progress(m.upload, m.received, line, now, out);
            }
            ServerMessage::UploadReceived(m) => self.uploads.received(m, left, now, out),
            ServerMessage::ImageReady(m) => self.uploads.ready(m, left),
            ServerMessage::ImageEncoded(m) => self.uploads.encoded(&m, left),
            ServerMessage::Queued(m) => {
                if self.conversation.queued(m, left) {
                    self.flush(now, out);
                }
            }
            ServerMessage::Started(m) => self.conversation.started(&m, left),
            ServerMessage::Token(m) => {
                if self.conversation.token(&m, left, when, out) {
                    self.uploads.answered();
                }
            }
            ServerMessage::Done(m) => {
                let picture = self.picture().map(|picture| picture.times);
                if self.conversation.done(*m, left, clock, picture) {
                    self.settled(now, out);
                }
            }
            ServerMessage::Forgotten(m) => self.conversation.forgotten(m.conversation.as_deref()),
            ServerMessage::Error(error) => self.failed(error, now, out),
            ServerMessage::Welcome(_) | ServerMessage::Pong(_) => {}
        }
    }

    fn failed(&mut self, error: wire::Error, now: &Now, out: &mut Effects) {
        let failure = error.failure;
        let online = self.connection.online();
        if !online {
            self.connection.delayed(&failure, now);
        }
        if let Some(request) = error.request {
            if !self.conversation.has_asked(&request) {
                return;
            }
            if matches!(failure.code, ErrorCode::Loading | ErrorCode::Draining) {
                let ms = failure.retry_after_ms.unwrap_or(WAIT_MS);
                self.conversation.wait(&request);
                return out.after(ms, Timer::Questions);
            }
            use ErrorCode::{ImageGone, UnknownConversation, UnknownImage};
            if matches!(failure.code, UnknownConversation | ImageGone | UnknownImage) {
                self.conversation.unnamed();
            }
            if matches!(failure.code, ImageGone | UnknownImage) {
                self.uploads.lost();
            }
            self.notices.say_aloud(&failure.message);
            self.conversation.failed(&request, failure);
            return self.settled(now, out);
        }
        if let Some(number) = error.upload {
            if failure.code != ErrorCode::UploadCancelled {
                self.notices.say_aloud(&failure.message);
            }
            return self.uploads.refused(number, failure, out);
        }
        if let Some(image) = error.image {
            self.notices.say_aloud(&failure.message);
            return self.uploads.failed(&image, failure);
        }
        match failure.code {
            // Told again, and better, by the close that follows.
            ErrorCode::Unauthorized => {}
            ErrorCode::Draining => self.server.state = wire::State::Draining,
            ErrorCode::Busy | ErrorCode::RateLimited if !online => {
                self.connection.refused(failure, now);
            }
            _ => self.notices.say(failure.message, true, out),
        }
    }
}
