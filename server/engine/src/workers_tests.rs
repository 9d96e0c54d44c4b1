//! Several workers: who goes where, and what they come to together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use api::{ErrorCode, State, Turn};

use super::tests::{Client, PATIENCE, start_several, tiny};
use super::workers::{Handle, Teller, merge};
use super::*;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Two real workers, and how many pieces of work each has done.
fn two() -> (Engine, [Arc<AtomicUsize>; 2]) {
    let done: [Arc<AtomicUsize>; 2] = Default::default();
    let count = |done: &Arc<AtomicUsize>| {
        let done = done.clone();
        move || {
            faults::install(Box::new(move |_, _| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }));
        }
    };
    let engine = start_several(Settings::default(), done.iter().map(count).collect());
    (engine, done)
}

/// Two workers that do nothing: what they are sent stays in the receivers.
fn idle(settings: &Settings) -> (Engine, Vec<Receiver<Command>>) {
    let (_, status) = watch::channel(Status {
        state: State::Ready,
        ..Status::default()
    });
    let (handles, inboxes) = (0..2)
        .map(|_| {
            let (commands, inbox) = channel();
            let load = Arc::new(Load::new(settings));
            (Handle::new(commands, load, None), inbox)
        })
        .unzip();
    (Engine::of(handles, status), inboxes)
}

/// Which of the idle workers were sent something since.
fn sent(inboxes: &[Receiver<Command>]) -> Vec<usize> {
    let commands = inboxes.iter().map(|inbox| inbox.try_iter().count());
    commands.collect()
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
    let long: Vec<u64> = [0, 2]
        .map(|i| clients[i].ask(None, &[], "long", 400))
        .into();
    for (client, (key, cached, turn)) in clients.iter().zip(histories) {
        let answer = client.answer(client.ask(Some(key), &[turn], "and now?", 8));
        assert_eq!(answer.error, None);
        assert!(answer.usage.cached_tokens > cached, "{:?}", answer.usage);
    }
    engine.cancel(long[0]);
    engine.cancel(long[1]);
    let since = Instant::now();
    while engine.open_requests() > 0 {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_fewest_open_questions_decide_and_then_the_fewest_sessions() {
    let (engine, inboxes) = idle(&Settings::default());
    let clients: Vec<Client> = (0..6).map(|_| Client::new(&engine)).collect();
    // An end that nothing began.
    engine.end_session(clients[0].session);
    assert_eq!(sent(&inboxes), [0, 0]);
    clients[0].show(1);
    assert_eq!(sent(&inboxes), [1, 0]);
    clients[1].show(1);
    clients[1].ask(None, &[], "open", 5);
    assert_eq!(sent(&inboxes), [0, 2]);
    clients[2].show(1);
    clients[3].show(1);
    assert_eq!(sent(&inboxes), [2, 0]);
    clients[2].ask(None, &[], "open", 5);
    // As many questions, but fewer sessions.
    clients[4].show(1);
    assert_eq!(sent(&inboxes), [1, 1]);
    assert_eq!(engine.open_requests(), 2);
    for client in [&clients[0], &clients[2], &clients[3]] {
        engine.end_session(client.session);
        // Only once.
        engine.end_session(client.session);
    }
    assert_eq!(sent(&inboxes), [3, 0]);
    // Their home is free for others.
    clients[5].show(1);
    assert_eq!(sent(&inboxes), [1, 0]);
    engine.shutdown();
    engine.cancel(1);
    assert_eq!(sent(&inboxes), [2, 2]);
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
    let ask = |client: &Client| client.ask_until(None, &[], "more", 5, PATIENCE);
    let refused = ask(&full).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.retry_after_ms.unwrap() > 0.0);
    ask(&other).unwrap();
    // A new session goes where there is room.
    ask(&Client::new(&engine)).unwrap();
    ask(&other).unwrap_err();
    assert_eq!(sent(&inboxes), [2, 3]);
    assert_eq!(engine.open_requests(), 4);
}

#[test]
fn what_is_forgotten_is_told_once() {
    let (engine, mut inboxes) = idle(&Settings::default());
    let told = Arc::new(AtomicUsize::new(0));
    let tell = || {
        let told = told.clone();
        move || {
            told.fetch_add(1, Ordering::Relaxed);
        }
    };
    let client = Client::new(&engine);
    let key = PictureKey {
        scope: 0,
        sha256: [1; 32],
    };
    // Without a home there is nothing to forget.
    engine.forget(client.session, key, Box::new(tell()));
    assert_eq!(
        (told.swap(0, Ordering::Relaxed), sent(&inboxes)),
        (1, vec![0, 0])
    );
    client.show_as(key, 1);
    assert_eq!(sent(&inboxes), [1, 0]);
    engine.forget(client.session, key, Box::new(tell()));
    assert_eq!(
        (told.load(Ordering::Relaxed), sent(&inboxes)),
        (0, vec![1, 0])
    );
    // The worker dropped the command, and with it what held the picture.
    assert_eq!(told.swap(0, Ordering::Relaxed), 1);

    engine.forget_conversation(7, Box::new(tell()));
    for (before, inbox) in inboxes.iter().enumerate() {
        let Ok(Command::ForgetConversation { conversation, done }) = inbox.try_recv() else {
            panic!("each worker is told");
        };
        assert_eq!(
            (conversation, told.load(Ordering::Relaxed)),
            (7, 0),
            "{before}"
        );
        done();
    }
    assert_eq!(told.swap(0, Ordering::Relaxed), 1);
    // A worker that is gone has nothing of it.
    drop(inboxes.pop());
    engine.forget_conversation(8, Box::new(tell()));
    assert_eq!((told.load(Ordering::Relaxed), sent(&inboxes)), (0, vec![1]));
    assert_eq!(told.swap(0, Ordering::Relaxed), 1);
    drop(inboxes);
    engine.forget(client.session, key, Box::new(tell()));
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn a_conversation_is_forgotten_by_real_workers() {
    let (engine, _) = two();
    let clients = [Client::new(&engine), Client::new(&engine)];
    for client in &clients {
        let fresh = client.answer(client.ask(None, &[], "what was it again?", 8));
        assert_eq!(fresh.usage.cached_tokens, 0);
        let (done, freed) = channel();
        engine.forget_conversation(client.session, Box::new(move || done.send(()).unwrap()));
        freed.recv_timeout(PATIENCE).unwrap();
        let anew = client.answer(client.ask(None, &[], "what was it again?", 8));
        assert_eq!((anew.usage.cached_tokens, anew.ids), (0, fresh.ids));
    }
}

#[test]
fn the_furthest_behind_says_how_all_stand() {
    let status = |state, progress| Status {
        state,
        progress,
        ..Status::default()
    };
    let merged = |each: &[Status]| {
        let merged = merge(each);
        (merged.state, merged.progress)
    };
    let (loading, warming) = (State::Loading, status(State::Warming, None));
    let ready = status(State::Ready, None);
    let (half, most) = (status(loading, Some(0.5)), status(loading, Some(0.9)));
    assert_eq!(merged(&[most.clone(), half.clone()]), (loading, Some(0.5)));
    assert_eq!(merged(&[ready.clone(), most.clone()]), (loading, Some(0.9)));
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
    assert_eq!(merged(std::slice::from_ref(&half)), (loading, Some(0.5)));
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
    let (tellers, status) = Teller::several(2);
    for (i, teller) in tellers.iter().enumerate() {
        teller.send_modify(|s| {
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
    let observed = Mutex::new(Vec::new());
    let observe = |number| -> Box<dyn Observer> {
        observed.lock().push(number);
        Box::new(())
    };
    let engine = Engine::start(Settings::default(), opens, observe).unwrap();
    assert_eq!(*observed.lock(), [0, 1]);
    let status = engine.status();
    let since = Instant::now();
    while status.borrow().state != State::Failed {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let error = status.borrow().error.clone().unwrap();
    assert!(error.contains("no room on this one"), "{error}");
    let client = Client::new(&engine);
    let refused = client.ask_until(None, &[], "hello?", 5, PATIENCE);
    assert_eq!(refused.unwrap_err().code, ErrorCode::WorkerFailed);
}

/// As with one: nothing new is taken, and the process ends.
#[test]
fn a_device_lost_of_two_is_told_and_refuses_all() {
    let losing = || {
        faults::install(Box::new(|_, _| {
            candle_core::bail!("CUDA_ERROR_LAUNCH_FAILED, for the test")
        }));
    };
    let prepares: Vec<Box<dyn FnOnce() + Send>> = vec![Box::new(losing), Box::new(|| {})];
    let engine = start_several(Settings::default(), prepares);
    let (struck, other) = (Client::new(&engine), Client::new(&engine));
    let asked = struck.ask(None, &[], "hello", 5);
    let error = struck.answer(asked).error.unwrap();
    assert_eq!(error.code, ErrorCode::WorkerFailed);
    let status = engine.status().borrow().clone();
    assert_eq!((status.state, status.lost), (State::Failed, true));
    assert!(status.error.unwrap().contains("LAUNCH_FAILED"));
    let refused = other.ask_until(None, &[], "and I?", 5, PATIENCE);
    assert_eq!(refused.unwrap_err().code, ErrorCode::WorkerFailed);
    assert_eq!(engine.open_requests(), 0);
}
