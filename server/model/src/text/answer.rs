//! One answer, token by token: chosen, turned into text, ended.
//!
//! All that an answer depends on is its prompt, its settings and the tokens so far, so it can be rebuilt from these and
//! goes on exactly as it would have ([`Answer::replay`]).

use std::sync::Arc;

use api::{FinishReason, SamplingParams, TokenLogprob};

use super::{AnswerStream, Grammar, LogSoftmax, Sampler, TextError, Tokenizer};
use crate::scores::{Largest, Wanted};

/// An answer that is being made.
pub struct Answer {
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    /// The format that it has.
    grammar: Option<Grammar>,
    /// Tokens to tell beside each of its own.
    logprobs: Option<usize>,
    stream: AnswerStream,
    /// Ids that end it.
    eos: Vec<u32>,
    /// Tokens that it may have.
    most: usize,
    /// Tokens so far, the stop token included.
    tokens: usize,
}

/// What a token means.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub id: u32,
    /// What of the answer's text it decides; often a word, sometimes nothing.
    pub text: String,
    /// Why this token was the last, if it was.
    pub end: Option<FinishReason>,
    /// Whether the token is the stop token, which is no part of the answer.
    pub is_eos: bool,
    /// How probable it was, where that was asked for.
    pub logprob: Option<TokenLogprob>,
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
            grammar: None,
            logprobs: None,
            stream: AnswerStream::new(tokenizer.clone(), params.stop.clone()),
            tokenizer,
            eos: eos.to_vec(),
            most,
            tokens: 0,
        }
    }

    /// Has each step tell how probable its token was, with so many others beside it.
    pub fn with_logprobs(self, logprobs: Option<u32>) -> Self {
        Answer {
            logprobs: logprobs.map(|count| count as usize),
            ..self
        }
    }

    /// Holds it to a format, whose text is shown as it is.
    pub fn with_grammar(self, grammar: Grammar) -> Self {
        Answer {
            grammar: Some(grammar),
            stream: self.stream.verbatim(),
            ..self
        }
    }

    /// Chooses the next token from its scores, which penalties, bias and format change.
    ///
    /// # Errors
    /// Those of [`Sampler::sample`], and [`TextError::Format`] if the format lets nothing come.
    pub fn next(&mut self, logits: &mut [f32]) -> Result<Step, TextError> {
        // The model's own, before anything changes them.
        let raw = self.logprobs.map(|count| (count, logits.to_vec()));
        self.sampler.adjust(logits);
        if let Some(grammar) = &mut self.grammar {
            grammar.mask(logits, self.tokens)?;
        }
        let id = self.sampler.choose(logits)?;
        let place = self.tokens;
        let mut step = self.take(id);
        if let Some((count, raw)) = raw {
            step.logprob = Some(LogSoftmax::new(&raw)?.told(id, count, &self.tokenizer));
        }
        if let Some(grammar) = self.grammar.as_mut().filter(|_| step.end.is_none()) {
            grammar.advance((!grammar.is_outside(id, place)).then_some(id));
        }
        Ok(step)
    }

    /// How many of the next token's scores it takes to choose.
    pub fn wanted(&self) -> Wanted {
        match self.grammar.is_none() && self.logprobs.is_none() {
            true => self.sampler.wanted(),
            false => Wanted::All,
        }
    }

    /// Chooses the next token from the largest of its scores, which are at least [`Answer::wanted`].
    ///
    /// # Errors
    /// Those of [`Sampler::choose_among`], and [`TextError::Logits`] if it takes all.
    pub fn next_among(&mut self, largest: &Largest) -> Result<Step, TextError> {
        if self.wanted() == Wanted::All {
            return Err(TextError::Logits("some are missing"));
        }
        let id = self.sampler.choose_among(largest)?;
        Ok(self.take(id))
    }

    /// Goes through the tokens that were chosen before: the text that they decide, and why the last of them was the last,
    /// if it was. What may come behind them is being found out from here on.
    ///
    /// # Errors
    /// [`TextError::Format`] if they don't keep to the format.
    pub fn replay(&mut self, so_far: &[u32]) -> Result<(String, Option<FinishReason>), TextError> {
        let (mut text, mut end) = (String::new(), None);
        for &id in so_far {
            self.sampler.accept(id);
            let place = self.tokens;
            let step = self.take(id);
            text += &step.text;
            end = end.or(step.end);
            if let Some(grammar) = self.grammar.as_mut().filter(|_| !step.is_eos)
                && !grammar.is_outside(id, place)
            {
                grammar.accept(&[id])?;
            }
        }
        if let Some(grammar) = self.grammar.as_mut().filter(|_| end.is_none()) {
            grammar.advance(None);
        }
        Ok((text, end))
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
        let is_outside = |grammar: &Grammar| grammar.is_outside(id, self.tokens - 1);
        let text = match is_eos || self.grammar.as_ref().is_some_and(is_outside) {
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
            logprob: None,
        }
    }
}

#[cfg(test)]
mod tests;
