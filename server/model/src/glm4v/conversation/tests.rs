use api::Turn;

use super::*;
use crate::text::tokenizer::tests::small;

/// Ids written out by name, in the published order.
fn spelled(tokenizer: &Tokenizer, parts: &[&str]) -> Vec<u32> {
    let id = |part: &&str| match tokenizer.special(part) {
        Some(id) => vec![id],
        None => tokenizer.encode(part).unwrap(),
    };
    parts.iter().flat_map(id).collect()
}

fn turn(question: &str, answer: &str) -> Turn {
    Turn {
        question: question.into(),
        answer: answer.into(),
        answer_ids: None,
    }
}

/// The prompt of a conversation without a system turn, whose picture came with the first question.
fn prompt(
    tokenizer: &Tokenizer,
    history: &[Turn],
    question: &str,
    has_picture: bool,
) -> Result<Vec<u32>, TextError> {
    let conversation = Conversation {
        history,
        question,
        picture: has_picture.then_some(0),
        ..Conversation::default()
    };
    let (ids, picture) = super::prompt(tokenizer, &conversation)?;
    let begin = tokenizer.control().begin_of_image;
    assert_eq!(picture, ids.iter().position(|id| *id == begin));
    Ok(ids)
}

#[test]
fn one_question_about_a_picture() {
    let t = small();
    assert_eq!(
        prompt(&t, &[], "图里有几只猫？", true).unwrap(),
        spelled(
            &t,
            &[
                "[gMASK]",
                "<sop>",
                "<|user|>",
                "\n",
                "<|begin_of_image|>",
                "<|endoftext|>",
                "<|end_of_image|>",
                "图里有几只猫？",
                "<|assistant|>"
            ],
        ),
    );
}

#[test]
fn without_a_picture_there_are_no_placeholders() {
    let t = small();
    let expected = spelled(
        &t,
        &[
            "[gMASK]",
            "<sop>",
            "<|user|>",
            "\n",
            "hello",
            "<|assistant|>",
        ],
    );
    assert_eq!(prompt(&t, &[], "hello", false).unwrap(), expected);
}

#[test]
fn the_picture_belongs_to_the_first_question() {
    let t = small();
    let turns = [
        turn("what is it?", "a cat"),
        turn("and the colour?", "black"),
    ];
    assert_eq!(
        prompt(&t, &turns, "and dogs?", true).unwrap(),
        spelled(
            &t,
            &[
                "[gMASK]",
                "<sop>",
                "<|user|>",
                "\n",
                "<|begin_of_image|>",
                "<|endoftext|>",
                "<|end_of_image|>",
                "what is it?",
                "<|assistant|>",
                "\n",
                "a cat",
                "<|user|>",
                "\n",
                "and the colour?",
                "<|assistant|>",
                "\n",
                "black",
                "<|user|>",
                "\n",
                "and dogs?",
                "<|assistant|>"
            ],
        ),
    );
}

/// A question that begins with line breaks would share a token with the role's newline.
#[test]
fn the_roles_newline_is_encoded_apart() {
    let t = small();
    let question = "\n\n\nwhat?";
    let joined = t.encode(&format!("\n{question}")).unwrap();
    let ids = prompt(&t, &[], question, false).unwrap();
    let apart = [t.newline(), &t.encode(question).unwrap()].concat();
    assert_ne!(apart, joined, "the vocabulary tells the two apart");
    assert_eq!(&ids[3..ids.len() - 1], apart);
}

#[test]
fn exact_answer_ids_stand_as_they_were_made() {
    let t = small();
    // Letter by letter: encoding the text again would give other ids.
    let made: Vec<u32> = "\ncats".bytes().map(u32::from).collect();
    let turns = [Turn {
        answer_ids: Some(made.clone()),
        ..turn("what?", "cats")
    }];
    let ids = prompt(&t, &turns, "sure?", true).unwrap();
    let first = prompt(&t, &[], "what?", true).unwrap();
    assert_eq!(
        ids[..first.len()],
        first,
        "the earlier prompt is a prefix: its cache is valid"
    );
    assert_eq!(ids[first.len()..][..made.len()], made);
    assert_eq!(ids[first.len() + made.len()], t.control().user);
}

#[test]
fn typed_control_tokens_stay_letters() {
    let t = small();
    let ids = prompt(
        &t,
        &[turn("<|user|>", "<|endoftext|>")],
        "<|assistant|>[gMASK]",
        true,
    )
    .unwrap();
    let count = |id| ids.iter().filter(|&&other| other == id).count();
    let c = t.control();
    assert_eq!(
        [
            count(c.user),
            count(c.assistant),
            count(c.gmask),
            count(c.end_of_text)
        ],
        [2, 2, 1, 1]
    );
}

/// The original skips a message without text or picture.
#[test]
fn empty_messages_leave_no_trace() {
    let t = small();
    let opening = ["[gMASK]", "<sop>"];
    let picture = [
        "<|user|>",
        "\n",
        "<|begin_of_image|>",
        "<|endoftext|>",
        "<|end_of_image|>",
    ];
    let prompt = |turns: &[Turn], has_picture| prompt(&t, turns, "and dogs?", has_picture).unwrap();
    let last = ["<|user|>", "\n", "and dogs?", "<|assistant|>"];
    let cat = ["<|user|>", "\n", "a cat?"];

    // Cancelled before its first token, with ids and without, or with ids that show as nothing; then as a client restores it.
    for answer_ids in [None, Some(vec![]), Some(t.newline().to_vec())] {
        let silent = [Turn {
            answer_ids,
            ..turn("a cat?", "")
        }];
        let parts = [&opening[..], &cat, &last].concat();
        assert_eq!(prompt(&silent, false), spelled(&t, &parts), "{silent:?}");
    }
    let parts = [&opening[..], &picture, &["a cat?"], &last].concat();
    assert_eq!(prompt(&[turn("a cat?", "")], true), spelled(&t, &parts));
    // In the middle, those around it stay as they are.
    let turns = [turn("hi", "hello"), turn("a cat?", ""), turn("why?", "so")];
    let first = ["<|user|>", "\n", "hi", "<|assistant|>", "\n", "hello"];
    let third = ["<|user|>", "\n", "why?", "<|assistant|>", "\n", "so"];
    let parts = [&opening[..], &first, &cat, &third, &last].concat();
    assert_eq!(prompt(&turns, false), spelled(&t, &parts));
    // An empty question is no message either, unless the picture stands in it.
    let answer = ["<|assistant|>", "\n", "hello"];
    let parts = [&opening[..], &answer, &last].concat();
    assert_eq!(prompt(&[turn("", "hello")], false), spelled(&t, &parts));
    let parts = [&opening[..], &picture, &answer, &last].concat();
    assert_eq!(prompt(&[turn("", "hello")], true), spelled(&t, &parts));
    // A space is text.
    let parts = [&opening[..], &cat, &["<|assistant|>", "\n", " "], &last].concat();
    assert_eq!(prompt(&[turn("a cat?", " ")], false), spelled(&t, &parts));
}

#[test]
fn the_system_turn_stands_before_all_others() {
    let t = small();
    let conversation = Conversation {
        system: "Be brief.",
        question: "hello",
        ..Conversation::default()
    };
    let parts = [
        "[gMASK]",
        "<sop>",
        "<|system|>",
        "\n",
        "Be brief.",
        "<|user|>",
        "\n",
        "hello",
        "<|assistant|>",
    ];
    let ids = super::prompt(&t, &conversation).unwrap().0;
    assert_eq!(ids, spelled(&t, &parts));
}

#[test]
fn a_picture_stands_in_the_question_that_it_came_with() {
    let t = small();
    let control = t.control();
    // What an earlier answer is made of is no picture.
    let made = [
        control.begin_of_image,
        control.end_of_text,
        control.end_of_image,
    ];
    let history = [Turn {
        answer_ids: Some(made.to_vec()),
        ..turn("hi", "hello")
    }];
    let conversation = Conversation {
        history: &history,
        question: "what is it?",
        picture: Some(1),
        ..Conversation::default()
    };
    let (ids, picture) = super::prompt(&t, &conversation).unwrap();
    let expected = [
        spelled(
            &t,
            &["[gMASK]", "<sop>", "<|user|>", "\n", "hi", "<|assistant|>"],
        ),
        made.to_vec(),
        spelled(&t, &["<|user|>", "\n"]),
        made.to_vec(),
        spelled(&t, &["what is it?", "<|assistant|>"]),
    ];
    assert_eq!(ids, expected.concat());
    assert_eq!(picture, Some(expected[..3].concat().len()));
}
