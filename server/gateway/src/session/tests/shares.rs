//! What clients share: one that takes much gives way, and nobody else does.

use super::*;

/// A stranger's session, with its `welcome` read.
fn strange(rig: &Rig) -> Connection {
    let connection = rig.open(None, stranger());
    take(&connection);
    connection
}

fn announce(connection: &Connection, upload: u32) {
    let message = json!({"type": "upload", "upload": upload, "bytes": 1 << 30});
    send(connection, message);
    assert_eq!(kind(&take(connection)[0]), "upload_accepted");
}

fn big_uploads(limits: &mut Limits) {
    limits.upload_bytes = 1 << 31;
}

#[test]
fn the_stalest_upload_of_whoever_has_most_ends() {
    let rig = rig_with(big_uploads);
    let budget = rig.hub.shared.budget.clone();
    announce(&rig.connection, 1);
    send_bytes(&rig.connection, 1, 1000);
    // Older than any of the stranger's, and yet it stays.
    let strangers: Vec<Connection> = (0..2).map(|_| strange(&rig)).collect();
    for (number, connection) in strangers.iter().enumerate() {
        announce(connection, number as u32);
        send_bytes(connection, number as u32, UPLOAD_MEMORY as usize / 2 - 2000);
        take(connection);
    }
    send_bytes(&rig.connection, 1, 10_000);
    assert!(rig.kinds().iter().all(|kind| kind == "upload_progress"));
    let told = take(&strangers[0]).pop().unwrap();
    assert_eq!(
        (&told["code"], &told["upload"]),
        (&json!("busy"), &json!(0))
    );
    assert!(told["retry_after_ms"].is_number());
    assert!(take(&strangers[1]).is_empty());
    assert_eq!(budget.used(), 11_000 + UPLOAD_MEMORY / 2 - 2000);
    // The stranger's own next bytes end another of its uploads, or that itself.
    announce(&strangers[0], 5);
    send_bytes(&strangers[0], 5, UPLOAD_MEMORY as usize / 2);
    assert_eq!(take(&strangers[1]).pop().unwrap()["code"], "busy");
    assert!(rig.kinds().is_empty());
    assert!(budget.used() <= UPLOAD_MEMORY);
}

#[test]
fn an_upload_stays_idle_however_often_it_is_announced() {
    let mut rig = rig();
    let announce = json!({"type": "upload", "upload": 1, "bytes": 5});
    rig.send(announce.clone());
    let session = rig.connection.session.clone();
    let start = Instant::now();
    let again = |seconds: u64| {
        let upload: wire::Upload = serde_json::from_value(announce.clone()).unwrap();
        session.with(|state| state.announce(&upload, start + Duration::from_secs(seconds)));
    };
    again(20);
    // Nor does a client that comes back begin its clock anew.
    rig.connection.detach();
    rig.connection = rig.resume(0).unwrap();
    rig.hub.tick(start + Duration::from_secs(29));
    again(29);
    assert!(
        rig.kinds()
            .iter()
            .all(|kind| kind == "upload_accepted" || kind == "welcome")
    );
    rig.hub.tick(start + Duration::from_secs(31));
    rig.refused(ErrorCode::UploadTimeout);
}

#[test]
fn nobody_is_late_while_the_process_stood_still() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.take();
    let away = strange(&rig);
    away.detach();
    let now = Instant::now() + Duration::from_secs(1000);
    rig.hub.extend_deadlines(Duration::from_secs(1000), now);
    rig.hub.tick(now);
    assert!(rig.kinds().is_empty());
    assert_eq!(rig.hub.count(), (2, 1));
    rig.hub.tick(now + Duration::from_secs(31));
    rig.refused(ErrorCode::UploadTimeout);
    rig.hub.tick(now + Duration::from_secs(301));
    assert_eq!(rig.hub.count(), (1, 1));
}

#[test]
fn pictures_of_whoever_keeps_most_go_first() {
    let rig = rig();
    let other = strange(&rig);
    let show = |connection: &Connection, shade: u8| {
        upload(connection, shade);
        let job = rig.looked();
        take(connection);
        job
    };
    // The stranger's are used last, and still are the ones that go: it has two of three.
    let (mine, first) = (show(&rig.connection, 1), show(&other, 2));
    let second = show(&other, 3);
    upload(&rig.connection, 4);
    assert_eq!(rig.forgotten(), first.key);
    drop(first);
    let fourth = rig.looked();
    rig.take();
    // Whoever keeps most now makes room for its own.
    upload(&rig.connection, 5);
    assert_eq!(rig.forgotten(), mine.key);
    drop(mine);
    let fifth = rig.looked();
    rig.take();
    drop((second, fourth, fifth));
}

#[test]
fn a_client_with_many_sessions_makes_room_for_its_own() {
    let rig = rig();
    // Alone for longest, and no stranger's sessions end it.
    rig.connection.detach();
    for _ in 0..5 {
        strange(&rig).detach();
    }
    assert_eq!(rig.hub.count().0, 3);
    assert!(rig.resume(0).is_ok());
}

fn small_memory(options: &mut Options) {
    options.session_memory = 1 << 20;
    options.max_sessions = 100;
}

/// Words that the session's client does not read.
fn unread(rig: &Rig, job: &Ask, bytes: usize) {
    for _ in 0..bytes / 1000 {
        rig.tokens(job, 0, &[], &"x".repeat(1000));
    }
}

#[test]
fn sessions_without_a_client_go_first_when_memory_is_short() {
    let rig = rig_of(|_| {}, small_memory);
    rig.ask("a", json!({}));
    let mine = rig.asked();
    unread(&rig, &mine, 60_000);
    let strangers: Vec<Connection> = (0..4).map(|_| strange(&rig)).collect();
    for (connection, bytes) in strangers.iter().zip([50_000, 50_000, 50_000, 140_000]) {
        let ask = json!({"type": "ask", "request": "a", "text": "?"});
        send(connection, ask);
        let job = rig.asked();
        unread(&rig, &job, bytes);
        take(connection);
    }
    strangers[3].detach();
    assert!(rig.hub.shared.session_memory() < 1 << 20);
    send(
        &strangers[0],
        json!({"type": "ask", "request": "b", "text": "?"}),
    );
    unread(&rig, &rig.asked(), 100_000);
    assert!(rig.hub.shared.session_memory() > 1 << 20);
    rig.hub.tick(Instant::now());
    assert!(rig.hub.shared.session_memory() < 1 << 20);
    assert!(matches!(strangers[3].next(), Outgoing::Ended));
    let here = strangers[..3]
        .iter()
        .filter(|connection| connection.is_current());
    assert_eq!(here.count(), 3);
    // The small client has lost nothing.
    let tokens = rig.take().iter().filter(|m| m["type"] == "token").count();
    assert_eq!(tokens, 60);
    assert!(rig.resume(0).is_ok());
}

#[test]
fn a_client_that_takes_most_loses_what_it_can_go_on_without() {
    let rig = rig_of(|_| {}, small_memory);
    let mine = rig.answered("a", json!({}));
    let other = strange(&rig);
    let ask = json!({"type": "ask", "request": "a", "text": "?"});
    send(&other, ask);
    let job = rig.asked();
    let mut number = 0;
    while rig.hub.shared.session_memory() < 1 << 20 {
        number += 1;
        let request = format!("r{number}");
        send(
            &other,
            json!({"type": "ask", "request": request, "text": "?"}),
        );
        let long = rig.asked();
        unread(&rig, &long, 100_000);
        rig.answer(&long, FinishReason::Stop);
        take(&other);
    }
    rig.hub.tick(Instant::now());
    assert!(rig.hub.shared.session_memory() < 1 << 16);
    // It goes on, and can't be resumed from before.
    assert!(other.is_current());
    rig.answer(&job, FinishReason::Stop);
    assert_eq!(kind(take(&other).last().unwrap()), "done");
    let resume = wire::Resume {
        session: other.id().into(),
        last_event: 1,
    };
    assert!(matches!(rig.hub.resume(&resume, None), Err(Reason::Gap)));
    rig.answered("b", json!({"conversation": mine}));
}

#[test]
fn a_client_whose_memory_cannot_be_had_back_is_sent_away() {
    let rig = rig_of(|_| {}, small_memory);
    let other = strange(&rig);
    // Used numbers are remembered as long as the session lasts.
    for number in 0..20_000 {
        let message = json!({"type": "upload", "upload": number, "bytes": 1_u64 << 40});
        send(&other, message);
        while matches!(other.next(), Outgoing::Text(_)) {}
        if !other.is_current() {
            break;
        }
    }
    assert!(matches!(other.next(), Outgoing::Evicted));
    assert!(rig.hub.shared.session_memory() < 1 << 16);
    assert!(rig.connection.is_current());
}

#[test]
fn turns_without_text_are_counted() {
    let rig = rig();
    let turn = json!({"question": "", "answer": ""});
    let turns = |count: usize| json!({"history": vec![turn.clone(); count]});
    rig.ask("a", turns(4097));
    assert_eq!(rig.refused(ErrorCode::ContextFull)["request"], "a");
    for number in 0..30 {
        rig.answered(&format!("r{number}"), turns(4096));
        rig.send(json!({"type": "ack", "event": 2 + 5 * (number + 1) - 1}));
        rig.take();
    }
    let most = 4 * rig.hub.shared.limits.message_bytes;
    let held = rig.hub.shared.session_memory();
    assert!(held > most - most / 8 && held < most + most / 8, "{held}");
    // Nor may questions that wait bring more.
    let rig = rig_with(|limits| {
        limits.message_bytes = 100_000;
        limits.open_requests = 1000;
    });
    let mut taken = 0;
    loop {
        rig.ask(&format!("r{taken}"), turns(700));
        let told = rig.take();
        if told.iter().any(|message| message["code"] == "busy") {
            break;
        }
        taken += 1;
    }
    assert!((4..6).contains(&taken), "{taken}");
}

#[test]
fn a_drain_waits_for_no_client() {
    let rig = rig_with(|limits| {
        limits.outbox_bytes = 10_000;
        limits.replay_bytes = 100_000;
    });
    let now = Instant::now;
    let busy = || rig.connection.session.is_busy(now());
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    // It comes, so that there may be an answer.
    assert!(busy());
    let later = now() + Duration::from_secs(2);
    assert!(!rig.connection.session.is_busy(later));
    rig.ask("b", json!({}));
    let job = rig.asked();
    assert!(rig.connection.session.is_busy(later));
    // A client that does not read waits for itself.
    unread(&rig, &job, 20_000);
    assert!(!busy());
    rig.take();
    assert!(busy());
    rig.hub.cancel_all();
    assert_eq!(rig.cancelled(), job.request);
    let done = rig.only();
    assert_eq!(
        (&done["request"], &done["finish_reason"]),
        (&json!("a"), &json!("cancelled"))
    );
    rig.answer(&job, FinishReason::Cancelled);
    assert!(!busy());
}
