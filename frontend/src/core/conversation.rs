//! The questions and answers on the page: asking, asking again, stopping, and what becomes of them when the connection or the
//! session is lost.

use wire::{Ask, Cancel, ClientMessage, FinishReason, Sampling};

use super::{
    effect::Effects,
    kept::KeptTurn,
    picture::Picture,
    tree::Tree,
    turn::{Turn, TurnPhase},
};

/// What a question is sent with.
pub struct Sending<'a> {
    pub picture: Option<&'a Picture>,
    pub sampling: Option<Sampling>,
    /// The system turn.
    pub system: Option<String>,
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

/// What asking again has put in the place of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Again {
    new: u64,
    old: u64,
    /// The last turn on the page before.
    leaf: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Conversation {
    pub(super) tree: Tree,
    /// The conversation's id on the wire. It has none before the first `queued`, and none that counts after its session.
    pub(super) id: Option<String>,
    /// The server remembers other turns than stand on the page: the next question tells it anew what was said.
    pub(super) stale: bool,
    /// Counts turns and requests.
    pub(super) count: u64,
    /// Turns have ended without the server's word.
    pub(super) ended: bool,
}

impl Conversation {
    /// The turns on the page.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.tree.shown()
    }

    /// Numbers of the turns that are shown, in order.
    pub fn path(&self) -> &Vec<u64> {
        self.tree.path()
    }

    /// The versions of a turn, itself among them.
    pub fn versions(&self, id: u64) -> Vec<u64> {
        self.tree.versions(id)
    }

    /// The turn of this number.
    pub fn turn(&self, id: u64) -> Option<&Turn> {
        self.tree.get(id)
    }

    /// The conversation's id on the wire.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether an answer on the page is on its way.
    pub fn running(&self) -> bool {
        self.turns().any(|turn| turn.phase.open())
    }

    /// Whether a question was sent and nothing was heard of it.
    pub fn unheard(&self) -> bool {
        self.turns().any(|turn| *turn.phase == TurnPhase::Sent)
    }

    /// What the model remembers.
    #[cfg(test)]
    pub fn remembered(&self) -> Vec<wire::Turn> {
        self.turns().filter_map(Turn::remembered).collect()
    }

    /// All of it, as it is kept, and the last turn on the page.
    pub fn to_keep(&self) -> (Vec<KeptTurn>, Option<u64>) {
        let turns = self.tree.all().iter().map(Turn::to_keep);
        (turns.collect(), self.tree.leaf())
    }

    /// Whether other turns are on the page than before; that is told once.
    pub fn take_change(&mut self) -> bool {
        self.tree.take_change()
    }

    /// Which turns were changed, and how; that is told once.
    pub fn take_changes(&mut self, mut tell: impl FnMut(u64, TurnChange)) {
        self.tree.take_touched(|turn| {
            if turn.phase.take_change() {
                tell(turn.id, TurnChange::Phase);
            }
            if turn.answer.take_change() {
                tell(turn.id, TurnChange::Answer);
            }
            if turn.times.take_change() {
                tell(turn.id, TurnChange::Times);
            }
        });
    }

    /// Whether turns have ended without the server's word; that is told once.
    pub fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn asked(&mut self, request: &str) -> Option<&mut Turn> {
        self.tree.change(|turn| turn.request() == Some(request))
    }

    /// The turns that are open, to be changed; they may end by that.
    fn change_open(&mut self, mut change: impl FnMut(&mut Turn)) {
        let ended = &mut self.ended;
        self.tree.change_open(|turn| {
            change(turn);
            *ended |= !turn.phase.open();
        });
    }

    /// One more question, by the event at `clicked`. It is not sent yet.
    pub fn ask(&mut self, question: String, clicked: f64) {
        let parent = self.tree.leaf();
        let turn = Turn::new(self.number(), question, clicked);
        self.tree.add(Turn { parent, ..turn });
    }

    /// Asks the question of a turn again, as `text` if it was edited: another version of it, which is not sent yet. What was
    /// put in whose place, where anything is lost sight of by that.
    pub fn ask_again(&mut self, old: u64, text: Option<String>, clicked: f64) -> Option<Again> {
        let leaf = self.tree.leaf();
        let Some(turn) = self.tree.get(old) else {
            // One that has left the page in the meantime still has its text, if it was edited.
            if let Some(text) = text {
                self.ask(text, clicked);
            }
            return None;
        };
        let question = text.unwrap_or_else(|| turn.question.clone());
        let failed = matches!(*turn.phase, TurnPhase::Failed(_)) && turn.answer.is_empty();
        let (parent, same) = (turn.parent, turn.question == question);
        let dropped = failed && same && self.tree.remove(old);
        let new = self.number();
        let turn = Turn::new(new, question, clicked);
        self.tree.add(Turn { parent, ..turn });
        self.branched();
        (!dropped).then_some(Again { new, old, leaf })
    }

    /// Asking again is taken back: what stood on the page stands there again. What the server is to be told of that.
    pub fn take_back(&mut self, again: Again) -> Vec<ClientMessage> {
        let messages = self.stop_within(again.new);
        self.tree.remove(again.new);
        match again.leaf.filter(|leaf| self.tree.get(*leaf).is_some()) {
            Some(leaf) => self.tree.show_leaf(Some(leaf)),
            None if self.tree.get(again.old).is_some() => self.tree.show(again.old),
            None => {}
        }
        self.branched();
        messages
    }

    /// Shows another version of a turn, with what stands behind it.
    pub fn show(&mut self, id: u64) {
        self.tree.show(id);
        self.branched();
    }

    /// Other turns are on the page than the server was told of.
    fn branched(&mut self) {
        self.stale = true;
        // What is still answered out of sight would keep the rest waiting: that becomes a conversation of its own.
        let tree = &self.tree;
        let hidden = |turn: &&Turn| !tree.is_shown(turn.id);
        let mut hidden = tree.all().iter().filter(hidden);
        if hidden.any(|turn| turn.phase.open() && turn.sent.is_some()) {
            self.unnamed();
            self.stale = true;
        }
    }

    /// Sends every question on the page that can be sent. A conversation has no name before its first `queued`: until then
    /// its later questions wait.
    pub fn flush(&mut self, with: &Sending, out: &mut Effects) {
        for (at, id) in self.path().clone().into_iter().enumerate() {
            let unsent = |turn: &&Turn| *turn.phase == TurnPhase::Unsent;
            let Some(turn) = self.turn(id).filter(unsent) else {
                continue;
            };
            let Some(picture) = with.picture else { return };
            let before = || self.turns().take(at);
            let unnamed = self.id.is_none();
            let running = || before().filter(|turn| turn.phase.open());
            let telling = running().any(Turn::retells);
            let retells = unnamed || self.stale && !telling;
            // What is told of the turns before must be all of it.
            if retells && running().next().is_some() {
                return;
            }
            if unnamed && picture.upload.is_none() && picture.image.is_none() {
                return;
            }
            // A conversation that the server does not know is told from its beginning.
            let history = retells.then(|| before().filter_map(Turn::remembered));
            let history = history.map(Iterator::collect::<Vec<_>>);
            let history = history.filter(|turns| self.stale || !turns.is_empty());
            let image = picture.image.clone();
            // The server keeps what it was told last, with the picture or with a question: where that was anything, none is said too.
            let told =
                picture.system.is_some() || self.tree.all().iter().any(|t| t.system.is_some());
            let system = with.system.clone().or_else(|| told.then(String::new));
            let mut ask = Ask {
                text: turn.question.clone(),
                system,
                upload: picture.upload.filter(|_| unnamed && image.is_none()),
                image: image.filter(|_| unnamed),
                history,
                conversation: self.id.clone(),
                sampling: with.sampling.clone(),
                ..Ask::default()
            };
            ask.request = format!("r{}", self.number());
            out.send(ClientMessage::Ask(Box::new(ask.clone())));
            if let Some(turn) = self.tree.change(|turn| turn.id == id) {
                turn.sampling.clone_from(&ask.sampling);
                turn.system.clone_from(&with.system);
                turn.sent = Some(ask);
                turn.times.sent = Some(with.ms);
                turn.phase.set(TurnPhase::Sent);
            }
        }
    }

    /// After a resume: what the server may not have heard is said again, word for word.
    pub fn send_again(&self, out: &mut Effects) {
        for turn in self.tree.all().iter().filter(|turn| turn.phase.open()) {
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

    /// The picture is sent anew: so is whatever waits for it. What the server is to be told of that.
    pub fn ask_anew(&mut self) -> Vec<ClientMessage> {
        let sent = |turn: &&Turn| turn.phase.open() && *turn.phase != TurnPhase::Unsent;
        let requests = self.tree.all().iter().filter(sent);
        let requests = requests.filter_map(|turn| turn.request().map(str::to_owned));
        let cancels = requests.map(cancel).collect();
        self.start_over();
        cancels
    }

    /// Stops every answer on the page; what the server is to be told of that.
    pub fn stop(&mut self) -> Vec<ClientMessage> {
        let shown = self.path().clone();
        self.stop_those(|turn| shown.contains(&turn.id))
    }

    /// Stops every answer, on the page or not.
    pub fn stop_all(&mut self) -> Vec<ClientMessage> {
        self.stop_those(|_| true)
    }

    /// What was asked again is not wanted any more, unless it is on the page.
    pub fn let_go(&mut self, again: Again) -> Vec<ClientMessage> {
        if self.tree.is_shown(again.old) {
            return Vec::new();
        }
        self.stop_within(again.old)
    }

    fn stop_within(&mut self, top: u64) -> Vec<ClientMessage> {
        let all = self.tree.all().iter().map(|turn| turn.id);
        let within: Vec<_> = all.filter(|id| self.tree.is_within(*id, top)).collect();
        self.stop_those(|turn| within.contains(&turn.id))
    }

    fn stop_those(&mut self, which: impl Fn(&Turn) -> bool) -> Vec<ClientMessage> {
        let mut messages = Vec::new();
        self.change_open(|turn| match &turn.sent {
            _ if !which(turn) => {}
            Some(ask) if *turn.phase != TurnPhase::Unsent => {
                turn.stopping = true;
                messages.push(cancel(ask.request.clone()));
            }
            _ => turn.phase.set(TurnPhase::Done(FinishReason::Cancelled)),
        });
        messages
    }

    /// Another conversation is on the page, with these turns; the one before.
    pub fn begin(&mut self, turns: Vec<KeptTurn>, leaf: Option<u64>, when: f64) -> Conversation {
        let mut next = Conversation {
            count: self.count,
            ..Conversation::default()
        };
        // Numbers of this page's own: no two turns that it has ever shown have the same.
        let ids: Vec<_> = turns.iter().map(|turn| (turn.id, next.number())).collect();
        let new = |old: u64| ids.iter().find(|(id, _)| *id == old).map(|(_, new)| *new);
        let turns = turns.into_iter().zip(&ids).map(|(turn, (_, id))| {
            let parent = turn.parent.and_then(new);
            Turn::kept(*id, parent, turn, when)
        });
        next.tree = Tree::new(turns.collect(), leaf.and_then(new));
        std::mem::replace(self, next)
    }

    /// A conversation that was put away is on the page again; the one before.
    pub fn bring_back(&mut self, mut other: Conversation) -> Conversation {
        other.count = other.count.max(self.count);
        other.tree.all_anew();
        std::mem::replace(self, other)
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
}

fn cancel(request: String) -> ClientMessage {
    ClientMessage::Cancel(Cancel {
        request: Some(request),
        upload: None,
    })
}
