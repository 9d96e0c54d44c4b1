//! Whether a question is taken: checked, and put into its conversation's queue.

use std::collections::VecDeque;
use std::time::Instant;

use wire::ErrorCode;

use super::ask::{Ask, AskStage, WINDOW};
use super::conversation::{Conversation, History, restore};
use super::{Conversations, MAX_HISTORIES};
use crate::intake::{self, retry};
use crate::session::context::Context;
use crate::session::context::seconds;
use crate::session::pictures::{LookUp, PictureName, Pictures};
use crate::telemetry;
use api::{ConversationId, Defaults, Failure, RequestId};

/// Conversations that one session may have; the one used longest ago goes.
const MAX_CONVERSATIONS: usize = 256;
/// Turns that a history may have: more than any model's positions hold.
const MAX_TURNS: usize = 4096;
/// Questions that ended while they waited and have yet to enter their history, behind one that goes on: they are not
/// open, but take memory.
const MAX_OVER: usize = 64;

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(code, message))
}

/// Whether a conversation's picture can't be had, and no question is left that waits for it.
fn is_without(conversation: &Conversation, pictures: &Pictures) -> bool {
    let picture = conversation.picture.as_ref();
    conversation.queue.is_empty()
        && picture.is_some_and(|name| pictures.look_up(name).is_unusable())
}

/// Whether the picture that a conversation was to begin with failed. Another may take its place; without one nothing is
/// answered, since the question was about something.
fn never_began(conversation: &Conversation, pictures: &Pictures) -> bool {
    conversation.history.is_empty() && is_without(conversation, pictures)
}

impl Conversations {
    /// Checks a question and puts it into its conversation's queue.
    pub(super) fn take(
        &mut self,
        ask: wire::Ask,
        defaults: &Defaults,
        pictures: &Pictures,
        context: &mut Context,
        now: Instant,
    ) -> Result<String, Failure> {
        let limits = context.limits();
        intake::check_text(&ask.text, &limits)?;
        if let Some(system) = &ask.system {
            intake::check_system(system, &limits)?;
        }
        intake::check_logprobs(ask.logprobs)?;
        let sampling = intake::sampling(ask.sampling.as_ref(), defaults, &limits)?;
        let format = intake::format(ask.format)?;
        let named = match (&ask.upload, &ask.image) {
            (Some(upload), _) => Some(PictureName::Upload(*upload)),
            (None, Some(image)) => Some(PictureName::Image(image.clone())),
            (None, None) => None,
        };
        if let Some(id) = &ask.conversation {
            self.drop_failed_picture(id, pictures);
            self.check_conversation(id, named.as_ref(), pictures)?;
        }
        if let Some(name) = &named
            && let LookUp::Unusable(failure) = pictures.look_up(name)
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
        if let Some(turn) = ask.picture_turn {
            self.check_picture_turn(turn, ask.conversation.as_deref(), ask.history.as_deref())?;
        }
        let open = self.count(|stage| stage != AskStage::Over);
        let most = MAX_HISTORIES * limits.message_bytes as usize;
        if open > 0 && self.asks.values().map(Ask::bytes).sum::<usize>() > most {
            let message = "This session's unanswered questions bring too much text with them: wait for one to be answered, then ask again.";
            return Err(Failure::new(ErrorCode::Busy, message).retry_after(retry::OPEN_QUESTIONS));
        }
        if open as u64 >= limits.open_requests || self.asks.len() - open >= MAX_OVER {
            let message = format!(
                "This session has {open} unanswered questions already: wait for one to be answered, then ask again.",
            );
            return Err(Failure::new(ErrorCode::Busy, message).retry_after(retry::OPEN_QUESTIONS));
        }
        let id = match &ask.conversation {
            Some(id) => id.clone(),
            None => self.new_conversation(context),
        };
        let order = context.clock();
        let request = RequestId::random();
        let has = self.table.get(&id).map(|c| c.picture.as_ref());
        // The same picture, sent once more since it was lost.
        let is_back = has
            .flatten()
            .is_some_and(|has| pictures.look_up(has).is_unusable());
        let Some(conversation) = self.table.get_mut(&id) else {
            return refuse(
                ErrorCode::Internal,
                "The conversation was lost: begin a new one.",
            );
        };
        let (telemetry, traceparent) = telemetry::Question::taken(
            context.setup.tag.clone(),
            ask.request.clone(),
            ask.traceparent.as_deref(),
        );
        conversation.used = order;
        if named.is_some() && (conversation.picture.is_none() || is_back) {
            conversation.tentative |= conversation.picture.is_none() && ask.conversation.is_some();
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
                system: ask.system,
                // A history that is brought says all that the conversation is.
                picture_turn: ask.picture_turn.or_else(|| history.as_ref().map(|_| 0)),
                history,
                sampling,
                format,
                logprobs: ask.logprobs,
                traceparent,
                telemetry,
                order,
                received: now,
                deadline: now + seconds(limits.request_seconds),
                stage: AskStage::Waiting,
                pictured: false,
                started: false,
                moving: false,
                told: None,
                attempt: 0,
                credit: WINDOW,
                index: 0,
                answer: String::new(),
                ids: Vec::new(),
                untold: Vec::new(),
            },
        );
        Ok(id)
    }

    fn check_conversation(
        &self,
        id: &str,
        named: Option<&PictureName>,
        pictures: &Pictures,
    ) -> Result<(), Failure> {
        let conversation = self.table.get(id).filter(|found| !found.leaving);
        let Some(conversation) = conversation else {
            return refuse(
                ErrorCode::UnknownConversation,
                format!("This session has no conversation {id:?}: begin one by asking without it."),
            );
        };
        if let (Some(has), Some(named)) = (&conversation.picture, named)
            && !pictures.are_one(has, named)
            && !never_began(conversation, pictures)
        {
            return refuse(
                ErrorCode::ConversationHasImage,
                "The conversation is about another picture: ask about this one in a new conversation.",
            );
        }
        if let (Some(has), None) = (&conversation.picture, named)
            && let LookUp::Unusable(failure) = pictures.look_up(has)
        {
            return Err(failure);
        }
        Ok(())
    }

    /// Whether a picture can have come with a turn: there is a message that it stands in.
    fn check_picture_turn(
        &self,
        turn: u32,
        conversation: Option<&str>,
        history: Option<&[wire::Turn]>,
    ) -> Result<(), Failure> {
        let known = conversation.and_then(|id| self.table.get(id));
        let before = match (history, known) {
            (Some(history), _) => history.len(),
            // Those before it may yet fail; then it stands in the question itself.
            (None, Some(known)) => known.history.len() + known.queue.len(),
            (None, None) => 0,
        };
        if turn as usize > before {
            return refuse(
                ErrorCode::BadMessage,
                format!(
                    "picture_turn must be from 0 to {before}, the turns before the question, not {turn}."
                ),
            );
        }
        Ok(())
    }

    /// A picture that came into the conversation later and failed before any turn about it: none happened, so the
    /// conversation goes on without it.
    fn drop_failed_picture(&mut self, id: &str, pictures: &Pictures) {
        let conversation = self.table.get(id);
        let failed = conversation.is_some_and(|c| c.tentative && is_without(c, pictures));
        if failed && let Some(conversation) = self.table.get_mut(id) {
            conversation.lose_picture();
        }
    }

    fn new_conversation(&mut self, context: &mut Context) -> String {
        if self.table.len() >= MAX_CONVERSATIONS {
            let oldest = self
                .table
                .iter()
                .filter(|(_, conversation)| conversation.queue.is_empty())
                .min_by_key(|(_, conversation)| conversation.used)
                .map(|(id, _)| id.clone());
            if let Some(id) = oldest {
                self.table.remove(&id);
            }
        }
        let id = context.new_id("conv");
        self.table.insert(
            id.clone(),
            Conversation {
                id: ConversationId::random(),
                picture: None,
                tentative: false,
                history: History::default(),
                system: None,
                picture_turn: 0,
                queue: VecDeque::new(),
                leaving: false,
                used: 0,
            },
        );
        id
    }
}
