//! The questions and answers on the page: asking, asking again, stopping, and what becomes of them when the connection or the
//! session is lost.

use wire::{
    Ask, Cancel, ClientMessage, Done, Failure, FinishReason, Queued, Sampling, Started, Token,
};

use super::{
    clock::Offset,
    effect::{Effect, Effects},
    picture::{Picture, PictureTimes},
    turn::{Turn, TurnPhase},
    watched::Watched,
};

/// What a question is sent with.
pub struct Sending<'a> {
    pub picture: Option<&'a Picture>,
    pub sampling: Option<Sampling>,
    /// The page's clock.
    pub ms: f64,
}

/// A change of one turn, for whoever draws it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TurnChange {
    Phase,
    Answer,
    Times,
}

#[derive(Debug, Default)]
pub struct Conversation {
    turns: Watched<Vec<Turn>>,
    /// The conversation's id on the wire. It has none before the first `queued`, and none that counts after its session.
    id: Option<String>,
    /// The server remembers turns that are on the page no more: the next question tells it anew what was said.
    pub(super) stale: bool,
    /// Counts turns and requests.
    count: u64,
    /// Turns have ended without the server's word.
    ended: bool,
    /// Turns that were changed.
    touched: Vec<u64>,
}

impl Conversation {
    pub fn turns(&self) -> &Vec<Turn> {
        &self.turns
    }

    /// The turn of this number; the last ones are found first.
    pub fn turn(&self, id: u64) -> Option<&Turn> {
        self.turns.iter().rev().find(|turn| turn.id == id)
    }

    /// Its id on the wire.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether an answer is on its way.
    pub fn running(&self) -> bool {
        self.turns.iter().any(|turn| turn.phase.open())
    }

    /// What the model remembers.
    pub fn remembered(&self) -> Vec<wire::Turn> {
        self.turns.iter().filter_map(Turn::remembered).collect()
    }

    /// The questions that have no whole answer yet.
    pub fn asking(&self) -> Vec<String> {
        let open = self.turns.iter().filter(|turn| turn.phase.open());
        open.map(|turn| turn.question.clone()).collect()
    }

    /// Whether turns came or went; that is told once.
    pub fn take_change(&mut self) -> bool {
        self.turns.take_change()
    }

    /// Which turns were changed, and how; that is told once.
    pub fn take_changes(&mut self, mut tell: impl FnMut(u64, TurnChange)) {
        for id in std::mem::take(&mut self.touched) {
            let Some(turn) = self.turns.untold().iter_mut().rev().find(|t| t.id == id) else {
                continue;
            };
            if turn.phase.take_change() {
                tell(id, TurnChange::Phase);
            }
            if turn.answer.take_change() {
                tell(id, TurnChange::Answer);
            }
            if turn.times.take_change() {
                tell(id, TurnChange::Times);
            }
        }
    }

    /// Whether turns have ended without the server's word; that is told once.
    pub fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A turn, to be changed.
    fn change(&mut self, which: impl Fn(&Turn) -> bool) -> Option<&mut Turn> {
        let turn = self.turns.untold().iter_mut().rev().find(|t| which(t))?;
        if self.touched.last() != Some(&turn.id) {
            self.touched.push(turn.id);
        }
        Some(turn)
    }

    fn asked(&mut self, request: &str) -> Option<&mut Turn> {
        self.change(|turn| turn.request() == Some(request))
    }

    /// The turns that are open, to be changed; they may end by that.
    fn change_open(&mut self, mut change: impl FnMut(&mut Turn)) {
        let turns = self.turns.untold().iter_mut();
        for turn in turns.filter(|turn| turn.phase.open()) {
            self.touched.push(turn.id);
            change(turn);
            self.ended |= !turn.phase.open();
        }
    }

    /// One more question, by the event at `clicked`. It is not sent yet.
    pub fn ask(&mut self, question: String, clicked: f64) {
        let id = self.number();
        self.turns.push(Turn::new(id, question, clicked));
    }

    /// Asks the question of a turn again, as `text` if it was edited; what came after it is dropped. It is not sent yet.
    pub fn ask_again(&mut self, id: u64, text: Option<String>, clicked: f64) {
        let at = self.turns.iter().position(|turn| turn.id == id);
        // A turn that has left the page in the meantime still has its text, if it was edited.
        let before = at.and_then(|at| self.turns.get(at));
        let Some(text) = text.or_else(|| before.map(|turn| turn.question.clone())) else {
            return;
        };
        let turn = Turn::new(self.number(), text, clicked);
        if let Some(at) = at {
            self.turns.truncate(at);
        }
        self.stale = true;
        self.turns.push(turn);
    }

    /// Sends every question that can be sent. A conversation has no name before its first `queued`: until then its later
    /// questions wait.
    pub fn flush(&mut self, with: &Sending, out: &mut Effects) {
        let unsent = |turn: &Turn| *turn.phase == TurnPhase::Unsent;
        for at in 0..self.turns.len() {
            let Some(turn) = self.turns.get(at).filter(|turn| unsent(turn)) else {
                continue;
            };
            let Some(picture) = with.picture else { return };
            let before = self.turns.get(..at).unwrap_or_default();
            let unnamed = self.id.is_none();
            let mut running = before.iter().filter(|turn| turn.phase.open());
            let telling = running.clone().any(Turn::retells);
            let retells = unnamed || self.stale && !telling;
            // What is told of the turns before must be all of it.
            if retells && running.next().is_some() {
                return;
            }
            if unnamed && picture.upload.is_none() && picture.image.is_none() {
                return;
            }
            // A conversation that the server does not know is told from its beginning.
            let history = retells.then(|| before.iter().filter_map(Turn::remembered));
            let history = history.map(Iterator::collect::<Vec<_>>);
            let history = history.filter(|turns| self.stale || !turns.is_empty());
            let image = picture.image.clone();
            let ask = Ask {
                text: turn.question.clone(),
                upload: picture.upload.filter(|_| unnamed && image.is_none()),
                image: image.filter(|_| unnamed),
                history,
                conversation: self.id.clone(),
                sampling: with.sampling.clone(),
                request: format!("r{}", self.number()),
                traceparent: None,
            };
            out.send(ClientMessage::Ask(Box::new(ask.clone())));
            let id = self.turns.get(at).map(|turn| turn.id);
            if let Some(turn) = self.change(|turn| Some(turn.id) == id) {
                turn.sent = Some(ask);
                turn.times.sent = Some(with.ms);
                turn.phase.set(TurnPhase::Sent);
            }
        }
    }

    /// After a resume: what the server may not have heard is said again, word for word.
    pub fn send_again(&self, out: &mut Effects) {
        for turn in self.turns.iter().filter(|turn| turn.phase.open()) {
            let Some(ask) = &turn.sent else { continue };
            if *turn.phase == TurnPhase::Sent {
                out.send(ClientMessage::Ask(Box::new(ask.clone())));
            }
            if turn.stopping {
                out.send(cancel(ask.request.clone()));
            }
        }
    }

    /// After the session was lost: everything unfinished is asked anew, but for what the person has stopped.
    pub fn start_over(&mut self) {
        self.unnamed();
        self.change_open(|turn| {
            if turn.stopping {
                return turn.phase.set(TurnPhase::Done(FinishReason::Cancelled));
            }
            turn.answer.set(String::new());
            turn.sent = None;
            turn.phase.set(TurnPhase::Unsent);
        });
    }

    /// Stops every answer; what the server is to be told of that.
    pub fn stop(&mut self) -> Vec<ClientMessage> {
        let mut messages = Vec::new();
        self.change_open(|turn| match &turn.sent {
            Some(ask) if *turn.phase != TurnPhase::Unsent => {
                turn.stopping = true;
                messages.push(cancel(ask.request.clone()));
            }
            _ => turn.phase.set(TurnPhase::Done(FinishReason::Cancelled)),
        });
        messages
    }

    /// Leaves the conversation for another one, with these turns.
    pub fn begin(&mut self, turns: Vec<wire::Turn>, when: f64) {
        let turns = turns.into_iter().map(|turn| {
            self.count += 1;
            Turn::kept(self.count, turn, when)
        });
        let turns = turns.collect();
        self.turns.set(turns);
        self.ended = false;
        self.unnamed();
    }

    /// The server has the conversation no longer.
    pub fn forgotten(&mut self, id: Option<&str>) {
        if id.is_some() && id == self.id() {
            self.unnamed();
        }
    }

    /// The next question begins a conversation of its own on the server.
    pub fn unnamed(&mut self) {
        self.id = None;
        self.stale = false;
    }

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
        let turn = self.change(|turn| turn.id == id)?;
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
        let first = self.turns.first().map(|turn| turn.id);
        let Some(turn) = self.asked(&m.request) else {
            return false;
        };
        let times = &mut *turn.times;
        times.done = Some(left);
        times.clock = clock;
        times.timings = Some(m.timings);
        times.usage = Some(m.usage);
        times.picture = picture.filter(|_| first == Some(turn.id));
        turn.phase.set(TurnPhase::Done(m.finish_reason));
        let told = turn.retells();
        self.stale &= !told;
        true
    }

    /// Whether a question of this page has that id on the wire.
    pub fn has_asked(&self, request: &str) -> bool {
        let mut turns = self.turns.iter().rev();
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

fn cancel(request: String) -> ClientMessage {
    ClientMessage::Cancel(Cancel {
        request: Some(request),
        upload: None,
    })
}
