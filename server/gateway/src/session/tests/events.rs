//! What the engine is told, and what is made of what it tells.

use super::*;
use crate::telemetry::metrics::{METRICS, Snapshot};

/// Answers as an engine does, as far as it may: how often it told something, behind so many tokens.
fn answer_while_granted(rig: &Rig, ask: &Ask, behind: u32, mut credit: u32) -> u32 {
    let mut told = 0;
    while credit > 0 && told < 1000 {
        let token = behind + told;
        rig.tokens(ask, token.into(), &[token], &"x".repeat(100));
        told += 1;
        credit = credit - 1 + granted(rig, ask);
    }
    told
}

#[test]
fn an_answer_pauses_for_a_client_that_does_not_read() {
    let rig = rig_with(|limits| limits.outbox_bytes = 10_000);
    rig.ask("a", json!({}));
    let ask = rig.asked();
    let window = ask.credit;
    let told = answer_while_granted(&rig, &ask, 0, window);
    // As much as may wait, and what it might tell beyond.
    assert!((window + 1..3 * window).contains(&told), "{told}");
    assert!(rig.connection.is_full());
    while rig.connection.is_full() {
        assert_eq!(granted(&rig, &ask), 0);
        assert!(matches!(rig.connection.next(), Outgoing::Text(_)));
    }
    assert_eq!(granted(&rig, &ask), window);
    rig.take();
    assert_eq!(granted(&rig, &ask), 0);
    // Whoever is done needs none.
    for token in told..told + window / 2 - 1 {
        rig.tokens(&ask, token.into(), &[token], "x");
    }
    rig.done(&ask, FinishReason::Stop);
    rig.tokens(&ask, 0, &[], "late");
    rig.take();
    assert_eq!(rig.commands(), []);
}

#[test]
fn an_answer_goes_on_while_its_client_reads_or_is_away() {
    let mut rig = rig_with(|limits| limits.outbox_bytes = 10_000);
    rig.ask("a", json!({}));
    let ask = rig.asked();
    let mut credit = ask.credit;
    for token in 0..500 {
        assert!(credit > 0);
        rig.tokens(&ask, token.into(), &[token], "x");
        rig.take();
        credit = credit - 1 + granted(&rig, &ask);
    }
    let mut behind = 500 + answer_while_granted(&rig, &ask, 500, credit);
    assert!(behind < 600 && rig.connection.is_full());
    // Nobody is there whose pace would count.
    rig.connection.detach();
    let all = Command::Credit {
        session: rig.session(),
        request: ask.request,
        events: ask.credit,
    };
    assert_eq!(rig.commands(), [presence(&rig, Presence::Away), all]);
    assert_eq!(answer_while_granted(&rig, &ask, behind, ask.credit), 1000);
    behind += 1000;
    // Back, the client has much to read first.
    rig.connection = rig.resume(1).unwrap();
    assert_eq!(rig.commands(), [presence(&rig, Presence::Here)]);
    assert!(rig.connection.is_full());
    let told = answer_while_granted(&rig, &ask, behind, ask.credit / 2);
    assert_eq!(told, ask.credit / 2);
    rig.take();
    assert!(granted(&rig, &ask) > 0);
}

#[test]
fn the_engine_hears_of_coming_and_going_in_order() {
    let mut rig = rig();
    rig.ask("a", json!({}));
    rig.connection.detach();
    rig.connection = rig.resume(0).unwrap();
    rig.ask("b", json!({}));
    rig.connection.detach();
    let commands = rig.commands();
    assert!(matches!(&commands[0], Command::Ask(ask) if ask.question == "a?"));
    assert_eq!(commands[1], presence(&rig, Presence::Away));
    assert_eq!(commands[2], presence(&rig, Presence::Here));
    assert!(matches!(&commands[3], Command::Ask(ask) if ask.question == "b?"));
    assert_eq!(commands[4..], [presence(&rig, Presence::Away)]);
}

#[test]
fn a_question_tells_how_long_it_waited_and_may_take() {
    let rig = rig();
    rig.ask("a", json!({}));
    let ask = rig.asked();
    assert_eq!((ask.attempt, ask.so_far.len()), (0, 0));
    let limit = rig.hub.shared.limits.request_seconds * 1e3;
    assert!((0.0..1e4).contains(&ask.waited_ms), "{}", ask.waited_ms);
    assert!((limit - ask.waited_ms - ask.left_ms).abs() < 0.01);
}

#[test]
fn what_another_attempt_tells_is_not_heard() {
    let rig = rig();
    rig.ask("a", json!({}));
    let ask = rig.asked();
    let mut other = ask.clone();
    other.attempt += 1;
    rig.answer(&other, FinishReason::Stop);
    rig.broken(&other);
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.answer(&ask, FinishReason::Stop);
    assert_eq!(rig.kinds(), ["queued", "started", "token", "token", "done"]);
}

#[test]
fn every_token_is_remembered_whether_it_shows_or_not() {
    let rig = rig();
    rig.ask("a", json!({}));
    let ask = rig.asked();
    rig.tokens(&ask, 0, &[1, 2], "");
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.tokens(&ask, 2, &[3], "猫");
    // Once more, and once more with news.
    rig.tokens(&ask, 0, &[1, 2], "");
    rig.tokens(&ask, 2, &[3], "猫");
    rig.tokens(&ask, 2, &[3, 4], "!");
    // What was held back may come without a token of its own.
    rig.tokens(&ask, 4, &[], "?");
    let messages = rig.take();
    let texts: Vec<_> = messages.iter().map(|it| it["text"].clone()).collect();
    assert_eq!(texts, ["猫", "!", "?"]);
    let places: Vec<_> = messages.iter().map(|it| it["index"].clone()).collect();
    assert_eq!(places, [0, 1, 2]);
    rig.done(&ask, FinishReason::Length);
    let conversation = rig.only()["conversation"].clone();
    rig.ask("b", json!({"conversation": conversation}));
    let turn = rig.asked().history.remove(0);
    assert_eq!(turn.answer, "猫!?");
    assert_eq!(turn.answer_ids, Some(vec![1, 2, 3, 4]));
}

#[test]
fn token_ids_are_counted_as_memory() {
    let rig = rig();
    rig.ask("a", json!({}));
    let ask = rig.asked();
    rig.take();
    let before = rig.hub.shared.session_memory();
    rig.tokens(&ask, 0, &[1; 10_240], "");
    assert_eq!(rig.hub.shared.session_memory() - before, 40_960);
}

#[test]
fn the_same_picture_forgotten_twice_is_freed_in_order() {
    let rig = rig();
    let forget = |image: &str| {
        rig.send(json!({"type": "forget", "image": image}));
        let Command::Forget { session, picture } = rig.command() else {
            panic!("the picture must be forgotten")
        };
        (session, Freed::Picture(picture))
    };
    let first = rig.image(1);
    let (session, freed) = forget(&first);
    let second = rig.image_again(2, 1);
    assert_ne!(first, second);
    assert_eq!(forget(&second), (session, freed));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.freed(session, freed);
    assert_eq!(rig.only()["image"], first);
    rig.freed(session, freed);
    assert_eq!(rig.only()["image"], second);
    // Nobody waits for it any more.
    rig.freed(session, freed);
    assert_eq!(rig.kinds(), Vec::<String>::new());
}

#[test]
fn a_question_that_the_engine_has_no_room_for_may_be_asked_again() {
    let rig = rig();
    for code in [ErrorCode::Busy, ErrorCode::Loading] {
        rig.ask("a", json!({}));
        let failure = Failure::new(code, "Later.").retry_after(700.0);
        rig.failed(&rig.asked(), failure);
        let refusal = rig.refused(code);
        assert_eq!(
            (&refusal["request"], &refusal["message"]),
            (&json!("a"), &json!("Later."))
        );
        assert_eq!(refusal["retry_after_ms"], 700.0);
    }
    rig.answered("a", json!({}));
    // For good, its id is used up.
    rig.ask("b", json!({}));
    rig.broken(&rig.asked());
    assert_eq!(
        rig.refused(ErrorCode::WorkerFailed).get("retry_after_ms"),
        None
    );
    rig.ask("b", json!({}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.no_command();
}

/// A sample of the metrics; 0 where there is none.
fn counted(name: &str) -> f64 {
    let text = METRICS.text(Snapshot::new());
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.map_or(0.0, |value| value.trim().parse().unwrap())
}

#[test]
fn what_ends_after_its_session_is_counted() {
    let rig = rig();
    rig.ask("a", json!({}));
    let ask = rig.asked();
    rig.hub.close(&rig.connection);
    // These are no other test's.
    let failed = "glimpse_requests_total{outcome=\"out_of_memory\"}";
    let tokens = "glimpse_completion_tokens_total";
    let before = [failed, tokens].map(counted);
    rig.failed(&ask, Failure::new(ErrorCode::OutOfMemory, "No."));
    rig.tell(
        &ask,
        Event::Done {
            request: ask.request,
            attempt: ask.attempt,
            finish_reason: FinishReason::Cancelled,
            usage: wire::Usage {
                completion_tokens: 12,
                ..wire::Usage::default()
            },
            timings: wire::AnswerTimings::default(),
        },
    );
    let after = [failed, tokens].map(counted);
    assert_eq!(after, [before[0] + 1.0, before[1] + 12.0]);
}

/// It panics when it is to tell more.
struct Faulty(Arc<dyn Compute>);

impl Compute for Faulty {
    fn command(&self, command: Command) {
        if matches!(command, Command::Credit { .. }) {
            panic!("a fault of the test's own");
        }
        self.0.command(command);
    }
}

#[test]
fn a_panic_over_one_event_ends_nobody() {
    let rig = rig_on(|engine| Arc::new(Faulty(engine)), |_| {}, |_| {});
    let other = rig.open(None, stranger());
    take(&other);
    rig.ask("a", json!({}));
    let ask = rig.asked();
    for token in 0..ask.credit {
        rig.tokens(&ask, token.into(), &[token], "x");
    }
    rig.done(&ask, FinishReason::Stop);
    assert_eq!(kind(rig.take().last().unwrap()), "done");
    rig.answered("b", json!({}));
    send(&other, json!({"type": "ask", "request": "a", "text": "?"}));
    rig.answer(&rig.asked(), FinishReason::Stop);
    assert_eq!(kind(take(&other).last().unwrap()), "done");
}
