//! A question and its answer.

use wire::{AnswerTimings, Ask, Failure, FinishReason, Sampling, Usage};

use super::{clock::Offset, kept::KeptTurn, picture::PictureTimes, watched::Watched};

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
    /// The turn that it was asked after; its versions have the same.
    pub parent: Option<u64>,
    pub question: String,
    pub phase: Watched<TurnPhase>,
    /// The answer so far; grows only, but where it is asked anew.
    pub answer: Watched<String>,
    pub times: Watched<AnswerTimes>,
    /// What was sent, to send it again after a reconnection.
    pub(super) sent: Option<Ask>,
    /// The settings that it was sent with.
    pub(super) sampling: Option<Sampling>,
    /// The system turn that it was asked behind.
    pub(super) system: Option<String>,
    /// The person wants no more of it.
    pub(super) stopping: bool,
}

impl Turn {
    pub fn new(id: u64, question: String, clicked: f64) -> Self {
        Turn {
            id,
            parent: None,
            question,
            phase: Watched::new(TurnPhase::Unsent),
            answer: Watched::default(),
            times: Watched::new(AnswerTimes {
                clicked,
                ..AnswerTimes::default()
            }),
            sent: None,
            sampling: None,
            system: None,
            stopping: false,
        }
    }

    /// One that was asked before this page was opened.
    pub fn kept(id: u64, parent: Option<u64>, kept: KeptTurn, when: f64) -> Self {
        let phase = match (kept.failure, kept.finish, &kept.request) {
            (Some(failure), _, _) => TurnPhase::Failed(failure),
            (_, Some(reason), _) => TurnPhase::Done(reason),
            // The session goes on with it.
            (_, _, Some(_)) if kept.answer.is_empty() => TurnPhase::Thinking,
            (_, _, Some(_)) => TurnPhase::Streaming,
            _ => TurnPhase::Unsent,
        };
        let anew = phase == TurnPhase::Unsent;
        let mut turn = Turn::new(id, kept.question, when);
        turn.parent = parent;
        turn.phase = Watched::new(phase);
        // What is asked anew is answered anew.
        turn.answer = Watched::new(if anew { String::new() } else { kept.answer });
        turn.times.timings = kept.timings;
        turn.times.usage = kept.usage;
        turn.sampling = kept.sampling;
        turn.system = kept.system;
        turn.sent = kept.request.map(|request| Ask {
            request,
            ..Ask::default()
        });
        turn
    }

    /// As it is kept. What the person has stopped stays stopped, and what was never answered is asked again.
    pub fn to_keep(&self) -> KeptTurn {
        let mut kept = KeptTurn {
            id: self.id,
            parent: self.parent,
            question: self.question.clone(),
            answer: self.answer.clone(),
            timings: self.times.timings,
            usage: self.times.usage,
            sampling: self.sampling.clone(),
            system: self.system.clone(),
            ..KeptTurn::default()
        };
        match &*self.phase {
            TurnPhase::Done(reason) => kept.finish = Some(*reason),
            TurnPhase::Failed(failure) => kept.failure = Some(failure.clone()),
            _ if self.stopping => kept.finish = Some(FinishReason::Cancelled),
            // The server has not said that it has it: it may have to be told again.
            TurnPhase::Unsent | TurnPhase::Sent => {}
            _ => kept.request = self.request().map(str::to_owned),
        }
        kept
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
