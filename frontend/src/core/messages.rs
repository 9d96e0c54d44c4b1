//! What the server says, applied to what the page knows.

use wire::{ErrorCode, Failure, ServerEnvelope, ServerMessage, Welcome};

use super::{
    connection::Come,
    conversation::Conversation,
    effect::{Effects, Timer},
    input::Now,
    picture::Picture,
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
        if self.connection.due(done) {
            self.keep();
        }
    }

    fn welcomed(&mut self, welcome: Welcome, now: &Now, out: &mut Effects) {
        let Some(come) = self.connection.welcomed(&welcome, now, out) else {
            return;
        };
        self.server.state = welcome.state;
        self.model.set(Some(welcome.model));
        self.limits.set(welcome.limits);
        self.uploads.formats = welcome.formats;
        self.sampling.set(welcome.sampling.unwrap_or_default());
        self.prepare_system();
        let line = self.line();
        match come {
            Come::Twice => return,
            Come::First => self.uploads.restart(line, now, out),
            Come::Resumed => {
                self.say(T::Back, false, out);
                self.uploads.reconnected(line, now, out);
                self.conversation.send_again(out);
                if let Some(aside) = &self.aside {
                    aside.conversation.send_again(out);
                }
            }
            Come::Anew => {
                self.conversation.start_over();
                if let Some(aside) = self.aside.as_mut() {
                    aside.conversation.start_over();
                }
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
                    download: status.download,
                });
                // The page may have been opened while the model was on its way.
                if status.model.is_some() {
                    self.model.set(status.model);
                }
                if let Some(sampling) = status.sampling {
                    self.sampling.set(sampling);
                }
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
                self.judge_rate(m.upload, now, out);
            }
            ServerMessage::UploadReceived(m) => self.uploads.received(m, left, now, out),
            ServerMessage::ImageReady(m) => self.uploads.ready(m, left),
            ServerMessage::ImageEncoded(m) => self.uploads.encoded(&m, left),
            ServerMessage::Queued(m) => {
                let here = self.conversation.has_asked(&m.request);
                if self.of_request(here).is_some_and(|c| c.queued(m, left)) && here {
                    self.flush(now, out);
                }
            }
            ServerMessage::Started(m) => {
                let here = self.conversation.has_asked(&m.request);
                if let Some(conversation) = self.of_request(here) {
                    conversation.started(&m, left);
                }
            }
            ServerMessage::Token(m) => {
                let here = self.conversation.has_asked(&m.request);
                let first = |c: &mut Conversation| c.token(&m, left, when, out);
                if self.of_request(here).is_some_and(first) && here {
                    self.uploads.answered();
                }
            }
            ServerMessage::Done(m) => {
                let here = self.conversation.has_asked(&m.request);
                let picture = if here {
                    self.picture()
                } else {
                    self.uploads.aside.as_ref()
                };
                let picture = picture.map(|picture| picture.times);
                let done = |c: &mut Conversation| c.done(*m, left, clock, picture);
                match self.of_request(here).is_some_and(done) {
                    true if here => self.settled(now, out),
                    true => self.keep_aside(now, out),
                    false => {}
                }
            }
            ServerMessage::Forgotten(m) => self.conversation.forgotten(m.conversation.as_deref()),
            ServerMessage::Error(error) => self.failed(error, now, out),
            ServerMessage::Welcome(_) | ServerMessage::Pong(_) => {}
        }
    }

    /// The conversation on the page or the one put away, where something was asked in it.
    fn of_request(&mut self, here: bool) -> Option<&mut Conversation> {
        if here {
            return Some(&mut self.conversation);
        }
        self.aside.as_mut().map(|aside| &mut aside.conversation)
    }

    fn failed(&mut self, error: wire::Error, now: &Now, out: &mut Effects) {
        let failure = error.failure;
        let online = self.connection.online();
        if !online {
            self.connection.delayed(&failure, now);
        }
        if let Some(request) = error.request {
            let here = self.conversation.has_asked(&request);
            let asked = |c: &&mut Conversation| c.has_asked(&request);
            let Some(conversation) = self.of_request(here).filter(asked) else {
                return;
            };
            if matches!(failure.code, ErrorCode::Loading | ErrorCode::Draining) {
                let ms = failure.retry_after_ms.unwrap_or(WAIT_MS);
                conversation.wait(&request);
                return out.after(ms, Timer::Questions);
            }
            use ErrorCode::{ImageGone, UnknownConversation, UnknownImage};
            if matches!(failure.code, UnknownConversation | ImageGone | UnknownImage) {
                conversation.unnamed();
            }
            conversation.failed(&request, failure.clone());
            if matches!(failure.code, ImageGone | UnknownImage) {
                self.uploads.lost(!here);
            }
            if !here {
                return self.keep_aside(now, out);
            }
            let words = self.words(&failure);
            self.notices.say_aloud(&words);
            return self.settled(now, out);
        }
        if let Some(number) = error.upload {
            if failure.code != ErrorCode::UploadCancelled {
                self.aloud(|picture| picture.upload == Some(number), &failure);
            }
            return self.uploads.refused(number, failure, out);
        }
        if let Some(image) = error.image {
            self.aloud(|picture| picture.image.as_ref() == Some(&image), &failure);
            return self.uploads.failed(&image, failure);
        }
        match failure.code {
            // Told again, and better, by the close that follows.
            ErrorCode::Unauthorized => {}
            ErrorCode::Draining => self.server.state = wire::State::Draining,
            ErrorCode::Busy | ErrorCode::RateLimited if !online => {
                let words = self.words(&failure);
                self.connection.refused(words, &failure, now);
            }
            _ => self.notices.say(self.words(&failure), true, out),
        }
    }

    /// What has become of the picture on the page. Of one that was to come more is said, and of one put away nothing.
    fn aloud(&mut self, which: impl FnOnce(&Picture) -> bool, failure: &Failure) {
        if self.picture().is_some_and(which) {
            let words = self.words(failure);
            self.notices.say_aloud(&words);
        }
    }
}
