//! What a gateway decides about its workers: where each session is at home, and what moves when a home is lost. Plain data:
//! what happens comes in as calls, with the time since the gateway's start; what is to be done comes out as [`Effect`]s.

mod leaving;
mod members;
mod session;
mod standing;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use api::{
    Ask, Command, ErrorCode, Event, Failure, Freed, KnownPicture, LogName, Picture, PictureKey,
    Pixels, Report, SessionId, State, Status,
};
use policy::placement::{self, Candidate};

use crate::message::{Beat, Given, Registration, ToWorker};
use crate::nats::hex;
use crate::pictures::Copying;
use members::Member;
pub use members::{Change, Members, Standing};
use session::{Kept, Open, Session};

/// What a question may lose workers by, one after the other before its next token: then it may be what they die of. One that
/// had begun with it weighs [`BEGUN`], one where it waited in line 1, since that died of something else.
const LOSSES: u32 = 16;
const BEGUN: u32 = 4;
/// Workers that a question goes on from because they are full: after these it is taken that all are.
const REFUSALS: usize = 2;
/// How long a question that moves waits where all workers are full.
const RETRY: Duration = Duration::from_millis(250);

/// What the names of copies begin with whose sessions are kept.
pub const LOGGED: &str = "log-";

/// Something to be done, in order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    Send {
        worker: String,
        message: ToWorker,
    },
    /// Pixels go straight to a worker.
    Pixels {
        worker: String,
        object: String,
        pixels: Pixels,
    },
    /// Pixels go into the store or out of it; of those that go in [`Fleet::stored`] is to be told.
    Copy(Copying),
    Report(Report),
    /// Nothing is sent to a worker any more.
    Gone {
        worker: String,
    },
    /// A worker of this name has not been heard of for long: it is struck off.
    Unregister {
        name: String,
    },
}

/// The fleet, as one gateway sees it.
pub struct Fleet {
    /// This gateway's id.
    gateway: String,
    members: Members,
    sessions: HashMap<SessionId, Session>,
    effects: Vec<Effect>,
    /// Why nothing can be sent, if so.
    trouble: Option<String>,
    /// The status's model and settings: those of the first worker that was not refused.
    served: Option<Registration>,
    /// Counts pictures and questions, which go on in that order.
    order: u64,
}

impl Fleet {
    pub fn new(gateway: String, api: u32) -> Self {
        Fleet {
            gateway,
            members: Members::new(api),
            sessions: HashMap::new(),
            effects: Vec::new(),
            trouble: None,
            served: None,
            order: 0,
        }
    }

    /// What is to be done.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How the fleet stands.
    pub fn status(&self) -> Status {
        let (state, error) = match (&self.trouble, self.members.is_linked()) {
            (Some(trouble), _) => (State::Loading, Some(trouble.clone())),
            (None, false) => (
                State::Loading,
                Some("NATS does not answer: look at its servers, and at the way there.".into()),
            ),
            (None, true) => self.members.state(),
        };
        let served = self.served.as_ref();
        Status {
            state,
            model: served.map(|it| it.model.clone()).unwrap_or_default(),
            sampling: served.map(|it| it.sampling.clone()).unwrap_or_default(),
            error,
            ..Status::default()
        }
    }

    /// Whether and why JetStream takes nothing.
    pub fn trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    pub fn link(&mut self, answers: bool, now: Duration) {
        self.members.link(answers, now);
    }

    pub fn registered(&mut self, registration: Registration, now: Duration) {
        let changes = self.members.registered(registration.clone(), now);
        let member = self.members.get(&registration.instance);
        let is_first = self
            .served
            .as_ref()
            .is_none_or(|it| it.fingerprint != registration.fingerprint);
        if is_first && member.is_some_and(|member| member.standing == Standing::Here) {
            self.served = Some(registration);
        }
        self.changed(changes, now);
    }

    pub fn unregistered(&mut self, name: &str, now: Duration) {
        let change = self.members.unregistered(name);
        self.changed(change, now);
    }

    pub fn beat(&mut self, beat: Beat, now: Duration) {
        // All sessions are looked through for one that comes back alone: beats are many.
        let member = self.members.get(&beat.instance);
        let own = match member.is_some_and(|it| it.standing == Standing::Lost) {
            true => self.open_at(&beat.instance),
            false => 0,
        };
        let change = self.members.beat(beat, own, now);
        self.changed(change, now);
    }

    /// A worker says that nothing more comes of it.
    pub fn left(&mut self, worker: &str, now: Duration) {
        let change = self.members.left(worker);
        self.changed(change, now);
    }

    /// Finds who is lost by now, and goes on with what waited.
    pub fn tick(&mut self, now: Duration) {
        let mut open: HashMap<&str, u64> = HashMap::new();
        for session in self.sessions.values() {
            if let Some(home) = &session.home {
                *open.entry(home).or_default() += session.asks.len() as u64;
            }
        }
        let own = |worker: &str| open.get(worker).copied().unwrap_or(0);
        let changes = self.members.tick(own, now);
        self.changed(changes, now);
        let stale = self.members.stale(now);
        self.effects
            .extend(stale.map(|name| Effect::Unregister { name }));
        let waiting = self.sessions.iter().filter(|(_, it)| it.waits());
        let waiting: Vec<SessionId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.expire(id, now);
            self.settle(id, now);
        }
    }

    /// This gateway's open questions at a worker.
    fn open_at(&self, worker: &str) -> u64 {
        let there = self
            .sessions
            .values()
            .filter(|it| it.home.as_deref() == Some(worker));
        there.map(|it| it.asks.len() as u64).sum()
    }

    fn changed(&mut self, changes: impl IntoIterator<Item = Change>, now: Duration) {
        for change in changes {
            match change {
                Change::Came(_) => {}
                Change::Lost(worker) => self.leave_all(&worker, true),
                Change::Gone(worker) => {
                    self.leave_all(&worker, false);
                    self.effects.push(Effect::Gone { worker });
                }
                Change::Drains(worker) => {
                    for id in self.at_home(&worker) {
                        self.leave_drained(id);
                    }
                }
            }
            // Whoever has no home, or something that waits for one, finds one now.
            let waiting = self.sessions.iter().filter(|(_, it)| it.waits());
            let mut waiting: Vec<(u64, SessionId)> =
                waiting.map(|(id, it)| (it.first_order(), *id)).collect();
            waiting.sort();
            for (_, id) in waiting {
                self.settle(id, now);
            }
        }
    }

    /// What a session asks for.
    pub fn command(&mut self, command: Command, now: Duration) {
        let id = command.session();
        match command {
            Command::Picture(picture) => self.picture(picture, now),
            Command::Ask(ask) => self.ask(*ask, now),
            Command::EndSession { .. } => {
                let Some(session) = self.sessions.get_mut(&id) else {
                    return self.effects.push(tell(id, Event::Freed(Freed::Session)));
                };
                session.ending = true;
                session.asks.values_mut().for_each(|it| it.cancelled = true);
                match &session.home {
                    Some(home) => self.effects.push(send(home, command)),
                    None => {
                        self.end_lost(id);
                        self.end(id);
                    }
                }
            }
            Command::Presence { presence, .. } => {
                let session = self.sessions.entry(id).or_default();
                session.presence = Some(presence);
                if let Some(home) = &session.home {
                    self.effects.push(send(home, command));
                }
            }
            Command::Credit {
                request, events, ..
            } => {
                let Some(session) = self.sessions.get_mut(&id) else {
                    return;
                };
                let Some(open) = session.asks.get_mut(&request) else {
                    return;
                };
                open.ask.credit = open.ask.credit.saturating_add(events);
                if let (Some(home), true) = (&session.home, open.sent) {
                    self.effects.push(send(home, command));
                }
            }
            Command::Cancel { request, .. } => {
                let Some(session) = self.sessions.get_mut(&id) else {
                    return;
                };
                let Some(open) = session.asks.get_mut(&request) else {
                    return;
                };
                open.cancelled = true;
                if let (Some(home), true) = (&session.home, open.sent) {
                    self.effects.push(send(home, command));
                }
                self.end_lost(id);
            }
            Command::Forget { picture, .. } => {
                if let Some(kept) = self
                    .sessions
                    .get_mut(&id)
                    .and_then(|it| it.forget(&picture))
                {
                    self.effects.push(unstore(kept.object));
                }
                self.free(id, Freed::Picture(picture), command);
            }
            Command::ForgetConversation { conversation, .. } => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    let there = session
                        .asks
                        .values_mut()
                        .filter(|it| it.ask.conversation == conversation);
                    there.for_each(|it| it.cancelled = true);
                }
                self.end_lost(id);
                self.free(id, Freed::Conversation(conversation), command);
            }
        }
    }

    /// Has the session's home free something; where it has none, nobody has anything of it.
    fn free(&mut self, id: SessionId, freed: Freed, command: Command) {
        match self.sessions.get_mut(&id) {
            Some(Session {
                home: Some(home),
                freeing,
                ..
            }) => {
                freeing.push(freed);
                self.effects.push(send(home, command));
            }
            _ => self.effects.push(tell(id, Event::Freed(freed))),
        }
    }

    /// Nothing is left of a session.
    fn end(&mut self, id: SessionId) {
        for kept in self
            .sessions
            .remove(&id)
            .into_iter()
            .flat_map(|it| it.pictures.into_values())
        {
            self.effects.push(unstore(kept.object));
        }
        self.effects.push(tell(id, Event::Freed(Freed::Session)));
    }

    fn picture(&mut self, picture: Picture, now: Duration) {
        let (id, key) = (picture.asker.session, picture.key);
        let object = self.object(id, &key);
        self.order += 1;
        let session = self.sessions.entry(id).or_default();
        session.given.remove(&key);
        let pixels = picture.pixels.clone();
        let kept = Kept::new(picture, object.clone(), self.order);
        let store = Effect::Copy(Copying::Put {
            session: id,
            key,
            object,
            pixels,
            secret: kept.secret,
        });
        session.pictures.insert(key, kept);
        self.settle(id, now);
        // Behind the way to its worker, which somebody waits for.
        self.effects.push(store);
    }

    /// What a picture's copy is called: by the gateway that its session ends with, or by the session's log if that may go on with
    /// another one.
    fn object(&self, id: SessionId, key: &PictureKey) -> String {
        let log = self.sessions.get(&id).and_then(|it| it.log);
        let owner = match log {
            Some(name) => format!("{LOGGED}{}", hex(&name)),
            None => self.gateway.clone(),
        };
        format!("{owner}.{id}.{}", hex(&key.sha256))
    }

    /// A session that is kept, and may go on with another gateway.
    pub fn enter(&mut self, id: SessionId, log: LogName) {
        self.sessions.entry(id).or_default().log = Some(log);
    }

    /// A session that was taken from another gateway, in the order of all that were; `home` is where it was at home.
    pub fn taken(&mut self, id: SessionId, epoch: u64, home: Option<String>) {
        let is_open = |home: &String| self.members.get(home).is_some_and(Member::is_open);
        let home = home.filter(is_open);
        let session = self.sessions.entry(id).or_default();
        session.epoch = Some(epoch);
        session.home = home.clone();
        let told = home.and_then(|home| self.told_taken(&home, id));
        self.effects.extend(told);
    }

    /// What a session's new home is told if the session was taken from another gateway, which may not know that yet.
    fn told_taken(&self, home: &str, id: SessionId) -> Option<Effect> {
        let epoch = self.sessions.get(&id)?.epoch?;
        // Builds that have no half of a key don't know the message.
        self.half(home)?;
        Some(Effect::Send {
            worker: home.to_owned(),
            message: ToWorker::Taken { session: id, epoch },
        })
    }

    /// A picture of such a session.
    pub fn known(&mut self, picture: KnownPicture, now: Duration) {
        let (id, key) = (picture.asker.session, picture.key);
        let object = self.object(id, &key);
        self.order += 1;
        let kept = Kept::known(picture, object, self.order);
        self.sessions
            .entry(id)
            .or_default()
            .pictures
            .insert(key, kept);
        self.settle(id, now);
    }

    /// Another gateway has the session: nothing of it is told, and nothing of it deleted.
    pub fn release(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// A worker's half of the key that it has in common with this gateway.
    pub fn half(&self, worker: &str) -> Option<[u8; 32]> {
        self.members.get(worker)?.registration.half
    }

    /// The session whose log is called so.
    pub fn logged(&self, name: &LogName) -> Option<SessionId> {
        let mut all = self.sessions.iter();
        let found = all.find(|(_, session)| session.log.as_ref() == Some(name));
        found.map(|(id, _)| *id)
    }

    /// Where a session is at home.
    pub fn home(&self, id: SessionId) -> Option<String> {
        self.sessions.get(&id)?.home.clone()
    }

    fn ask(&mut self, ask: Ask, now: Duration) {
        let (id, request) = (ask.asker.session, ask.request);
        let session = self.sessions.entry(id).or_default();
        let earlier = session.asks.get(&request).map(|open| open.ask.attempt);
        if earlier.is_some_and(|earlier| earlier >= ask.attempt) {
            return;
        }
        self.order += 1;
        let open = Open::new(ask, self.order, now);
        session.asks.insert(request, open);
        self.settle(id, now);
    }

    /// Where a session may be at home, but with those that have refused it.
    fn place(&self, refused: &[String]) -> Option<String> {
        // With those of the open questions that the worker has told of.
        let mut counts: HashMap<&str, (Candidate, u64)> = HashMap::new();
        for session in self.sessions.values() {
            if let Some(home) = &session.home {
                let (count, told_of) = counts.entry(home).or_default();
                count.sessions += 1;
                count.open += session.asks.len() as u64;
                let asks = session.asks.values();
                *told_of += match self.members.get(home) {
                    Some(member) => asks.filter(|it| member.has_told_of(it.came)).count() as u64,
                    None => 0,
                };
            }
        }
        let open: Vec<_> = self
            .members
            .all()
            .filter(|(instance, it)| it.is_open() && !refused.contains(instance))
            .collect();
        let candidates = open.iter().map(|(instance, member)| {
            let (own, told_of) = counts.get(instance.as_str()).copied().unwrap_or_default();
            // What it said last is of all gateways, and a little old: what is this one's own is known better.
            Candidate {
                open: own.open + member.others(told_of),
                sessions: own.sessions.max(member.beat.sessions),
            }
        });
        placement::home(candidates).map(|at| open[at].0.clone())
    }

    /// Gives the session's home whatever it has not got yet; finds a home first where there is none.
    fn settle(&mut self, id: SessionId, now: Duration) {
        if self.sessions.get(&id).is_none_or(|it| it.ending) {
            return;
        }
        self.leave_drained(id);
        let placed = match self.sessions.get(&id) {
            Some(session @ Session { home: None, .. }) => {
                let refused = session.asks.values().flat_map(|it| it.refused.clone());
                self.place(&refused.collect::<Vec<_>>())
            }
            _ => None,
        };
        let taken = placed.as_ref().and_then(|home| self.told_taken(home, id));
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if !session.waits() {
            return;
        }
        if let Some(home) = placed {
            self.effects.extend(taken);
            if let Some(presence) = session.presence {
                self.effects.push(send(
                    &home,
                    Command::Presence {
                        session: id,
                        presence,
                    },
                ));
            }
            session.home = Some(home);
        }
        let Some(home) = session.home.clone() else {
            self.refuse_new(id);
            return;
        };
        let mut asks: Vec<&mut Open> = session
            .asks
            .values_mut()
            .filter(|it| !it.sent && it.retry <= now)
            .collect();
        asks.sort_by_key(|it| it.order);
        let needed = |kept: &Kept| {
            let asked = || {
                asks.iter()
                    .any(|open| open.ask.pictures.iter().any(|it| it.key == kept.key))
            };
            !kept.told || asked()
        };
        let mut pictures: Vec<&Kept> = session
            .pictures
            .values()
            .filter(|it| !session.given.contains(&it.key) && needed(it))
            .collect();
        pictures.sort_by_key(|it| it.order);
        for kept in pictures {
            session.given.insert(kept.key);
            let given = Given {
                asker: kept.asker,
                key: kept.key,
                system: kept.system.clone(),
                secret: Some(kept.secret),
                side: kept.side,
                object: kept.object.clone(),
                straight: kept.pixels.is_some(),
                traceparent: kept.traceparent.clone(),
            };
            self.effects.push(Effect::Send {
                worker: home.clone(),
                message: ToWorker::Picture(given),
            });
            if let Some(pixels) = kept.pixels.clone() {
                self.effects.push(Effect::Pixels {
                    worker: home.clone(),
                    object: kept.object.clone(),
                    pixels,
                });
            }
        }
        for open in asks {
            open.sent = true;
            let ask = Command::Ask(Box::new(open.given(now)));
            self.effects.push(send(&home, ask));
        }
    }

    /// Nobody computes: whoever asks now hears so at once, and only what has begun waits.
    fn refuse_new(&mut self, id: SessionId) {
        self.refuse(id, |open| !open.waits);
    }

    /// Tells those of a session's questions that are `hopeless` that nobody computes.
    fn refuse(&mut self, id: SessionId, hopeless: impl Fn(&Open) -> bool) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        for (request, open) in session.asks.extract_if(|_, open| hopeless(open)) {
            let (attempt, failure) = (open.ask.attempt, nobody());
            self.effects.push(tell(
                id,
                Event::Failed {
                    request,
                    attempt,
                    failure,
                },
            ));
        }
    }
}

fn send(worker: &str, command: Command) -> Effect {
    Effect::Send {
        worker: worker.to_owned(),
        message: ToWorker::Command(command),
    }
}

fn tell(session: SessionId, event: Event) -> Effect {
    Effect::Report(Report::Session { session, event })
}

fn unstore(object: String) -> Effect {
    Effect::Copy(Copying::Delete { object })
}

fn nobody() -> Failure {
    let message = "No worker can answer now: ask again in a moment.";
    Failure::new(ErrorCode::Loading, message).retry_after(1000.0)
}

fn deadly() -> Failure {
    let message =
        "Several workers were lost one after the other over this question: ask another one.";
    Failure::new(ErrorCode::WorkerFailed, message)
}
