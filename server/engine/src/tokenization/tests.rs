//! Reading questions beside the worker.

use api::{ErrorCode, Event, FinishReason, Turn};

use crate::tests::{Client, start, tiny};
use crate::*;

/// As much text as is read at all.
fn longest() -> String {
    let config = &tiny().unwrap().0.config;
    "The quick brown fox. ".repeat(32 * config.seq_length / 21)
}

#[test]
fn a_long_text_holds_up_nobody() {
    let engine = start(Settings::default());
    // Both are heard through one channel: the order is the engine's, whenever this thread gets a core.
    let (long, short) = (Client::new(&engine), Client::new(&engine));
    short.hears(&long);
    short.ask(None, &[], "a", 20);
    while !matches!(short.next(), Event::Tokens { .. }) {}
    for _ in 0..24 {
        long.ask(None, &[], &longest(), 1);
    }
    let (mut read, mut read_before_the_answer) = (0, None);
    while read < 24 || read_before_the_answer.is_none() {
        match short.next() {
            Event::Failed { failure, .. } => {
                assert_eq!(failure.code, ErrorCode::ContextFull);
                read += 1;
            }
            Event::Done { .. } => read_before_the_answer = Some(read),
            _ => {}
        }
    }
    // Each takes longer to read than the whole answer.
    assert!(read_before_the_answer.unwrap() < 24);
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn a_question_ends_while_it_is_read() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let texts = [0, 1].map(|_| client.ask(None, &[], &longest(), 1));
    client.cancel(texts[1]);
    let answer = client.answer(texts[1]);
    assert_eq!(answer.finish, Some(FinishReason::Cancelled));
    assert_eq!(answer.usage, api::Usage::default());
    // What is read of it then concerns nobody.
    let next = client.answer(client.ask(None, &[], "a", 3));
    assert!(next.finish.is_some());
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn the_texts_of_questions_that_are_over_are_not_kept() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let texts = [(); 24].map(|()| client.ask(None, &[], &longest(), 1));
    for text in texts {
        client.cancel(text);
    }
    for text in texts {
        client.answer(text);
    }
    // Once another's answer is there, the worker has let go of all that was cancelled.
    let other = Client::new(&engine);
    other.answer(other.ask(None, &[], "b", 3));
    client.ask(None, &[], "a", 3);
    let tokenization = engine.workers.all()[0].tokenization.as_ref().unwrap();
    assert!(
        tokenization.waiting() <= 1,
        "{} are left",
        tokenization.waiting()
    );
}

#[test]
fn an_answer_that_looks_like_a_picture_is_none() {
    let engine = start(Settings::default());
    let config = &tiny().unwrap().0.config;
    let client = Client::new(&engine);
    let turn = Turn {
        question: "a".into(),
        answer: "b".into(),
        answer_ids: Some(vec![config.boi_token_id, 5, config.eoi_token_id]),
    };
    let answer = client.answer(client.ask(None, &[turn], "and now?", 3));
    assert_eq!((answer.error, answer.usage.image_tokens), (None, 0));
    assert!(answer.finish.is_some());
}
