//! Workers that come, fall silent, stand still, come back and drain; and what becomes of what was at home there.

use std::time::Duration;

use api::{
    AnswerTimings, Asker, Command, ConversationId, ErrorCode, Event, Failure, FinishReason, Health,
    Picture, PictureKey, Pixels, Presence, Report, RequestId, SamplingParams, SessionId, Shown,
    State, Usage,
};

use super::members::SILENCE;
use super::*;
use crate::message::{Beat, Registration, ToWorker};

const API: u32 = 1;
const BEAT: Duration = Duration::from_millis(500);

fn session(number: u128) -> SessionId {
    SessionId::new(number)
}

fn request(number: u128) -> RequestId {
    RequestId::new(number)
}

fn key(of: SessionId) -> PictureKey {
    PictureKey {
        session: Some(of),
        sha256: [7; 32],
    }
}

/// A gateway, the time, and the turns of its workers.
struct World {
    fleet: Fleet,
    now: Duration,
    turn: u64,
    /// What was to be done, as far as nobody has looked.
    done: Vec<Effect>,
}

impl World {
    fn new(workers: &[&str]) -> Self {
        let mut world = World {
            fleet: Fleet::new("g".into(), API),
            now: Duration::from_secs(1),
            turn: 0,
            done: Vec::new(),
        };
        world.fleet.link(true, world.now);
        for worker in workers {
            world.register(worker, API, "model", false);
            world.beat(worker, 0);
        }
        world.effects();
        world
    }

    fn register(&mut self, worker: &str, api: u32, fingerprint: &str, draining: bool) {
        let registration = Registration {
            name: worker.to_uppercase(),
            instance: worker.into(),
            api,
            fingerprint: fingerprint.into(),
            model: api::Model {
                name: fingerprint.into(),
                ..api::Model::default()
            },
            sampling: api::Defaults::default(),
            pages: 100,
            half: Some([7; 32]),
            draining,
        };
        self.fleet.registered(registration, self.now);
    }

    /// A worker lives, has so many questions open, and its loop has turned.
    fn beat(&mut self, worker: &str, open: u64) {
        self.turn += 1;
        self.beat_at(worker, open, self.turn, 0.0);
    }

    fn beat_at(&mut self, worker: &str, open: u64, turn: u64, longest_turn_ms: f64) {
        let device = Health {
            open,
            turn,
            longest_turn_ms,
            state: State::Ready,
            ..Health::default()
        };
        let beat = Beat {
            instance: worker.into(),
            at_ms: self.now.as_secs_f64() * 1e3,
            devices: vec![device],
            ..Beat::default()
        };
        self.fleet.beat(beat, self.now);
    }

    /// Time passes; these workers live on, and their loops turn.
    fn pass(&mut self, time: Duration, alive: &[&str]) {
        let end = self.now + time;
        while self.now < end {
            self.now += BEAT;
            for worker in alive {
                self.beat(worker, 0);
            }
            self.fleet.tick(self.now);
        }
    }

    fn picture(&mut self, of: SessionId) {
        let picture = Picture {
            asker: Asker {
                client: 1,
                session: of,
            },
            key: key(of),
            pixels: Pixels::new(2, vec![0; 12]),
            system: String::new(),
            secret: None,
            traceparent: None,
        };
        self.fleet.command(Command::Picture(picture), self.now);
    }

    fn ask(&mut self, of: SessionId, number: u128, pictured: bool) {
        let shown = Shown {
            key: key(of),
            shape: (2, 2),
            turn: 0,
        };
        let ask = Ask {
            asker: Asker {
                client: 1,
                session: of,
            },
            conversation: ConversationId::new(number),
            request: request(number),
            attempt: 3,
            system: String::new(),
            pictures: pictured.then_some(shown).into_iter().collect(),
            history: Vec::new(),
            question: "?".into(),
            sampling: SamplingParams::default(),
            format: None,
            logprobs: None,
            background: false,
            so_far: Vec::new(),
            credit: 32,
            waited_ms: 5.0,
            left_ms: 60_000.0,
            traceparent: None,
        };
        self.fleet.command(Command::Ask(Box::new(ask)), self.now);
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.done.extend(self.fleet.take_effects());
        std::mem::take(&mut self.done)
    }

    /// The questions that workers were given, and all else that was done is passed over.
    fn asks(&mut self) -> Vec<(String, Ask)> {
        let asks = self
            .effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Send {
                    worker,
                    message: ToWorker::Command(Command::Ask(ask)),
                } => Some((worker, *ask)),
                _ => None,
            });
        asks.collect()
    }

    /// What a session was told.
    fn told(&mut self) -> Vec<Event> {
        let told = self
            .effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Report(Report::Session { event, .. }) => Some(event),
                _ => None,
            });
        told.collect()
    }

    fn tokens(&mut self, worker: &str, of: SessionId, ask: &Ask, first: u64, ids: &[u32]) {
        let event = Event::Tokens {
            request: ask.request,
            attempt: ask.attempt,
            first,
            ids: ids.to_vec(),
            text: "x".repeat(ids.len()),
            logprobs: Vec::new(),
        };
        self.fleet.event(worker, of, event, self.now);
    }

    fn done(&mut self, worker: &str, of: SessionId, ask: &Ask) {
        let event = Event::Done {
            request: ask.request,
            attempt: ask.attempt,
            finish_reason: FinishReason::Stop,
            usage: Usage::default(),
            timings: AnswerTimings::default(),
        };
        self.fleet.event(worker, of, event, self.now);
    }

    fn state(&self) -> State {
        self.fleet.status().state
    }
}

/// The ids of the answer that a session was told, and whether they came in order.
fn ids(told: &[Event]) -> Vec<u32> {
    let mut all = Vec::new();
    for event in told {
        if let Event::Tokens {
            first,
            ids,
            attempt,
            ..
        } = event
        {
            assert_eq!((*first, *attempt), (all.len() as u64, 3));
            all.extend(ids);
        }
    }
    all
}

#[test]
fn an_answer_goes_on_elsewhere_behind_its_last_word() {
    let mut world = World::new(&["a", "b"]);
    let of = session(1);
    world.ask(of, 1, false);
    let (home, ask) = world.asks().remove(0);
    assert_eq!(home, "a");
    world.tokens("a", of, &ask, 0, &[1, 2]);
    world.tokens("a", of, &ask, 2, &[3]);
    let mut told = world.told();
    world.pass(SILENCE + BEAT, &["b"]);
    let effects = world.effects();
    let moved = Event::Moved {
        request: request(1),
        attempt: 3,
        so_far: 3,
    };
    assert!(effects.contains(&tell(of, moved)), "{effects:?}");
    // Should it come back, it is to drop what it has.
    assert!(effects.contains(&send("a", Command::EndSession { session: of })));
    world.done = effects;
    let (home, again) = world.asks().remove(0);
    assert_eq!(
        (home.as_str(), &again.so_far[..], again.credit),
        ("b", &[1, 2, 3][..], 30)
    );
    assert!(again.attempt > ask.attempt && again.left_ms <= ask.left_ms - 3000.0);
    // The outvoted one comes back and goes on as if nothing had been.
    world.beat("a", 1);
    world.tokens("a", of, &ask, 3, &[99]);
    world.tokens("b", of, &ask, 3, &[98]);
    world.tokens("b", of, &again, 3, &[4]);
    world.done("a", of, &ask);
    world.done("b", of, &again);
    told.extend(world.told());
    assert_eq!(ids(&told), [1, 2, 3, 4]);
    assert_eq!(
        told.iter()
            .filter(|it| matches!(it, Event::Done { .. }))
            .count(),
        1
    );
}

#[test]
fn who_has_left_is_not_brought_back_by_a_heartbeat() {
    let mut world = World::new(&["a", "b"]);
    world.ask(session(1), 1, false);
    assert_eq!(world.asks()[0].0, "a");
    world.fleet.left("a", world.now);
    assert_eq!(world.asks()[0].0, "b");
    // One was on its way, by another connection.
    world.beat("a", 1);
    world.pass(BEAT * 2, &["a", "b"]);
    world.ask(session(2), 2, false);
    assert_eq!(world.asks()[0].0, "b");
    world.fleet.unregistered("A", world.now);
    assert!(world.asks().is_empty());
}

#[test]
fn nobody_is_lost_while_nats_itself_is_silent() {
    let mut world = World::new(&["a", "b"]);
    world.ask(session(1), 1, false);
    world.effects();
    world.fleet.link(false, world.now);
    world.pass(SILENCE * 5, &[]);
    assert_eq!(world.state(), State::Loading);
    assert!(world.asks().is_empty());
    // Nor at once when it is back: they may be back a moment later.
    world.fleet.link(true, world.now);
    world.pass(SILENCE / 2, &[]);
    world.pass(SILENCE * 2, &["a", "b"]);
    assert!(world.asks().is_empty());
    assert_eq!(world.state(), State::Ready);
    world.pass(SILENCE + BEAT, &["b"]);
    assert_eq!(world.asks()[0].0, "b");
}

#[test]
fn a_worker_that_lives_and_stands_still_is_lost_when_it_has_work() {
    let mut world = World::new(&["a", "b"]);
    let stand = |world: &mut World, open: u64, longest: f64, time: Duration| {
        let end = world.now + time;
        while world.now < end {
            world.now += BEAT;
            world.beat_at("a", open, 7, longest);
            world.beat("b", 0);
            world.fleet.tick(world.now);
        }
    };
    // Without work it need not turn.
    stand(&mut world, 0, 0.0, SILENCE * 3);
    world.ask(session(1), 1, false);
    assert_eq!(world.asks()[0].0, "a");
    // Its turns are known to be long.
    stand(&mut world, 1, 2000.0, SILENCE * 2);
    assert!(world.asks().is_empty());
    stand(&mut world, 1, 20.0, SILENCE);
    assert_eq!(world.asks()[0].0, "b");
    // It is alive, and still no one to give anything to.
    world.ask(session(2), 2, false);
    world.ask(session(3), 3, false);
    assert!(world.asks().iter().all(|(worker, _)| worker == "b"));
    world.beat_at("a", 0, 8, 20.0);
    world.ask(session(4), 4, false);
    assert_eq!(world.asks()[0].0, "a");
}

#[test]
fn a_picture_moves_with_its_conversation_from_the_store() {
    let mut world = World::new(&["a", "b"]);
    let of = session(1);
    world.picture(of);
    let effects = world.effects();
    let straight = effects
        .iter()
        .any(|it| matches!(it, Effect::Pixels { worker, .. } if worker == "a"));
    let stored = effects
        .iter()
        .any(|it| matches!(it, Effect::Copy(Copying::Put { .. })));
    assert!(straight && stored, "{effects:?}");
    let encoded = Event::Encoded {
        key: key(of),
        tokens: 4,
        timings: api::EncodeTimings::default(),
        cached: false,
    };
    // Nobody hears that it was seen before it is safe.
    world.fleet.event("a", of, encoded.clone(), world.now);
    assert!(world.told().is_empty());
    world.fleet.stored(of, key(of), Ok(()));
    assert_eq!(world.told(), std::slice::from_ref(&encoded));
    world.ask(of, 1, true);
    world.effects();
    world.pass(SILENCE + BEAT, &["b"]);
    let sent = world
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { worker, message } if worker == "b" => Some(message),
            Effect::Pixels { .. } => panic!("the gateway has none any more"),
            _ => None,
        });
    let sent: Vec<ToWorker> = sent.collect();
    assert!(
        matches!(&sent[..], [ToWorker::Picture(given), ToWorker::Command(Command::Ask(_))] if !given.straight),
        "{sent:?}"
    );
    // That it was seen once more is nobody's news.
    world.fleet.event("b", of, encoded, world.now);
    assert!(world.told().is_empty());
}

#[test]
fn a_session_that_was_taken_goes_on_at_its_home_or_at_another() {
    let mut world = World::new(&["a", "b"]);
    let of = session(1);
    let taken = |effects: &[Effect]| {
        let told = effects.iter().filter_map(|it| match it {
            Effect::Send {
                worker,
                message: ToWorker::Taken { session, epoch },
            } => Some((worker.clone(), *session, *epoch)),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    world.fleet.enter(of, [9; 32]);
    world.fleet.taken(of, 7, Some("b".into()));
    // Its copy is called by the session's log, whichever gateway has that.
    world.picture(of);
    let effects = world.effects();
    assert_eq!(taken(&effects), [("b".into(), of, 7)]);
    let object = effects.iter().find_map(|it| match it {
        Effect::Copy(Copying::Put { object, .. }) => Some(object.clone()),
        _ => None,
    });
    assert!(
        object
            .unwrap()
            .starts_with(&format!("{LOGGED}{}.{of}.", "09".repeat(32)))
    );
    world.ask(of, 1, false);
    world.effects();
    world.pass(Duration::from_secs(4), &["a"]);
    assert_eq!(taken(&world.effects()), [("a".into(), of, 7)]);
    // Given up, nothing of it is freed.
    world.fleet.release(of);
    assert_eq!(world.effects(), []);
    // Where its home is gone, any other will do.
    world.fleet.enter(session(2), [8; 32]);
    world.fleet.taken(session(2), 8, Some("gone".into()));
    world.ask(session(2), 2, false);
    assert_eq!(taken(&world.effects()), [("a".into(), session(2), 8)]);
}

#[test]
fn a_picture_without_room_for_its_copy_is_refused() {
    let mut world = World::new(&["a"]);
    let of = session(1);
    world.picture(of);
    world.effects();
    world.fleet.stored(
        of,
        key(of),
        Err(Failure::new(ErrorCode::Busy, "full").retry_after(5000.0)),
    );
    let effects = world.effects();
    assert!(effects.contains(&send(
        "a",
        Command::Forget {
            session: of,
            picture: key(of)
        }
    )));
    world.done = effects;
    assert!(
        matches!(&world.told()[..], [Event::PictureFailed { failure, .. }] if failure.code == ErrorCode::Busy)
    );
}

#[test]
fn another_model_and_another_version_are_refused() {
    let mut world = World::new(&["a"]);
    world.register("other", API, "other model", false);
    world.register("newer", API + 1, "model", false);
    world.beat("other", 0);
    world.beat("newer", 0);
    world.pass(SILENCE + BEAT, &["other", "newer"]);
    world.ask(session(1), 1, false);
    assert!(
        matches!(&world.told()[..], [Event::Failed { failure, .. }] if failure.code == ErrorCode::Loading)
    );
    assert_eq!(world.state(), State::Loading);
    assert_eq!(world.fleet.status().model.name, "model");
}

#[test]
fn what_is_at_home_with_one_that_drains_leaves_when_it_is_no_more_in_use() {
    let mut world = World::new(&["a", "b"]);
    let (busy, idle) = (session(1), session(3));
    world.ask(busy, 1, false);
    let (_, ask) = world.asks().remove(0);
    world.ask(session(2), 2, false);
    world.ask(idle, 3, false);
    let (home, over) = world.asks().remove(1);
    assert_eq!(home, "a");
    world.done("a", idle, &over);
    world.effects();
    world.register("a", API, "model", true);
    assert_eq!(
        world.effects(),
        [send("a", Command::EndSession { session: idle })]
    );
    world.tokens("a", busy, &ask, 0, &[1]);
    world.done("a", busy, &ask);
    let effects = world.effects();
    assert!(
        effects.contains(&send("a", Command::EndSession { session: busy })),
        "{effects:?}"
    );
    world.done = effects;
    assert_eq!(world.told().len(), 2);
    world.ask(busy, 4, false);
    world.ask(idle, 5, false);
    assert!(world.asks().iter().all(|(worker, _)| worker == "b"));
    // Its end is no news, and nobody is told that a session is gone.
    world
        .fleet
        .event("a", busy, Event::Freed(Freed::Session), world.now);
    world.fleet.unregistered("A", world.now);
    assert!(world.told().is_empty());
}

#[test]
fn with_nobody_left_what_has_begun_waits_and_what_comes_is_refused() {
    let mut world = World::new(&["a"]);
    let of = session(1);
    world.fleet.command(
        Command::Presence {
            session: of,
            presence: Presence::Away,
        },
        world.now,
    );
    world.ask(of, 1, false);
    let (_, ask) = world.asks().remove(0);
    world.tokens("a", of, &ask, 0, &[1]);
    world.effects();
    world.fleet.left("a", world.now);
    assert_eq!(world.state(), State::Loading);
    world.ask(session(2), 2, false);
    assert_eq!(world.told().len(), 2);
    // Another process of the same name.
    world.register("c", API, "model", false);
    world.beat("c", 0);
    let effects = world.effects();
    let away = Command::Presence {
        session: of,
        presence: Presence::Away,
    };
    assert!(effects.contains(&send("c", away)), "{effects:?}");
    world.done = effects;
    assert_eq!(world.asks()[0].1.so_far, [1]);
    // And for ever it does not wait.
    world.fleet.left("c", world.now);
    world.effects();
    world.pass(Duration::from_secs(61), &[]);
    assert!(matches!(&world.told()[..], [Event::Failed { request: it, .. }] if *it == request(1)));
}

/// How many workers, lost one after the other, a question outlives: those that had begun with it, and those where it waited.
fn homes_until_it_ends(begun: bool) -> u32 {
    let workers: Vec<String> = (0..30).map(|number| format!("w{number}")).collect();
    let mut world = World::new(&workers.iter().map(String::as_str).collect::<Vec<_>>());
    world.ask(session(1), 1, false);
    let mut homes = 0;
    while let Some((home, ask)) = world.asks().pop() {
        homes += 1;
        if begun {
            let started = Event::Started {
                request: ask.request,
                attempt: ask.attempt,
            };
            world.fleet.event(&home, session(1), started, world.now);
        }
        world.fleet.left(&home, world.now);
    }
    assert!(world.fleet.sessions[&session(1)].asks.is_empty());
    homes
}

#[test]
fn a_question_that_every_worker_dies_of_ends() {
    assert_eq!(homes_until_it_ends(true), LOSSES / BEGUN + 1);
    assert_eq!(homes_until_it_ends(false), LOSSES + 1);
}

fn full(ask: &Ask) -> Event {
    Event::Failed {
        request: ask.request,
        attempt: ask.attempt,
        failure: Failure::new(ErrorCode::Busy, "full").retry_after(100.0),
    }
}

#[test]
fn who_has_moved_waits_where_all_are_full() {
    let mut world = World::new(&["a", "b"]);
    let of = session(1);
    world.ask(of, 1, false);
    let (_, ask) = world.asks().remove(0);
    world.tokens("a", of, &ask, 0, &[1]);
    world.fleet.left("a", world.now);
    let (home, again) = world.asks().remove(0);
    world.fleet.event(&home, of, full(&again), world.now);
    assert!(world.told().is_empty());
    world.pass(BEAT, &["b"]);
    let (_, third) = world.asks().remove(0);
    assert!(third.attempt > again.attempt);
    // Who has just come hears it at once.
    world.ask(session(2), 2, false);
    let (home, new) = world.asks().remove(0);
    world.fleet.event(&home, session(2), full(&new), world.now);
    assert_eq!(world.told().len(), 1);
}

#[test]
fn a_question_that_its_home_has_no_room_for_goes_where_there_is_some() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    let of = session(1);
    world.picture(of);
    world.ask(of, 1, true);
    let (first, ask) = world.asks().remove(0);
    // Not away from a picture that is being looked at.
    world.fleet.event(&first, of, full(&ask), world.now);
    assert_eq!(world.told().len(), 1);
    let encoded = Event::Encoded {
        key: key(of),
        tokens: 4,
        timings: api::EncodeTimings::default(),
        cached: false,
    };
    world.fleet.event(&first, of, encoded, world.now);
    world.fleet.stored(of, key(of), Ok(()));
    world.ask(of, 2, true);
    let mut went = vec![first];
    let (_, mut ask) = world.asks().remove(0);
    while went.len() <= REFUSALS {
        let home = went[went.len() - 1].clone();
        world.fleet.event(&home, of, full(&ask), world.now);
        let effects = world.effects();
        let end = send(&home, Command::EndSession { session: of });
        assert!(effects.contains(&end), "{effects:?}");
        let given = |it: &&Effect| matches!(it, Effect::Send { message: ToWorker::Picture(_), worker } if !went.contains(worker));
        assert_eq!(effects.iter().filter(given).count(), 1, "{effects:?}");
        world.done = effects;
        let (next, again) = world.asks().remove(0);
        assert!(!went.contains(&next) && again.attempt > ask.attempt);
        (ask, _) = (again, went.push(next));
    }
    // Then it is taken that all are full.
    let last = went[went.len() - 1].clone();
    world.fleet.event(&last, of, full(&ask), world.now);
    assert!(
        matches!(&world.told()[..], [Event::Failed { attempt: 3, failure, .. }] if failure.code == ErrorCode::Busy)
    );
    assert!(world.fleet.sessions[&of].asks.is_empty());
}

#[test]
fn what_was_cancelled_or_is_to_be_freed_does_not_move() {
    let mut world = World::new(&["a", "b"]);
    let of = session(1);
    world.picture(of);
    world.ask(of, 1, true);
    world.fleet.command(
        Command::Cancel {
            session: of,
            request: request(1),
        },
        world.now,
    );
    world.fleet.command(
        Command::Forget {
            session: of,
            picture: key(of),
        },
        world.now,
    );
    world.effects();
    world.fleet.left("a", world.now);
    let told = world.told();
    assert!(
        told.contains(&Event::Freed(Freed::Picture(key(of)))),
        "{told:?}"
    );
    let cancelled = |it: &Event| {
        matches!(
            it,
            Event::Done {
                finish_reason: FinishReason::Cancelled,
                attempt: 3,
                ..
            }
        )
    };
    assert!(told.iter().any(cancelled), "{told:?}");
    // The session's end is told though nobody is left who could free anything.
    world
        .fleet
        .command(Command::EndSession { session: of }, world.now);
    assert_eq!(world.told(), [Event::Freed(Freed::Session)]);
    assert!(world.fleet.sessions.is_empty());
}

#[test]
fn sessions_spread_over_workers_and_over_gateways() {
    let mut world = World::new(&["a", "b", "c"]);
    for number in 1..=30 {
        world.ask(session(number), number, false);
    }
    let asks = world.asks();
    for worker in ["a", "b", "c"] {
        assert_eq!(asks.iter().filter(|(at, _)| at == worker).count(), 10);
    }
    // One that other gateways keep busy gets fewer.
    let mut world = World::new(&["a", "b"]);
    world.beat("a", 5);
    for number in 1..=5 {
        world.ask(session(number), number, false);
    }
    assert!(world.asks().iter().all(|(at, _)| at == "b"));
}

#[test]
fn a_worker_is_as_busy_as_it_is_now_not_as_it_said_before_its_answers() {
    let mut world = World::new(&["a", "b"]);
    for number in 1..=2 {
        world.ask(session(number), number, false);
    }
    let asks = world.asks();
    assert_eq!([&*asks[0].0, &*asks[1].0], ["a", "b"]);
    // Both tell of what they have, and of two of another gateway's at the second; then they answer.
    world.beat("a", 1);
    world.beat("b", 3);
    for (number, (home, ask)) in (1..).zip(asks) {
        world.done(&home, session(number), &ask);
    }
    // Who comes next finds the first idle and then one question busy, and the second busy with the two.
    for number in 3..=5 {
        world.ask(session(number), number, false);
    }
    let homes: Vec<String> = world.asks().into_iter().map(|(home, _)| home).collect();
    assert_eq!(homes, ["a", "a", "b"]);
}

#[test]
fn one_that_can_tell_nothing_gets_nothing_new_and_says_why() {
    let mut world = World::new(&["a"]);
    let beat = |trouble: Option<&str>| Beat {
        instance: "a".into(),
        trouble: trouble.map(str::to_owned),
        ..Beat::default()
    };
    world.fleet.beat(beat(Some("the disk is full")), world.now);
    let status = world.fleet.status();
    assert_eq!(status.state, State::Loading);
    assert_eq!(status.error.as_deref(), Some("the disk is full"));
    world.ask(session(1), 1, false);
    assert!(world.asks().is_empty());
    world.fleet.beat(beat(None), world.now);
    assert_eq!(world.state(), State::Ready);
}

#[test]
fn one_that_was_killed_long_ago_gets_nothing_and_is_struck_off() {
    let mut world = World::new(&["a"]);
    world.register("dead", API, "model", false);
    for number in 1..=4 {
        world.ask(session(number), number, false);
    }
    assert!(world.asks().iter().all(|(at, _)| at == "a"));
    world.pass(Duration::from_secs(601), &["a"]);
    let struck = Effect::Unregister {
        name: "DEAD".into(),
    };
    assert_eq!(
        world.effects().iter().filter(|it| **it == struck).count(),
        1
    );
}
