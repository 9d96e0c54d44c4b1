//! The model's tokens, for whoever wants to count them.

use std::sync::{Arc, OnceLock};

use api::{Conversation, ErrorCode, Failure, State, Tokens};
use model::network::Language;
use model::text::TextError;

use super::admission::not_running;
use super::{Engine, loading};

impl Engine {
    fn language(&self) -> Result<&Arc<dyn Language>, Failure> {
        let mut loaded = self.languages.iter().filter_map(|one| OnceLock::get(one));
        loaded.next().ok_or_else(|| match self.statuses.state() {
            State::Failed => not_running(),
            _ => loading(),
        })
    }
}

impl Tokens for Engine {
    fn encode(&self, text: &str, begins: bool) -> Result<Vec<u32>, Failure> {
        let tokenizer = self.language()?.tokenizer();
        let control = tokenizer.control();
        let mut ids = match begins {
            true => vec![control.gmask, control.sop],
            false => Vec::new(),
        };
        ids.extend(tokenizer.encode(text).map_err(unsplit)?);
        Ok(ids)
    }

    fn prompt(&self, conversation: &Conversation<'_>) -> Result<Vec<u32>, Failure> {
        let planned = self.language()?.plan(conversation);
        Ok(planned.map_err(unsplit)?.ids)
    }

    fn bytes(&self, ids: &[u32]) -> Result<Vec<Vec<u8>>, Failure> {
        let tokenizer = self.language()?.tokenizer();
        let each = ids.iter().map(|&id| {
            let bytes = tokenizer.token_bytes(id).map(<[u8]>::to_vec);
            let name = || tokenizer.special_name(id).map(|name| name.into());
            bytes.or_else(name).ok_or_else(|| {
                let message = format!("The model has no token {id}: ids come from /tokenize.");
                Failure::new(ErrorCode::BadMessage, message)
            })
        });
        each.collect()
    }
}

fn unsplit(error: TextError) -> Failure {
    let message = "The text could not be turned into tokens: send a shorter or simpler one.";
    Failure::new(ErrorCode::Internal, message).detail(error.to_string())
}
