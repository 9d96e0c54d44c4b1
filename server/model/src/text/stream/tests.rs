use super::*;
use crate::text::tokenizer::tests::{goldens, small};

fn stream(stop: &[&str]) -> AnswerStream {
    AnswerStream::new(
        Arc::new(small()),
        stop.iter().map(|s| s.to_string()).collect(),
    )
}

/// Every piece, the last one from `finish`. The small vocabulary's first 256 ids are the bytes.
fn pieces(stream: &mut AnswerStream, ids: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut pieces: Vec<_> = ids.into_iter().map(|id| stream.push(id)).collect();
    pieces.push(stream.finish());
    pieces
}

fn bytes(text: &str) -> impl Iterator<Item = u32> {
    text.bytes().map(u32::from)
}

#[test]
fn reads_as_python_decodes() {
    for (ids, text) in goldens().decode {
        let joined = pieces(&mut stream(&[]), ids.iter().copied()).concat();
        assert_eq!(joined, text.trim_start(), "{ids:?}");
    }
}

#[test]
fn a_character_waits_until_it_is_whole() {
    let shown = pieces(&mut stream(&[]), bytes("é👍图x"));
    assert_eq!(shown, ["", "é", "", "", "", "👍", "", "", "图", "x", ""]);
}

#[test]
fn what_can_not_become_a_character_is_replaced_at_once() {
    assert_eq!(
        pieces(&mut stream(&[]), [0xFF, 0x61]),
        ["\u{FFFD}", "a", ""]
    );
    // F0 9F could go on, "a" does not.
    assert_eq!(
        pieces(&mut stream(&[]), [0xF0, 0x9F, 0x61]),
        ["", "", "\u{FFFD}a", ""]
    );
    assert_eq!(pieces(&mut stream(&[]), [0xF0, 0x9F]), ["", "", "\u{FFFD}"]);
    // E2 82 ends where another character begins, which then goes on.
    assert_eq!(
        pieces(&mut stream(&[]), [0xE2, 0x82, 0xC3, 0xA9]),
        ["", "", "\u{FFFD}", "é", ""]
    );
}

#[test]
fn the_answers_leading_white_space_is_dropped() {
    assert_eq!(
        pieces(&mut stream(&[]), bytes("\n \n a\n b")).concat(),
        "a\n b"
    );
    assert_eq!(pieces(&mut stream(&[]), bytes("\n")).concat(), "");
    assert_eq!(
        pieces(&mut stream(&[]), bytes("\n\u{3000}\u{3000}猫")).concat(),
        "猫"
    );
}

#[test]
fn special_vocabulary_is_never_shown() {
    let t = small();
    let special = |name| t.special(name).unwrap();
    let beyond = t.vocab_size() as u32 + 7;
    let mut ids = vec![
        special("<|assistant|>"),
        10,
        special("</credit>"),
        97,
        beyond,
        u32::MAX,
    ];
    // Even inside a character it leaves nothing behind.
    ids.extend([0xC3, special("<|endoftext|>"), 0xA9, special("<|user|>")]);
    assert_eq!(pieces(&mut stream(&[]), ids).concat(), "aé");
    // The same letters as text are text.
    assert_eq!(
        pieces(&mut stream(&[]), t.encode("<|user|>").unwrap()).concat(),
        "<|user|>"
    );
}

#[test]
fn a_stop_string_is_never_shown() {
    let mut s = stream(&["STOP"]);
    assert_eq!(pieces(&mut s, bytes("go STOP on")).concat(), "go ");
    assert!(s.is_stopped());
    let mut s = stream(&["\n\n"]);
    assert_eq!(
        pieces(&mut s, bytes("\n\none\ntwo\n\nthree")).concat(),
        "one\ntwo"
    );
    let mut s = stream(&["。"]);
    assert_eq!(pieces(&mut s, bytes("两只。好")).concat(), "两只");
}

#[test]
fn the_beginning_of_a_stop_string_waits() {
    let mut s = stream(&["STOP"]);
    assert_eq!(
        pieces(&mut s, bytes("aSTxSSTO")),
        ["a", "", "", "STx", "", "S", "", "", "STO"]
    );
    assert!(!s.is_stopped());
    // An overlap: "aa" of "aaab" may be its last two.
    let mut s = stream(&["aab"]);
    assert_eq!(pieces(&mut s, bytes("aaab")), ["", "", "a", "", ""]);
    assert!(s.is_stopped());
}

#[test]
fn the_first_complete_stop_string_counts() {
    assert_eq!(
        pieces(&mut stream(&["abcd", "bc"]), bytes("xabcd")).concat(),
        "xa"
    );
    assert_eq!(
        pieces(&mut stream(&["bc", "abc"]), bytes("xabcd")).concat(),
        "x"
    );
    assert_eq!(
        pieces(&mut stream(&["", "c"]), bytes("abcd")).concat(),
        "ab"
    );
}

/// However a text is cut into tokens, what is read is the same, and equals the whole text cut at the stop string.
#[test]
fn cuts_do_not_matter() {
    let t = small();
    let text = "\nThe cats: 猫👍 are in the picture.\n\nUser: what?";
    let whole = t.encode(text).unwrap();
    assert!(whole.len() < text.len());
    for (stop, answer) in [
        (vec!["User:"], "The cats: 猫👍 are in the picture.\n\n"),
        (vec!["picture", "猫👍 are in"], "The cats: "),
        (vec!["\n\n", "zebra"], "The cats: 猫👍 are in the picture."),
        (vec!["zebra"], text.trim_start()),
    ] {
        assert_eq!(
            pieces(&mut stream(&stop), whole.iter().copied()).concat(),
            answer
        );
        assert_eq!(pieces(&mut stream(&stop), bytes(text)).concat(), answer);
    }
}

#[test]
fn nothing_comes_after_a_stop() {
    let mut s = stream(&["."]);
    s.push(b'.'.into());
    assert!(s.is_stopped());
    assert_eq!(pieces(&mut s, [0x61, 0xC3]), ["", "", ""]);
}
