//! Conversations and their questions, as they are kept outside of this process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ask::{Ask, AskStage, WINDOW};
use super::conversation::{Conversation, History};
use super::requests::Requests;
use super::{Conversations, Pictures};
use crate::session::context::{Context, milliseconds};
use crate::telemetry;
use api::{AnswerFormat, RequestId, SamplingParams, TokenLogprob};

/// All conversations of a session.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptConversations {
    table: BTreeMap<String, Conversation>,
    asks: Vec<(RequestId, KeptAsk)>,
    requests: Vec<(u64, u64)>,
}

/// [`Ask`], with times that hold in another process.
#[derive(Debug, Serialize, Deserialize)]
struct KeptAsk {
    request: String,
    conversation: String,
    question: String,
    history: Option<History>,
    system: Option<String>,
    picture_turn: Option<u32>,
    sampling: SamplingParams,
    format: Option<AnswerFormat>,
    logprobs: Option<u32>,
    traceparent: Option<String>,
    order: u64,
    /// Milliseconds since it came, …
    waited_ms: f64,
    /// … and until it must be over.
    left_ms: f64,
    stage: AskStage,
    pictured: bool,
    started: bool,
    told: Option<Option<u64>>,
    attempt: u32,
    index: u64,
    answer: String,
    ids: Vec<u32>,
    untold: Vec<TokenLogprob>,
}

impl Conversations {
    /// What is kept of them.
    pub fn kept(&self, now: Instant) -> KeptConversations {
        let asks = self.asks.iter().map(|(id, ask)| (*id, ask.kept(now)));
        let table = self.table.iter().map(|(id, it)| (id.clone(), it.clone()));
        KeptConversations {
            table: table.collect(),
            asks: asks.collect(),
            requests: self.requests.kept(),
        }
    }

    /// What was kept so many milliseconds ago.
    pub fn restore(kept: KeptConversations, ago: f64, context: &Context, now: Instant) -> Self {
        let asks = kept
            .asks
            .into_iter()
            .map(|(id, ask)| (id, ask.restored(ago, context, now)));
        Conversations {
            table: kept.table.into_iter().collect(),
            asks: asks.collect(),
            requests: Requests::restore(kept.requests),
        }
    }

    /// The counts of uses in them, each to be replaced by one of this process.
    pub fn uses(&mut self) -> impl Iterator<Item = &mut u64> {
        let conversations = self.table.values_mut().map(|it| &mut it.used);
        conversations.chain(self.asks.values_mut().map(|ask| &mut ask.order))
    }

    /// Gives whoever computes once more what it was given by another process, to be gone on with where that was.
    pub fn give_again(&mut self, pictures: &mut Pictures, context: &mut Context) {
        let mut given: Vec<(u64, RequestId)> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.stage == AskStage::Given)
            .map(|(id, ask)| (ask.order, *id))
            .collect();
        given.sort_unstable();
        for (_, request) in given {
            let Some(ask) = self.asks.get_mut(&request) else {
                continue;
            };
            ask.attempt += 1;
            ask.credit = WINDOW;
            ask.moving = true;
            ask.stage = AskStage::Waiting;
            let conversation = self.table.get(&ask.conversation);
            let picture = conversation.and_then(|it| it.picture.clone());
            let shown = picture.and_then(|name| pictures.shown(&name));
            self.give(request, shown, pictures, context);
        }
    }
}

impl Ask {
    fn kept(&self, now: Instant) -> KeptAsk {
        KeptAsk {
            request: self.request.clone(),
            conversation: self.conversation.clone(),
            question: self.question.clone(),
            history: self.history.clone(),
            system: self.system.clone(),
            picture_turn: self.picture_turn,
            sampling: self.sampling.clone(),
            format: self.format.clone(),
            logprobs: self.logprobs,
            traceparent: self.traceparent.clone(),
            order: self.order,
            waited_ms: milliseconds(self.received, now),
            left_ms: milliseconds(now, self.deadline),
            stage: self.stage,
            pictured: self.pictured,
            started: self.started,
            told: self.told,
            attempt: self.attempt,
            index: self.index,
            answer: self.answer.clone(),
            ids: self.ids.clone(),
            untold: self.untold.clone(),
        }
    }
}

impl KeptAsk {
    fn restored(self, ago: f64, context: &Context, now: Instant) -> Ask {
        let (mut telemetry, traceparent) = telemetry::Question::taken(
            context.setup.tag.clone(),
            self.request.clone(),
            self.traceparent.as_deref(),
        );
        if self.stage == AskStage::Given {
            telemetry.given();
        }
        let duration = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        Ask {
            request: self.request,
            conversation: self.conversation,
            question: self.question,
            history: self.history,
            system: self.system,
            picture_turn: self.picture_turn,
            sampling: self.sampling,
            format: self.format,
            logprobs: self.logprobs,
            traceparent,
            telemetry,
            order: self.order,
            // A machine that has just started has no time so long ago.
            received: now
                .checked_sub(duration(self.waited_ms + ago))
                .unwrap_or(now),
            deadline: now + duration(self.left_ms - ago),
            stage: self.stage,
            pictured: self.pictured,
            started: self.started,
            moving: false,
            told: self.told,
            attempt: self.attempt,
            credit: WINDOW,
            index: self.index,
            answer: self.answer,
            ids: self.ids,
            untold: self.untold,
        }
    }
}
