//! A conversation as it is kept: in the store, and from one page to the next in the same tab.

use serde::{Deserialize, Serialize};
use wire::{AnswerTimings, Failure, FinishReason, Sampling, Usage};

use super::crop::Crop;

/// A conversation, without its picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub id: String,
    /// How often it was written when this page took it from the store.
    pub rev: u64,
    /// When it last changed, milliseconds since 1970.
    pub at: f64,
    /// The picture's name and length.
    pub name: String,
    pub bytes: u64,
    /// By which the picture lies in the store: its SHA-256.
    pub picture: String,
    pub turns: Vec<KeptTurn>,
    /// What the person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The last turn on the page.
    pub leaf: Option<u64>,
    /// Where the picture was cut from, if it is a part of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Box<Crop>>,
}

/// A question and what became of it. Neither finished nor failed, it is still to be answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptTurn {
    /// A number of its own in the conversation.
    pub id: u64,
    pub parent: Option<u64>,
    pub question: String,
    pub answer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<AnswerTimings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The system turn that it was asked behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The question's id on the wire, where the session that it was asked in has it and may go on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Kept {
    /// What stands for it in a list: what the person calls it, or else the first question.
    pub fn title(&self) -> &str {
        let asked = self.turns.first().map(|turn| &turn.question);
        self.title.as_ref().or(asked).unwrap_or(&self.name)
    }

    /// Whether these words, in small letters, stand anywhere in it.
    pub fn has(&self, words: &str) -> bool {
        let mut texts = vec![self.title(), &self.name];
        for turn in &self.turns {
            texts.extend([turn.question.as_str(), &turn.answer]);
        }
        texts.iter().any(|text| text.to_lowercase().contains(words))
    }

    /// With every question that has no whole answer to be asked anew.
    pub fn asked_anew(mut self) -> Self {
        for turn in &mut self.turns {
            turn.request = None;
        }
        self
    }

    /// As the first pages kept it: one answer after the other, and questions without an answer behind them. Its picture lies
    /// under the conversation's own id.
    pub fn first_schema(
        self,
        answered: Vec<wire::Turn>,
        asking: impl IntoIterator<Item = String>,
    ) -> Self {
        let answered = answered.into_iter().map(|turn| KeptTurn {
            question: turn.question,
            answer: turn.answer,
            finish: Some(FinishReason::Stop),
            ..KeptTurn::default()
        });
        let asking = asking.into_iter().map(|question| KeptTurn {
            question,
            ..KeptTurn::default()
        });
        let turns = answered.chain(asking).zip(1..).map(|(turn, id)| KeptTurn {
            id,
            parent: (id > 1).then(|| id - 1),
            ..turn
        });
        let turns: Vec<_> = turns.collect();
        Kept {
            picture: self.id.clone(),
            leaf: turns.last().map(|turn| turn.id),
            turns,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_pages_kept_is_read_as_one_way() {
        let answered = vec![wire::Turn {
            question: "First?".into(),
            answer: "Three.".into(),
        }];
        let kept = Kept {
            id: "x".into(),
            ..Kept::default()
        };
        let kept = kept.first_schema(answered, ["Second?".to_owned()]);
        let parents: Vec<_> = kept.turns.iter().map(|turn| turn.parent).collect();
        assert_eq!(parents, [None, Some(1)]);
        assert_eq!(kept.turns[0].finish, Some(FinishReason::Stop));
        assert_eq!(kept.turns[1].finish, None);
        assert_eq!((kept.leaf, kept.title()), (Some(2), "First?"));
        assert_eq!(kept.picture, "x");
    }

    #[test]
    fn it_is_found_by_what_was_said_and_by_what_it_is_called() {
        let kept = Kept {
            name: "Cats.png".into(),
            title: Some("Holidays".into()),
            turns: vec![KeptTurn {
                question: "How many?".into(),
                answer: "Three CATS.".into(),
                ..KeptTurn::default()
            }],
            ..Kept::default()
        };
        assert_eq!(kept.title(), "Holidays");
        assert!(
            ["holi", "how many", "three cats", "cats.png", ""]
                .iter()
                .all(|words| kept.has(words))
        );
        assert!(!kept.has("dogs"));
    }

    /// A tab that still runs an older page lists what a newer one has kept: it reads each turn's question and answer.
    #[test]
    fn an_older_page_can_read_the_turns() {
        let turns = vec![KeptTurn {
            id: 1,
            question: "First?".into(),
            answer: "Three.".into(),
            finish: Some(FinishReason::Length),
            ..KeptTurn::default()
        }];
        let text = serde_json::to_string(&turns).unwrap();
        let old: Vec<wire::Turn> = serde_json::from_str(&text).unwrap();
        assert_eq!(old[0].answer, "Three.");
        let new: Vec<KeptTurn> = serde_json::from_str(&text).unwrap();
        assert_eq!(new, turns);
    }
}
