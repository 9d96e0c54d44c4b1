//! A question and its answer.

use wire::{AnswerTimings, Ask, Failure, FinishReason, Usage};

use super::{clock::Offset, picture::PictureTimes, watched::Watched};

/// Where a question is on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnPhase {
    /// Not sent: no connection yet, or the conversation has no name yet.
    Unsent,
    /// Sent, not heard of.
    Sent,
    /// Its place; `None` while it waits for the picture.
    Queued(Option<u64>),
    Thinking,
    Streaming,
    Done(FinishReason),
    Failed(Failure),
}

impl TurnPhase {
    /// A stable name, for styles and tests.
    pub fn name(&self) -> &'static str {
        match self {
            TurnPhase::Unsent => "unsent",
            TurnPhase::Sent => "sent",
            TurnPhase::Queued(None) => "waiting",
            TurnPhase::Queued(_) => "queued",
            TurnPhase::Thinking => "thinking",
            TurnPhase::Streaming => "streaming",
            TurnPhase::Done(FinishReason::Stop) => "done",
            TurnPhase::Done(FinishReason::Length) => "length",
            TurnPhase::Done(FinishReason::Cancelled) => "stopped",
            TurnPhase::Done(FinishReason::Timeout) => "timeout",
            TurnPhase::Failed(_) => "failed",
        }
    }

    /// Whether it will still change by itself.
    pub fn open(&self) -> bool {
        !matches!(self, TurnPhase::Done(_) | TurnPhase::Failed(_))
    }
}

/// Times of an answer on the page's clock, milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerTimes {
    /// The event that sent it: click or key.
    pub clicked: f64,
    pub sent: Option<f64>,
    pub queued: Option<f64>,
    pub started: Option<f64>,
    /// The first token left the server, by its clock joined to ours.
    pub first_left: Option<f64>,
    /// The first token came.
    pub first: Option<f64>,
    /// The first word was drawn.
    pub drawn: Option<f64>,
    pub done: Option<f64>,
    pub clock: Option<Offset>,
    pub timings: Option<AnswerTimings>,
    pub usage: Option<Usage>,
    /// The picture's times, in the first answer about it.
    pub picture: Option<PictureTimes>,
}

#[derive(Debug)]
pub struct Turn {
    /// Counts the page's turns.
    pub id: u64,
    pub question: String,
    pub phase: Watched<TurnPhase>,
    /// The answer so far; grows only, but where it is asked anew.
    pub answer: Watched<String>,
    pub times: Watched<AnswerTimes>,
    /// What was sent, to send it again after a reconnection.
    pub(super) sent: Option<Ask>,
    /// The person wants no more of it.
    pub(super) stopping: bool,
}

impl Turn {
    pub fn new(id: u64, question: String, clicked: f64) -> Self {
        Turn {
            id,
            question,
            phase: Watched::new(TurnPhase::Unsent),
            answer: Watched::default(),
            times: Watched::new(AnswerTimes {
                clicked,
                ..AnswerTimes::default()
            }),
            sent: None,
            stopping: false,
        }
    }

    /// One that was answered before this page was opened.
    pub fn kept(id: u64, turn: wire::Turn, when: f64) -> Self {
        Turn {
            phase: Watched::new(TurnPhase::Done(FinishReason::Stop)),
            answer: Watched::new(turn.answer),
            ..Turn::new(id, turn.question, when)
        }
    }

    /// One that is on the page no more.
    pub fn gone() -> Self {
        Turn {
            phase: Watched::new(TurnPhase::Done(FinishReason::Cancelled)),
            ..Turn::new(0, String::new(), 0.0)
        }
    }

    /// The request's id on the wire.
    pub fn request(&self) -> Option<&str> {
        self.sent.as_ref().map(|ask| ask.request.as_str())
    }

    /// Whether it was sent with what was said before it, in the place of what the server remembers.
    pub fn retells(&self) -> bool {
        let history = self.sent.as_ref().and_then(|ask| ask.history.as_ref());
        history.is_some() && *self.phase != TurnPhase::Unsent
    }

    /// What the model remembers of it; nothing where it failed or is not answered.
    pub fn remembered(&self) -> Option<wire::Turn> {
        let kept = matches!(*self.phase, TurnPhase::Done(_)) && !self.answer.is_empty();
        kept.then(|| wire::Turn {
            question: self.question.clone(),
            answer: self.answer.clone(),
        })
    }
}
