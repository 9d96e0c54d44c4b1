//! Answers of a format: which tokens may come next, so that the answer keeps to it.
//!
//! The format is compiled by llguidance, over the bytes of our own tokens. What may come next depends on the answer's bytes so
//! far and nothing else, so that an answer can be rebuilt from its ids. It is found out on threads of its own, while the device
//! computes the scores that it is about.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use api::AnswerFormat;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{Matcher, ParserFactory, earley::SlicedBiasComputer};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{TextError, Tokenizer};

/// Compiled formats that are kept for the next question.
const KEPT: usize = 32;
/// Between the values of JSON come at most 8 blanks in a row: a model that is unsure would go on with them for ever.
const BLANKS: &str = r"[ \n\r\t]{1,8}";
/// Whoever computes may wait for one answer in all so long beyond what is usual: what takes longer is at the cost of others.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is usual, for each token, on a busy machine too.
const USUAL: Duration = Duration::from_millis(10);
/// The most characters of the compiler's word that a user is told.
const MOST_TOLD: usize = 300;

/// Ids that mean something to every format.
struct Ids {
    /// Those that stand for text; padding and control ids never come.
    text: SimpleVob,
    /// Those that end an answer.
    ends: Vec<u32>,
    /// The newline that the model begins each answer with.
    newline: Option<u32>,
}

/// Compiles formats for one vocabulary, and has threads that find out what may come next in answers of one.
pub struct Grammars {
    factory: ParserFactory,
    ids: Arc<Ids>,
    threads: Arc<rayon::ThreadPool>,
    /// The latest used last.
    compiled: Mutex<VecDeque<(AnswerFormat, Matcher)>>,
}

impl Grammars {
    /// For a table of so many entries; `ends` are the ids that end an answer.
    ///
    /// # Errors
    /// [`TextError::Format`] if the library can't work with such a vocabulary, or there are no threads to be had.
    pub fn new(tokenizer: &Tokenizer, ends: &[u32], entries: usize) -> Result<Self, TextError> {
        // 0xff is in no text, and marks control tokens there.
        let is_text = |bytes: &&[u8]| !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER);
        let word = |id| {
            tokenizer
                .token_bytes(id)
                .filter(is_text)
                .unwrap_or_default()
        };
        let words: Vec<Vec<u8>> = (0..entries as u32).map(|id| word(id).to_vec()).collect();
        let mut text = SimpleVob::alloc(entries);
        for (id, word) in words.iter().enumerate() {
            text.set(id, !word.is_empty());
        }
        let first = ends
            .first()
            .copied()
            .ok_or_else(|| failed("no id ends an answer"))?;
        let trie = TokTrie::from(&TokRxInfo::new(entries as u32, first), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(ends)));
        let slices = SlicedBiasComputer::json_slices();
        let mut factory =
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(failed)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads((threads / 4).clamp(1, 4))
            .thread_name(|number| format!("grammar-{number}"))
            .build()
            .map_err(failed)?;
        Ok(Grammars {
            factory,
            ids: Arc::new(Ids {
                text,
                ends: ends.to_vec(),
                newline: match tokenizer.newline() {
                    [id] => Some(*id),
                    _ => None,
                },
            }),
            threads: Arc::new(threads),
            compiled: Mutex::default(),
        })
    }

    /// What holds an answer to a format, from its beginning.
    ///
    /// # Errors
    /// [`TextError::Format`] says why the format can't be had.
    pub fn compile(&self, format: &AnswerFormat) -> Result<Grammar, TextError> {
        let kept = {
            let mut compiled = self.compiled.lock();
            let at = compiled.iter().position(|(known, _)| known == format);
            at.and_then(|at| compiled.remove(at))
        };
        let (format, matcher) = match kept {
            Some(kept) => kept,
            None => {
                let parser = self
                    .factory
                    .create_parser(grammar(format))
                    .map_err(failed)?;
                let mut matcher = Matcher::new(Ok(parser));
                if let Some(problem) = matcher.get_error() {
                    return Err(failed(problem));
                }
                if let Some(warning) = matcher.grammar_warnings().first() {
                    return Err(failed(warning));
                }
                (format.clone(), matcher)
            }
        };
        // An answer has a copy of its own, so that what one takes is nobody else's.
        let own = matcher.deep_clone();
        let mut compiled = self.compiled.lock();
        compiled.push_back((format, matcher));
        if compiled.len() > KEPT {
            compiled.pop_front();
        }
        drop(compiled);
        Ok(Grammar {
            state: State::Ready(Box::new(own)),
            ids: self.ids.clone(),
            threads: self.threads.clone(),
            patience: PATIENCE,
        })
    }
}

/// So that what a stranger writes takes neither much memory nor, step by step, the time of others.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 500_000,
        step_lexer_fuel: 100_000,
        step_max_items: 20_000,
        max_items_in_row: 1_000,
        max_lexer_states: 50_000,
        max_grammar_size: 100_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// The format in the compiler's words.
fn grammar(format: &AnswerFormat) -> TopLevelGrammar {
    match format {
        AnswerFormat::Text => TopLevelGrammar::from_regex(r"(?s:.*)"),
        AnswerFormat::JsonObject => json_grammar(&json!({ "type": "object" })),
        AnswerFormat::JsonSchema { schema } => json_grammar(schema),
        AnswerFormat::Regex { regex } => TopLevelGrammar::from_regex(regex),
        AnswerFormat::Choice { choice } => {
            let choices: Vec<String> = choice.iter().map(|text| escaped(text)).collect();
            TopLevelGrammar::from_regex(&format!("({})", choices.join("|")))
        }
        AnswerFormat::Grammar { grammar } => TopLevelGrammar::from_lark(grammar.clone()),
    }
}

fn json_grammar(schema: &Value) -> TopLevelGrammar {
    let mut schema = match schema {
        Value::Bool(false) => json!({ "not": {} }),
        Value::Object(object) => Value::Object(object.clone()),
        _ => json!({}),
    };
    // In place of what the schema may say there.
    schema["x-guidance"] = json!({ "whitespace_pattern": BLANKS });
    TopLevelGrammar::from_json_schema(schema)
}

/// A regular expression for this text alone.
fn escaped(text: &str) -> String {
    let mut regex = String::with_capacity(2 * text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            regex.push('\\');
        }
        regex.push(character);
    }
    regex
}

fn failed(problem: impl std::fmt::Display) -> TextError {
    let problem = problem.to_string();
    let line = problem.lines().next().unwrap_or_default();
    TextError::Format(line.chars().take(MOST_TOLD).collect())
}

/// Holds one answer to its format.
pub struct Grammar {
    state: State,
    ids: Arc<Ids>,
    threads: Arc<rayon::ThreadPool>,
    /// What is left of [`PATIENCE`].
    patience: Duration,
}

/// What may come next is being found out, or is not yet asked.
enum State {
    Ready(Box<Matcher>),
    Computing(Receiver<(Box<Matcher>, Result<SimpleVob, TextError>)>),
    /// Finding out went wrong: nothing may come any more.
    Lost,
}

impl Grammar {
    /// Whether an answer's token stands outside of the format: the newline that the model begins with.
    pub fn is_outside(&self, id: u32, place: usize) -> bool {
        place == 0 && self.ids.newline == Some(id)
    }

    /// Takes the answer's next ids, none of which ends it.
    ///
    /// # Errors
    /// [`TextError::Format`] if they don't keep to the format.
    pub fn accept(&mut self, ids: &[u32]) -> Result<(), TextError> {
        self.matcher()?.consume_tokens(ids).map_err(failed)
    }

    /// Takes the answer's next id, if it is of the format, and begins to find out what may come behind it.
    pub fn advance(&mut self, id: Option<u32>) {
        let State::Ready(mut matcher) = std::mem::replace(&mut self.state, State::Lost) else {
            return;
        };
        let ids = self.ids.clone();
        let (done, result) = sync_channel(1);
        self.state = State::Computing(result);
        self.threads.spawn(move || {
            let mask = next(&mut matcher, id, &ids);
            // Nobody waits for it where the answer is over.
            let _ = done.send((matcher, mask));
        });
    }

    /// Rules out what may not come next, at the answer's so many-th token: its logit becomes -∞. `logits` has one value for each
    /// id of the model's table.
    ///
    /// # Errors
    /// [`TextError::Format`] if nothing may come, or it could not be found out.
    pub fn mask(&mut self, logits: &mut [f32], place: usize) -> Result<(), TextError> {
        if let State::Ready(_) = self.state {
            self.advance(None);
        }
        let State::Computing(result) = std::mem::replace(&mut self.state, State::Lost) else {
            return Err(failed("what may come next could not be found out"));
        };
        let started = Instant::now();
        let (matcher, mask) = match result.recv_timeout(self.patience + USUAL) {
            Ok(found) => found,
            Err(_) => return Err(failed("it takes too long to find out what may come next")),
        };
        let waited = started.elapsed().saturating_sub(USUAL);
        self.patience = self.patience.saturating_sub(waited);
        let mut mask = mask?;
        if let Some(newline) = self.ids.newline.filter(|_| place == 0) {
            mask.allow_token(newline);
        }
        if mask.is_zero() {
            return Err(failed("none of the model's tokens can go on from here"));
        }
        apply(mask.as_slice(), logits);
        self.state = State::Ready(matcher);
        Ok(())
    }

    fn matcher(&mut self) -> Result<&mut Matcher, TextError> {
        if let State::Computing(result) = &self.state {
            self.state = match result.recv() {
                Ok((matcher, _)) => State::Ready(matcher),
                Err(_) => State::Lost,
            };
        }
        match &mut self.state {
            State::Ready(matcher) => Ok(matcher),
            _ => Err(failed("what may come next could not be found out")),
        }
    }
}

/// What may come behind `id`.
fn next(matcher: &mut Matcher, id: Option<u32>, ids: &Ids) -> Result<SimpleVob, TextError> {
    matcher.consume_tokens(id.as_slice()).map_err(failed)?;
    let mut mask = matcher.compute_mask_or_eos().map_err(failed)?;
    mask.and(&ids.text);
    if matcher.is_accepting().map_err(failed)? {
        ids.ends.iter().for_each(|id| mask.allow_token(*id));
    }
    Ok(mask)
}

/// Rules out each id whose bit is not set.
fn apply(mask: &[u32], logits: &mut [f32]) {
    for (word, logits) in mask.iter().zip(logits.chunks_mut(u32::BITS as usize)) {
        match *word {
            0 => logits.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            word => {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    if word & 1 << bit == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
