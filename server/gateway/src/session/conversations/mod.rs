//! Conversations and their questions: from `ask` to `done`, in order within a conversation.

mod ask;
mod conversation;
mod ending;
mod kept;
mod requests;
mod take;

use std::collections::HashMap;
use std::time::Instant;

use wire::{Done, ErrorCode, Forgotten, Queued, ServerMessage, Started};

use super::context::{Context, milliseconds};
use super::pictures::{LookUp, PictureName, Pictures};
use crate::telemetry::metrics::METRICS;
use api::{Command, ConversationId, Defaults, Event, Failure, Freed, RequestId, Shown};
use ask::AskStage;
use conversation::Conversation;
use requests::{Requests, Seen};

pub use ask::Ask;
pub use kept::KeptConversations;

/// What the histories of one session may take together, and what unanswered questions may with those that they bring, in
/// longest messages.
const MAX_HISTORIES: usize = 4;

/// A session's conversations by their ids, and the questions in them that are not answered yet.
#[derive(Default)]
pub struct Conversations {
    table: HashMap<String, Conversation>,
    asks: HashMap<RequestId, Ask>,
    requests: Requests,
}

impl Conversations {
    /// Questions that wait for a picture or behind another of their conversation.
    pub fn waiting(&self) -> usize {
        self.count(|stage| stage == AskStage::Waiting)
    }

    fn count(&self, of: impl Fn(AskStage) -> bool) -> usize {
        self.asks.values().filter(|ask| of(ask.stage)).count()
    }

    /// Whether a request id was used.
    pub fn knows(&self, request: &str) -> bool {
        self.requests.contains(request)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let conversations = self.table.values().map(Conversation::bytes);
        let asks = self.asks.values().map(Ask::bytes);
        self.requests.bytes() + conversations.sum::<usize>() + asks.sum::<usize>()
    }

    /// The pictures of the questions that are not answered yet.
    pub fn pictures_asked_about(&self) -> Vec<PictureName> {
        let pictures = self.asks.values().filter_map(|ask| self.picture(ask));
        pictures.cloned().collect()
    }

    fn picture(&self, ask: &Ask) -> Option<&PictureName> {
        self.table.get(&ask.conversation)?.picture.as_ref()
    }

    /// Whether a question is open, but for those whose picture only `waits_for_client`.
    pub fn is_busy(&self, waits_for_client: impl Fn(&PictureName) -> bool) -> bool {
        self.asks.values().any(|ask| match ask.stage {
            AskStage::Given => true,
            AskStage::Waiting => !self.picture(ask).is_some_and(&waits_for_client),
            AskStage::Over => false,
        })
    }

    /// Lets those answers go on that were told about as much as they may.
    pub fn grant(&mut self, context: &mut Context) {
        let session = context.session();
        for (&request, ask) in &mut self.asks {
            if let Some(events) = ask.credit_due() {
                context.command(Command::Credit {
                    session,
                    request,
                    events,
                });
            }
        }
    }

    /// An `ask` message. `terms` are the checkpoint's sampling settings, or why no question can be taken now.
    pub fn ask(
        &mut self,
        ask: wire::Ask,
        terms: Result<Defaults, Failure>,
        pictures: &mut Pictures,
        context: &mut Context,
        now: Instant,
    ) {
        match self.requests.enter(&ask) {
            Seen::New => {}
            Seen::Same => return,
            Seen::Different => {
                // Without the id: the request that has it goes on.
                context.fail(Failure::new(
                    ErrorCode::DuplicateRequest,
                    format!(
                        "Request id {:?} was used before in this session for something else: take another.",
                        ask.request
                    ),
                ).into());
                return;
            }
        }
        let (request, conversation) = (ask.request.clone(), ask.conversation.clone());
        match terms.and_then(|defaults| self.take(ask, &defaults, pictures, context, now)) {
            Ok(conversation) => self.advance(&conversation, pictures, context),
            Err(failure) => {
                if failure.retry_after_ms.is_some() {
                    self.requests.release(&request);
                }
                METRICS.request_ended(failure.code.as_str());
                context.fail(wire::Error {
                    request: Some(request),
                    conversation,
                    ..failure.into()
                });
            }
        }
    }

    /// Gives the engine whatever can be given.
    pub fn advance_all(&mut self, pictures: &mut Pictures, context: &mut Context) {
        let order = |request| self.asks.get(request).map(|ask| ask.order);
        let mut waiting: Vec<(Option<u64>, String)> = self
            .table
            .iter()
            .filter_map(|(id, conversation)| Some((order(conversation.queue.front()?), id.clone())))
            .collect();
        // In order of arrival.
        waiting.sort();
        for (_, id) in waiting {
            self.advance(&id, pictures, context);
        }
    }

    /// Gives the engine the conversation's next question if it can be asked, and tells the others how they stand.
    fn advance(&mut self, id: &str, pictures: &mut Pictures, context: &mut Context) {
        loop {
            let Some(conversation) = self.table.get_mut(id) else {
                return;
            };
            let Some(&request) = conversation.queue.front() else {
                if conversation.leaving
                    && let Some(gone) = self.table.remove(id)
                {
                    free(gone.id, id, context);
                }
                return;
            };
            let stage = self.asks.get(&request).map(|ask| ask.stage);
            match stage {
                None => {
                    conversation.queue.pop_front();
                }
                Some(AskStage::Given) => break,
                Some(AskStage::Over) => self.enter_history(request, context),
                Some(AskStage::Waiting) => {
                    let picture = conversation.picture.clone();
                    match picture.map(|name| pictures.look_up(&name)) {
                        Some(LookUp::Pending) => break,
                        Some(LookUp::Unusable(failure)) => self.fail(request, failure, context),
                        Some(LookUp::Ready(picture)) => {
                            self.give(request, Some(picture), pictures, context)
                        }
                        None => self.give(request, None, pictures, context),
                    }
                }
            }
        }
        self.send_positions(id, pictures, context);
    }

    /// Hands a question to the engine.
    fn give(
        &mut self,
        request: RequestId,
        mut shown: Option<Shown>,
        pictures: &mut Pictures,
        context: &mut Context,
    ) {
        let now = Instant::now();
        let Some(ask) = self.asks.get_mut(&request) else {
            return;
        };
        let Some(conversation) = self.table.get(&ask.conversation) else {
            return;
        };
        ask.stage = AskStage::Given;
        ask.telemetry.given();
        ask.pictured = shown.is_some();
        let history = ask.history.as_ref().unwrap_or(&conversation.history);
        let announced = || pictures.system(conversation.picture.as_ref()?);
        let system = ask
            .system
            .take()
            .or_else(|| conversation.system.clone())
            .or_else(announced)
            .unwrap_or_default();
        ask.system = Some(system.clone());
        if let Some(shown) = &mut shown {
            // Turns that failed are none: what came behind them has moved up.
            let turn = ask.picture_turn.unwrap_or(conversation.picture_turn);
            shown.turn = turn.min(history.len() as u32);
            ask.picture_turn = Some(shown.turn);
        }
        // Titles, tags and the like, which chat programs have made beside what somebody waits for.
        let background = context.setup.stateless && shown.is_none();
        let command = Command::Ask(Box::new(api::Ask {
            asker: context.setup.asker,
            conversation: conversation.id,
            request,
            attempt: ask.attempt,
            system,
            pictures: shown.into_iter().collect(),
            history: history.to_vec(),
            question: ask.question.clone(),
            sampling: ask.sampling.clone(),
            format: ask.format.clone(),
            logprobs: ask.logprobs,
            background,
            so_far: ask.ids.clone(),
            credit: ask.credit,
            waited_ms: milliseconds(ask.received, now),
            left_ms: milliseconds(now, ask.deadline),
            traceparent: ask.traceparent.clone(),
        }));
        if let Some(picture) = &conversation.picture {
            pictures.touch(picture, context.clock());
        }
        context.command(command);
    }

    /// `queued` for the questions that are not with the engine.
    fn send_positions(&mut self, id: &str, pictures: &Pictures, context: &mut Context) {
        let Some(conversation) = self.table.get(id) else {
            return;
        };
        let pending = conversation
            .picture
            .as_ref()
            .is_some_and(|name| matches!(pictures.look_up(name), LookUp::Pending));
        let waiting: Vec<RequestId> = conversation
            .queue
            .iter()
            .filter(|request| {
                self.asks
                    .get(request)
                    .is_some_and(|ask| ask.stage == AskStage::Waiting)
            })
            .copied()
            .collect();
        let ahead = self.ahead(id);
        for (place, request) in waiting.into_iter().enumerate() {
            self.queued(request, (!pending).then_some(ahead + place as u64), context);
        }
    }

    /// How many answers end before the conversation's next turn: none once its question with the engine has started.
    fn ahead(&self, id: &str) -> u64 {
        let queue = self.table.get(id).map(|it| &it.queue);
        let given = queue
            .into_iter()
            .flatten()
            .filter_map(|request| self.asks.get(request))
            .find(|ask| ask.stage == AskStage::Given);
        given
            .filter(|ask| !ask.started)
            .map_or(0, |ask| 1 + ask.told.flatten().unwrap_or(0))
    }

    /// Sends `queued` at first, and when the position falls.
    fn queued(&mut self, request: RequestId, position: Option<u64>, context: &mut Context) {
        let Some(ask) = self.asks.get_mut(&request) else {
            return;
        };
        let news = match (ask.told, position) {
            (None, _) | (Some(None), Some(_)) => true,
            (Some(Some(told)), Some(now)) => now < told,
            (Some(_), None) => false,
        };
        if !news {
            return;
        }
        ask.told = Some(position);
        let message = Queued {
            request: ask.request.clone(),
            conversation: ask.conversation.clone(),
            position,
        };
        context.send(ServerMessage::Queued(message));
    }

    /// The question of which an event tells, unless that speaks of an earlier time that the engine had it.
    pub fn asked(&self, request: RequestId, attempt: u32) -> Option<&Ask> {
        let ask = self.asks.get(&request);
        ask.filter(|ask| ask.attempt == attempt)
    }

    /// Requests whose answers are on their way to another worker.
    pub fn moving(&self) -> Vec<String> {
        let moving = self.asks.values().filter(|ask| ask.moving);
        let mut moving: Vec<String> = moving.map(|ask| ask.request.clone()).collect();
        moving.sort();
        moving
    }

    fn asked_mut(&mut self, request: RequestId, attempt: u32) -> Option<&mut Ask> {
        let ask = self.asks.get_mut(&request);
        ask.filter(|ask| ask.attempt == attempt)
    }

    /// What the engine tells of a question.
    pub fn event(&mut self, event: Event, pictures: &mut Pictures, context: &mut Context) {
        match event {
            Event::Encoded { .. } | Event::PictureFailed { .. } | Event::Freed(_) => {}
            Event::Queued {
                request,
                attempt,
                position,
            } => {
                // One that goes on elsewhere was in line before.
                let waits = |ask: &&Ask| !ask.started;
                if let Some(ask) = self.asked(request, attempt).filter(waits) {
                    let id = ask.conversation.clone();
                    self.queued(request, position, context);
                    self.send_positions(&id, pictures, context);
                }
            }
            Event::Started { request, attempt } => {
                if let Some(ask) = self.asked_mut(request, attempt) {
                    ask.moving = false;
                    if std::mem::replace(&mut ask.started, true) {
                        return;
                    }
                    ask.telemetry.started();
                    let (request, id) = (ask.request.clone(), ask.conversation.clone());
                    context.send(ServerMessage::Started(Started { request }));
                    self.send_positions(&id, pictures, context);
                }
            }
            Event::Moved {
                request, attempt, ..
            } => {
                if let Some(ask) = self.asked_mut(request, attempt) {
                    ask.moving = true;
                }
            }
            Event::Tokens {
                request,
                attempt,
                first,
                ids,
                text,
                logprobs,
            } => {
                if let Some(ask) = self.asked_mut(request, attempt) {
                    ask.moving = false;
                    ask.telemetry.token();
                    if ask.apply_tokens(first, &ids, logprobs) && !text.is_empty() {
                        ask.answer.push_str(&text);
                        context.send(ServerMessage::Token(ask.next_piece(text)));
                    }
                }
            }
            Event::Done {
                request,
                attempt,
                finish_reason,
                usage,
                timings,
            } => {
                if let Some(ask) = self.asked_mut(request, attempt) {
                    if !ask.untold.is_empty() {
                        // What was held back and never shown.
                        context.send(ServerMessage::Token(ask.next_piece(String::new())));
                    }
                    ask.telemetry.done(finish_reason, &usage, &timings);
                    let id = ask.conversation.clone();
                    let done = Done {
                        request: ask.request.clone(),
                        conversation: id.clone(),
                        finish_reason,
                        usage,
                        timings,
                    };
                    self.enter_history(request, context);
                    context.send(ServerMessage::Done(Box::new(done)));
                    self.advance(&id, pictures, context);
                }
            }
            Event::Failed {
                request,
                attempt,
                failure,
            } => {
                if let Some(ask) = self.asked(request, attempt) {
                    let id = ask.conversation.clone();
                    self.fail(request, failure, context);
                    self.advance(&id, pictures, context);
                }
            }
        }
    }
}

/// Has the engine free what it holds of a conversation; `forgotten` follows when it has.
fn free(conversation: ConversationId, id: &str, context: &mut Context) {
    let forgotten = Forgotten {
        conversation: Some(id.to_owned()),
        image: None,
    };
    let session = context.session();
    context.free(
        Freed::Conversation(conversation),
        forgotten,
        Command::ForgetConversation {
            session,
            conversation,
        },
    );
}
