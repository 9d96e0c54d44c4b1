//! The next token from the logits.
//!
//! Penalties and bias, then temperature, top-k and top-p in transformers' order and with its rules. Nothing is sorted:
//! top-k finds the k-th largest logit, and top-p draws from all candidates and draws again, among the more probable ones only, while
//! the token drawn lies outside the nucleus. That gives exactly the nucleus' distribution (the accepted draw is one
//! from a set that contains it) in two or three passes over the vocabulary.

use std::collections::HashMap;
use std::f64::consts::LOG2_E;

use api::{Defaults, SamplingParams, TokenLogprob, TopLogprob};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Deserializer};

use super::candidates::{Candidates, scan, top};
use super::{TextError, Tokenizer};
use crate::scores::{Largest, Wanted};

/// What transformers takes of a file that says `do_sample` and has no `top_k`.
const TOP_K: u64 = 50;

/// Reads the sampling defaults from the bytes of generation_config.json. `do_sample` false or absent is greedy; an absent
/// setting is off, but for `top_k`, which is 50 where the file says `do_sample`. `null` is off there too.
///
/// # Errors
/// [`TextError::File`] if it is no JSON object or a setting is out of range.
pub fn defaults(file: &[u8]) -> Result<Defaults, TextError> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        do_sample: bool,
        temperature: Option<f64>,
        top_p: Option<f64>,
        /// Absent, null, or a number.
        #[serde(default, deserialize_with = "given")]
        top_k: Option<Option<u64>>,
        repetition_penalty: Option<f64>,
        max_new_tokens: Option<u64>,
    }
    /// What stands there, null included.
    fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u64>>, D::Error> {
        Option::deserialize(value).map(Some)
    }
    let wrong = |problem: String| TextError::file("generation_config.json", problem);
    let config: Config = crate::json::read(file).map_err(wrong)?;
    let params = SamplingParams {
        temperature: if config.do_sample {
            config.temperature.unwrap_or(1.0)
        } else {
            0.0
        },
        top_p: config.top_p.unwrap_or(1.0),
        top_k: match config.top_k {
            None if config.do_sample => TOP_K,
            given => given.flatten().unwrap_or(0),
        },
        repetition_penalty: config.repetition_penalty.unwrap_or(1.0),
        max_new_tokens: config.max_new_tokens.unwrap_or(Defaults::MAX_NEW_TOKENS),
        ..SamplingParams::default()
    };
    Defaults::new(params).map_err(wrong)
}

/// Chooses the tokens of one answer, with a random stream of its own: the same seed and logits give the same answer,
/// alone or beside others.
pub struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    /// What is added, by ids.
    bias: Vec<(u32, f32)>,
    /// Randomness by counter: the key is the seed, the stream the token's place in the answer. A draw depends on nothing that
    /// was drawn before.
    rng: ChaCha8Rng,
    /// Tokens of the answer so far.
    position: u64,
    /// Each id of prompt and answer once, for the penalty; and which ids these are.
    seen: Vec<u32>,
    is_seen: Vec<bool>,
    /// How often the answer has each of its ids, where presence or frequency count.
    counts: HashMap<u32, u32>,
    scratch: Scratch,
}

/// What a draw works with, kept between tokens.
#[derive(Default)]
struct Scratch {
    maxima: Vec<f32>,
    /// The candidates' ids that top-k leaves.
    ids: Vec<u32>,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler for the answer to `prompt`, as token ids.
    pub fn new(params: &SamplingParams, prompt: &[u32]) -> Self {
        let mut sampler = Self {
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: usize::try_from(params.top_k).unwrap_or(usize::MAX),
            penalty: (params.repetition_penalty as f32).max(f32::MIN_POSITIVE),
            presence_penalty: params.presence_penalty as f32,
            frequency_penalty: params.frequency_penalty as f32,
            bias: params
                .logit_bias
                .iter()
                .map(|(&id, &bias)| (id, bias as f32))
                .collect(),
            rng: ChaCha8Rng::from_seed(key(params.seed)),
            position: 0,
            seen: Vec::new(),
            is_seen: Vec::new(),
            counts: HashMap::new(),
            scratch: Scratch::default(),
        };
        for &id in prompt {
            sampler.remember(id);
        }
        sampler
    }

    /// The next token. `logits` has one value for each id of the model's table and is changed by penalties and bias; a
    /// logit of -∞ rules its token out. Greedy takes the first of the largest.
    ///
    /// # Errors
    /// [`TextError::Logits`] if one is NaN or +∞, or none is left.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, TextError> {
        self.adjust(logits);
        self.choose(logits)
    }

    /// Changes the logits of the next token, one for each id of the model's table, as penalties and bias say: the repetition
    /// penalty as in transformers, the others as OpenAI defines them.
    pub fn adjust(&self, logits: &mut [f32]) {
        if self.penalty != 1.0 {
            for &id in &self.seen {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = if *logit < 0.0 {
                        *logit * self.penalty
                    } else if logit.is_finite() {
                        (*logit / self.penalty).min(f32::MAX)
                    } else {
                        *logit
                    };
                }
            }
        }
        for (&id, &count) in &self.counts {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit -= self.presence_penalty + self.frequency_penalty * count as f32;
            }
        }
        for &(id, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
    }

    /// How many of the next token's logits it takes to choose: all, where penalties or bias may bring another one forward.
    pub fn wanted(&self) -> Wanted {
        let changes = !self.seen.is_empty() || !self.counts.is_empty() || !self.bias.is_empty();
        let most = if self.is_greedy() { 1 } else { self.top_k };
        match most {
            1..=Wanted::MOST if !changes => Wanted::Largest(most),
            _ => Wanted::All,
        }
    }

    fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// The next token by its logits as they are.
    ///
    /// # Errors
    /// [`TextError::Logits`] if one is NaN or +∞, or none is left.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, TextError> {
        let id = self.pick(logits)? as u32;
        self.accept(id);
        Ok(id)
    }

    /// The next token by the largest of its logits, which are at least [`Sampler::wanted`]: the one that all of them would give.
    ///
    /// # Errors
    /// [`TextError::Logits`] if one is NaN or +∞, or there is none.
    pub fn choose_among(&mut self, largest: &Largest) -> Result<u32, TextError> {
        let at = self.pick(&largest.scores)?;
        let id = largest.ids.get(at).copied();
        let id = id.ok_or(TextError::Logits("none of the largest"))?;
        self.accept(id);
        Ok(id)
    }

    /// Which of some logits is the next token's.
    fn pick(&mut self, logits: &[f32]) -> Result<usize, TextError> {
        let max = scan(logits, &mut self.scratch.maxima)?;
        Ok(match self.is_greedy() {
            true => logits.iter().position(|&logit| logit == max).unwrap_or(0),
            false => self.draw(logits, max),
        })
    }

    /// Takes the next token as chosen.
    pub fn accept(&mut self, id: u32) {
        self.remember(id);
        if self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 {
            *self.counts.entry(id).or_default() += 1;
        }
        self.position += 1;
    }

    fn remember(&mut self, id: u32) {
        if self.penalty == 1.0 {
            return;
        }
        let index = id as usize;
        if index >= self.is_seen.len() {
            self.is_seen.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.is_seen[index], true) {
            self.seen.push(id);
        }
    }

    fn draw(&mut self, logits: &[f32], max: f32) -> usize {
        let Scratch {
            maxima,
            ids,
            candidates,
        } = &mut self.scratch;
        // A tiny temperature must not make 0 · ∞.
        let scale = (LOG2_E / self.temperature).min(f64::from(f32::MAX)) as f32;
        let limited = self.top_k > 0 && self.top_k < logits.len();
        if limited {
            top(logits, maxima, self.top_k, ids);
            let largest: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
            candidates.fill(&largest, max, scale);
        } else {
            candidates.fill(logits, max, scale);
        }
        let nucleus = self.top_p * candidates.total();
        self.rng.set_stream(self.position);
        let drawn = loop {
            let drawn = candidates.pick(self.rng.random());
            if self.top_p == 1.0 {
                break drawn;
            }
            // The nucleus: every token before which, the more probable ones first, less than top_p lies.
            candidates.keep_before(drawn);
            let before = candidates.total();
            if before < nucleus || before == 0.0 {
                break drawn;
            }
        };
        if limited { ids[drawn] as usize } else { drawn }
    }
}

/// ChaCha's key of a seed: its eight bytes, the lowest first, then zeros.
fn key(seed: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key
}

/// What stands for the logarithm of 0, which JSON can't write.
const NEVER: f64 = -9999.0;

/// The logarithm of the softmax of raw logits: what `logprobs` and `--logprobs` show.
pub struct LogSoftmax<'a> {
    logits: &'a [f32],
    maxima: Vec<f32>,
    log_sum: f64,
}

impl<'a> LogSoftmax<'a> {
    /// Over `logits` as the model gave them, before penalty and temperature.
    ///
    /// # Errors
    /// [`TextError::Logits`] as [`Sampler::sample`].
    pub fn new(logits: &'a [f32]) -> Result<Self, TextError> {
        let mut maxima = Vec::new();
        let max = f64::from(scan(logits, &mut maxima)?);
        let sum: f64 = logits
            .iter()
            .map(|&logit| (f64::from(logit) - max).exp())
            .sum();
        Ok(Self {
            logits,
            maxima,
            log_sum: max + sum.ln(),
        })
    }

    /// The natural logarithm of the token's probability, -9999 where that is 0; `None` for an id beyond the table.
    pub fn of(&self, id: u32) -> Option<f64> {
        let logit = f64::from(*self.logits.get(id as usize)?);
        Some((logit - self.log_sum).max(NEVER))
    }

    /// What is told of the token with an id, with `k` others that might have been in its place.
    pub fn told(&self, id: u32, k: usize, tokenizer: &Tokenizer) -> TokenLogprob {
        let bytes = |id| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        let top = self.top(k).into_iter();
        TokenLogprob {
            id,
            bytes: bytes(id),
            logprob: self.of(id).unwrap_or(NEVER),
            top: top
                .map(|(id, logprob)| TopLogprob {
                    id,
                    bytes: bytes(id),
                    logprob,
                })
                .collect(),
        }
    }

    /// The `k` most probable tokens, most probable first, of equals the lower id first.
    pub fn top(&self, k: usize) -> Vec<(u32, f64)> {
        if k == 0 {
            return Vec::new();
        }
        let mut ids = Vec::new();
        top(self.logits, &self.maxima, k, &mut ids);
        let mut top: Vec<_> = ids
            .into_iter()
            .filter_map(|id| Some((id, self.of(id)?)))
            .collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1));
        top.truncate(k);
        top
    }
}

#[cfg(test)]
mod tests;
