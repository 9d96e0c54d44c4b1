//! Connections that come, go, and do not read.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::intake::KeyId;

#[test]
fn no_word_is_lost_with_the_connection() {
    let mut rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.started(&job);
    rig.tokens(&job, 0, &[1], "one ");
    assert_eq!(rig.kinds(), ["started", "token"]);
    assert_eq!(rig.commands(), []);
    rig.connection.detach();
    assert_eq!(rig.commands(), [presence(&rig, Presence::Away)]);
    rig.tokens(&job, 1, &[2], "two");
    let back = rig.resume(1).unwrap();
    let messages = take(&back);
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        ["welcome", "token", "token"]
    );
    assert_eq!(messages[0]["resumed"], true);
    assert_eq!(
        (&messages[1]["event"], &messages[2]["event"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(rig.commands(), [presence(&rig, Presence::Here)]);
    // Taken over: the old connection neither hears nor is heard.
    let second = rig.resume(3).unwrap();
    assert!(matches!(back.next(), Outgoing::TakenOver));
    back.text(
        codec::decode(r#"{"type":"ask","request":"b","text":"?"}"#),
        || Ok(()),
    );
    back.detach();
    assert_eq!(rig.commands(), []);
    assert_eq!(take(&second).len(), 1);
    rig.connection = second;
    assert!(matches!(rig.resume(99), Err(Reason::Gap)));
    rig.send(json!({"type": "ack", "event": 3}));
    rig.connection.detach();
    assert!(matches!(rig.resume(2), Err(Reason::Gap)));
    assert!(matches!(rig.resume(3), Err(Reason::Unknown)));
}

#[test]
fn resuming_takes_the_id_and_the_key() {
    let rig = rig();
    let resume = |session: &str, owner| {
        let session = session.to_owned();
        rig.hub
            .resume(
                &wire::Resume {
                    session,
                    last_event: 0,
                },
                owner,
            )
            .err()
    };
    assert_eq!(
        resume("0123456789abcdef0123456789abcdef", None),
        Some(Reason::Unknown)
    );
    assert_eq!(
        resume(rig.connection.id(), Some(KeyId::of("another"))),
        Some(Reason::Unknown)
    );
    assert_eq!(resume(rig.connection.id(), None), None);
    assert_eq!(rig.connection.id().len(), 32);
    assert!(!rig.connection.id().contains(rig.connection.tag()));
}

#[test]
fn a_lonely_session_expires() {
    let rig = rig();
    let patience = Duration::from_secs(300);
    rig.hub.tick(Instant::now() + 2 * patience);
    assert_eq!(rig.hub.count(), (1, 1));
    rig.connection.detach();
    rig.hub.tick(Instant::now() + patience / 2);
    assert_eq!(rig.hub.count(), (1, 0));
    rig.hub.tick(Instant::now() + 2 * patience);
    assert_eq!(rig.hub.count(), (0, 0));
    assert!(matches!(rig.command(), Command::EndSession { .. }));
    assert!(matches!(rig.resume(0), Err(Reason::Expired)));
}

#[test]
fn an_ended_session_hears_nothing_more() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.upload(1, b"12");
    rig.hub.close(&rig.connection);
    assert!(matches!(rig.connection.next(), Outgoing::Ended));
    rig.answer(&job, FinishReason::Stop);
    rig.send(json!({"type": "ping"}));
    rig.connection.detach();
    let session = &rig.connection.session;
    assert!(session.away.load(Ordering::Relaxed));
    assert!(matches!(rig.command(), Command::EndSession { .. }));
    assert!(matches!(rig.resume(0), Err(Reason::Unknown)));
}

#[test]
fn a_slow_reader_stalls_its_answers_and_then_its_connection() {
    let rig = rig_with(|limits| {
        limits.outbox_bytes = 10_000;
        limits.replay_bytes = 20_000;
    });
    rig.ask("a", json!({}));
    let job = rig.asked();
    let token = |count: usize| {
        for _ in 0..count {
            rig.tokens(&job, 0, &[], &"x".repeat(100));
        }
    };
    token(60);
    assert!(granted(&rig, &job) > 0 && rig.connection.is_full());
    token(1);
    assert_eq!(granted(&rig, &job), 0);
    rig.take();
    assert!(granted(&rig, &job) > 0 && !rig.connection.is_full());
    token(200);
    assert!(matches!(rig.connection.next(), Outgoing::TooSlow));
}

#[test]
fn messages_that_are_refused_end_nothing_else() {
    let rig = rig();
    rig.ask("a", json!({}));
    rig.asked();
    rig.connection
        .text(codec::decode(r#"{"type":"ask","request":"a"}"#), || Ok(()));
    assert_eq!(rig.refused(ErrorCode::BadMessage).get("request"), None);
    rig.connection
        .text(codec::decode(r#"{"type":"ask","request":"b"}"#), || Ok(()));
    assert_eq!(rig.refused(ErrorCode::BadMessage)["request"], "b");
    rig.connection.text(
        codec::decode(r#"{"type":"upload","upload":4,"bytes":-1}"#),
        || Ok(()),
    );
    assert_eq!(rig.refused(ErrorCode::BadMessage)["upload"], 4);
    // Its frames are on their way already.
    rig.connection.binary(&frame::encode(4, b"x"));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.connection
        .text(codec::decode(r#"{"type":"hello"}"#), || Ok(()));
    rig.refused(ErrorCode::HelloLate);
    rig.send(json!({"type": "ack", "event": 1000}));
    rig.refused(ErrorCode::BadMessage);
    rig.send(json!({"type": "ping", "t": [1, "x"]}));
    let pong = rig.only();
    assert_eq!((&pong["t"], pong.get("event")), (&json!([1, "x"]), None));
}

#[test]
fn nothing_is_taken_while_the_server_drains() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.hub.shared.set_phase(Phase::Draining);
    rig.ask("b", json!({}));
    let refusal = rig.refused(ErrorCode::Draining);
    assert!(refusal["retry_after_ms"].is_number());
    rig.answer(&job, FinishReason::Stop);
    assert_eq!(rig.kinds().last().unwrap(), "done");
}

#[test]
fn who_has_most_sessions_loses_one_first() {
    let rig = rig();
    let far = Client::at(std::net::Ipv4Addr::new(192, 0, 2, 1).into());
    let stranger = rig.open(None, far);
    stranger.detach();
    std::thread::sleep(Duration::from_millis(2));
    rig.connection.detach();
    std::thread::sleep(Duration::from_millis(2));
    let resume = |connection: &Connection| {
        let session = connection.id().into();
        let resume = wire::Resume {
            session,
            last_event: 0,
        };
        rig.hub
            .resume(&resume, None)
            .map(|connection| connection.detach())
            .err()
    };
    // The stranger is alone for longest, and has one session alone.
    for _ in 0..20 {
        rig.open(None, local()).detach();
    }
    assert_eq!(rig.hub.count(), (3, 0));
    assert_eq!(resume(&stranger), None);
    assert_eq!(resume(&rig.connection), Some(Reason::Expired));
    // Whoever is there stays, however many they are.
    let there: Vec<_> = (0..2).map(|_| rig.open(None, local())).collect();
    rig.open(None, local());
    assert!(there.iter().all(Connection::is_current));
    assert_eq!(resume(&stranger), Some(Reason::Expired));
}

#[test]
fn sessions_of_a_key_that_is_gone_end() {
    let rig = rig();
    let (gone, kept) = (KeyId::of("gone"), KeyId::of("kept"));
    let open = |key| rig.open(Some(key), Client::Key(key));
    let (theirs, others) = (open(gone), open(kept));
    theirs.detach();
    others.detach();
    rig.hub.end_without_key(|key| key == kept);
    // With a connection it is that which sees to it.
    assert_eq!(rig.hub.count(), (2, 1));
    let resume = |connection: &Connection, key| {
        let session = connection.id().into();
        let resume = wire::Resume {
            session,
            last_event: 0,
        };
        rig.hub.resume(&resume, Some(key)).err()
    };
    assert_eq!(resume(&theirs, gone), Some(Reason::Expired));
    assert_eq!(resume(&others, kept), None);
}

#[test]
fn sessions_are_bounded_and_the_loneliest_goes() {
    let rig = rig();
    let second = rig.open(None, local());
    let third = rig.open(None, local());
    third.detach();
    second.detach();
    rig.open(None, local());
    assert_eq!(rig.hub.count().0, 3);
    assert!(matches!(third.next(), Outgoing::Ended));
    assert!(!matches!(second.next(), Outgoing::Ended));
}

#[test]
fn whoever_may_yet_come_back_to_a_session_costs_no_other() {
    let rig = rig();
    let second = rig.open(None, local());
    second.detach();
    let third = rig.open(None, local());
    // The session of a connection that has said nothing yet, when somebody else's comes to stay.
    let fourth = rig.hub.open(None, local(), None).unwrap();
    third.detach();
    rig.hub.keep(&third);
    assert_eq!(rig.hub.count().0, 4);
    assert!(!matches!(second.next(), Outgoing::Ended));
    rig.hub.keep(&fourth);
    assert_eq!(rig.hub.count().0, 3);
    assert!(matches!(second.next(), Outgoing::Ended));
}

#[test]
fn only_its_own_connection_closes_a_session() {
    let rig = rig();
    let Ok(taken) = rig.resume(0) else {
        panic!("the session is there");
    };
    // The connection that was taken over says goodbye: the session is no longer its own.
    rig.hub.close(&rig.connection);
    assert!(taken.is_current());
    rig.no_command();
    rig.hub.close(&taken);
    assert_eq!(rig.hub.count(), (0, 0));
    assert!(matches!(rig.command(), Command::EndSession { .. }));
}

#[test]
fn a_resume_that_comes_too_late_ends_no_session_in_use() {
    let rig = rig();
    rig.answered("a", json!({}));
    rig.send(json!({"type": "ack", "event": 2}));
    assert!(matches!(rig.resume(0), Err(Reason::Gap)));
    assert!(rig.connection.is_current());
    rig.connection.detach();
    assert!(matches!(rig.resume(0), Err(Reason::Gap)));
    assert_eq!(rig.hub.count(), (0, 0));
}

/// It looked at a session just before its client came back: the session is over for the client too, or goes on.
#[test]
fn a_session_that_was_resumed_is_not_ended_for_its_absence() {
    let rig = rig();
    let session = rig.connection.session.clone();
    rig.connection.detach();
    let welcome = |_: &str| ServerMessage::Pong(wire::Pong::default());
    let resumed = std::thread::scope(|scope| {
        let looking = session.inner.lock();
        let reaper = scope.spawn(|| rig.hub.tick(Instant::now() + Duration::from_secs(1000)));
        std::thread::sleep(Duration::from_millis(50));
        // It may look, and go no further.
        let sessions = rig.hub.sessions.lock();
        drop(looking);
        std::thread::sleep(Duration::from_millis(50));
        let resumed = session.resume(0, welcome);
        drop(sessions);
        reaper.join().unwrap();
        resumed
    });
    assert!(resumed.is_err() || resumed.is_ok_and(|connection| connection.is_current()));
}

/// What has come of an upload goes when memory is short, unless its client is back and builds on it: then that is told.
#[test]
fn an_upload_that_was_resumed_is_not_begun_again_in_silence() {
    let rig = rig();
    let session = rig.connection.session.clone();
    let send = |to: &Connection, message: Value| {
        to.text(codec::decode(&message.to_string()), || Ok(()));
    };
    let welcome = |_: &str| ServerMessage::Pong(wire::Pong::default());
    let (over, latest) = (AtomicBool::new(false), AtomicU32::new(u32::MAX));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    session.evict_upload(latest.load(Ordering::Relaxed));
                }
            });
        }
        let (mut connection, mut last, mut begun_again) = (rig.connection.clone(), 0, 0);
        for round in 0..3000_u32 {
            let announce = json!({"type": "upload", "upload": round, "bytes": 6});
            send(&connection, announce.clone());
            connection.binary(&frame::encode(round, b"abc"));
            connection.detach();
            latest.store(round, Ordering::Relaxed);
            (0..round % 256).for_each(|_| std::hint::spin_loop());
            connection = session.resume(last, welcome).ok().unwrap();
            send(&connection, announce);
            (0..3).for_each(|_| std::thread::yield_now());
            let held = rig.hub.shared.budget.used();
            send(&connection, json!({"type": "cancel", "upload": round}));
            let told = take(&connection);
            let ended = told.iter().any(|message| message["code"] == "busy");
            let accepted = told
                .iter()
                .find(|message| message["type"] == "upload_accepted");
            let received = accepted.map(|message| message["received"].as_u64().unwrap());
            begun_again += u32::from(!ended && received != Some(held));
            let events = told.iter().filter_map(|message| message["event"].as_u64());
            last = events.max().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(begun_again, 0, "after their clients were told");
    });
}
