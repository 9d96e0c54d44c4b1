//! A conversation as a file: as JSON for another browser, with its picture in it, or as Markdown for whoever reads it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{brought, kept::Kept};

/// The most bytes of a file that is read.
pub const LARGEST: u64 = 128 << 20;
/// The most turns of a conversation that is read.
const TURNS: usize = 10_000;
const FORMAT: &str = "glimpse-conversation";
const VERSION: u32 = 1;

/// The whole file.
#[derive(Serialize, Deserialize)]
struct Exchange {
    format: String,
    version: u32,
    conversation: Kept,
    /// A `data:` address.
    picture: String,
}

/// The file of a conversation and its picture, which comes as a `data:` address.
pub fn json(kept: Kept, picture: String) -> String {
    let exchange = Exchange {
        format: FORMAT.to_owned(),
        version: VERSION,
        conversation: kept.asked_anew(),
        picture,
    };
    serde_json::to_string(&exchange).unwrap_or_default()
}

/// The conversation of such a file, and its picture as a `data:` address. `None` for any other file.
pub fn read(text: &str) -> Option<(Kept, String)> {
    let exchange: Exchange = serde_json::from_str(text).ok()?;
    let kept = exchange.conversation;
    let known = exchange.format == FORMAT && exchange.version == VERSION;
    let picture = brought::split(&exchange.picture).is_some();
    (known && picture && is_tree(&kept)).then(|| (kept.asked_anew(), exchange.picture))
}

/// Whether each turn has a number of its own and stands behind one before it.
fn is_tree(kept: &Kept) -> bool {
    let mut seen = std::collections::HashSet::new();
    kept.turns.len() <= TURNS
        && kept.turns.iter().all(|turn| {
            turn.parent.is_none_or(|parent| seen.contains(&parent)) && seen.insert(turn.id)
        })
}

/// The turns that were on the page last, for people to read; the picture lies beside it as `picture`.
pub fn markdown(kept: &Kept, picture: &str) -> String {
    let turn = |id: u64| kept.turns.iter().find(|turn| turn.id == id);
    let last = kept.leaf.and_then(turn).or(kept.turns.last());
    let mut way: Vec<_> = std::iter::successors(last, |one| turn(one.parent?))
        .take(kept.turns.len())
        .collect();
    way.reverse();
    let title = kept.title().replace('\n', " ");
    let mut out = format!("# {title}\n\n![{}](<{picture}>)\n", kept.name);
    for turn in way {
        let question = turn.question.replace('\n', "\n> ");
        // Writing to a text fails never.
        let _ = write!(out, "\n> {question}\n\n{}\n", turn.answer.trim());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::kept::KeptTurn;

    const PICTURE: &str = "data:image/png;base64,AAAA";

    fn turn(id: u64, parent: Option<u64>) -> KeptTurn {
        KeptTurn {
            id,
            parent,
            question: format!("Question {id}?"),
            answer: format!("Answer {id}."),
            ..KeptTurn::default()
        }
    }

    fn kept(turns: Vec<KeptTurn>) -> Kept {
        Kept {
            id: "1-2".into(),
            name: "cat.png".into(),
            turns,
            ..Kept::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let one = kept(vec![turn(1, None), turn(2, Some(1)), turn(3, Some(1))]);
        let text = json(one.clone(), PICTURE.into());
        assert_eq!(read(&text), Some((one, PICTURE.to_owned())));
    }

    #[test]
    fn what_is_no_conversation_is_not_read() {
        let good = json(kept(vec![turn(1, None)]), PICTURE.into());
        for (from, to) in [
            (FORMAT, "something-else"),
            ("\"version\":1", "\"version\":2"),
            ("data:image", "data:text"),
            ("\"id\":1", "\"id\":\"x\""),
        ] {
            let bad = good.replace(from, to);
            assert!(bad != good && read(&bad).is_none(), "{from}");
        }
        assert!(read("").is_none() && read("[]").is_none());
        // Turns in a circle would never end, twice the same would be one.
        for turns in [
            vec![turn(1, Some(2)), turn(2, Some(1))],
            vec![turn(1, Some(1))],
            vec![turn(1, None), turn(1, None)],
        ] {
            assert!(read(&json(kept(turns), PICTURE.into())).is_none());
        }
    }

    #[test]
    fn people_read_what_was_on_the_page() {
        let mut one = kept(vec![turn(1, None), turn(2, Some(1)), turn(3, Some(1))]);
        one.leaf = Some(2);
        let text = markdown(&one, "cat.png");
        assert!(text.starts_with("# Question 1?\n\n![cat.png](<cat.png>)\n"));
        assert!(text.contains("> Question 2?\n\nAnswer 2.\n") && !text.contains("Question 3?"));
    }
}
