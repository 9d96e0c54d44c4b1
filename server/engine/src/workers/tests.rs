//! Several workers: who goes where, and what they come to together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use api::{ErrorCode, Event, Freed, Loaded, PictureKey, State, Turn};

use super::{Handle, StatusPublisher, merge};
use crate::faults::Hook;
use crate::tests::{Client, PATIENCE, Served, start_several, tiny};
use crate::*;
use std::time::{Duration, Instant};

/// Two real workers, and how many pieces of work each has done.
fn two() -> (Served, [Arc<AtomicUsize>; 2]) {
    let done: [Arc<AtomicUsize>; 2] = Default::default();
    let count = |done: &Arc<AtomicUsize>| -> Hook {
        let done = done.clone();
        Box::new(move |_, _| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    };
    let engine = start_several(Settings::default(), done.iter().map(count).collect());
    (engine, done)
}

/// Two workers that do nothing: what they are sent stays in the receivers.
fn idle(settings: &Settings) -> (Served, Vec<Receiver<Command>>) {
    let (publishers, statuses) = StatusPublisher::all(2, &channel().0.into());
    for publisher in &publishers {
        publisher.send_modify(|status| status.state = State::Ready);
    }
    let (handles, inboxes) = (0..2)
        .map(|_| {
            let (commands, inbox) = channel();
            let admission = Arc::new(Admission::new(settings));
            (Handle::new(commands, admission, None), inbox)
        })
        .unzip();
    let engine = |reports| Engine::of(handles, statuses, Reports::from(reports));
    (Served::new(engine), inboxes)
}

/// What the idle workers were sent since. Whoever drops it is a worker that does nothing and is gone.
fn sent(inboxes: &[Receiver<Command>]) -> Vec<Vec<Command>> {
    let commands = inboxes.iter().map(|inbox| inbox.try_iter().collect());
    commands.collect()
}

/// How much each was sent since, all of which `kept` takes.
fn count(inboxes: &[Receiver<Command>], kept: &mut Vec<Command>) -> Vec<usize> {
    let counts = sent(inboxes).into_iter().map(|commands| {
        let before = kept.len();
        kept.extend(commands);
        kept.len() - before
    });
    counts.collect()
}

#[test]
fn sessions_spread_and_their_follow_ups_find_the_cache() {
    let (engine, done) = two();
    let done = || [0, 1].map(|i| done[i].load(Ordering::Relaxed));
    let model = engine.status().borrow().model.clone();
    assert_eq!(model.device, "cpu, cpu");
    let clients: Vec<Client> = (0..4).map(|_| Client::new(&engine)).collect();
    let mut histories = Vec::new();
    for (i, client) in clients.iter().enumerate() {
        let before = done();
        let key = client.show(i as u8);
        let answer = client.answer(client.ask(Some(key), &[], "what?", 8));
        let after = done();
        assert!(after[i % 2] > before[i % 2], "{i}: {before:?} {after:?}");
        assert_eq!(after[1 - i % 2], before[1 - i % 2]);
        let turn = Turn {
            question: "what?".into(),
            answer: answer.text,
            answer_ids: Some(answer.ids),
        };
        histories.push((key, answer.usage.cached_tokens, turn));
    }
    // Though the first worker has the more to do now.
    let long = [0, 2].map(|i| clients[i].ask(None, &[], "long", 400));
    for (client, (key, cached, turn)) in clients.iter().zip(histories) {
        let answer = client.answer(client.ask(Some(key), &[turn], "and now?", 8));
        assert_eq!(answer.error, None);
        assert!(answer.usage.cached_tokens > cached, "{:?}", answer.usage);
    }
    clients[0].cancel(long[0]);
    clients[2].cancel(long[1]);
    let since = Instant::now();
    while engine.open_requests() > 0 {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_fewest_open_questions_decide_and_then_the_fewest_sessions() {
    let (engine, inboxes) = idle(&Settings::default());
    let mut kept = Vec::new();
    let mut sent = || count(&inboxes, &mut kept);
    let clients: Vec<Client> = (0..6).map(|_| Client::new(&engine)).collect();
    // An end that nothing began.
    clients[0].end();
    assert_eq!(sent(), [1, 1]);
    clients[0].show(1);
    assert_eq!(sent(), [1, 0]);
    clients[1].show(1);
    clients[1].ask(None, &[], "open", 5);
    assert_eq!(sent(), [0, 2]);
    clients[2].show(1);
    clients[3].show(1);
    assert_eq!(sent(), [2, 0]);
    clients[2].ask(None, &[], "open", 5);
    // As many questions, but fewer sessions.
    clients[4].show(1);
    assert_eq!(sent(), [1, 1]);
    assert_eq!(engine.open_requests(), 2);
    for client in [&clients[0], &clients[2], &clients[3]] {
        client.end();
    }
    assert_eq!(sent(), [3, 3]);
    // Their home is free for others.
    clients[5].show(1);
    assert_eq!(sent(), [1, 0]);
    engine.shutdown();
    assert_eq!(sent(), [1, 1]);
    // What concerns one session goes where it is at home; whether it is here, to all.
    clients[4].cancel(api::RequestId::random());
    clients[4].grant(api::RequestId::random(), 1);
    assert_eq!(sent(), [0, 2]);
    clients[4].is(api::Presence::Away);
    assert_eq!(sent(), [1, 1]);
}

#[test]
fn a_full_queue_refuses_its_own_sessions_alone() {
    let settings = Settings {
        max_batch: 1,
        queue: 1,
        ..Settings::default()
    };
    let (engine, inboxes) = idle(&settings);
    let (full, other) = (Client::new(&engine), Client::new(&engine));
    full.ask(None, &[], "one", 5);
    other.show(1);
    full.ask(None, &[], "two", 5);
    let ask = |client: &Client| client.ask(None, &[], "more", 5);
    let refused = full.refused(ask(&full));
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.retry_after_ms.unwrap() > 0.0);
    ask(&other);
    // A new session goes where there is room.
    ask(&Client::new(&engine));
    other.refused(ask(&other));
    let mut kept = Vec::new();
    assert_eq!(count(&inboxes, &mut kept), [2, 3]);
    assert_eq!(engine.open_requests(), 4);
}

/// Whatever becomes of the workers.
#[test]
fn what_is_freed_and_how_a_question_ends_is_told_exactly_once() {
    let (engine, mut inboxes) = idle(&Settings::default());
    let client = Client::new(&engine);
    let key = PictureKey {
        session: None,
        sha256: [1; 32],
    };
    // Without a home there is nothing to forget.
    client.forget(key);
    client.show_as(key, 1);
    engine.send(api::Command::ForgetConversation {
        session: client.session,
        conversation: client.conversation,
    });
    // The worker that has it drops it; and with it a question.
    let question = client.ask(None, &[], "hello?", 5);
    drop(sent(&inboxes));
    client.freed(Freed::Conversation(client.conversation));
    assert_eq!(client.refused(question).code, ErrorCode::WorkerFailed);
    assert_eq!(engine.open_requests(), 0);
    // All workers have to let a session go.
    client.end();
    drop(inboxes[0].try_recv());
    let other = Client::new(&engine);
    client.hears(&other);
    engine.send(api::Command::Forget {
        session: other.session,
        picture: key,
    });
    assert!(
        matches!(client.next(), Event::Freed(Freed::Picture(_))),
        "the second worker still has it"
    );
    drop(sent(&inboxes));
    client.freed(Freed::Session);
    // Workers that are gone.
    inboxes.clear();
    client.show_as(key, 1);
    let question = client.ask(None, &[], "hello?", 5);
    assert_eq!(client.refused(question).code, ErrorCode::WorkerFailed);
    client.forget(key);
    client.end();
    assert!(client.freed(Freed::Session).is_empty());
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn a_conversation_is_forgotten_by_real_workers() {
    let (engine, _) = two();
    let clients = [Client::new(&engine), Client::new(&engine)];
    for client in &clients {
        let fresh = client.answer(client.ask(None, &[], "what was it again?", 8));
        assert_eq!(fresh.usage.cached_tokens, 0);
        client.forget_conversation();
        let anew = client.answer(client.ask(None, &[], "what was it again?", 8));
        assert_eq!((anew.usage.cached_tokens, anew.ids), (0, fresh.ids));
    }
}

#[test]
fn the_furthest_behind_says_how_all_stand() {
    let status = |state, done: Option<u64>| Status {
        state,
        loaded: done.map(|done| Loaded { done, total: 10 }),
        ..Status::default()
    };
    let merged = |each: &[Status]| {
        let merged = merge(each);
        (merged.state, merged.loaded.map(|loaded| loaded.done))
    };
    let (loading, warming) = (State::Loading, status(State::Warming, None));
    let ready = status(State::Ready, None);
    let (half, most) = (status(loading, Some(5)), status(loading, Some(9)));
    assert_eq!(merged(&[most.clone(), half.clone()]), (loading, Some(5)));
    assert_eq!(merged(&[ready.clone(), most.clone()]), (loading, Some(9)));
    assert_eq!(
        merged(&[half.clone(), status(loading, None)]),
        (loading, None)
    );
    assert_eq!(
        merged(&[ready.clone(), warming.clone()]),
        (State::Warming, None)
    );
    assert_eq!(
        merged(&[ready.clone(), ready.clone()]),
        (State::Ready, None)
    );
    assert_eq!(merged(std::slice::from_ref(&half)), (loading, Some(5)));
    let failed = Status {
        error: Some("no room".into()),
        ..status(State::Failed, None)
    };
    let lost = Status {
        error: Some("lost".into()),
        lost: true,
        ..failed.clone()
    };
    let all = merge(&[half, failed.clone(), ready.clone()]);
    assert_eq!((all.state, all.lost), (State::Failed, false));
    assert_eq!(all.error.unwrap(), "no room");
    let all = merge(&[failed, ready, lost]);
    assert_eq!((all.state, all.lost), (State::Failed, true));
    assert_eq!(all.error.unwrap(), "lost");
}

#[test]
fn workers_tell_one_status() {
    let (publishers, statuses) = StatusPublisher::all(2, &channel().0.into());
    let status = statuses.subscribe();
    for (i, publisher) in publishers.iter().enumerate() {
        publisher.send_modify(|s| {
            s.model.name = format!("model {i}");
            s.model.device = format!("cuda:{i}");
            s.state = State::Ready;
        });
        let told = status.borrow();
        let expected = [("cuda:0", State::Loading), ("cuda:0, cuda:1", State::Ready)][i];
        assert_eq!((told.model.device.as_str(), told.state), expected);
        assert_eq!(told.model.name, "model 0");
    }
}

#[test]
fn one_that_cannot_load_fails_all() {
    type Open = Box<dyn FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError> + Send>;
    let broken = || Err(LoadError("no room on this one".into()));
    let opens: Vec<Open> = vec![Box::new(tiny), Box::new(broken)];
    let engine = Served::new(|reports| Engine::start(Settings::default(), opens, reports).unwrap());
    let status = engine.status();
    let since = Instant::now();
    while status.borrow().state != State::Failed {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let error = status.borrow().error.clone().unwrap();
    assert!(error.contains("no room on this one"), "{error}");
    let client = Client::new(&engine);
    let refused = client.refused(client.ask(None, &[], "hello?", 5));
    assert_eq!(refused.code, ErrorCode::WorkerFailed);
}

/// As with one: nothing new is taken, and the process ends.
#[test]
fn a_device_lost_of_two_is_told_and_refuses_all() {
    let losing: Hook = Box::new(|_, _| Err(model::device::DeviceFault::Lost.into()));
    let engine = start_several(Settings::default(), vec![losing, Box::new(|_, _| Ok(()))]);
    let (struck, other) = (Client::new(&engine), Client::new(&engine));
    let asked = struck.ask(None, &[], "hello", 5);
    let error = struck.answer(asked).error.unwrap();
    assert_eq!(error.code, ErrorCode::WorkerFailed);
    let status = engine.status().borrow().clone();
    assert_eq!((status.state, status.lost), (State::Failed, true));
    assert!(status.error.unwrap().contains("lost"));
    let refused = other.refused(other.ask(None, &[], "and I?", 5));
    assert_eq!(refused.code, ErrorCode::WorkerFailed);
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn a_download_is_told_whatever_the_workers_tell() {
    let (publishers, statuses) = StatusPublisher::all(2, &channel().0.into());
    let status = statuses.subscribe();
    let half = Download {
        bytes: 5,
        total: 10,
        ..Download::default()
    };
    statuses.tell_download(Some(half.clone()));
    publishers[1].send_modify(|status| status.loaded = Some(Loaded { done: 1, total: 10 }));
    assert_eq!(status.borrow().download, Some(half.clone()));
    statuses.tell_download(None);
    assert_eq!(status.borrow().download, None);
    // The end of it is told late.
    statuses.tell_download(Some(half));
    for publisher in &publishers {
        publisher.send_modify(|status| status.state = State::Warming);
    }
    assert_eq!(status.borrow().download, None);
}
