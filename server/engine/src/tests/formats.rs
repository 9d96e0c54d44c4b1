//! Answers of a format, and what is told of their tokens.

use api::AnswerFormat;

use super::*;

fn regex(regex: &str) -> AnswerFormat {
    AnswerFormat::Regex {
        regex: regex.into(),
    }
}

impl Client {
    fn says_in(&self, format: AnswerFormat, so_far: &[u32], tokens: u64) -> Answer {
        let request = RequestId::random();
        self.engine.send(Command::Ask(Box::new(Ask {
            format: Some(format),
            so_far: so_far.to_vec(),
            ..self.question(request, "what?", tokens)
        })));
        self.answer(request)
    }
}

#[test]
fn answers_have_their_format_beside_others_that_have_none() {
    let engine = start(Settings::default());
    let (formatted, free) = (Client::new(&engine), Client::new(&engine));
    let alone = free.answer(free.ask(None, &[], "who", 30));
    let beside = free.ask(None, &[], "who", 30);
    for format in ["[0-9]{3}", "(yes|no)", "a{20}"] {
        let answer = formatted.says_in(regex(format), &[], 40);
        assert_eq!(answer.finish, Some(FinishReason::Stop));
        let fits = match format {
            "[0-9]{3}" => answer.text.len() == 3 && answer.text.parse::<u32>().is_ok(),
            "(yes|no)" => ["yes", "no"].contains(&answer.text.as_str()),
            _ => answer.text == "a".repeat(20),
        };
        assert!(fits, "{format}: {:?}", answer.text);
        // A later attempt goes on where an earlier one was.
        for cut in 1..answer.ids.len() {
            let rest = formatted.says_in(regex(format), &answer.ids[..cut], 40);
            assert_eq!(rest.ids, answer.ids[cut..]);
        }
    }
    assert_eq!(free.answer(beside).ids, alone.ids);
    let cut = formatted.says_in(regex("b{50}"), &[], 10);
    assert_eq!(cut.finish, Some(FinishReason::Length));
    assert!(!cut.text.is_empty() && cut.text.chars().all(|c| c == 'b'));
}

#[test]
fn a_format_that_cannot_be_had_ends_its_question_alone() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    for format in [
        regex("("),
        AnswerFormat::JsonSchema {
            schema: serde_json::json!({ "type": "dance" }),
        },
    ] {
        let failure = client.says_in(format, &[], 10).error.unwrap();
        assert_eq!(failure.code, ErrorCode::BadFormat);
    }
    let answer = client.answer(client.ask(None, &[], "who", 5));
    assert_eq!(answer.error, None);
}

#[test]
fn how_probable_each_token_was_is_told_with_it() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let request = RequestId::random();
    engine.send(Command::Ask(Box::new(Ask {
        logprobs: Some(3),
        ..client.question(request, "what?", 12)
    })));
    let (mut ids, mut told) = (Vec::new(), Vec::new());
    loop {
        match client.next() {
            Event::Tokens {
                ids: new, logprobs, ..
            } => {
                ids.extend(new);
                told.extend(logprobs);
            }
            Event::Done { .. } => break,
            _ => {}
        }
    }
    let of_tokens: Vec<u32> = told.iter().map(|token| token.id).collect();
    assert_eq!(of_tokens, ids);
    for token in told {
        // Greedy takes the most probable.
        assert_eq!(token.top.len(), 3);
        assert_eq!(
            (token.top[0].id, token.top[0].logprob),
            (token.id, token.logprob)
        );
        assert!(token.logprob <= 0.0 && token.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
    }
}
