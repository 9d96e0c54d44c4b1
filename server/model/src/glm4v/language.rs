//! GLM-4V's way of writing conversations down: one picture, whose placeholders give way to its vectors, which share a
//! position.

use std::sync::Arc;

use api::Turn;

use super::Config;
use super::conversation::prompt;
use crate::network::{Language, Planned, Shape};
use crate::prompt::Prompt;
use crate::text::{TextError, Tokenizer};

/// Positions have one axis.
const AXES: usize = 1;

/// GLM-4V's [`Language`].
pub struct Glm4v {
    config: Config,
    tokenizer: Arc<Tokenizer>,
    shape: Shape,
}

impl Glm4v {
    pub fn new(config: Config, tokenizer: Arc<Tokenizer>) -> Self {
        Glm4v {
            shape: config.shape(),
            config,
            tokenizer,
        }
    }
}

/// Puts a picture's vectors in the place of its placeholders: `begin, anything, end` becomes `begin, rows, end`. Without
/// `pictures` nothing is one, whatever an earlier answer is made of.
pub fn expand(ids: &[u32], pictures: usize, config: &Config) -> Prompt {
    let (begin, end) = (config.boi_token_id, config.eoi_token_id);
    let is_picture = |ids: &[u32]| ids[0] == begin && ids[2] == end;
    let at = match pictures {
        0 => None,
        _ => ids.windows(3).position(is_picture),
    };
    let mut prompt = Prompt::new(AXES);
    match at {
        None => prompt.extend(ids.iter().copied()),
        Some(at) => {
            prompt.extend(ids[..=at].iter().copied());
            let offsets = std::iter::repeat_n(&[0][..], config.vision_config.vectors());
            prompt.push_rows(0, offsets, 1);
            prompt.extend(ids[at + 2..].iter().copied());
            prompt.count_picture(config.image_tokens());
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

    fn plan(
        &self,
        history: &[Turn],
        question: &str,
        pictures: usize,
    ) -> Result<Planned, TextError> {
        let ids = prompt(&self.tokenizer, history, question, pictures > 0)?;
        let prompt = expand(&ids, pictures, &self.config);
        Ok(Planned { ids, prompt })
    }

    fn opening(&self) -> Result<Prompt, TextError> {
        let mut ids = prompt(&self.tokenizer, &[], "", true)?;
        let end = ids.iter().position(|id| *id == self.config.eoi_token_id);
        ids.truncate(end.map_or(0, |end| end + 1));
        Ok(expand(&ids, 1, &self.config))
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
        let prompt = expand(&[1, 2, begin, 0, end, 7], 1, &config);
        let entries = prompt.entries();
        let row = |row| Entry::Row { picture: 0, row };
        assert_eq!(entries.len(), 1605);
        assert_eq!(entries[..3], [1, 2, begin].map(Entry::Token));
        assert_eq!((entries[3], entries[1602]), (row(0), row(1599)));
        assert_eq!(entries[1603..], [end, 7].map(Entry::Token));
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
        let prompt = expand(&ids, 0, &config);
        assert_eq!(prompt.entries(), ids.map(Entry::Token));
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
        let opening = language.opening().unwrap();
        let planned = language.plan(&[], "what is it?", 1).unwrap();
        assert!(planned.prompt.entries().starts_with(opening.entries()));
        assert_eq!(opening.picture_entries(), 1602);
        assert!(planned.ids.len() < planned.prompt.entries().len());
    }
}
