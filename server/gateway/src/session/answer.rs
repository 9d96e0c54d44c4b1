//! The session's questions: from `ask` to `done`, in order within a conversation.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use wire::{
    AnswerTimings, Done, ErrorCode, FinishReason, Forgotten, Queued, ServerMessage, Started, Token,
    Usage,
};

use super::state::{LookUp, State, milliseconds, seconds};
use super::talk::{Ask, AskStage, Conversation, History, PictureName, Seen, WINDOW, restore};
use api::{Command, ConversationId, Defaults, Event, Failure, Freed, RequestId, Shown, Turn};

/// What a client is told to wait before it asks again when it has too many questions open.
const RETRY_MS: f64 = 500.0;
/// And when the server has no memory for it.
const SHORT_RETRY_MS: f64 = 2000.0;
/// Conversations that one session may have; the one used longest ago goes.
const MAX_CONVERSATIONS: usize = 256;
/// What their histories may take together, and what unanswered questions may with those that they bring, in longest
/// messages.
pub(super) const MAX_HISTORIES: usize = 4;
/// Turns that a history may have: more than any model's positions hold.
const MAX_TURNS: usize = 4096;
/// Questions that ended while they waited and have yet to enter their history, behind one that goes on: they are not
/// open, but take memory.
const MAX_OVER: usize = 64;

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(code, message))
}

impl State {
    /// An `ask` message. `terms` are the checkpoint's sampling settings, or why no question can be taken now.
    pub fn ask(&mut self, ask: wire::Ask, terms: Result<Defaults, Failure>, now: Instant) {
        match self.requests.enter(&ask) {
            Seen::New => {}
            Seen::Same => return,
            Seen::Different => {
                // Without the id: the request that has it goes on.
                self.fail(Failure::new(
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
        match terms.and_then(|defaults| self.take(ask, &defaults, now)) {
            Ok(conversation) => self.advance(&conversation),
            Err(failure) => {
                if failure.retry_after_ms.is_some() {
                    self.requests.release(&request);
                }
                self.fail(wire::Error {
                    request: Some(request),
                    conversation,
                    ..failure.into()
                });
            }
        }
    }

    /// Checks a question and puts it into its conversation's queue.
    fn take(
        &mut self,
        ask: wire::Ask,
        defaults: &Defaults,
        now: Instant,
    ) -> Result<String, Failure> {
        let limits = self.setup.limits.clone();
        if wire::is_blank(&ask.text) {
            return refuse(
                ErrorCode::EmptyText,
                "The question is empty: write something to ask.",
            );
        }
        let length = ask.text.chars().count() as u64;
        if length > limits.text_chars {
            return refuse(
                ErrorCode::TextTooLong,
                format!(
                    "The question has {length} characters, but at most {} are taken: shorten it.",
                    limits.text_chars
                ),
            );
        }
        let sampling = defaults
            .with(
                ask.sampling.as_ref().unwrap_or(&wire::Sampling::default()),
                limits.max_new_tokens,
                api::random_seed(),
            )
            .or_else(|problem| refuse(ErrorCode::BadSampling, problem))?;
        let named = match (&ask.upload, &ask.image) {
            (Some(upload), _) => Some(PictureName::Upload(*upload)),
            (None, Some(image)) => Some(PictureName::Image(image.clone())),
            (None, None) => None,
        };
        if let Some(id) = &ask.conversation {
            self.drop_failed_picture(id);
            self.check_conversation(id, named.as_ref())?;
        }
        if let Some(name) = &named
            && let LookUp::Unusable(failure) = self.look_up(name)
        {
            return Err(failure);
        }
        let turns = ask.history.as_ref().map_or(0, Vec::len);
        if turns > MAX_TURNS {
            return refuse(
                ErrorCode::ContextFull,
                format!(
                    "The history has {turns} turns, but at most {MAX_TURNS} are taken: send a shorter one."
                ),
            );
        }
        let open = self.open_requests();
        let most = MAX_HISTORIES * limits.message_bytes as usize;
        if open > 0 && self.asks.values().map(Ask::bytes).sum::<usize>() > most {
            let message = "This session's unanswered questions bring too much text with them: wait for one to be answered, then ask again.";
            return Err(Failure::new(ErrorCode::Busy, message).retry_after(RETRY_MS));
        }
        if open as u64 >= limits.open_requests || self.asks.len() - open >= MAX_OVER {
            let message = format!(
                "This session has {open} unanswered questions already: wait for one to be answered, then ask again.",
            );
            return Err(Failure::new(ErrorCode::Busy, message).retry_after(RETRY_MS));
        }
        let id = match &ask.conversation {
            Some(id) => id.clone(),
            None => self.new_conversation(),
        };
        let order = self.clock();
        let request = RequestId::random();
        let traceparent = self.spans.asked(&ask.request, ask.traceparent.as_deref());
        let has = self.conversations.get(&id).map(|c| c.picture.as_ref());
        // The same picture, sent once more since it was lost.
        let is_back = has
            .flatten()
            .is_some_and(|has| self.look_up(has).is_unusable());
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return refuse(
                ErrorCode::Internal,
                "The conversation was lost: begin a new one.",
            );
        };
        conversation.used = order;
        if named.is_some() && (conversation.picture.is_none() || is_back) {
            conversation.unproven |= conversation.picture.is_none() && ask.conversation.is_some();
            conversation.picture = named;
        }
        conversation.queue.push_back(request);
        let history = ask
            .history
            .map(|given| restore(given, &conversation.history));
        self.asks.insert(
            request,
            Ask {
                request: ask.request,
                conversation: id.clone(),
                question: ask.text,
                history,
                sampling,
                traceparent,
                order,
                received: now,
                deadline: now + seconds(limits.request_seconds),
                stage: AskStage::Waiting,
                pictured: false,
                started: false,
                told: None,
                attempt: 0,
                credit: WINDOW,
                index: 0,
                answer: String::new(),
                ids: Vec::new(),
            },
        );
        Ok(id)
    }

    fn check_conversation(&self, id: &str, named: Option<&PictureName>) -> Result<(), Failure> {
        let conversation = self.conversations.get(id).filter(|found| !found.leaving);
        let Some(conversation) = conversation else {
            return refuse(
                ErrorCode::UnknownConversation,
                format!("This session has no conversation {id:?}: begin one by asking without it."),
            );
        };
        if let (Some(has), Some(named)) = (&conversation.picture, named)
            && self.resolve(has) != self.resolve(named)
            && (self.content(has).is_none() || self.content(has) != self.content(named))
            && !self.never_began(conversation)
        {
            return refuse(
                ErrorCode::ConversationHasImage,
                "The conversation is about another picture: ask about this one in a new conversation.",
            );
        }
        if let (Some(has), None) = (&conversation.picture, named)
            && let LookUp::Unusable(failure) = self.look_up(has)
        {
            return Err(failure);
        }
        Ok(())
    }

    /// Whether a conversation's picture can't be had, and no question is left that waits for it.
    fn is_without(&self, conversation: &Conversation) -> bool {
        let picture = conversation.picture.as_ref();
        conversation.queue.is_empty()
            && picture.is_some_and(|name| self.look_up(name).is_unusable())
    }

    /// Whether the picture that a conversation was to begin with failed. Another may take its place; without one nothing is
    /// answered, since the question was about something.
    fn never_began(&self, conversation: &Conversation) -> bool {
        conversation.history.is_empty() && self.is_without(conversation)
    }

    /// A picture that came into the conversation later and failed before any turn about it: none happened, so the
    /// conversation goes on without it.
    fn drop_failed_picture(&mut self, id: &str) {
        let conversation = self.conversations.get(id);
        let failed = conversation.is_some_and(|c| c.unproven && self.is_without(c));
        if failed && let Some(conversation) = self.conversations.get_mut(id) {
            conversation.lose_picture();
        }
    }

    /// Questions that are not answered yet.
    pub(super) fn open_requests(&self) -> usize {
        let open = |ask: &&Ask| ask.stage != AskStage::Over;
        self.asks.values().filter(open).count()
    }

    fn new_conversation(&mut self) -> String {
        if self.conversations.len() >= MAX_CONVERSATIONS {
            let oldest = self
                .conversations
                .iter()
                .filter(|(_, conversation)| conversation.queue.is_empty())
                .min_by_key(|(_, conversation)| conversation.used)
                .map(|(id, _)| id.clone());
            if let Some(id) = oldest {
                self.conversations.remove(&id);
            }
        }
        let id = self.new_id("conv");
        self.conversations.insert(
            id.clone(),
            Conversation {
                id: ConversationId::random(),
                picture: None,
                unproven: false,
                history: History::default(),
                queue: VecDeque::new(),
                leaving: false,
                used: 0,
            },
        );
        id
    }

    /// Gives the engine whatever can be given.
    pub(super) fn advance_all(&mut self) {
        let order = |request| self.asks.get(request).map(|ask| ask.order);
        let mut waiting: Vec<(Option<u64>, String)> = self
            .conversations
            .iter()
            .filter_map(|(id, conversation)| Some((order(conversation.queue.front()?), id.clone())))
            .collect();
        // In order of arrival.
        waiting.sort();
        for (_, id) in waiting {
            self.advance(&id);
        }
    }

    /// Gives the engine the conversation's next question if it can be asked, and tells the others how they stand.
    fn advance(&mut self, id: &str) {
        loop {
            let Some(conversation) = self.conversations.get_mut(id) else {
                return;
            };
            let Some(&request) = conversation.queue.front() else {
                if conversation.leaving
                    && let Some(gone) = self.conversations.remove(id)
                {
                    self.free_conversation(gone.id, id);
                }
                return;
            };
            let stage = self.asks.get(&request).map(|ask| ask.stage);
            match stage {
                None => {
                    conversation.queue.pop_front();
                }
                Some(AskStage::Given) => break,
                Some(AskStage::Over) => self.enter_history(request),
                Some(AskStage::Waiting) => {
                    let picture = conversation.picture.clone();
                    match picture.map(|name| self.look_up(&name)) {
                        Some(LookUp::Pending) => break,
                        Some(LookUp::Unusable(failure)) => self.ask_failed(request, failure),
                        Some(LookUp::Ready(picture)) => self.give(request, vec![picture]),
                        None => self.give(request, Vec::new()),
                    }
                }
            }
        }
        self.tell_positions(id);
    }

    /// Hands a question to the engine.
    fn give(&mut self, request: RequestId, pictures: Vec<Shown>) {
        let (used, now) = (self.clock(), Instant::now());
        let Some(ask) = self.asks.get_mut(&request) else {
            return;
        };
        let Some(conversation) = self.conversations.get(&ask.conversation) else {
            return;
        };
        ask.stage = AskStage::Given;
        ask.pictured = !pictures.is_empty();
        let history = ask.history.as_ref().unwrap_or(&conversation.history);
        let command = Command::Ask(Box::new(api::Ask {
            asker: self.setup.asker,
            conversation: conversation.id,
            request,
            attempt: ask.attempt,
            pictures,
            history: history.to_vec(),
            question: ask.question.clone(),
            sampling: ask.sampling.clone(),
            so_far: ask.ids.clone(),
            credit: ask.credit,
            waited_ms: milliseconds(ask.received, now),
            left_ms: milliseconds(now, ask.deadline),
            traceparent: ask.traceparent.clone(),
        }));
        if let Some(PictureName::Image(image)) =
            conversation.picture.clone().map(|name| self.resolve(&name))
            && let Some(picture) = self.pictures.get_mut(&image)
        {
            picture.used = used;
        }
        self.command(command);
    }

    /// `queued` for the questions that are not with the engine.
    fn tell_positions(&mut self, id: &str) {
        let Some(conversation) = self.conversations.get(id) else {
            return;
        };
        let pending = conversation
            .picture
            .as_ref()
            .is_some_and(|name| matches!(self.look_up(name), LookUp::Pending));
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
            self.queued(request, (!pending).then_some(ahead + place as u64));
        }
    }

    /// How many answers end before the conversation's next turn: none once its question with the engine has started.
    fn ahead(&self, id: &str) -> u64 {
        let queue = self.conversations.get(id).map(|it| &it.queue);
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
    fn queued(&mut self, request: RequestId, position: Option<u64>) {
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
        self.send(ServerMessage::Queued(message));
    }

    /// Ends a question with an error: its turn never happened.
    fn ask_failed(&mut self, request: RequestId, failure: Failure) {
        let Some(ask) = self.asks.remove(&request) else {
            return;
        };
        if let Some(conversation) = self.conversations.get_mut(&ask.conversation) {
            conversation.queue.retain(|queued| *queued != request);
            if conversation.unproven && conversation.queue.is_empty() {
                conversation.lose_picture();
            }
        }
        if failure.retry_after_ms.is_some() {
            self.requests.release(&ask.request);
        }
        self.fail(wire::Error {
            request: Some(ask.request),
            conversation: Some(ask.conversation),
            ..failure.into()
        });
    }

    /// The question is over: it and what was said join the history.
    fn enter_history(&mut self, request: RequestId) {
        let Some(ask) = self.asks.remove(&request) else {
            return;
        };
        let Some(conversation) = self.conversations.get_mut(&ask.conversation) else {
            return;
        };
        conversation.unproven &= !ask.pictured;
        conversation.queue.retain(|queued| *queued != request);
        if let Some(history) = ask.history {
            conversation.history = history;
        }
        conversation.history.push(Turn {
            question: ask.question,
            answer: ask.answer,
            answer_ids: (ask.stage == AskStage::Given).then_some(ask.ids),
        });
        self.forget_long_histories();
    }

    /// Keeps what is remembered of all conversations within a few messages' worth, dropping those used longest ago.
    fn forget_long_histories(&mut self) {
        let most = MAX_HISTORIES * self.setup.limits.message_bytes as usize;
        let bytes = |conversation: &Conversation| conversation.history.bytes();
        let mut held: usize = self.conversations.values().map(bytes).sum();
        while held > most {
            let oldest = self
                .conversations
                .iter()
                .filter(|(_, conversation)| conversation.queue.is_empty())
                .min_by_key(|(_, conversation)| conversation.used)
                .map(|(id, conversation)| (id.clone(), bytes(conversation)));
            let Some((id, freed)) = oldest else { return };
            self.conversations.remove(&id);
            held -= freed;
        }
    }

    /// `cancel {request}`: one that is over or unknown is nothing to complain about, since the two may have crossed.
    pub fn cancel_ask(&mut self, request: &str, now: Instant) {
        let found = self.asks.iter().find(|(_, ask)| ask.request == request);
        let Some((&request, ask)) = found else {
            return;
        };
        match ask.stage {
            AskStage::Given => self.cancel_given(request),
            AskStage::Waiting => self.end_waiting(request, FinishReason::Cancelled, now),
            AskStage::Over => {}
        }
    }

    /// Has the engine end a question.
    pub(super) fn cancel_given(&mut self, request: RequestId) {
        let session = self.session();
        self.command(Command::Cancel { session, request });
    }

    /// Refuses, for now, the questions that the engine has not been given.
    pub(super) fn refuse_waiting(&mut self) {
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
            let failure = Failure::new(ErrorCode::Busy, message).retry_after(SHORT_RETRY_MS);
            self.ask_failed(request, failure);
        }
    }

    /// Ends all questions, wherever they are.
    pub fn cancel_all(&mut self, now: Instant) {
        let asks = self.asks.values().map(|ask| ask.request.clone());
        for request in asks.collect::<Vec<_>>() {
            self.cancel_ask(&request, now);
        }
    }

    /// Ends a question that never reached the engine.
    fn end_waiting(&mut self, request: RequestId, finish_reason: FinishReason, now: Instant) {
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
        let id = ask.conversation.clone();
        self.send(ServerMessage::Done(Box::new(done)));
        if replaces {
            self.drop_replaced(&id, request);
        }
        self.advance(&id);
    }

    /// Drops the turns just before a question that brings a history in their place: nobody will see them.
    fn drop_replaced(&mut self, id: &str, request: RequestId) {
        let Some(conversation) = self.conversations.get_mut(id) else {
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
    pub(super) fn expire_asks(&mut self, now: Instant) {
        let late: Vec<RequestId> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.stage == AskStage::Waiting && ask.deadline <= now)
            .map(|(request, _)| *request)
            .collect();
        for request in late {
            self.end_waiting(request, FinishReason::Timeout, now);
        }
    }

    /// `forget {conversation}`.
    pub fn forget_conversation(&mut self, id: &str, now: Instant) {
        let Some(conversation) = self.conversations.get_mut(id) else {
            self.fail(wire::Error {
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
                Some(AskStage::Given) => self.cancel_given(request),
                Some(AskStage::Waiting) => {
                    self.end_waiting(request, FinishReason::Cancelled, now);
                }
                _ => {}
            }
        }
        self.advance(id);
    }

    /// Has the engine free what it holds of a conversation; `forgotten` follows when it has.
    fn free_conversation(&mut self, conversation: ConversationId, id: &str) {
        let forgotten = Forgotten {
            conversation: Some(id.to_owned()),
            image: None,
        };
        let session = self.session();
        self.leaving
            .push((Freed::Conversation(conversation), forgotten));
        self.command(Command::ForgetConversation {
            session,
            conversation,
        });
    }

    /// The engine holds nothing any more of what it was to forget; of the same picture, it forgets one after the other.
    fn freed(&mut self, freed: Freed) {
        if let Some(first) = self.leaving.iter().position(|(what, _)| *what == freed) {
            let (_, forgotten) = self.leaving.remove(first);
            self.send(ServerMessage::Forgotten(forgotten));
        }
    }

    /// The question of which an event tells, unless that speaks of an earlier time that the engine had it.
    pub fn asked(&self, request: RequestId, attempt: u32) -> Option<&Ask> {
        let ask = self.asks.get(&request);
        ask.filter(|ask| ask.attempt == attempt)
    }

    /// The same, to be changed.
    fn asked_mut(&mut self, request: RequestId, attempt: u32) -> Option<&mut Ask> {
        let ask = self.asks.get_mut(&request);
        ask.filter(|ask| ask.attempt == attempt)
    }

    /// What the engine tells.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Encoded {
                key,
                tokens,
                timings,
                cached,
            } => self.encoded(&key, tokens, timings, cached),
            Event::PictureFailed { key, failure } => self.not_encoded(&key, failure),
            Event::Queued {
                request,
                attempt,
                position,
            } => {
                if let Some(ask) = self.asked(request, attempt) {
                    let id = ask.conversation.clone();
                    self.queued(request, position);
                    self.tell_positions(&id);
                }
            }
            Event::Started { request, attempt } => {
                if let Some(ask) = self.asked_mut(request, attempt) {
                    ask.started = true;
                    let (request, id) = (ask.request.clone(), ask.conversation.clone());
                    self.send(ServerMessage::Started(Started { request }));
                    self.tell_positions(&id);
                }
            }
            Event::Tokens {
                request,
                attempt,
                first,
                ids,
                text,
            } => {
                if let Some(ask) = self.asked_mut(request, attempt) {
                    if ask.hear(first, &ids) && !text.is_empty() {
                        ask.answer.push_str(&text);
                        let token = Token {
                            request: ask.request.clone(),
                            index: ask.index,
                            text,
                        };
                        ask.index += 1;
                        self.send(ServerMessage::Token(token));
                    }
                    self.grant();
                }
            }
            Event::Done {
                request,
                attempt,
                finish_reason,
                usage,
                timings,
            } => {
                if let Some(ask) = self.asked(request, attempt) {
                    let id = ask.conversation.clone();
                    let done = Done {
                        request: ask.request.clone(),
                        conversation: id.clone(),
                        finish_reason,
                        usage,
                        timings,
                    };
                    self.enter_history(request);
                    self.send(ServerMessage::Done(Box::new(done)));
                    self.advance(&id);
                }
            }
            Event::Failed {
                request,
                attempt,
                failure,
            } => {
                if let Some(ask) = self.asked(request, attempt) {
                    let id = ask.conversation.clone();
                    self.ask_failed(request, failure);
                    self.advance(&id);
                }
            }
            Event::Freed(freed) => self.freed(freed),
        }
    }
}
