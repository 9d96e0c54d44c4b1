//! What the server says of the questions that it was asked.

use wire::{Done, Failure, FinishReason, Queued, Started, Token};

use super::{
    clock::Offset,
    conversation::Conversation,
    effect::{Effect, Effects},
    picture::PictureTimes,
    turn::TurnPhase,
};

impl Conversation {
    /// A question has its place, since `left`; whether the conversation has its name by that.
    pub fn queued(&mut self, m: Queued, left: f64) -> bool {
        let Some(turn) = self.asked(&m.request) else {
            return false;
        };
        let begins = turn
            .sent
            .as_ref()
            .is_some_and(|ask| ask.conversation.is_none());
        let named = begins && *turn.phase == TurnPhase::Sent;
        turn.phase.set(TurnPhase::Queued(m.position));
        turn.times.queued.get_or_insert(left);
        let id = turn.id;
        let named = named && self.tree.is_shown(id);
        if named {
            self.id = Some(m.conversation);
        }
        named
    }

    pub fn started(&mut self, m: &Started, left: f64) {
        if let Some(turn) = self.asked(&m.request) {
            turn.phase.set(TurnPhase::Thinking);
            turn.times.started = Some(left);
        }
    }

    /// A piece of an answer, sent at `left` and heard at `when`; whether it is the first.
    pub fn token(&mut self, m: &Token, left: f64, when: f64, out: &mut Effects) -> bool {
        let Some(turn) = self.asked(&m.request) else {
            return false;
        };
        let first = m.index == 0;
        if first {
            turn.times.first_left = Some(left);
            turn.times.first = Some(when);
            out.push(Effect::WatchDrawn(turn.id));
        }
        turn.answer.push_str(&m.text);
        if *turn.phase != TurnPhase::Streaming {
            turn.phase.set(TurnPhase::Streaming);
        }
        first
    }

    /// The first word of a turn was drawn; how long after the click.
    pub fn drawn(&mut self, id: u64, ms: f64) -> Option<f64> {
        let turn = self.tree.change(|turn| turn.id == id)?;
        turn.times.drawn = Some(ms);
        Some(ms - turn.times.clicked)
    }

    /// An answer has ended; whether it is one of this page.
    pub fn done(
        &mut self,
        m: Done,
        left: f64,
        clock: Option<Offset>,
        picture: Option<PictureTimes>,
    ) -> bool {
        let Some(turn) = self.asked(&m.request) else {
            return false;
        };
        let times = &mut *turn.times;
        times.done = Some(left);
        times.clock = clock;
        times.timings = Some(m.timings);
        times.usage = Some(m.usage);
        times.picture = picture.filter(|_| turn.parent.is_none());
        turn.phase.set(TurnPhase::Done(m.finish_reason));
        let (told, id) = (turn.retells(), turn.id);
        self.stale &= !(told && self.tree.is_shown(id));
        true
    }

    /// Whether a question of this page has that id on the wire.
    pub fn has_asked(&self, request: &str) -> bool {
        let mut turns = self.tree.all().iter().rev();
        turns.any(|turn| turn.request() == Some(request))
    }

    /// The server takes no question for a while: this one waits.
    pub fn wait(&mut self, request: &str) {
        if let Some(turn) = self.asked(request) {
            let stopped = turn.stopping;
            turn.phase.set(if stopped {
                TurnPhase::Done(FinishReason::Cancelled)
            } else {
                TurnPhase::Unsent
            });
            self.ended |= stopped;
        }
    }

    pub fn failed(&mut self, request: &str, failure: Failure) {
        if let Some(turn) = self.asked(request) {
            turn.phase.set(TurnPhase::Failed(failure));
        }
    }
}
