//! What a session knows, and what each message and event changes about it. No sockets, no threads, no engine: what is
//! to be done outside is left in [`Context::effects`], so all of this is tested by calling it.
//!
//! [`Pictures`] and [`Conversations`] each change by their own rules; here is what one means for the other.

use std::time::{Duration, Instant};

use bytestring::ByteString;
use glimpse_image::Picture as Decoded;
use wire::{ErrorCode, FinishReason, ServerMessage, Upload};

use super::context::{Context, Effect, Setup};
use super::conversations::{Ask, Conversations};
use super::kept::KeptState;
use super::pictures::{CompleteFile, Pictures, Waits};
use crate::intake::Retained;
use crate::telemetry::metrics::{METRICS, RECEIVED, Waiting};
use api::{Command, Defaults, Event, Failure, Presence, RequestId};

pub struct State {
    pub context: Context,
    pictures: Pictures,
    conversations: Conversations,
    presence: Presence,
    /// Questions that wait here, not with the engine, which counts its own.
    waiting: Waiting,
}

impl State {
    pub fn new(setup: Setup) -> Self {
        State {
            pictures: Pictures::new(&setup),
            conversations: Conversations::default(),
            context: Context::new(setup),
            // As the engine takes every session to be until it is told.
            presence: Presence::Here,
            waiting: Waiting::default(),
        }
    }

    /// What is kept of it outside of this process.
    pub fn kept(&self, now: Instant) -> KeptState {
        let (ids, leaving) = self.context.kept();
        KeptState {
            outbox: self.context.outbox.kept(),
            pictures: self.pictures.kept(),
            conversations: self.conversations.kept(now),
            ids,
            leaving,
        }
    }

    /// What was kept so many milliseconds ago, by a process that had the session before.
    pub fn restore(setup: Setup, kept: KeptState, ago: f64, now: Instant) -> Self {
        let mut context = Context::new(setup);
        context.outbox.restore(kept.outbox, ago);
        context.restore(kept.ids, kept.leaving);
        let mut pictures = Pictures::restore(kept.pictures, &context.setup, now);
        let mut conversations = Conversations::restore(kept.conversations, ago, &context, now);
        // In their order, since those of other sessions here were counted by this process.
        let mut uses: Vec<&mut u64> = pictures.uses().chain(conversations.uses()).collect();
        uses.sort();
        for used in uses {
            *used = context.clock();
        }
        State {
            context,
            pictures,
            conversations,
            presence: Presence::Here,
            waiting: Waiting::default(),
        }
    }

    /// Goes on where the process that had the session before was lost: whoever computes hears again of all that is open.
    pub fn go_on(&mut self) {
        for known in self.pictures.known(&self.context.setup) {
            self.context.effects.push_back(Effect::Known(known));
        }
        self.context.free_again();
        self.conversations
            .give_again(&mut self.pictures, &mut self.context);
        self.with_pictures(|pictures, context, _| pictures.fail_undecoded(context));
        self.conversations
            .advance_all(&mut self.pictures, &mut self.context);
    }

    /// Changes the pictures, then lets the questions go on that waited for that. The change may ask which pictures questions
    /// are about.
    fn with_pictures<R>(
        &mut self,
        change: impl FnOnce(&mut Pictures, &mut Context, Waits<'_>) -> R,
    ) -> R {
        let State {
            context,
            pictures,
            conversations,
            ..
        } = self;
        let result = change(pictures, context, &|| conversations.pictures_asked_about());
        if pictures.take_settled() {
            conversations.advance_all(pictures, context);
        }
        result
    }

    /// Whether somebody is connected from now on.
    pub fn set_presence(&mut self, presence: Presence) {
        if self.presence == presence {
            return;
        }
        self.presence = presence;
        let session = self.context.session();
        self.context
            .command(Command::Presence { session, presence });
        self.grant();
    }

    /// Lets answers go on that have been told about as much as they may. Those of a client that does not read wait until it
    /// does; nobody has to read what is kept for a resume.
    fn grant(&mut self) {
        if self.presence == Presence::Away || !self.context.outbox.full() {
            self.conversations.grant(&mut self.context);
        }
    }

    /// The next message for the connection.
    pub fn pop(&mut self) -> Option<ByteString> {
        let text = self.context.outbox.pop();
        self.grant();
        text
    }

    /// A message that was not understood. It names its request or upload only if that was not used before: the error
    /// must not end what it does not speak of.
    pub fn refused(&mut self, mut refusal: wire::Error) {
        let code = refusal.failure.code;
        refusal.request = refusal.request.filter(|id| !self.conversations.knows(id));
        refusal.upload = refusal
            .upload
            .filter(|&number| !self.pictures.knows(number));
        if refusal.request.is_some() {
            METRICS.request_ended(code.as_str());
        } else if refusal.upload.is_some() {
            METRICS.upload_ended(code.as_str());
        }
        if let Some(upload) = refusal.upload {
            self.pictures.refused(upload, code);
        }
        self.context.fail(refusal);
    }

    /// The client has read `event` and all before it.
    pub fn ack(&mut self, event: u64) {
        if !self.context.outbox.ack(event) {
            let message = format!("The ack was for event {event}, which was not sent yet.");
            self.context
                .fail(Failure::new(ErrorCode::BadMessage, message).into());
        }
    }

    /// An `upload` message.
    pub fn announce(&mut self, upload: &Upload, now: Instant) {
        self.with_pictures(|pictures, context, waits| {
            pictures.announce(upload, waits, context, now);
        });
    }

    /// A file that came otherwise than in pieces, under a number that was not used before.
    pub fn give(&mut self, upload: u32, file: CompleteFile) {
        self.with_pictures(|pictures, context, waits| pictures.give(upload, file, waits, context));
    }

    /// A picture that came before, once more, under a number that was not used before; false if there is no such picture.
    pub fn give_again(&mut self, upload: u32, sha256: &[u8; 32], system: &str) -> bool {
        self.with_pictures(|pictures, context, _| {
            pictures.give_again(upload, sha256, system, context)
        })
    }

    /// A binary frame.
    pub fn piece(&mut self, bytes: &[u8], now: Instant) {
        self.with_pictures(|pictures, context, waits| pictures.piece(bytes, waits, context, now));
    }

    /// `cancel {upload}`.
    pub fn cancel_upload(&mut self, upload: u32) {
        self.with_pictures(|pictures, context, _| pictures.cancel(upload, context));
    }

    /// Gives back the memory of an upload. Away, its client resumes it from the beginning; one that is there is told to send
    /// it again.
    pub fn evict_upload(&mut self, upload: u32, connected: bool) {
        self.with_pictures(|pictures, context, _| {
            pictures.evict_upload(upload, connected, context)
        });
    }

    /// The file was decoded, or can't be.
    pub fn decoded(&mut self, image: &str, result: Result<(Decoded, Retained), Failure>) {
        self.with_pictures(|pictures, context, _| pictures.decoded(image, result, context));
    }

    /// `forget {image}`.
    pub fn forget_image(&mut self, image: &str) {
        if self.pictures.is_live(image) {
            self.conversations
                .cancel_about(image, &self.pictures, &mut self.context);
        }
        self.with_pictures(|pictures, context, _| pictures.forget(image, context));
    }

    /// How many pictures there are, if one can go, and when that was used, by the server's count of uses.
    pub fn eviction_candidate(&self) -> Option<(u64, u64)> {
        let asked_about = || self.conversations.pictures_asked_about();
        self.pictures.eviction_candidate(&asked_about)
    }

    /// Lets go of it; false if there is none.
    pub fn evict_oldest(&mut self) -> bool {
        self.with_pictures(|pictures, context, waits| pictures.evict_oldest(waits, context))
    }

    /// An `ask` message. `terms` are the checkpoint's sampling settings, or why no question can be taken now.
    pub fn ask(&mut self, ask: wire::Ask, terms: Result<Defaults, Failure>, now: Instant) {
        self.conversations
            .ask(ask, terms, &mut self.pictures, &mut self.context, now);
    }

    /// `cancel {request}`: one that is over or unknown is nothing to complain about, since the two may have crossed.
    pub fn cancel_ask(&mut self, request: &str, now: Instant) {
        self.conversations
            .cancel(request, &mut self.pictures, &mut self.context, now);
    }

    /// Ends all questions, wherever they are.
    pub fn cancel_all(&mut self, now: Instant) {
        self.conversations
            .cancel_all(&mut self.pictures, &mut self.context, now);
    }

    /// `forget {conversation}`.
    pub fn forget_conversation(&mut self, id: &str, now: Instant) {
        self.conversations
            .forget(id, &mut self.pictures, &mut self.context, now);
    }

    /// The question of which an event tells, unless that speaks of an earlier time that the engine had it.
    pub fn asked(&self, request: RequestId, attempt: u32) -> Option<&Ask> {
        self.conversations.asked(request, attempt)
    }

    /// Requests whose answers are on their way to another worker.
    pub fn moving(&self) -> Vec<String> {
        self.conversations.moving()
    }

    /// Tells the client of those, and how the server stands besides.
    pub fn tell_moving(&mut self, status: wire::Status) {
        let moving = self.moving();
        if !moving.is_empty() {
            let status = wire::Status { moving, ..status };
            self.context.send(ServerMessage::Status(Box::new(status)));
        }
    }

    /// What the engine tells.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Encoded {
                key,
                tokens,
                timings,
                cached,
            } => self.with_pictures(|pictures, context, _| {
                pictures.encoded(&key, tokens, timings, cached, context);
            }),
            Event::PictureFailed { key, failure } => self.with_pictures(|pictures, context, _| {
                pictures.encode_failed(&key, failure, context);
            }),
            Event::Freed(freed) => self.context.freed(freed),
            event => {
                self.conversations
                    .event(event, &mut self.pictures, &mut self.context);
                self.grant();
            }
        }
    }

    /// Extends the uploads' deadlines by a time for which no byte could come.
    pub fn extend_deadlines(&mut self, time: Duration, now: Instant) {
        self.pictures.extend_deadlines(time, now);
    }

    /// Ends what took too long; `connected` tells whether bytes could have come.
    pub fn tick(&mut self, connected: bool, now: Instant) {
        if connected {
            self.with_pictures(|pictures, context, _| pictures.expire(context, now));
        }
        self.conversations
            .expire(&mut self.pictures, &mut self.context, now);
    }

    /// Bytes of memory that the session takes, but for its pictures and the files on their way.
    pub fn memory(&self) -> usize {
        /// The session itself, allocations included.
        const SESSION: usize = 4096;
        SESSION + self.context.bytes() + self.pictures.bytes() + self.conversations.bytes()
    }

    /// Lets go of what the session can go on without: what was sent and is kept for a resume, conversations that no
    /// question is open in, and questions that have not reached the engine.
    pub fn shed_memory(&mut self) {
        self.conversations.shed_memory(&mut self.context);
        self.context.outbox.shed_memory();
    }

    /// Tells the metrics how many questions wait for a picture or behind another of their conversation.
    pub fn update_waiting_gauge(&mut self) {
        self.waiting.set(self.conversations.waiting());
    }

    /// Drops all that the session holds.
    pub fn clear(&mut self) {
        // What the engine or the threads for decoding have by now they count themselves.
        for effect in &self.context.effects {
            match effect {
                Effect::Command(Command::Ask(_)) => {
                    METRICS.request_ended(FinishReason::Cancelled.as_str());
                }
                Effect::Decode { .. } => METRICS.upload_ended(RECEIVED),
                _ => {}
            }
        }
        self.context.clear();
        self.pictures = Pictures::new(&self.context.setup);
        self.conversations = Conversations::default();
        self.update_waiting_gauge();
    }

    /// Whether a question is open that does not wait for its client to send a picture.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.conversations
            .is_busy(|picture| self.pictures.waits_for_client(picture, now))
    }
}
