//! System turns, where a picture stands, and what is told of tokens.

use api::{AnswerFormat, TokenLogprob};

use super::*;

#[test]
fn a_system_turn_belongs_to_the_conversation() {
    let rig = rig();
    let id = rig.answered("a", json!({"system": "one"}));
    let said = |request: &str, system: Value, history: Value| {
        let ask = json!({"conversation": id, "system": system, "history": history});
        rig.ask(request, ask);
        rig.asked()
    };
    // Kept, also where the history is replaced; replaced; removed.
    for (request, system, holds) in [
        ("b", Value::Null, "one"),
        ("c", json!("two"), "two"),
        ("d", Value::Null, "two"),
        ("e", json!(""), ""),
        ("f", Value::Null, ""),
        ("g", json!("three"), "three"),
    ] {
        let job = said(request, system, json!([]));
        assert_eq!(job.system, holds, "{request}");
        rig.answer(&job, FinishReason::Stop);
    }
    // A question that failed never happened, nor its system turn.
    let job = said("h", json!("four"), Value::Null);
    assert_eq!(job.system, "four");
    rig.broken(&job);
    assert_eq!(said("i", Value::Null, Value::Null).system, "three");
    rig.take();
    let long = "x".repeat(stand_in::limits().text_chars as usize + 1);
    rig.ask("j", json!({"system": long}));
    assert_eq!(rig.take().last().unwrap()["code"], "text_too_long");
}

#[test]
fn the_first_question_has_its_uploads_system_turn() {
    let rig = rig();
    let upload = |number: u32, file: &[u8], system: Value| {
        let length = file.len();
        rig.send(json!({"type": "upload", "upload": number, "bytes": length, "system": system}));
        rig.connection.binary(&frame::encode(number, file));
    };
    upload(1, &picture(1), json!("one"));
    assert_eq!(rig.looked().system, "one");
    let id = rig.answered("a", json!({"upload": 1}));
    rig.ask("b", json!({"conversation": id}));
    let job = rig.asked();
    assert_eq!(job.system, "one");
    rig.answer(&job, FinishReason::Stop);
    // Its own first; and the same picture announced with another.
    rig.ask("c", json!({"upload": 1, "system": "two"}));
    assert_eq!(rig.asked().system, "two");
    upload(2, &picture(1), json!("three"));
    rig.ask("d", json!({"upload": 2}));
    assert_eq!(rig.asked().system, "three");
    upload(3, &picture(1), Value::Null);
    rig.ask("e", json!({"upload": 3}));
    assert_eq!(rig.asked().system, "");
    // One that begins without keeps to that, also when a picture comes later.
    upload(4, &picture(4), json!("four"));
    rig.looked();
    let id = rig.answered("f", json!({}));
    rig.ask("g", json!({"conversation": id, "upload": 4}));
    assert_eq!(rig.asked().system, "");
    rig.take();
    let long = "x".repeat(stand_in::limits().text_chars as usize + 1);
    upload(5, &picture(5), json!(long));
    let refused = rig.take();
    assert_eq!(refused[0]["code"], "text_too_long");
    assert_eq!(refused[0]["upload"], 5);
}

#[test]
fn a_picture_stands_where_it_came() {
    let rig = rig();
    let image = rig.image(1);
    let history = json!([{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}]);
    rig.ask(
        "a",
        json!({"image": image, "history": history, "picture_turn": 2}),
    );
    let job = rig.asked();
    assert_eq!(job.pictures[0].turn, 2);
    rig.answer(&job, FinishReason::Stop);
    let id = rig.take()[0]["conversation"].as_str().unwrap().to_owned();
    let turn = |request: &str, more: Value| {
        let mut ask = json!({"conversation": id});
        ask.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        rig.ask(request, ask);
        let job = rig.asked();
        rig.answer(&job, FinishReason::Stop);
        job.pictures[0].turn
    };
    assert_eq!(turn("b", json!({})), 2);
    // A history says anew where it is: in the first question, unless it says otherwise.
    assert_eq!(turn("c", json!({"history": history})), 0);
    assert_eq!(turn("d", json!({"picture_turn": 3})), 3);
    assert_eq!(turn("e", json!({})), 3);
    rig.take();
    for (request, ask) in [
        ("f", json!({"picture_turn": 1})),
        (
            "g",
            json!({"conversation": id, "history": history, "picture_turn": 3}),
        ),
    ] {
        rig.ask(request, ask);
        assert_eq!(rig.take()[0]["code"], "bad_message");
    }
}

#[test]
fn a_format_goes_to_whoever_computes() {
    let rig = rig();
    rig.ask(
        "a",
        json!({"format": {"type": "regex", "regex": "a+"}, "logprobs": 2}),
    );
    let job = rig.asked();
    let regex = "a+".to_owned();
    assert_eq!(job.format, Some(AnswerFormat::Regex { regex }));
    assert_eq!(job.logprobs, Some(2));
    rig.ask("b", json!({"format": {"type": "text"}}));
    assert_eq!(rig.asked().format, None);
    rig.take();
    for (request, ask, code) in [
        (
            "c",
            json!({"format": {"type": "choice", "choice": []}}),
            "bad_format",
        ),
        ("d", json!({"logprobs": 21}), "bad_message"),
    ] {
        rig.ask(request, ask);
        assert_eq!(rig.take()[0]["code"], code);
    }
}

#[test]
fn each_token_is_told_once_with_the_piece_that_it_decides() {
    let rig = rig();
    rig.ask("a", json!({"logprobs": 0}));
    let job = rig.asked();
    let tokens = |first: u64, ids: &[u32], text: &str| {
        let of = |&id: &u32| TokenLogprob {
            id,
            ..TokenLogprob::default()
        };
        let event = Event::Tokens {
            request: job.request,
            attempt: job.attempt,
            first,
            ids: ids.into(),
            text: text.into(),
            logprobs: ids.iter().map(of).collect(),
        };
        rig.tell(&job, event);
    };
    tokens(0, &[5], "");
    tokens(1, &[6], "猫");
    // Another attempt tells some of it again.
    tokens(1, &[6, 7], " sits");
    tokens(3, &[8], "");
    rig.done(&job, FinishReason::Stop);
    let messages = rig.take();
    let pieces: Vec<_> = messages.iter().filter(|m| kind(m) == "token").collect();
    let ids = |piece: &Value| -> Vec<u64> {
        let tokens = piece["tokens"].as_array().unwrap().iter();
        tokens.map(|token| token["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        pieces.iter().map(|piece| ids(piece)).collect::<Vec<_>>(),
        [vec![5, 6], vec![7], vec![8]]
    );
    let texts: Vec<_> = pieces
        .iter()
        .map(|piece| piece["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["猫", " sits", ""]);
}
