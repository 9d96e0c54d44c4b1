//! Questions, their conversations and their order.

use super::*;

#[test]
fn a_question_may_come_before_its_picture() {
    let rig = rig();
    let file = picture(1);
    rig.send(json!({"type": "upload", "upload": 1, "bytes": file.len()}));
    rig.ask("a", json!({"upload": 1}));
    rig.connection.binary(&frame::encode(1, &file[..20]));
    let before = rig.take();
    assert_eq!(kind(&before[1]), "queued");
    assert_eq!(before[1]["position"], Value::Null);
    rig.no_command();
    rig.connection.binary(&frame::encode(1, &file[20..]));
    let look = rig.looked();
    let ask = rig.asked();
    let shown = Shown {
        key: look.key,
        shape: (8, 8),
        turn: 0,
    };
    assert_eq!(ask.pictures, [shown]);
    assert_eq!(look.pixels.size(), 8);
    rig.tell(
        &ask,
        Event::Encoded {
            key: look.key,
            tokens: 3,
            timings: wire::EncodeTimings::default(),
            cached: false,
        },
    );
    rig.answer(&ask, FinishReason::Stop);
    let messages = rig.take();
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        [
            "upload_received",
            "image_ready",
            "image_encoded",
            "queued",
            "started",
            "token",
            "token",
            "done"
        ]
    );
    assert_eq!(messages[0]["sha256"], wire::to_hex(&Sha256::digest(&file)));
    assert_eq!(messages[1]["format"], "png");
    assert_eq!(
        (&messages[1]["width"], &messages[1]["height"]),
        (&json!(6), &json!(4))
    );
    assert_eq!(
        (&messages[5]["index"], &messages[6]["index"]),
        (&json!(0), &json!(1))
    );
    let events: Vec<_> = messages
        .iter()
        .map(|m| m["event"].as_u64().unwrap())
        .collect();
    assert_eq!(events, (2..10).collect::<Vec<_>>());
}

#[test]
fn history_is_what_was_said() {
    let rig = rig();
    let turns = |job: &Ask| -> Vec<(String, String)> {
        job.history
            .iter()
            .map(|turn| (turn.question.clone(), turn.answer.clone()))
            .collect()
    };
    let said = |question: &str| (format!("{question}?"), "An answer".to_owned());
    let conversation = rig.answered("a", json!({}));
    let on = json!({"conversation": conversation});
    rig.ask("b", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a")]);
    assert_eq!(job.history[0].answer_ids, Some(vec![7, 8]));
    // Cancelled, timed out or cut off: it stays.
    rig.answer(&job, FinishReason::Cancelled);
    rig.ask("c", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), said("b")]);
    // Failed: it never happened.
    rig.broken(&job);
    rig.ask("d", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), said("b")]);
    rig.broken(&job);
    // Given: it replaces what was, and keeps the tokens of what is unchanged.
    let mut edit = on.clone();
    edit["history"] = json!([
        {"question": "a?", "answer": "An answer"},
        {"question": "else", "answer": "other"}
    ]);
    rig.ask("e", edit);
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), ("else".into(), "other".into())]);
    assert_eq!(job.history[0].answer_ids, Some(vec![7, 8]));
    assert_eq!(job.history[1].answer_ids, None);
    rig.broken(&job);
    // That failed too, so even the edit never happened.
    rig.ask("f", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), said("b")]);
    rig.answer(&job, FinishReason::Length);
    let mut anew = on;
    anew["history"] = json!([]);
    rig.ask("g", anew.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), []);
    rig.answer(&job, FinishReason::Stop);
    anew["history"] = Value::Null;
    rig.ask("h", anew);
    assert_eq!(turns(&rig.asked()), [said("g")]);
}

#[test]
fn one_conversation_is_answered_in_order_and_others_beside_it() {
    let rig = rig();
    let conversation = rig.answered("a", json!({}));
    let on = json!({"conversation": conversation});
    for request in ["b", "c", "d"] {
        rig.ask(request, on.clone());
    }
    rig.ask("other", json!({}));
    let first = rig.asked();
    assert_eq!(first.question, "b?");
    let other = rig.asked();
    assert_eq!(other.question, "other?");
    rig.no_command();
    let positions: Vec<_> = rig
        .take()
        .iter()
        .map(|m| (m["request"].clone(), m["position"].clone()))
        .collect();
    assert_eq!(positions, [(json!("c"), json!(1)), (json!("d"), json!(2))]);
    rig.send(json!({"type": "cancel", "request": "c"}));
    let messages = rig.take();
    assert_eq!(messages[0]["finish_reason"], "cancelled");
    // The one behind it moves up.
    assert_eq!(
        (&messages[1]["request"], &messages[1]["position"]),
        (&json!("d"), &json!(1))
    );
    rig.answer(&first, FinishReason::Stop);
    let last = rig.asked();
    assert_eq!(last.question, "d?");
    // In the order of asking, with what was said of it: nothing.
    assert_eq!(last.history[2].question, "c?");
    assert_eq!(last.history[2].answer, "");
}

#[test]
fn the_queue_is_told_when_it_falls() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    for position in [None, Some(3), Some(3), Some(4), Some(1), Some(0)] {
        rig.queued(&job, position);
    }
    let told: Vec<_> = rig.take().iter().map(|m| m["position"].clone()).collect();
    assert_eq!(told, [Value::Null, json!(3), json!(1), json!(0)]);
}

#[test]
fn what_cannot_be_asked() {
    let rig = rig_with(|limits| {
        limits.open_requests = 2;
        limits.text_chars = 10;
    });
    let image = rig.image(1);
    let other = rig.image(2);
    let conversation = rig.answered("a", json!({"image": image}));
    for (request, more, code) in [
        ("r1", json!({"text": " \n"}), ErrorCode::EmptyText),
        (
            "r0",
            json!({"text": "\u{200b}\u{feff} \u{2060}\u{ad}"}),
            ErrorCode::EmptyText,
        ),
        ("r2", json!({"text": "12345678901"}), ErrorCode::TextTooLong),
        ("r3", json!({"image": "img_x"}), ErrorCode::UnknownImage),
        ("r4", json!({"upload": 9}), ErrorCode::UnknownUpload),
        (
            "r5",
            json!({"conversation": "conv_x"}),
            ErrorCode::UnknownConversation,
        ),
        (
            "r6",
            json!({"conversation": conversation, "image": other}),
            ErrorCode::ConversationHasImage,
        ),
        (
            "r7",
            json!({"conversation": conversation, "upload": 2}),
            ErrorCode::ConversationHasImage,
        ),
        (
            "r8",
            json!({"sampling": {"temperature": -0.1}}),
            ErrorCode::BadSampling,
        ),
        (
            "r9",
            json!({"sampling": {"max_new_tokens": 1_000_000}}),
            ErrorCode::BadSampling,
        ),
    ] {
        rig.ask(request, more);
        assert_eq!(rig.refused(code)["request"], request);
    }
    // The same picture, under whatever name, is tolerated. Chinese counts by characters.
    rig.answered(
        "b",
        json!({"conversation": conversation, "upload": 1, "text": "图里有几只猫呢朋友？"}),
    );
    rig.answered("c", json!({"conversation": conversation, "image": image}));
    rig.ask("d", json!({}));
    rig.ask("e", json!({}));
    rig.ask("f", json!({}));
    let busy = rig.refused(ErrorCode::Busy);
    assert_eq!(busy["request"], "f");
    assert!(busy["retry_after_ms"].is_number());
    let (first, _second) = (rig.asked(), rig.asked());
    rig.answer(&first, FinishReason::Stop);
    rig.take();
    // So it may be tried again under the same id.
    rig.answered("f", json!({}));
}

#[test]
fn a_request_is_asked_once() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.ask("a", json!({}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.ask("a", json!({"text": "something else"}));
    // Without the id: the first goes on.
    assert_eq!(
        rig.refused(ErrorCode::DuplicateRequest).get("request"),
        None
    );
    rig.no_command();
    rig.answer(&job, FinishReason::Stop);
    rig.take();
    rig.ask("a", json!({}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.no_command();
}

#[test]
fn cancelling_reaches_the_engine_after_the_question() {
    let rig = rig();
    rig.ask("a", json!({}));
    rig.send(json!({"type": "cancel", "request": "a"}));
    rig.send(json!({"type": "cancel", "request": "unknown"}));
    let job = rig.asked();
    assert_eq!(rig.cancelled(), job.request);
    rig.no_command();
    assert_eq!(rig.kinds(), Vec::<String>::new());
}

#[test]
fn a_conversation_is_forgotten_when_its_answers_are_over() {
    let rig = rig();
    let conversation = rig.answered("a", json!({}));
    let on = json!({"conversation": conversation});
    rig.ask("b", on.clone());
    rig.ask("c", on.clone());
    let job = rig.asked();
    rig.take();
    rig.send(json!({"type": "forget", "conversation": conversation}));
    assert_eq!(rig.kinds(), ["done"]);
    assert_eq!(rig.cancelled(), job.request);
    rig.answer(&job, FinishReason::Cancelled);
    assert_eq!(rig.kinds().last().unwrap(), "done");
    // Only when the engine has freed it too.
    let Command::ForgetConversation {
        conversation: id, ..
    } = rig.command()
    else {
        panic!("the engine was not told")
    };
    assert_eq!(id, job.conversation);
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.freed(rig.session(), Freed::Conversation(id));
    assert_eq!(rig.kinds(), ["forgotten"]);
    rig.ask("d", on);
    rig.refused(ErrorCode::UnknownConversation);
}

#[test]
fn what_is_remembered_is_bounded() {
    let rig = rig_with(|limits| limits.message_bytes = 100_000);
    let long = json!([{"question": "q", "answer": "x".repeat(90_000)}]);
    let first = rig.answered("a", json!({"history": long}));
    let second = rig.answered("b", json!({"history": long}));
    for request in ["c", "d"] {
        rig.answered(request, json!({"history": long}));
    }
    rig.answered("e", json!({"conversation": first}));
    rig.answered("f", json!({"history": long}));
    rig.ask("g", json!({"conversation": second}));
    rig.refused(ErrorCode::UnknownConversation);
    rig.answered("h", json!({"conversation": first}));
}

#[test]
fn a_follow_up_is_told_its_place_behind_the_question_before() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    let queued = |position| rig.queued(&job, Some(position));
    queued(5);
    let conversation = rig.only()["conversation"].clone();
    rig.ask("b", json!({"conversation": conversation}));
    assert_eq!(rig.only()["position"], 6);
    queued(2);
    let told: Vec<_> = rig.take().iter().map(|m| m["position"].clone()).collect();
    assert_eq!(told, [json!(2), json!(3)]);
    rig.started(&job);
    let messages = rig.take();
    assert_eq!(messages[0]["type"], "started");
    assert_eq!(messages[1]["position"], 0);
    rig.no_command();
}

#[test]
fn what_is_quoted_back_is_short() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": "\u{200b}".repeat(100_000), "bytes": 1}));
    let message = rig.refused(ErrorCode::BadMessage)["message"].to_string();
    assert!(message.len() < 2_000, "{}", message.len());
}

#[test]
fn a_picture_that_fails_leaves_the_conversation_as_it_was() {
    let rig = rig();
    let conversation = rig.answered("a", json!({}));
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("b", json!({"conversation": conversation, "upload": 1}));
    rig.ask("c", json!({"conversation": conversation}));
    rig.take();
    rig.connection.binary(&frame::encode(1, b"hello"));
    let messages = rig.take_so_many(4);
    for message in &messages[1..] {
        assert_eq!(message["code"], "image_unsupported", "{message}");
    }
    rig.answered("d", json!({"conversation": conversation}));
    let image = rig.image(2);
    // The engine fails a question about a good one: that turn never happened either.
    rig.ask("e", json!({"conversation": conversation, "image": image}));
    rig.broken(&rig.asked());
    rig.take();
    let other = rig.image(3);
    rig.ask("f", json!({"conversation": conversation, "image": other}));
    let job = rig.asked();
    assert_eq!(job.pictures.len(), 1);
    let questions: Vec<_> = job.history.iter().map(|turn| &turn.question).collect();
    assert_eq!(questions, ["a?", "d?"]);
    rig.answer(&job, FinishReason::Stop);
    rig.take();
    // Now there is a turn about it.
    rig.ask("g", json!({"conversation": conversation, "image": image}));
    rig.refused(ErrorCode::ConversationHasImage);
    rig.ask("h", json!({"conversation": conversation}));
    assert_eq!(rig.asked().pictures, job.pictures);
}

#[test]
fn a_picture_that_fails_after_its_question_was_cancelled_is_no_hindrance() {
    let rig = rig();
    let conversation = rig.answered("a", json!({}));
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("b", json!({"conversation": conversation, "upload": 1}));
    rig.send(json!({"type": "cancel", "request": "b"}));
    rig.send(json!({"type": "cancel", "upload": 1}));
    rig.take();
    rig.answered("c", json!({"conversation": conversation}));
    let image = rig.image(2);
    rig.answered("d", json!({"conversation": conversation, "image": image}));
}

#[test]
fn cancelled_questions_are_not_open() {
    let rig = rig_with(|limits| limits.open_requests = 3);
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.started(&job);
    rig.ask("b", json!({}));
    let conversation = {
        let other = rig.asked();
        rig.answer(&other, FinishReason::Stop);
        rig.take().pop().unwrap()["conversation"].clone()
    };
    rig.ask("c", json!({"conversation": conversation}));
    let running = rig.asked();
    let on = |history: Value| json!({"conversation": conversation, "history": history});
    let given = json!([{"question": "q", "answer": "x"}]);
    // Those that bring a history replace what was cancelled before them, so that memory is bounded.
    for number in 0..200 {
        let request = format!("n{number}");
        rig.take();
        rig.ask(&request, on(given.clone()));
        rig.send(json!({"type": "cancel", "request": request}));
        assert_eq!(rig.take().last().unwrap()["finish_reason"], "cancelled");
    }
    for number in 0..60 {
        let request = format!("m{number}");
        rig.ask(&request, json!({"conversation": conversation}));
        rig.send(json!({"type": "cancel", "request": request}));
        assert_eq!(rig.take().last().unwrap()["finish_reason"], "cancelled");
    }
    rig.ask("last", json!({"conversation": conversation}));
    rig.ask("more", json!({}));
    assert_eq!(rig.take().last().unwrap()["code"], "busy");
    rig.answer(&running, FinishReason::Stop);
    let last = rig.asked();
    assert_eq!(last.question, "last?");
    assert_eq!(last.history.len(), 1 + 1 + 60);
    // Without an end they are not taken.
    rig.take();
    let mut taken = 0;
    let busy = loop {
        let request = format!("o{taken}");
        rig.ask(&request, json!({"conversation": conversation}));
        rig.send(json!({"type": "cancel", "request": request}));
        let end = rig.take().pop().unwrap();
        if end["type"] == "error" {
            break end;
        }
        taken += 1;
    };
    assert_eq!((&busy["code"], taken), (&json!("busy"), 64));
}

#[test]
fn what_waits_for_one_picture_goes_in_order_of_arrival() {
    let rig = rig();
    let bytes = picture(1);
    rig.send(json!({"type": "upload", "upload": 1, "bytes": bytes.len()}));
    let requests = ["a", "b", "c", "d", "e", "f"];
    for request in requests {
        rig.ask(request, json!({"upload": 1}));
    }
    rig.connection.binary(&frame::encode(1, &bytes));
    rig.looked();
    let asked = requests.map(|_| rig.asked().question);
    assert_eq!(asked, requests.map(|request| format!("{request}?")));
}

#[test]
fn a_lost_picture_sent_again_is_the_conversations_own() {
    let rig = rig();
    let image = rig.image(1);
    let conversation = rig.answered("a", json!({"image": image}));
    rig.send(json!({"type": "forget", "image": image}));
    let gone = rig.forgotten();
    rig.freed(rig.session(), Freed::Picture(gone));
    rig.take();
    rig.ask("b", json!({"conversation": conversation}));
    rig.refused(ErrorCode::ImageGone);
    // Another is another still, by its upload and by its image.
    let other = rig.image(2);
    rig.ask("c", json!({"conversation": conversation, "image": other}));
    rig.refused(ErrorCode::ConversationHasImage);
    let again = rig.image_again(3, 1);
    rig.ask("d", json!({"conversation": conversation, "image": again}));
    let job = rig.asked();
    assert_eq!((job.history.len(), job.question.as_str()), (1, "d?"));
    rig.answer(&job, FinishReason::Stop);
    rig.take();
    rig.answered("e", json!({"conversation": conversation}));
}

#[test]
fn another_picture_may_take_the_place_of_one_that_never_came() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    let queued = rig.take().pop().unwrap();
    let conversation = queued["conversation"].as_str().unwrap().to_owned();
    rig.send(json!({"type": "cancel", "upload": 1}));
    rig.take();
    // It was to be about something.
    rig.ask("n", json!({"conversation": conversation}));
    rig.refused(ErrorCode::UploadCancelled);
    let image = rig.image(2);
    rig.answered("b", json!({"conversation": conversation, "image": image}));
    rig.ask("c", json!({"conversation": conversation}));
    assert_eq!(rig.asked().pictures.len(), 1);
}

#[test]
fn all_questions_end_together() {
    let rig = rig();
    let conversation = rig.answered("z", json!({}));
    rig.ask("a", json!({"conversation": conversation}));
    let running = rig.asked();
    rig.ask("b", json!({"conversation": conversation}));
    rig.take();
    rig.hub.cancel_all();
    assert_eq!(rig.take().last().unwrap()["finish_reason"], "cancelled");
    assert_eq!(rig.cancelled(), running.request);
}

#[test]
fn every_answer_has_a_seed() {
    let rig = rig();
    let seed_of = |request: &str, more: Value| {
        rig.ask(request, more);
        let job = rig.asked();
        rig.answer(&job, FinishReason::Stop);
        rig.take();
        job.sampling.seed
    };
    assert_eq!(seed_of("a", json!({"sampling": {"seed": 7}})), 7);
    // Of its own where the question brings none, and small enough for any client.
    let seeds = ["b", "c"].map(|request| seed_of(request, json!({})));
    assert!(seeds[0] != seeds[1] && seeds.iter().all(|seed| *seed <= wire::MAX_INTEGER));
}
