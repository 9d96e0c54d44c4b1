//! What a gateway knows of a session: what has to be told to the next home.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::{
    AnswerTimings, Ask, Asker, Event, FinishReason, Freed, KnownPicture, LogName, Picture,
    PictureKey, Pixels, Presence, RequestId, Usage,
};

/// A session.
#[derive(Default)]
pub struct Session {
    /// The worker that has what is known of its pictures and conversations.
    pub home: Option<String>,
    pub presence: Option<Presence>,
    pub pictures: HashMap<PictureKey, Kept>,
    /// The pictures that its home was given.
    pub given: HashSet<PictureKey>,
    /// Not answered yet.
    pub asks: HashMap<RequestId, Open>,
    /// What its home was asked to free.
    pub freeing: Vec<Freed>,
    pub ending: bool,
    /// Where it is kept, if it is.
    pub log: Option<LogName>,
    /// When it was taken over from another gateway, in the order of all that were.
    pub epoch: Option<u64>,
}

impl Session {
    /// Whether its home has not got everything.
    pub fn waits(&self) -> bool {
        let picture = |kept: &Kept| !kept.told && !self.given.contains(&kept.key);
        self.asks.values().any(|open| !open.sent) || self.pictures.values().any(picture)
    }

    /// The place of the first that waits.
    pub fn first_order(&self) -> u64 {
        let asks = self.asks.values().filter(|it| !it.sent);
        asks.map(|it| it.order).min().unwrap_or(u64::MAX)
    }

    /// Whether nothing is at work at its home but this question, so that it can leave.
    pub fn has_only(&self, request: RequestId) -> bool {
        let others = self
            .asks
            .iter()
            .any(|(id, open)| *id != request && open.sent);
        let looks = self
            .pictures
            .values()
            .any(|kept| !kept.told && self.given.contains(&kept.key));
        !others && !looks && self.freeing.is_empty() && !self.ending
    }

    /// Lets a picture go.
    pub fn forget(&mut self, key: &PictureKey) -> Option<Kept> {
        self.given.remove(key);
        self.pictures.remove(key)
    }
}

/// A picture that the session has.
pub struct Kept {
    pub asker: Asker,
    pub key: PictureKey,
    pub system: String,
    pub secret: [u8; 32],
    pub traceparent: Option<String>,
    pub side: u32,
    pub object: String,
    pub order: u64,
    /// Until they are in the store.
    pub pixels: Option<Pixels>,
    /// What is told once they are.
    pub encoded: Option<Event>,
    /// The session knows that it was looked at.
    pub told: bool,
}

impl Kept {
    pub fn new(picture: Picture, object: String, order: u64) -> Self {
        Kept {
            asker: picture.asker,
            key: picture.key,
            system: picture.system,
            secret: picture.secret.unwrap_or_else(api::random_secret),
            traceparent: picture.traceparent,
            side: picture.pixels.size(),
            object,
            order,
            pixels: Some(picture.pixels),
            encoded: None,
            told: false,
        }
    }

    /// One that another gateway has put into the store.
    pub fn known(picture: KnownPicture, object: String, order: u64) -> Self {
        Kept {
            asker: picture.asker,
            key: picture.key,
            system: picture.system,
            secret: picture.secret.unwrap_or_default(),
            traceparent: None,
            side: picture.side,
            object,
            order,
            pixels: None,
            encoded: None,
            told: picture.told,
        }
    }
}

/// A question that is not answered yet, as far as its answer has come.
pub struct Open {
    /// With the attempt that the session knows, the ids so far, and the credit that is left.
    pub ask: Ask,
    /// When it came.
    pub came: Duration,
    pub order: u64,
    /// How often it was given to somebody else.
    pub moves: u32,
    /// The weight of workers that were lost over it since its last token.
    pub losses: u32,
    /// Its home has begun with it, and no token came since.
    pub begun: bool,
    /// Its home has it.
    pub sent: bool,
    /// It has had a home that was lost: it waits where others are refused.
    pub waits: bool,
    /// Workers that were full when it came to them, since one took it last.
    pub refused: Vec<String>,
    /// Not before.
    pub retry: Duration,
    pub started: bool,
    pub cancelled: bool,
}

impl Open {
    pub fn new(ask: Ask, order: u64, now: Duration) -> Self {
        Open {
            ask,
            came: now,
            order,
            moves: 0,
            losses: 0,
            begun: false,
            sent: false,
            waits: false,
            refused: Vec::new(),
            retry: Duration::ZERO,
            started: false,
            cancelled: false,
        }
    }

    /// The attempt that workers are told: later for each move, and for each attempt of the session's.
    pub fn attempt(&self) -> u32 {
        (self.ask.attempt << 16).saturating_add(self.moves)
    }

    pub fn left_ms(&self, now: Duration) -> f64 {
        self.ask.left_ms - self.waited_ms(now)
    }

    /// How long it has been here.
    pub fn waited_ms(&self, now: Duration) -> f64 {
        now.saturating_sub(self.came).as_secs_f64() * 1e3
    }

    /// The question as its home gets it now.
    pub fn given(&self, now: Duration) -> Ask {
        Ask {
            attempt: self.attempt(),
            waited_ms: self.ask.waited_ms + self.waited_ms(now),
            left_ms: self.left_ms(now),
            ..self.ask.clone()
        }
    }

    /// Its end where nobody is left who could tell what it took.
    pub fn cancelled_end(&self) -> Event {
        let usage = Usage {
            completion_tokens: self.ask.so_far.len() as u64,
            ..Usage::default()
        };
        Event::Done {
            request: self.ask.request,
            attempt: self.ask.attempt,
            finish_reason: FinishReason::Cancelled,
            usage,
            timings: AnswerTimings::default(),
        }
    }
}

/// The question that an event is about, and its attempt.
pub fn of(event: &Event) -> Option<(RequestId, u32)> {
    match event {
        Event::Queued {
            request, attempt, ..
        }
        | Event::Started { request, attempt }
        | Event::Tokens {
            request, attempt, ..
        }
        | Event::Done {
            request, attempt, ..
        }
        | Event::Failed {
            request, attempt, ..
        }
        | Event::Moved {
            request, attempt, ..
        } => Some((*request, *attempt)),
        Event::Encoded { .. } | Event::PictureFailed { .. } | Event::Freed(_) => None,
    }
}

/// The event with the attempt that its session knows.
pub fn renamed(mut event: Event, as_attempt: u32) -> Event {
    match &mut event {
        Event::Queued { attempt, .. }
        | Event::Started { attempt, .. }
        | Event::Tokens { attempt, .. }
        | Event::Done { attempt, .. }
        | Event::Failed { attempt, .. }
        | Event::Moved { attempt, .. } => *attempt = as_attempt,
        Event::Encoded { .. } | Event::PictureFailed { .. } | Event::Freed(_) => {}
    }
    event
}
