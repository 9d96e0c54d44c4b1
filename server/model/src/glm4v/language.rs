//! GLM-4V's way of writing conversations down: one picture, whose placeholders give way to its vectors, which share a
//! position.

use std::sync::{Arc, OnceLock};

use super::Config;
use super::conversation::prompt;
use crate::network::{Language, Planned, Shape};
use crate::prompt::Prompt;
use crate::text::{Grammars, TextError, Tokenizer};
use api::Conversation;

/// Positions have one axis.
const AXES: usize = 1;

/// GLM-4V's [`Language`].
pub struct Glm4v {
    config: Config,
    tokenizer: Arc<Tokenizer>,
    shape: Shape,
    grammars: OnceLock<Result<Grammars, TextError>>,
}

impl Glm4v {
    pub fn new(config: Config, tokenizer: Arc<Tokenizer>) -> Self {
        Glm4v {
            shape: config.shape(),
            config,
            tokenizer,
            grammars: OnceLock::new(),
        }
    }
}

/// Puts a picture's vectors in the place of its placeholders, which begin at `picture`: `begin, anything, end` becomes
/// `begin, rows, end`.
pub fn expand(ids: &[u32], picture: Option<usize>, config: &Config) -> Prompt {
    let mut prompt = Prompt::new(AXES);
    match picture {
        None => prompt.extend(ids.iter().copied()),
        Some(at) => {
            prompt.extend(ids[..=at].iter().copied());
            let offsets = std::iter::repeat_n(&[0][..], config.vision_config.vectors());
            prompt.push_rows(0, offsets, 1);
            prompt.push(ids[at + 2]);
            prompt.end_picture(config.image_tokens());
            prompt.extend(ids[at + 3..].iter().copied());
        }
    }
    prompt
}

impl Language for Glm4v {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn ends(&self) -> &[u32] {
        self.config.eos_token_id.as_slice()
    }

    fn grammars(&self) -> Result<&Grammars, TextError> {
        let grammars =
            || Grammars::new(&self.tokenizer, self.ends(), self.config.padded_vocab_size);
        let grammars = self.grammars.get_or_init(grammars).as_ref();
        grammars.map_err(|error| TextError::Format(error.to_string()))
    }

    fn plan(&self, conversation: &Conversation<'_>) -> Result<Planned, TextError> {
        let (ids, picture) = prompt(&self.tokenizer, conversation)?;
        let prompt = expand(&ids, picture, &self.config);
        Ok(Planned { ids, prompt })
    }

    fn opening(&self, system: &str) -> Result<Prompt, TextError> {
        let conversation = Conversation {
            system,
            picture: Some(0),
            ..Conversation::default()
        };
        Ok(self.plan(&conversation)?.prompt.opening())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Entry;
    use crate::text::tokenizer::tests::small;

    fn config() -> Config {
        let json = include_bytes!("../../../../tests/data/glm-4v-9b.config.json");
        Config::parse(json).unwrap()
    }

    #[test]
    fn a_picture_takes_its_placeholders_place() {
        let config = config();
        let (begin, end) = (config.boi_token_id, config.eoi_token_id);
        let prompt = expand(&[1, 2, begin, 0, end, 7], Some(2), &config);
        let entries = prompt.entries();
        let row = |row| Entry::row(0, row);
        assert_eq!(entries.len(), 1605);
        assert_eq!(entries[..3], [1, 2, begin].map(Entry::token));
        assert_eq!((entries[3], entries[1602]), (row(0), row(1599)));
        assert_eq!(entries[1603..], [end, 7].map(Entry::token));
        assert_eq!(prompt.picture_entries(), 1602);
        // All rows share one.
        assert_eq!(prompt.positions(2..4), [2, 3]);
        assert_eq!(prompt.positions(1602..1605), [3, 4, 5]);
        assert_eq!(prompt.used(), 6);
    }

    #[test]
    fn without_a_picture_nothing_is_one() {
        let config = config();
        let ids = [1, config.boi_token_id, 0, config.eoi_token_id];
        let prompt = expand(&ids, None, &config);
        assert_eq!(prompt.entries(), ids.map(Entry::token));
        assert_eq!((prompt.picture_entries(), prompt.used()), (0, 4));
    }

    #[test]
    fn every_conversation_about_a_picture_begins_with_its_opening() {
        let tokenizer = Arc::new(small());
        let control = tokenizer.control();
        let config = Config {
            boi_token_id: control.begin_of_image,
            eoi_token_id: control.end_of_image,
            ..config()
        };
        let language = Glm4v::new(config, tokenizer);
        let history = [api::Turn::default()];
        for (system, history) in [("", &[][..]), ("Be brief.", &[]), ("Be brief.", &history)] {
            let conversation = Conversation {
                system,
                history,
                question: "what is it?",
                picture: Some(0),
            };
            let planned = language.plan(&conversation).unwrap().prompt;
            let opening = language.opening(system).unwrap();
            assert_eq!(planned.opening(), opening);
            assert_eq!(planned.opening_entries(), opening.entries().len());
        }
        let opening = language.opening("").unwrap();
        let conversation = Conversation {
            question: "what is it?",
            picture: Some(0),
            ..Conversation::default()
        };
        let planned = language.plan(&conversation).unwrap();
        assert!(planned.prompt.entries().starts_with(opening.entries()));
        assert_eq!(opening.picture_entries(), 1602);
        assert!(planned.ids.len() < planned.prompt.entries().len());
    }
}
