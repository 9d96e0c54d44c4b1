//! The session's questions: from `ask` to `done`, in order within a conversation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use wire::{
    AnswerTimings, Done, ErrorCode, FinishReason, Forgotten, Queued, ServerMessage, Started, Token,
    Usage,
};

use super::state::{Effect, LookUp, State, error, milliseconds, seconds};
use super::talk::{Ask, AskStage, Conversation, History, PictureName, Seen, restore};
use api::{AskJob, Defaults, Event, Failure, Turn};

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

/// Why a question is refused before it is queued.
type Refused = (ErrorCode, String, Option<f64>);

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refused> {
    Err((code, message.into(), None))
}

impl State {
    /// An `ask` message. `terms` are the checkpoint's sampling settings, or why no question can be taken now.
    pub fn ask(&mut self, ask: wire::Ask, terms: Result<Defaults, Failure>, now: Instant) {
        match self.requests.enter(&ask) {
            Seen::New => {}
            Seen::Same => return,
            Seen::Different => {
                // Without the id: the request that has it goes on.
                self.fail(error(
                    ErrorCode::DuplicateRequest,
                    format!(
                        "Request id {:?} was used before in this session for something else: take another.",
                        ask.request
                    ),
                ));
                return;
            }
        }
        let (request, conversation) = (ask.request.clone(), ask.conversation.clone());
        let taken = match terms {
            Ok(defaults) => self.take(ask, &defaults, now),
            Err(reason) => Err((reason.code, reason.message, reason.retry_after_ms)),
        };
        match taken {
            Ok(conversation) => self.advance(&conversation),
            Err((code, message, retry_after_ms)) => {
                if retry_after_ms.is_some() {
                    self.requests.release(&request);
                }
                self.fail(wire::Error {
                    request: Some(request),
                    conversation,
                    retry_after_ms,
                    ..error(code, message)
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
    ) -> Result<String, Refused> {
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
        let mut sampling = defaults
            .with(
                ask.sampling.as_ref().unwrap_or(&wire::Sampling::default()),
                limits.max_new_tokens,
            )
            .or_else(|problem| refuse(ErrorCode::BadSampling, problem))?;
        // Settled here, so that whoever goes on with the answer draws as whoever began it would have.
        sampling
            .seed
            .get_or_insert_with(|| (self.setup.next_seed)());
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
            && let LookUp::Unusable {
                code,
                message,
                retry_after_ms,
            } = self.look_up(name)
        {
            return Err((code, message, retry_after_ms));
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
            return Err((
                ErrorCode::Busy,
                "This session's unanswered questions bring too much text with them: wait for one to be answered, then ask again.".into(),
                Some(RETRY_MS),
            ));
        }
        if open as u64 >= limits.open_requests || self.asks.len() - open >= MAX_OVER {
            return Err((
                ErrorCode::Busy,
                format!(
                    "This session has {open} unanswered questions already: wait for one to be answered, then ask again.",
                ),
                Some(RETRY_MS),
            ));
        }
        let id = match &ask.conversation {
            Some(id) => id.clone(),
            None => self.new_conversation(),
        };
        let used = self.clock();
        let number = (self.setup.next_number)();
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
        conversation.used = used;
        if named.is_some() && (conversation.picture.is_none() || is_back) {
            conversation.unproven |= conversation.picture.is_none() && ask.conversation.is_some();
            conversation.picture = named;
        }
        conversation.queue.push_back(number);
        let history = ask
            .history
            .map(|given| restore(given, &conversation.history));
        self.asks.insert(
            number,
            Ask {
                request: ask.request,
                conversation: id.clone(),
                question: ask.text,
                history,
                sampling,
                received: now,
                deadline: now + seconds(limits.request_seconds),
                stage: AskStage::Waiting,
                pictured: false,
                started: false,
                told: None,
                index: 0,
                answer: String::new(),
            },
        );
        Ok(id)
    }

    fn check_conversation(&self, id: &str, named: Option<&PictureName>) -> Result<(), Refused> {
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
            && let LookUp::Unusable {
                code,
                message,
                retry_after_ms,
            } = self.look_up(has)
        {
            return Err((code, message, retry_after_ms));
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
        let number = (self.setup.next_number)();
        self.conversations.insert(
            id.clone(),
            Conversation {
                number,
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
        let mut waiting: Vec<(u64, String)> = self
            .conversations
            .iter()
            .filter_map(|(id, conversation)| Some((*conversation.queue.front()?, id.clone())))
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
            let Some(&number) = conversation.queue.front() else {
                if conversation.leaving
                    && let Some(gone) = self.conversations.remove(id)
                {
                    self.effects.push_back(Effect::ForgetConversation {
                        number: gone.number,
                        id: id.to_owned(),
                    });
                }
                return;
            };
            let stage = self.asks.get(&number).map(|ask| ask.stage);
            match stage {
                None => {
                    conversation.queue.pop_front();
                }
                Some(AskStage::Given) => break,
                Some(AskStage::Over) => self.enter_history(number, None),
                Some(AskStage::Waiting) => {
                    let picture = conversation.picture.clone();
                    match picture.map(|name| self.look_up(&name)) {
                        Some(LookUp::Pending) => break,
                        Some(LookUp::Unusable {
                            code,
                            message,
                            retry_after_ms,
                        }) => self.ask_failed(number, code, message, retry_after_ms),
                        Some(LookUp::Ready(key)) => self.give(number, Some(key)),
                        None => self.give(number, None),
                    }
                }
            }
        }
        self.tell_positions(id);
    }

    /// Hands a question to the engine.
    fn give(&mut self, number: u64, picture: Option<api::PictureKey>) {
        let used = self.clock();
        let Some(ask) = self.asks.get_mut(&number) else {
            return;
        };
        let Some(conversation) = self.conversations.get_mut(&ask.conversation) else {
            return;
        };
        let number_of_conversation = conversation.number;
        ask.stage = AskStage::Given;
        ask.pictured = picture.is_some();
        let history = ask.history.as_ref().unwrap_or(&conversation.history);
        let history = history.to_vec();
        if let Some(PictureName::Image(image)) =
            conversation.picture.clone().map(|name| self.resolve(&name))
            && let Some(picture) = self.pictures.get_mut(&image)
        {
            picture.used = used;
        }
        let Some(ask) = self.asks.get(&number) else {
            return;
        };
        self.effects.push_back(Effect::Ask(Box::new(AskJob {
            asker: self.setup.asker,
            conversation: number_of_conversation,
            request: number,
            picture,
            history,
            question: ask.question.clone(),
            sampling: ask.sampling.clone(),
            received: ask.received,
            deadline: ask.deadline,
            events: self.setup.events.clone(),
            open: Arc::new(()),
        })));
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
        let waiting: Vec<u64> = conversation
            .queue
            .iter()
            .filter(|number| {
                self.asks
                    .get(number)
                    .is_some_and(|ask| ask.stage == AskStage::Waiting)
            })
            .copied()
            .collect();
        let ahead = self.ahead(id);
        for (place, number) in waiting.into_iter().enumerate() {
            self.queued(number, (!pending).then_some(ahead + place as u64));
        }
    }

    /// How many answers end before the conversation's next turn: none once its question with the engine has started.
    fn ahead(&self, id: &str) -> u64 {
        let queue = self.conversations.get(id).map(|it| &it.queue);
        let given = queue
            .into_iter()
            .flatten()
            .filter_map(|number| self.asks.get(number))
            .find(|ask| ask.stage == AskStage::Given);
        given
            .filter(|ask| !ask.started)
            .map_or(0, |ask| 1 + ask.told.flatten().unwrap_or(0))
    }

    /// Sends `queued` at first, and when the position falls.
    fn queued(&mut self, number: u64, position: Option<u64>) {
        let Some(ask) = self.asks.get_mut(&number) else {
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
    fn ask_failed(
        &mut self,
        number: u64,
        code: ErrorCode,
        message: String,
        retry_after_ms: Option<f64>,
    ) {
        let Some(ask) = self.asks.remove(&number) else {
            return;
        };
        if let Some(conversation) = self.conversations.get_mut(&ask.conversation) {
            conversation.queue.retain(|queued| *queued != number);
            if conversation.unproven && conversation.queue.is_empty() {
                conversation.lose_picture();
            }
        }
        if retry_after_ms.is_some() {
            self.requests.release(&ask.request);
        }
        self.fail(wire::Error {
            request: Some(ask.request),
            conversation: Some(ask.conversation),
            retry_after_ms,
            ..error(code, message)
        });
    }

    /// The engine refused the question at once.
    pub fn ask_refused(&mut self, number: u64, failure: Failure) {
        let Some(id) = self.asks.get(&number).map(|ask| ask.conversation.clone()) else {
            return;
        };
        self.ask_failed(
            number,
            failure.code,
            failure.message,
            failure.retry_after_ms,
        );
        self.advance(&id);
    }

    /// The question is over: it and what was said join the history.
    fn enter_history(&mut self, number: u64, answer_ids: Option<Vec<u32>>) {
        let Some(ask) = self.asks.remove(&number) else {
            return;
        };
        let Some(conversation) = self.conversations.get_mut(&ask.conversation) else {
            return;
        };
        conversation.unproven &= !ask.pictured;
        conversation.queue.retain(|queued| *queued != number);
        if let Some(history) = ask.history {
            conversation.history = history;
        }
        conversation.history.push(Turn {
            question: ask.question,
            answer: ask.answer,
            answer_ids,
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
        let Some((&number, ask)) = found else { return };
        match ask.stage {
            AskStage::Given => self.effects.push_back(Effect::Cancel(number)),
            AskStage::Waiting => self.end_waiting(number, FinishReason::Cancelled, now),
            AskStage::Over => {}
        }
    }

    /// Refuses, for now, the questions that the engine has not been given.
    pub(super) fn refuse_waiting(&mut self) {
        let mut waiting: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.stage == AskStage::Waiting)
            .map(|(number, _)| *number)
            .collect();
        // The newest first, so that none moves up before it goes itself.
        waiting.sort_by(|a, b| b.cmp(a));
        for number in waiting {
            let message = "The server has no memory left for questions that wait, and this client's take the most: ask again in a moment.";
            self.ask_failed(
                number,
                ErrorCode::Busy,
                message.into(),
                Some(SHORT_RETRY_MS),
            );
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
    fn end_waiting(&mut self, number: u64, finish_reason: FinishReason, now: Instant) {
        let Some(ask) = self.asks.get_mut(&number) else {
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
            self.drop_replaced(&id, number);
        }
        self.advance(&id);
    }

    /// Drops the turns just before a question that brings a history in their place: nobody will see them.
    fn drop_replaced(&mut self, id: &str, number: u64) {
        let Some(conversation) = self.conversations.get_mut(id) else {
            return;
        };
        let Some(place) = conversation.queue.iter().position(|it| *it == number) else {
            return;
        };
        let asks = &mut self.asks;
        let over = |number: &u64| {
            asks.get(number)
                .is_some_and(|ask| ask.stage == AskStage::Over)
        };
        let queue = conversation.queue.iter().take(place);
        let first = place - queue.rev().take_while(|number| over(number)).count();
        for gone in conversation.queue.drain(first..place) {
            asks.remove(&gone);
        }
    }

    /// Ends the questions whose time ran out while they waited.
    pub(super) fn expire_asks(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.stage == AskStage::Waiting && ask.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.end_waiting(number, FinishReason::Timeout, now);
        }
    }

    /// `forget {conversation}`.
    pub fn forget_conversation(&mut self, id: &str, now: Instant) {
        let Some(conversation) = self.conversations.get_mut(id) else {
            self.fail(wire::Error {
                conversation: Some(id.to_owned()),
                ..error(
                    ErrorCode::UnknownConversation,
                    format!("This session has no conversation {id:?} to forget."),
                )
            });
            return;
        };
        if conversation.leaving {
            return;
        }
        conversation.leaving = true;
        for number in conversation.queue.clone() {
            match self.asks.get(&number).map(|ask| ask.stage) {
                Some(AskStage::Given) => self.effects.push_back(Effect::Cancel(number)),
                Some(AskStage::Waiting) => {
                    self.end_waiting(number, FinishReason::Cancelled, now);
                }
                _ => {}
            }
        }
        self.advance(id);
    }

    /// What the engine held of a conversation is freed.
    pub fn conversation_freed(&mut self, id: &str) {
        self.send(ServerMessage::Forgotten(Forgotten {
            conversation: Some(id.to_owned()),
            image: None,
        }));
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
            Event::PictureFailed { key, error } => self.not_encoded(&key, error),
            Event::Queued { request, position } => {
                self.queued(request, position.map(|place| place as u64));
                if let Some(ask) = self.asks.get(&request) {
                    self.tell_positions(&ask.conversation.clone());
                }
            }
            Event::Started { request } => {
                if let Some(ask) = self.asks.get_mut(&request) {
                    ask.started = true;
                    let (request, conversation) = (ask.request.clone(), ask.conversation.clone());
                    self.send(ServerMessage::Started(Started { request }));
                    self.tell_positions(&conversation);
                }
            }
            Event::Token { request, text } => {
                if let Some(ask) = self.asks.get_mut(&request) {
                    ask.answer.push_str(&text);
                    let token = Token {
                        request: ask.request.clone(),
                        index: ask.index,
                        text,
                    };
                    ask.index += 1;
                    self.send(ServerMessage::Token(token));
                }
            }
            Event::Done {
                request,
                finish_reason,
                usage,
                timings,
                answer_ids,
            } => {
                let Some(ask) = self.asks.get(&request) else {
                    return;
                };
                let id = ask.conversation.clone();
                let done = Done {
                    request: ask.request.clone(),
                    conversation: id.clone(),
                    finish_reason,
                    usage,
                    timings,
                };
                self.enter_history(request, Some(answer_ids));
                self.send(ServerMessage::Done(Box::new(done)));
                self.advance(&id);
            }
            Event::Failed { request, error } => self.ask_refused(request, error),
        }
    }
}
