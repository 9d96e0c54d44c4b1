//! A fleet in virtual time: gateways, what lies between, and workers. What gateways decide stands here in short: a worker is lost
//! three seconds after it was heard last, what it had open goes where placement says, and what three workers have no room for is
//! refused.
//!
//! Whatever crosses takes a way of some milliseconds. So what is sent in a window as long as that arrives behind it, and workers can
//! run through one without a look at each other, on any number of threads.

mod losses;
mod records;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use policy::placement::{self, Candidate};

use crate::card::Card;
use crate::load::{Listed, Load, Rng};
use crate::results::{Results, Tally};
use crate::shards::{Made, Mail, Shards};
use crate::wire::{Decoders, Nats, Wire};
use records::{Event, Member, Ordered, Question, Session, Wanted};

use crate::worker::{Asked, Ending, Message, Report, TOKEN, What};

const SECOND: u64 = 1_000_000_000;
/// How long a worker is silent before it is lost, and how often it is heard.
const SILENCE: u64 = 3 * SECOND;
const BEAT: u64 = SECOND / 2;
/// Workers that have no room for a question before it is refused.
const REFUSALS: usize = 3;
/// How long a question waits that moves and finds no room.
const RETRY: u64 = SECOND / 4;
/// How long a client takes to come back when its gateway is lost.
const RECONNECT: u64 = SECOND;
/// The time limit of an answer.
const LIMIT: u64 = 600 * SECOND;
/// What a conversation can have behind its picture before it begins anew.
const LONGEST: u32 = 6_000;

/// What a run is told beside the load.
#[derive(Clone, Debug)]
pub struct Machine {
    pub card: Card,
    pub wire: Wire,
    /// Cores of each gateway that decode.
    pub cores: u32,
    pub streams: u32,
    pub replicas: u32,
    pub threads: u32,
    /// Turns in which nothing changes are left out.
    pub jumps: bool,
}

/// Where an event stands among those of its time: all others before reports, these by worker, and then in their order.
type Place = (u32, u64);

struct Fleet<'a> {
    load: &'a Load,
    machine: &'a Machine,
    list: &'a [Listed],
    rng: Rng,
    now: u64,
    way: u64,
    events: BinaryHeap<Reverse<(u64, Place, Ordered)>>,
    numbered: u64,
    /// Of each worker, the reports so far.
    reports: Vec<u64>,
    sessions: Vec<Session>,
    lines: HashMap<u32, VecDeque<Wanted>>,
    questions: HashMap<u64, Question>,
    asked: u64,
    members: Vec<Member>,
    /// Each gateway's own questions at each worker.
    own: Vec<Vec<u32>>,
    decoders: Vec<Decoders>,
    nats: Nats,
    mail: Mail,
    tally: Tally,
}

/// Runs a load, or a list of questions instead of drawn ones.
pub fn run(load: &Load, machine: &Machine, list: &[Listed]) -> Results {
    watched(load, machine, list, |_| {})
}

/// The same, with every report of a worker told to `watch`.
pub fn watched(
    load: &Load,
    machine: &Machine,
    list: &[Listed],
    mut watch: impl FnMut(&Report),
) -> Results {
    let mut fleet = Fleet::new(load, machine, list);
    let made = Made {
        card: Arc::new(machine.card.clone()),
        jumps: machine.jumps,
        warm: load.warm.then_some((load.sessions, load.workers)),
    };
    let end = seconds(load.seconds);
    let done = std::thread::scope(|scope| {
        let mut shards = Shards::new(scope, &made, load.workers, machine.threads);
        let mut begin = 0;
        while begin < end {
            let until = (begin + fleet.way).min(end);
            let mail = std::mem::take(&mut fleet.mail);
            // What it sends now arrives behind this window.
            let (reports, next) = shards.run(until, mail, || fleet.until(until));
            let next = fleet.mail.iter().map(|one| one.1).fold(next, u64::min);
            for report in reports {
                watch(&report);
                fleet.report(report);
            }
            // Where nothing happens there is no window.
            begin = until.max(next.min(fleet.next()));
            if until < end && begin >= end {
                begin = end - 1;
            }
        }
        shards.end()
    });
    fleet.results(&done)
}

fn seconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

impl<'a> Fleet<'a> {
    fn new(load: &'a Load, machine: &'a Machine, list: &'a [Listed]) -> Self {
        let gateways = load.gateways.max(1);
        let member = Member {
            here: true,
            alive: true,
            ..Member::default()
        };
        let mut fleet = Fleet {
            rng: Rng::new(load.seed),
            now: 0,
            way: ((machine.wire.way_ms * 1e6) as u64).max(10_000),
            events: BinaryHeap::new(),
            numbered: 0,
            reports: vec![0; load.workers as usize],
            sessions: vec![Session::default(); load.sessions as usize],
            lines: HashMap::new(),
            questions: HashMap::new(),
            asked: 0,
            members: vec![member; load.workers as usize],
            own: vec![vec![0; load.workers as usize]; gateways as usize],
            decoders: (0..gateways)
                .map(|_| Decoders::new(machine.cores))
                .collect(),
            nats: Nats::new(&machine.wire, machine.streams, machine.replicas),
            mail: Vec::new(),
            tally: Tally::new(seconds(load.warm_up)),
            load,
            machine,
            list,
        };
        if load.warm {
            for (number, session) in fleet.sessions.iter_mut().enumerate() {
                let home = number as u32 % load.workers;
                fleet.members[home as usize].sessions += 1;
                *session = Session {
                    home: home + 1,
                    picture: 1,
                    given: true,
                    ..Session::default()
                };
            }
        }
        fleet.begin();
        fleet
    }

    fn begin(&mut self) {
        self.push(BEAT, Event::Beat);
        match self.list.first() {
            Some(first) => self.push(seconds(first.at), Event::Listed(0)),
            None => self.next_arrival(),
        }
        self.next_loss();
        for at in &self.load.stampedes {
            self.push(seconds(*at), Event::Stampede);
        }
        for at in &self.load.gateway_losses {
            self.push(seconds(*at) + RECONNECT, Event::TakenOver);
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.events
            .push(Reverse((at, (0, self.numbered), Ordered(event))));
    }

    fn report(&mut self, report: Report) {
        let number = &mut self.reports[report.worker as usize];
        *number += 1;
        let place = (report.worker + 1, *number);
        let event = Ordered(Event::Heard(report));
        self.events
            .push(Reverse((report.at + self.way, place, event)));
    }

    fn next(&self) -> u64 {
        self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at)
    }

    fn until(&mut self, end: u64) {
        while self.next() < end
            && let Some(Reverse((at, _, Ordered(event)))) = self.events.pop()
        {
            self.now = at;
            self.happens(event);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives => {
                let wanted = Wanted {
                    asked: self.now,
                    brings: self.rng.part() < self.load.new_pictures,
                    question: self.rng.tokens(self.load.question),
                    answer: self.rng.tokens(self.load.answer),
                    prompt: None,
                };
                let session = self.rng.below(u64::from(self.load.sessions.max(1))) as u32;
                self.wants(session, wanted);
                self.next_arrival();
            }
            Event::Listed(number) => {
                let Some(listed) = self.list.get(number) else {
                    return;
                };
                let wanted = Wanted {
                    asked: self.now,
                    brings: listed.new_picture,
                    question: 0,
                    answer: listed.answer.max(1),
                    prompt: Some(listed.prompt.max(1)),
                };
                self.wants(listed.session, wanted);
                if let Some(next) = self.list.get(number + 1) {
                    self.push(seconds(next.at), Event::Listed(number + 1));
                }
            }
            Event::Decoded(request) | Event::Again(request) => self.send(request),
            Event::Heard(report) => self.heard(report),
            Event::Beat => {
                self.members
                    .iter_mut()
                    .for_each(|member| member.said = member.open);
                self.push(self.now + BEAT, Event::Beat);
            }
            Event::Loses => {
                let worker = self.rng.below(u64::from(self.load.workers)) as u32;
                self.loses(worker);
                self.next_loss();
            }
            Event::Stampede => {
                for worker in (0..self.load.workers).step_by(10) {
                    self.loses(worker);
                }
            }
            Event::Missed(worker) => self.missed(worker),
            Event::Back(worker) => {
                let member = &mut self.members[worker as usize];
                (member.here, member.alive) = (true, true);
                self.mail
                    .push((worker, self.now + self.way, Message::Restart));
            }
            Event::TakenOver => self.taken_over(),
        }
    }

    fn next_arrival(&mut self) {
        let now = self.now as f64 / SECOND as f64;
        let in_burst =
            |(begin, lasts, _): &&(f64, f64, f64)| (*begin..begin + lasts).contains(&now);
        let factor = self
            .load
            .bursts
            .iter()
            .find(in_burst)
            .map_or(1.0, |burst| burst.2);
        let mean = self.load.gap / f64::from(self.load.sessions.max(1)) / factor.max(1e-9);
        let after = self.rng.exponential(mean);
        self.push(self.now + seconds(after).max(1), Event::Arrives);
    }

    fn next_loss(&mut self) {
        if self.load.losses > 0.0 {
            let after = self.rng.exponential(3600.0 / self.load.losses);
            self.push(self.now + seconds(after).max(1), Event::Loses);
        }
    }

    /// Somebody asks. Behind a question of the same session it waits.
    fn wants(&mut self, session: u32, wanted: Wanted) {
        if self.sessions[session as usize].asks {
            return self.lines.entry(session).or_default().push_back(wanted);
        }
        self.begins(session, wanted);
    }

    fn begins(&mut self, id: u32, wanted: Wanted) {
        self.asked += 1;
        let request = self.asked;
        let session = &mut self.sessions[id as usize];
        session.asks = true;
        let brings = wanted.brings || session.picture == 0;
        let dropped = (brings && session.picture > 0).then_some((session.home, session.picture));
        if brings {
            session.picture += 1;
            session.talk = 0;
            session.given = false;
        }
        if session.talk > LONGEST {
            session.talk = 0;
        }
        let question = Question {
            session: id,
            picture: session.picture,
            asked: wanted.asked,
            attempt: 0,
            prompt: wanted.prompt.unwrap_or(session.talk + wanted.question),
            answer: wanted.answer,
            said: 0,
            worker: None,
            refused: Vec::new(),
            heard: None,
            brings,
            moved: false,
        };
        self.questions.insert(request, question);
        self.tally.asked(wanted.asked);
        if let Some((home, picture)) = dropped
            && home > 0
        {
            let forget = Message::Forget {
                session: id,
                picture,
            };
            self.mail_to(home - 1, id, forget);
        }
        match brings {
            false => self.send(request),
            true => {
                let takes = (self.machine.wire.decode_ms * 1e6) as u64;
                let gateway = self.gateway(id);
                let at = self.decoders[gateway].decoded(self.now, takes);
                self.push(at, Event::Decoded(request));
            }
        }
    }

    fn gateway(&self, session: u32) -> usize {
        session as usize % self.own.len()
    }

    /// A question goes to its session's home, which is found first where there is none.
    fn send(&mut self, request: u64) {
        let Some(question) = self.questions.get(&request) else {
            return;
        };
        let id = question.session;
        let gateway = self.gateway(id);
        if self.sessions[id as usize].home == 0 {
            let Some(home) = self.place(gateway, &question.refused) else {
                return match question.moved {
                    true => self.push(self.now + RETRY, Event::Again(request)),
                    false => self.over(request, false),
                };
            };
            self.sessions[id as usize].home = home + 1;
            self.sessions[id as usize].given = false;
            self.members[home as usize].sessions += 1;
        }
        let worker = self.sessions[id as usize].home - 1;
        let Some(question) = self.questions.get_mut(&request) else {
            return;
        };
        question.worker = Some(worker);
        let asked = Asked {
            request,
            attempt: question.attempt,
            session: id,
            picture: question.picture,
            prompt: question.prompt,
            // Listed ones are conversations of their own.
            text: match self.list {
                [] => TOKEN,
                _ => TOKEN.wrapping_add(request as u32),
            },
            said: question.said,
            answer: question.answer,
            deadline: question.asked + LIMIT,
        };
        let picture = question.picture;
        self.members[worker as usize].open += 1;
        self.own[gateway][worker as usize] += 1;
        if !std::mem::replace(&mut self.sessions[id as usize].given, true) {
            let given = Message::Picture {
                session: id,
                picture,
            };
            self.mail_to(worker, id, given);
        }
        self.mail_to(worker, id, Message::Ask(asked));
    }

    fn mail_to(&mut self, worker: u32, session: u32, message: Message) {
        let wire = &self.machine.wire;
        let through = match message {
            // To the worker, and into the store; or out of it.
            Message::Picture { .. } => self.nats.bytes(session, self.now, 2.0 * wire.picture_bytes),
            Message::Ask(_) => self.nats.records(session, self.now, wire.question_records),
            _ => self.nats.records(session, self.now, 1.0),
        };
        // A question comes behind its picture.
        let picture = &mut self.sessions[session as usize].until;
        let at = (through + self.way).max(*picture);
        if matches!(message, Message::Picture { .. }) {
            *picture = at;
        }
        self.mail.push((worker, at, message));
    }

    /// Where a session may be at home, but with those that have refused it.
    fn place(&self, gateway: usize, refused: &[u32]) -> Option<u32> {
        let open = |(worker, member): &(usize, &Member)| {
            member.here && !refused.contains(&(*worker as u32))
        };
        let places = || self.members.iter().enumerate().filter(open);
        let candidates = places().map(|(worker, member)| Candidate {
            // What it said last is of all gateways, and a little old.
            open: member.said.max(self.own[gateway][worker].into()),
            sessions: member.sessions,
        });
        let place = placement::home(candidates)?;
        places().nth(place).map(|(worker, _)| worker as u32)
    }

    fn heard(&mut self, report: Report) {
        match report.what {
            What::First { request } => {
                if let Some(question) = self.questions.get_mut(&request)
                    && question.worker == Some(report.worker)
                    && question.heard.is_none()
                {
                    question.heard = Some(self.now);
                    self.tally
                        .first(question.asked, self.now, question.brings, question.moved);
                }
            }
            What::Ended {
                request,
                end,
                tokens,
                prompt,
                cached,
            } => {
                let of = self.questions.get(&request);
                if of.is_none_or(|question| question.worker != Some(report.worker)) {
                    return;
                }
                let records = f64::from(tokens) * self.machine.wire.token_records;
                if let Some(question) = of {
                    let (session, asked, first) =
                        (question.session, question.asked, question.heard);
                    self.nats.records(session, self.now, records);
                    self.tally
                        .ended(asked, first.filter(|_| !question.moved), self.now, tokens);
                    self.tally.hit(asked, prompt, cached);
                }
                self.over(request, end == Ending::Answered);
            }
            What::Refused { request } => self.refused(request, report.worker),
            What::Encoded { .. } => {}
            What::Told { request, tokens } => {
                if let Some(question) = self.questions.get_mut(&request)
                    && question.worker == Some(report.worker)
                {
                    question.said = tokens;
                }
            }
            What::Lost => {
                let heard = report.at;
                self.push(heard.max(self.now) + SILENCE, Event::Missed(report.worker));
            }
        }
    }

    /// A question leaves its worker.
    fn leaves(&mut self, request: u64) {
        if let Some(question) = self.questions.get_mut(&request)
            && let Some(worker) = question.worker.take()
        {
            let gateway = question.session as usize % self.own.len();
            self.members[worker as usize].open -= 1;
            self.own[gateway][worker as usize] -= 1;
        }
    }

    /// A question is over, answered or not; the session's next begins.
    fn over(&mut self, request: u64, answered: bool) {
        self.leaves(request);
        let Some(question) = self.questions.remove(&request) else {
            return;
        };
        if !answered {
            self.tally.refused(question.asked);
        }
        let id = question.session;
        let session = &mut self.sessions[id as usize];
        session.asks = false;
        if answered {
            session.talk = question.prompt + question.answer;
        }
        let line = self.lines.get_mut(&id);
        let next = line.and_then(VecDeque::pop_front);
        match next {
            Some(wanted) => self.begins(id, wanted),
            None => drop(self.lines.remove(&id)),
        }
    }

    fn results(self, done: &[crate::worker::Done]) -> Results {
        let decoding: u64 = self.decoders.iter().map(|it| it.busy).sum();
        let cores: usize = self.decoders.iter().map(Decoders::cores).sum();
        let span = self.load.seconds * SECOND as f64;
        let streams = self.nats.streams() as f64;
        Results {
            decoders: decoding as f64 / (cores as f64 * span),
            records: self.nats.records / (streams * span),
            bytes: self.nats.bytes / (streams * span),
            ..self.tally.results(done, self.load, &self.machine.card)
        }
    }
}
