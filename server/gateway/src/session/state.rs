//! What a session knows, and what each message and event changes about it. No sockets, no threads, no engine: what is
//! to be done outside is left in `effects`, so all of this is tested by calling it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::{ErrorCode, FinishReason, Limits, ServerMessage};

use super::codec::Refusal;
use super::outbox::Outbox;
use super::picture::{Pictures, Stage};
use super::spans::Spans;
use super::talk::{Ask, AskStage, Conversation, PictureName, Requests};
use super::upload::{Budget, File, Uploads};
use crate::metrics::{METRICS, RECEIVED, Share};
use api::{AskJob, Asker, EventSink, PictureJob, PictureKey};

/// Something to be done outside of the session's lock, in order.
pub enum Effect {
    /// Decode a file into the picture of this id.
    Decode {
        image: String,
        file: File,
    },
    /// Don't: the picture is forgotten, which [`State::decoded`] is told.
    Undecode {
        image: String,
    },
    Picture(PictureJob),
    Ask(Box<AskJob>),
    Cancel(u64),
    /// The session is over.
    End,
    /// Free what the engine holds of a picture, then tell [`State::freed`].
    Forget {
        key: PictureKey,
        image: String,
    },
    /// Free what the engine holds of a conversation, then tell [`State::conversation_freed`].
    ForgetConversation {
        number: u64,
        id: String,
    },
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
    /// Whose the session is, and its number in the engine.
    pub asker: Asker,
    /// For [`PictureKey::scope`].
    pub scope: u64,
    /// Makes ids unlike any other session's, so that a stale one is never mistaken for a live one.
    pub prefix: String,
    pub limits: Arc<Limits>,
    pub budget: Arc<Budget>,
    /// Where the engine's events for this session go.
    pub events: Arc<dyn EventSink>,
    /// Makes seeds for answers whose questions bring none.
    pub next_seed: Box<dyn Fn() -> u64 + Send>,
    /// Makes numbers that are unique in the engine, each greater than the one before.
    pub next_number: Box<dyn Fn() -> u64 + Send>,
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
    pub(super) asks: HashMap<u64, Ask>,
    pub(super) requests: Requests,
    pub effects: VecDeque<Effect>,
    spans: Spans,
    /// Questions that wait here, not with the engine, which counts its own.
    waiting: usize,
    gauges: Share,
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
            effects: VecDeque::new(),
            spans: Spans::new(setup.tag.clone()),
            waiting: 0,
            gauges: Share::default(),
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

    /// The server's count of uses, by which those of different sessions can be compared.
    pub(super) fn clock(&self) -> u64 {
        (self.setup.next_number)()
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
    pub fn refused(&mut self, refusal: Refusal) {
        let request = refusal.request.filter(|id| !self.requests.contains(id));
        let upload = refusal.upload.filter(|number| !self.uploads.knows(*number));
        if let Some(upload) = upload {
            self.uploads.close(&wire::Upload {
                upload,
                bytes: 0,
                sha256: None,
                name: None,
            });
            if self.uploads.knows(upload) {
                self.outcomes.insert(upload, Outcome::Failed(refusal.code));
            }
        }
        self.fail(wire::Error {
            request,
            upload,
            ..error(refusal.code, refusal.message)
        });
    }

    /// The client has read `event` and all before it.
    pub fn ack(&mut self, event: u64) {
        if !self.outbox.ack(event) {
            self.fail(error(
                ErrorCode::BadMessage,
                format!("The ack was for event {event}, which was not sent yet."),
            ));
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
                self.upload_failed(upload, ErrorCode::UploadTimeout, message.into());
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
        let conversations = self.conversations.values().map(Conversation::bytes);
        SESSION
            + self.outbox.bytes()
            + self.uploads.bytes()
            + OUTCOME * self.outcomes.capacity()
            + PICTURE * self.pictures.len()
            + self.requests.bytes()
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
        let waiting = self.asks.values().filter(waits).count();
        if waiting != self.waiting {
            self.waiting = waiting;
            self.gauges.change(|now| now.waiting = waiting as u64);
        }
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
            .filter(|effect| matches!(effect, Effect::Ask(_)));
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
        match self.resolve(name) {
            PictureName::Upload(upload) => match self.outcomes.get(&upload) {
                Some(Outcome::Failed(code)) => LookUp::Unusable {
                    code: *code,
                    message: format!("Upload {upload} failed ({code}): send the picture again."),
                    retry_after_ms: None,
                },
                _ if self.uploads.is_open(upload) => LookUp::Pending,
                _ => LookUp::Unusable {
                    code: ErrorCode::UnknownUpload,
                    message: format!(
                        "This session has no upload {upload}: send its upload message first."
                    ),
                    retry_after_ms: None,
                },
            },
            PictureName::Image(image) => match self.pictures.get(&image) {
                None => LookUp::Unusable {
                    code: ErrorCode::UnknownImage,
                    message: format!("This session has no picture {image:?}: upload it again."),
                    retry_after_ms: None,
                },
                Some(picture) => match &picture.stage {
                    Stage::Decoding => LookUp::Pending,
                    Stage::Ready(_) => LookUp::Ready(picture.key),
                    Stage::Failed {
                        code,
                        message,
                        retry_after_ms,
                    } => LookUp::Unusable {
                        code: *code,
                        message: message.clone(),
                        retry_after_ms: *retry_after_ms,
                    },
                    Stage::Leaving | Stage::Gone => LookUp::Unusable {
                        code: ErrorCode::ImageGone,
                        message: "The picture was forgotten: upload it again.".into(),
                        retry_after_ms: None,
                    },
                },
            },
        }
    }
}

/// How a picture stands for a question.
pub(super) enum LookUp {
    /// On its way: the question waits.
    Pending,
    Ready(PictureKey),
    Unusable {
        code: ErrorCode,
        message: String,
        retry_after_ms: Option<f64>,
    },
}

impl LookUp {
    pub fn is_unusable(&self) -> bool {
        matches!(self, LookUp::Unusable { .. })
    }
}

/// An error about nothing in particular; the caller adds what it is for.
pub(super) fn error(code: ErrorCode, message: impl Into<String>) -> wire::Error {
    wire::Error {
        code,
        message: message.into(),
        request: None,
        upload: None,
        image: None,
        conversation: None,
        retry_after_ms: None,
    }
}

/// A limit given in seconds.
pub(super) fn seconds(limit: f64) -> Duration {
    Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)
}

pub(super) fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
