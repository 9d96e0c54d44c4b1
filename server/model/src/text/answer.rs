//! One answer, token by token: chosen, turned into text, ended.
//!
//! All that an answer depends on is its prompt, its settings and the tokens so far, so it can be rebuilt from these and
//! goes on exactly as it would have ([`Answer::replay`]).

use std::sync::Arc;

use api::{FinishReason, SamplingParams};

use super::{AnswerStream, Sampler, TextError, Tokenizer};

/// An answer that is being made.
pub struct Answer {
    sampler: Sampler,
    stream: AnswerStream,
    /// Ids that end it.
    eos: Vec<u32>,
    /// Tokens that it may have.
    most: usize,
    /// Tokens so far, the stop token included.
    tokens: usize,
}

/// What a token means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: u32,
    /// What of the answer's text it decides; often a word, sometimes nothing.
    pub text: String,
    /// Why this token was the last, if it was.
    pub end: Option<FinishReason>,
    /// Whether the token is the stop token, which is no part of the answer.
    pub is_eos: bool,
}

impl Answer {
    /// The answer to `prompt`, of `most` tokens at most; the ids of `eos` end it.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        params: &SamplingParams,
        prompt: &[u32],
        eos: &[u32],
        most: usize,
    ) -> Self {
        Answer {
            sampler: Sampler::new(params, prompt),
            stream: AnswerStream::new(tokenizer, params.stop.clone()),
            eos: eos.to_vec(),
            most,
            tokens: 0,
        }
    }

    /// Chooses the next token from its scores, which the penalty changes.
    ///
    /// # Errors
    /// Those of [`Sampler::sample`].
    pub fn next(&mut self, logits: &mut [f32]) -> Result<Step, TextError> {
        let id = self.sampler.sample(logits)?;
        Ok(self.take(id))
    }

    /// Goes through the tokens that were chosen before: the text that they decide, and why the last of them was the last,
    /// if it was.
    pub fn replay(&mut self, so_far: &[u32]) -> (String, Option<FinishReason>) {
        let (mut text, mut end) = (String::new(), None);
        for &id in so_far {
            self.sampler.accept(id);
            let step = self.take(id);
            text += &step.text;
            end = end.or(step.end);
        }
        (text, end)
    }

    /// What is left of the text, once no token follows.
    pub fn finish(&mut self) -> String {
        self.stream.finish()
    }

    /// Tokens so far, the stop token included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    fn take(&mut self, id: u32) -> Step {
        self.tokens += 1;
        let is_eos = self.eos.contains(&id);
        let text = match is_eos {
            true => String::new(),
            false => self.stream.push(id),
        };
        let end = if is_eos || self.stream.is_stopped() {
            Some(FinishReason::Stop)
        } else {
            (self.tokens >= self.most).then_some(FinishReason::Length)
        };
        Step {
            id,
            text,
            end,
            is_eos,
        }
    }
}

#[cfg(test)]
mod tests;
