//! The next token from the logits.
//!
//! Penalty, temperature, top-k and top-p in transformers' order and with its rules. Nothing is sorted: top-k finds the
//! k-th largest logit, and top-p draws from all candidates and draws again, among the more probable ones only, while
//! the token drawn lies outside the nucleus. That gives exactly the nucleus' distribution (the accepted draw is one
//! from a set that contains it) in two or three passes over the vocabulary.

use std::f64::consts::LOG2_E;
use std::hash::{BuildHasher, RandomState};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Deserializer};

use super::TextError;
use super::candidates::{Candidates, scan, top};

/// At most this many stop strings …
pub const MAX_STOPS: usize = 8;
/// … of at most this many characters.
pub const MAX_STOP_CHARS: usize = 64;

/// How the next token is chosen: all settings in range.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0–2; 0 is greedy.
    pub temperature: f64,
    /// Over 0, at most 1; 1 is off.
    pub top_p: f64,
    /// 0 is off.
    pub top_k: u64,
    /// Over 0, at most 2; 1 is off.
    pub repetition_penalty: f64,
    /// At least 1.
    pub max_new_tokens: u64,
    /// `None` takes a new one for each answer.
    pub seed: Option<u64>,
    /// The answer ends before the first that appears.
    pub stop: Vec<String>,
}

/// The checkpoint's own settings: generation_config.json.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults(SamplingParams);

impl Defaults {
    /// What holds where neither the request nor the checkpoint says anything: greedy, as in transformers, and as many
    /// tokens as the published demos allow.
    pub const MAX_NEW_TOKENS: u64 = 1024;
    /// What transformers takes of a file that says `do_sample` and has no `top_k`.
    const TOP_K: u64 = 50;

    /// From the bytes of generation_config.json. `do_sample` false or absent is greedy; an absent setting is off, but for
    /// `top_k`, which is 50 where the file says `do_sample`. `null` is off there too.
    ///
    /// # Errors
    /// [`TextError::File`] if it is no JSON object or a setting is out of range.
    pub fn from_generation_config(file: &[u8]) -> Result<Self, TextError> {
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
                None if config.do_sample => Self::TOP_K,
                given => given.flatten().unwrap_or(0),
            },
            repetition_penalty: config.repetition_penalty.unwrap_or(1.0),
            max_new_tokens: config.max_new_tokens.unwrap_or(Self::MAX_NEW_TOKENS),
            seed: None,
            stop: Vec::new(),
        };
        params.check(u64::MAX).map_err(wrong)?;
        Ok(Self(params))
    }

    /// The settings of a request: its own where it has them, else these.
    ///
    /// `max_new_tokens` is the most that the server allows; a default above it becomes it, a request's is refused.
    ///
    /// # Errors
    /// A sentence for the user (`bad_sampling`) that names the setting that is out of range. Nothing is clamped.
    pub fn with(
        &self,
        ask: &wire::Sampling,
        max_new_tokens: u64,
    ) -> Result<SamplingParams, String> {
        let own = &self.0;
        let params = SamplingParams {
            temperature: ask.temperature.unwrap_or(own.temperature),
            top_p: ask.top_p.unwrap_or(own.top_p),
            top_k: ask.top_k.unwrap_or(own.top_k),
            repetition_penalty: ask.repetition_penalty.unwrap_or(own.repetition_penalty),
            max_new_tokens: ask
                .max_new_tokens
                .unwrap_or(own.max_new_tokens.min(max_new_tokens)),
            seed: ask.seed,
            stop: ask.stop.clone().unwrap_or_default(),
        };
        params.check(max_new_tokens)?;
        Ok(params)
    }
}

impl Default for Defaults {
    /// Of a checkpoint without generation_config.json.
    fn default() -> Self {
        Self(SamplingParams {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
            max_new_tokens: Self::MAX_NEW_TOKENS,
            seed: None,
            stop: Vec::new(),
        })
    }
}

impl SamplingParams {
    fn check(&self, max_new_tokens: u64) -> Result<(), String> {
        let Self {
            temperature,
            top_p,
            repetition_penalty,
            ..
        } = *self;
        // NaN is in no range.
        if !(0.0..=2.0).contains(&temperature) {
            return Err(format!(
                "temperature must be from 0 (greedy) to 2, not {temperature}."
            ));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(format!(
                "top_p must be over 0 and at most 1 (off), not {top_p}."
            ));
        }
        if !(repetition_penalty > 0.0 && repetition_penalty <= 2.0) {
            return Err(format!(
                "repetition_penalty must be over 0 and at most 2 (1 is off), not {repetition_penalty}."
            ));
        }
        if !(1..=max_new_tokens).contains(&self.max_new_tokens) {
            let asked = self.max_new_tokens;
            return Err(format!(
                "max_new_tokens must be from 1 to {max_new_tokens}, not {asked}."
            ));
        }
        for (name, value) in [("top_k", Some(self.top_k)), ("seed", self.seed)] {
            if let Some(value) = value.filter(|value| *value > wire::MAX_INTEGER) {
                return Err(format!(
                    "{name} must be at most {}, not {value}.",
                    wire::MAX_INTEGER
                ));
            }
        }
        if self.stop.len() > MAX_STOPS {
            let count = self.stop.len();
            return Err(format!(
                "stop may have at most {MAX_STOPS} strings, not {count}."
            ));
        }
        if self
            .stop
            .iter()
            .any(|s| s.is_empty() || s.chars().count() > MAX_STOP_CHARS)
        {
            return Err(format!(
                "each stop string must have 1 to {MAX_STOP_CHARS} characters."
            ));
        }
        Ok(())
    }
}

/// Chooses the tokens of one answer, with a random stream of its own: the same seed and logits give the same answer,
/// alone or beside others.
pub struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    penalty: f32,
    rng: StdRng,
    /// Each id of prompt and answer once, for the penalty; and which ids these are.
    seen: Vec<u32>,
    is_seen: Vec<bool>,
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
            // A fresh `RandomState` has random keys: what it makes of anything is a seed.
            rng: StdRng::seed_from_u64(
                params
                    .seed
                    .unwrap_or_else(|| RandomState::new().hash_one(0)),
            ),
            seen: Vec::new(),
            is_seen: Vec::new(),
            scratch: Scratch::default(),
        };
        for &id in prompt {
            sampler.remember(id);
        }
        sampler
    }

    /// The next token. `logits` has one value for each id of the model's table and is changed by the penalty; a
    /// logit of -∞ rules its token out. Greedy takes the first of the largest.
    ///
    /// # Errors
    /// [`TextError::Logits`] if one is NaN or +∞, or none is left.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, TextError> {
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
        let max = scan(logits, &mut self.scratch.maxima)?;
        let id = if self.temperature == 0.0 || self.top_k == 1 {
            logits.iter().position(|&logit| logit == max).unwrap_or(0) as u32
        } else {
            self.draw(logits, max)
        };
        self.remember(id);
        Ok(id)
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

    fn draw(&mut self, logits: &[f32], max: f32) -> u32 {
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
        if limited { ids[drawn] } else { drawn as u32 }
    }
}

/// The logarithm of the softmax of raw logits: what `--logprobs` shows.
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

    /// The natural logarithm of the token's probability; `None` for an id beyond the table.
    pub fn of(&self, id: u32) -> Option<f64> {
        Some(f64::from(*self.logits.get(id as usize)?) - self.log_sum)
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
#[path = "sampling_tests.rs"]
mod tests;
