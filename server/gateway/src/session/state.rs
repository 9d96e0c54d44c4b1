//! What a session knows, and what each message and event changes about it. No sockets, no threads, no engine: what is
//! to be done outside is left in `effects`, so all of this is tested by calling it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use wire::{ErrorCode, FinishReason, Forgotten, Limits, ServerMessage};

use super::outbox::Outbox;
use super::picture::{Pictures, Stage};
use super::spans::Spans;
use super::talk::{Ask, AskStage, Conversation, PictureName, Requests};
use super::upload::{Budget, File, Uploads};
use crate::metrics::{METRICS, RECEIVED, Waiting};
use api::{Asker, Command, Failure, Freed, Presence, RequestId, SessionId, Shown};

/// Something to be done outside of the session's lock, in order.
pub enum Effect {
    /// Decode a file into the picture of this id.
    Decode { image: String, file: File },
    /// Don't: the picture is forgotten, which [`State::decoded`] is told.
    Undecode { image: String },
    /// Ask the engine for something.
    Command(Command),
    /// The session is over: nothing of it is decoded any more, and the engine frees all that it has.
    End,
}

/// What came of an upload.
pub enum Outcome {
    Image(String),
    Failed(ErrorCode),
}

/// What a session is made with.
pub struct Setup {
    /// What the session is called in logs.
    pub tag: String,
    /// Whose the session is, and its id.
    pub asker: Asker,
    /// For [`PictureKey::session`](api::PictureKey::session).
    pub scope: Option<SessionId>,
    /// Makes ids unlike any other session's, so that a stale one is never mistaken for a live one.
    pub prefix: String,
    pub limits: Arc<Limits>,
    pub budget: Arc<Budget>,
    /// The server's count of uses, by which those of different sessions can be compared.
    pub uses: Arc<AtomicU64>,
}

impl Setup {
    fn uploads(&self) -> Uploads {
        Uploads::new(self.asker, self.budget.clone(), self.limits.upload_window)
    }
}

pub struct State {
    pub(super) setup: Setup,
    pub outbox: Outbox,
    pub(super) uploads: Uploads,
    pub(super) outcomes: HashMap<u32, Outcome>,
    pub(super) pictures: Pictures,
    pub(super) conversations: HashMap<String, Conversation>,
    pub(super) asks: HashMap<RequestId, Ask>,
    pub(super) requests: Requests,
    /// What the engine was asked to free, in that order, and what its client is told once it is.
    pub(super) leaving: Vec<(Freed, Forgotten)>,
    pub effects: VecDeque<Effect>,
    presence: Presence,
    pub(super) spans: Spans,
    /// Questions that wait here, not with the engine, which counts its own.
    waiting: Waiting,
    ids: u64,
}

impl State {
    pub fn new(setup: Setup) -> Self {
        State {
            outbox: Outbox::new(
                Instant::now(),
                setup.limits.outbox_bytes,
                setup.limits.replay_bytes,
            ),
            uploads: setup.uploads(),
            outcomes: HashMap::new(),
            pictures: Pictures::default(),
            conversations: HashMap::new(),
            asks: HashMap::new(),
            requests: Requests::default(),
            leaving: Vec::new(),
            effects: VecDeque::new(),
            // As the engine takes every session to be until it is told.
            presence: Presence::Here,
            spans: Spans::new(setup.tag.clone()),
            waiting: Waiting::default(),
            ids: 0,
            setup,
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.setup.limits
    }

    /// An id that no other session has.
    pub(super) fn new_id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}_{}_{}", self.setup.prefix, self.ids)
    }

    /// Counts one use more.
    pub(super) fn clock(&self) -> u64 {
        self.setup.uses.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn session(&self) -> SessionId {
        self.setup.asker.session
    }

    pub(super) fn command(&mut self, command: Command) {
        self.effects.push_back(Effect::Command(command));
    }

    /// Whether somebody is connected from now on.
    pub fn set_presence(&mut self, presence: Presence) {
        if self.presence == presence {
            return;
        }
        self.presence = presence;
        let session = self.session();
        self.command(Command::Presence { session, presence });
        self.grant();
    }

    /// Lets answers go on that have been told about as much as they may. Those of a client that does not read wait until it
    /// does; nobody has to read what is kept for a resume.
    pub(super) fn grant(&mut self) {
        if self.presence == Presence::Here && self.outbox.full() {
            return;
        }
        let session = self.session();
        for (&request, ask) in &mut self.asks {
            if let Some(events) = ask.top_up() {
                self.effects.push_back(Effect::Command(Command::Credit {
                    session,
                    request,
                    events,
                }));
            }
        }
    }

    /// The next message for the connection.
    pub fn pop(&mut self) -> Option<ByteString> {
        let text = self.outbox.pop();
        self.grant();
        text
    }

    pub(super) fn send(&mut self, message: ServerMessage) {
        METRICS.told(&message);
        self.spans.told(&message);
        self.outbox.push(message);
    }

    /// Sends an `error`.
    pub(super) fn fail(&mut self, error: wire::Error) {
        self.send(ServerMessage::Error(error));
    }

    /// A message that was not understood. It names its request or upload only if that was not used before: the error
    /// must not end what it does not speak of.
    pub fn refused(&mut self, mut refusal: wire::Error) {
        refusal.request = refusal.request.filter(|id| !self.requests.contains(id));
        refusal.upload = refusal.upload.filter(|number| !self.uploads.knows(*number));
        if let Some(upload) = refusal.upload {
            self.uploads.close(&wire::Upload {
                upload,
                bytes: 0,
                sha256: None,
                name: None,
            });
            if self.uploads.knows(upload) {
                self.outcomes
                    .insert(upload, Outcome::Failed(refusal.failure.code));
            }
        }
        self.fail(refusal);
    }

    /// The client has read `event` and all before it.
    pub fn ack(&mut self, event: u64) {
        if !self.outbox.ack(event) {
            self.fail(
                Failure::new(
                    ErrorCode::BadMessage,
                    format!("The ack was for event {event}, which was not sent yet."),
                )
                .into(),
            );
        }
    }

    /// For so long no byte could come, and nobody is blamed for that.
    pub fn forgive(&mut self, time: Duration, now: Instant) {
        self.uploads.forgive(time, now);
    }

    /// Ends what took too long; `connected` tells whether bytes could have come.
    pub fn tick(&mut self, connected: bool, now: Instant) {
        if connected {
            let idle = seconds(self.limits().upload_idle_seconds);
            for upload in self.uploads.expire(idle, now) {
                let message = "No byte of the upload arrived for too long: send the file again.";
                self.upload_failed(upload, Failure::new(ErrorCode::UploadTimeout, message));
            }
        }
        self.expire_asks(now);
    }

    /// Bytes of memory that the session takes, but for its pictures and the files on their way.
    pub fn memory(&self) -> usize {
        /// The session itself, and a picture, allocations included.
        const SESSION: usize = 4096;
        const PICTURE: usize = 1024;
        const OUTCOME: usize = size_of::<(u32, Outcome)>() + 1 + 48;
        const LEAVING: usize = size_of::<(Freed, Forgotten)>() + 48;
        let conversations = self.conversations.values().map(Conversation::bytes);
        SESSION
            + self.outbox.bytes()
            + self.uploads.bytes()
            + OUTCOME * self.outcomes.capacity()
            + PICTURE * self.pictures.len()
            + self.requests.bytes()
            + LEAVING * self.leaving.capacity()
            + conversations.sum::<usize>()
            + self.asks.values().map(Ask::bytes).sum::<usize>()
    }

    /// Lets go of what the session can go on without: what was sent and is kept for a resume, conversations that no
    /// question is open in, and questions that have not reached the engine.
    pub fn give_way(&mut self) {
        self.refuse_waiting();
        self.conversations.retain(|_, it| !it.queue.is_empty());
        self.outbox.give_way();
    }

    /// Tells the metrics how many questions wait for a picture or behind another of their conversation.
    pub fn tell_waiting(&mut self) {
        let waits = |ask: &&Ask| ask.stage == AskStage::Waiting;
        self.waiting
            .set(self.asks.values().filter(waits).count() as u64);
    }

    /// Counts what ends with the session and nobody is told of. What the engine or the threads for decoding have by
    /// now they count themselves.
    fn count_untold(&self) {
        let waiting = self
            .asks
            .values()
            .filter(|ask| ask.stage == AskStage::Waiting);
        let to_ask = self
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Command(Command::Ask(_))));
        for _ in 0..waiting.count() + to_ask.count() {
            METRICS.request_ended(FinishReason::Cancelled.as_str());
        }
        let to_decode = self
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Decode { .. }));
        to_decode.for_each(|_| METRICS.upload_ended(RECEIVED));
    }

    /// Drops all that the session holds.
    pub fn clear(&mut self) {
        self.count_untold();
        let (now, limits) = (Instant::now(), &self.setup.limits);
        self.outbox = Outbox::new(now, limits.outbox_bytes, limits.replay_bytes);
        self.uploads = self.setup.uploads();
        self.outcomes = HashMap::new();
        self.pictures = Pictures::default();
        self.conversations = HashMap::new();
        self.asks = HashMap::new();
        self.requests = Requests::default();
        self.leaving = Vec::new();
        self.effects = VecDeque::new();
        self.spans.clear();
        self.tell_waiting();
    }

    /// Whether a question is open that does not wait for its client to send a picture.
    pub fn is_busy(&self, now: Instant) -> bool {
        /// An upload of which nothing comes for so long may never come to its end.
        const PAUSE: Duration = Duration::from_secs(1);
        let waits_for_client = |ask: &Ask| {
            let conversation = self.conversations.get(&ask.conversation);
            let picture = conversation.and_then(|conversation| conversation.picture.as_ref());
            match picture.map(|name| self.resolve(name)) {
                Some(PictureName::Upload(upload)) => !self.uploads.moves(upload, PAUSE, now),
                _ => false,
            }
        };
        self.asks.values().any(|ask| match ask.stage {
            AskStage::Given => true,
            AskStage::Waiting => !waits_for_client(ask),
            AskStage::Over => false,
        })
    }

    /// The image id behind a name, once its upload arrived.
    pub(super) fn resolve(&self, name: &PictureName) -> PictureName {
        match name {
            PictureName::Upload(upload) => match self.outcomes.get(upload) {
                Some(Outcome::Image(image)) => PictureName::Image(image.clone()),
                _ => name.clone(),
            },
            PictureName::Image(_) => name.clone(),
        }
    }

    /// The hash of a picture's file, as far as it is known: of one on its way what was announced.
    pub(super) fn content(&self, name: &PictureName) -> Option<[u8; 32]> {
        match self.resolve(name) {
            PictureName::Upload(upload) => self.uploads.announced_sha256(upload),
            PictureName::Image(image) => Some(self.pictures.get(&image)?.key.sha256),
        }
    }

    /// How the picture of a name stands.
    pub(super) fn look_up(&self, name: &PictureName) -> LookUp {
        let unusable = |code, message: String| LookUp::Unusable(Failure::new(code, message));
        match self.resolve(name) {
            PictureName::Upload(upload) => match self.outcomes.get(&upload) {
                Some(Outcome::Failed(code)) => unusable(
                    *code,
                    format!("Upload {upload} failed ({code}): send the picture again."),
                ),
                _ if self.uploads.is_open(upload) => LookUp::Pending,
                _ => unusable(
                    ErrorCode::UnknownUpload,
                    format!("This session has no upload {upload}: send its upload message first."),
                ),
            },
            PictureName::Image(image) => match self.pictures.get(&image) {
                None => unusable(
                    ErrorCode::UnknownImage,
                    format!("This session has no picture {image:?}: upload it again."),
                ),
                Some(picture) => match &picture.stage {
                    Stage::Decoding => LookUp::Pending,
                    Stage::Ready(ready) => LookUp::Ready(Shown {
                        key: picture.key,
                        shape: (ready.side, ready.side),
                        // Whenever a question named it, the conversation begins with it.
                        turn: 0,
                    }),
                    Stage::Failed(failure) => LookUp::Unusable(failure.clone()),
                    Stage::Leaving | Stage::Gone => unusable(
                        ErrorCode::ImageGone,
                        "The picture was forgotten: upload it again.".into(),
                    ),
                },
            },
        }
    }
}

/// How a picture stands for a question.
pub(super) enum LookUp {
    /// On its way: the question waits.
    Pending,
    Ready(Shown),
    Unusable(Failure),
}

impl LookUp {
    pub fn is_unusable(&self) -> bool {
        matches!(self, LookUp::Unusable(_))
    }
}

/// A limit given in seconds.
pub fn seconds(limit: f64) -> Duration {
    Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)
}

pub(super) fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
