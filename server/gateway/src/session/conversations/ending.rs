//! How questions end, and conversations: answered, failed, cancelled, late, forgotten.

use std::cmp::Reverse;
use std::time::Instant;

use wire::{AnswerTimings, Done, ErrorCode, FinishReason, ServerMessage, Usage};

use super::ask::AskStage;
use super::conversation::Conversation;
use super::{Conversations, MAX_HISTORIES};
use crate::intake::retry;
use crate::session::context::Context;
use crate::session::context::milliseconds;
use crate::session::pictures::{PictureName, Pictures};
use api::{Command, Failure, RequestId, Turn};

impl Conversations {
    /// Ends a question with an error: its turn never happened.
    pub(super) fn fail(&mut self, request: RequestId, failure: Failure, context: &mut Context) {
        let Some(mut ask) = self.asks.remove(&request) else {
            return;
        };
        ask.telemetry.failed(failure.code);
        if let Some(conversation) = self.table.get_mut(&ask.conversation) {
            conversation.queue.retain(|queued| *queued != request);
            if conversation.tentative && conversation.queue.is_empty() {
                conversation.lose_picture();
            }
        }
        if failure.retry_after_ms.is_some() {
            self.requests.release(&ask.request);
        }
        context.fail(wire::Error {
            request: Some(ask.request),
            conversation: Some(ask.conversation),
            ..failure.into()
        });
    }

    /// The question is over: it and what was said join the history.
    pub(super) fn enter_history(&mut self, request: RequestId, context: &Context) {
        let Some(ask) = self.asks.remove(&request) else {
            return;
        };
        let Some(conversation) = self.table.get_mut(&ask.conversation) else {
            return;
        };
        conversation.tentative &= !ask.pictured;
        conversation.queue.retain(|queued| *queued != request);
        if let Some(history) = ask.history {
            conversation.history = history;
        }
        conversation.system = ask.system.or(conversation.system.take());
        conversation.picture_turn = ask.picture_turn.unwrap_or(conversation.picture_turn);
        conversation.history.push(Turn {
            question: ask.question,
            answer: ask.answer,
            answer_ids: (ask.stage == AskStage::Given).then_some(ask.ids),
        });
        self.forget_long_histories(context);
    }

    /// Keeps what is remembered of all conversations within a few messages' worth, dropping those used longest ago.
    fn forget_long_histories(&mut self, context: &Context) {
        let most = MAX_HISTORIES * context.setup.limits.message_bytes as usize;
        let bytes = |conversation: &Conversation| conversation.history.bytes();
        let mut held: usize = self.table.values().map(bytes).sum();
        while held > most {
            let oldest = self
                .table
                .iter()
                .filter(|(_, conversation)| conversation.queue.is_empty())
                .min_by_key(|(_, conversation)| conversation.used)
                .map(|(id, conversation)| (id.clone(), bytes(conversation)));
            let Some((id, freed)) = oldest else { return };
            self.table.remove(&id);
            held -= freed;
        }
    }

    /// `cancel {request}`: one that is over or unknown is nothing to complain about, since the two may have crossed.
    pub fn cancel(
        &mut self,
        request: &str,
        pictures: &mut Pictures,
        context: &mut Context,
        now: Instant,
    ) {
        let found = self.asks.iter().find(|(_, ask)| ask.request == request);
        let Some((&request, ask)) = found else {
            return;
        };
        match ask.stage {
            AskStage::Given => cancel_given(request, context),
            AskStage::Waiting => {
                self.end_waiting(request, FinishReason::Cancelled, pictures, context, now)
            }
            AskStage::Over => {}
        }
    }

    /// Cancels the questions about a picture that the engine has.
    pub fn cancel_about(&self, image: &str, pictures: &Pictures, context: &mut Context) {
        let image = PictureName::Image(image.to_owned());
        for (request, ask) in &self.asks {
            let is_about = |name| pictures.resolve(name) == image;
            if ask.stage == AskStage::Given && self.picture(ask).is_some_and(is_about) {
                cancel_given(*request, context);
            }
        }
    }

    /// Lets go of conversations that no question is open in, and of questions that have not reached the engine.
    pub fn shed_memory(&mut self, context: &mut Context) {
        self.refuse_waiting(context);
        self.table.retain(|_, it| !it.queue.is_empty());
    }

    /// Refuses, for now, the questions that the engine has not been given.
    fn refuse_waiting(&mut self, context: &mut Context) {
        let mut waiting: Vec<(Reverse<u64>, RequestId)> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.stage == AskStage::Waiting)
            .map(|(request, ask)| (Reverse(ask.order), *request))
            .collect();
        // The newest first, so that none moves up before it goes itself.
        waiting.sort();
        for (_, request) in waiting {
            let message = "The server has no memory left for questions that wait, and this client's take the most: ask again in a moment.";
            let failure =
                Failure::new(ErrorCode::Busy, message).retry_after(retry::QUESTION_MEMORY);
            self.fail(request, failure, context);
        }
    }

    /// Ends all questions, wherever they are.
    pub fn cancel_all(&mut self, pictures: &mut Pictures, context: &mut Context, now: Instant) {
        let asks = self.asks.values().map(|ask| ask.request.clone());
        for request in asks.collect::<Vec<_>>() {
            self.cancel(&request, pictures, context, now);
        }
    }

    /// Ends a question that never reached the engine.
    fn end_waiting(
        &mut self,
        request: RequestId,
        finish_reason: FinishReason,
        pictures: &mut Pictures,
        context: &mut Context,
        now: Instant,
    ) {
        let Some(ask) = self.asks.get_mut(&request) else {
            return;
        };
        ask.stage = AskStage::Over;
        let replaces = ask.history.is_some();
        let waited = milliseconds(ask.received, now);
        let for_picture = ask.told == Some(None);
        let done = Done {
            request: ask.request.clone(),
            conversation: ask.conversation.clone(),
            finish_reason,
            usage: Usage::default(),
            timings: AnswerTimings {
                image_wait_ms: if for_picture { waited } else { 0.0 },
                queue_ms: if for_picture { 0.0 } else { waited },
                total_ms: waited,
                ..AnswerTimings::default()
            },
        };
        ask.telemetry
            .done(finish_reason, &done.usage, &done.timings);
        let id = ask.conversation.clone();
        context.send(ServerMessage::Done(Box::new(done)));
        if replaces {
            self.drop_replaced(&id, request);
        }
        self.advance(&id, pictures, context);
    }

    /// Drops the turns just before a question that brings a history in their place: nobody will see them.
    fn drop_replaced(&mut self, id: &str, request: RequestId) {
        let Some(conversation) = self.table.get_mut(id) else {
            return;
        };
        let Some(place) = conversation.queue.iter().position(|it| *it == request) else {
            return;
        };
        let asks = &mut self.asks;
        let over = |request: &RequestId| {
            asks.get(request)
                .is_some_and(|ask| ask.stage == AskStage::Over)
        };
        let queue = conversation.queue.iter().take(place);
        let first = place - queue.rev().take_while(|request| over(request)).count();
        for gone in conversation.queue.drain(first..place) {
            asks.remove(&gone);
        }
    }

    /// Ends the questions whose time ran out while they waited.
    pub fn expire(&mut self, pictures: &mut Pictures, context: &mut Context, now: Instant) {
        let late: Vec<RequestId> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.stage == AskStage::Waiting && ask.deadline <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in late {
            self.end_waiting(request, FinishReason::Timeout, pictures, context, now);
        }
    }

    /// `forget {conversation}`.
    pub fn forget(
        &mut self,
        id: &str,
        pictures: &mut Pictures,
        context: &mut Context,
        now: Instant,
    ) {
        let Some(conversation) = self.table.get_mut(id) else {
            context.fail(wire::Error {
                conversation: Some(id.to_owned()),
                ..Failure::new(
                    ErrorCode::UnknownConversation,
                    format!("This session has no conversation {id:?} to forget."),
                )
                .into()
            });
            return;
        };
        if conversation.leaving {
            return;
        }
        conversation.leaving = true;
        for request in conversation.queue.clone() {
            match self.asks.get(&request).map(|ask| ask.stage) {
                Some(AskStage::Given) => cancel_given(request, context),
                Some(AskStage::Waiting) => {
                    self.end_waiting(request, FinishReason::Cancelled, pictures, context, now);
                }
                _ => {}
            }
        }
        self.advance(id, pictures, context);
    }
}

/// Has the engine end a question.
fn cancel_given(request: RequestId, context: &mut Context) {
    let session = context.session();
    context.command(Command::Cancel { session, request });
}
