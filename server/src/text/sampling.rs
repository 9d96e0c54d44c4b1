//! The next token from the logits.
//!
//! Penalty, temperature, top-k and top-p in transformers' order and with its rules. Nothing is sorted: top-k finds the
//! k-th largest logit, and top-p draws from all candidates and draws again, among the more probable ones only, while
//! the token drawn lies outside the nucleus. That gives exactly the nucleus' distribution (the accepted draw is one
//! from a set that contains it) in two or three passes over the vocabulary.

use std::hash::{BuildHasher, RandomState};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

use super::TextError;

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

    /// From the bytes of generation_config.json. `do_sample` false or absent is greedy; an absent setting is off.
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
            top_k: Option<u64>,
            repetition_penalty: Option<f64>,
            max_new_tokens: Option<u64>,
        }
        let wrong = |problem: String| TextError::file("generation_config.json", problem);
        let config: Config = serde_json::from_slice(file).map_err(|e| wrong(e.to_string()))?;
        let params = SamplingParams {
            temperature: if config.do_sample {
                config.temperature.unwrap_or(1.0)
            } else {
                0.0
            },
            top_p: config.top_p.unwrap_or(1.0),
            top_k: config.top_k.unwrap_or(0),
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
    /// Each candidate's probability times some constant.
    weights: Vec<f32>,
    /// The sum of each block of weights.
    sums: Vec<f64>,
}

impl Sampler {
    /// A sampler for the answer to `prompt`, as token ids.
    pub fn new(params: &SamplingParams, prompt: &[u32]) -> Self {
        let mut sampler = Self {
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: usize::try_from(params.top_k).unwrap_or(usize::MAX),
            penalty: params.repetition_penalty as f32,
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
                    } else {
                        *logit / self.penalty
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
            weights,
            sums,
        } = &mut self.scratch;
        // A tiny temperature must not make 0 · ∞.
        let scale = (1.0 / self.temperature).min(f64::from(f32::MAX)) as f32;
        let limited = self.top_k > 0 && self.top_k < logits.len();
        if limited {
            top(logits, maxima, self.top_k, ids);
            let candidates: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
            weigh(&candidates, max, scale, weights, sums);
        } else {
            weigh(logits, max, scale, weights, sums);
        }
        let nucleus = self.top_p * sums.iter().sum::<f64>();
        let drawn = loop {
            let drawn = pick(weights, sums, self.rng.random());
            if self.top_p == 1.0 {
                break drawn;
            }
            // The nucleus: every token before which, the more probable ones first, less than top_p lies.
            keep_before(drawn, weights, sums);
            let before: f64 = sums.iter().sum();
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

/// Independent sums or maxima, so that the compiler can keep them in vector registers.
const LANES: usize = 16;
/// Values that a lane's f32 sum and each lane's maximum go over: [`LANES`] of 16 each.
const BLOCK: usize = 16 * LANES;

/// A function over a whole table, compiled for AVX2 too and run so where the processor has it. Both give the same
/// results: the order of the sums is fixed, by [`LANES`].
macro_rules! vectorized {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) -> $ret {
            #[inline(always)]
            fn pass($($arg: $type),*) -> $ret $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) -> $ret {
                    pass($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            pass($($arg),*)
        }
    };
}

/// The largest logit, once none is NaN; and in `maxima` each lane's largest, block by block.
fn scan(logits: &[f32], maxima: &mut Vec<f32>) -> Result<f32, TextError> {
    maxima.clear();
    maxima.resize(logits.len().div_ceil(BLOCK) * LANES, f32::NEG_INFINITY);
    let (max, nan) = lane_maxima(logits, maxima);
    if nan {
        return Err(TextError::Logits("a NaN among them"));
    }
    match max {
        f32::INFINITY => Err(TextError::Logits("an infinite one among them")),
        f32::NEG_INFINITY => Err(TextError::Logits("every token is ruled out")),
        max => Ok(max),
    }
}

vectorized! {
    /// Fills `maxima`, [`LANES`] for each block; the largest of all, and whether there is a NaN.
    fn lane_maxima(logits: &[f32], maxima: &mut [f32]) -> (f32, bool) {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let mut nan = [0u32; LANES];
        for (block, maxima) in logits.chunks(BLOCK).zip(maxima.as_chunks_mut::<LANES>().0) {
            let mut max = [f32::NEG_INFINITY; LANES];
            let (rows, rest) = block.as_chunks::<LANES>();
            for row in rows {
                for lane in 0..LANES {
                    max[lane] = if row[lane] > max[lane] { row[lane] } else { max[lane] };
                    nan[lane] |= u32::from(row[lane].is_nan());
                }
            }
            for (lane, &logit) in rest.iter().enumerate() {
                max[lane] = max[lane].max(logit);
                nan[lane] |= u32::from(logit.is_nan());
            }
            *maxima = max;
            for lane in 0..LANES {
                largest[lane] = if max[lane] > largest[lane] { max[lane] } else { largest[lane] };
            }
        }
        (largest.into_iter().fold(f32::NEG_INFINITY, f32::max), nan != [0; LANES])
    }
}

/// The ids of the `k` largest logits (k ≥ 1) and of all that equal the last of them, in order of id.
///
/// The k-th largest of `maxima` bounds the k-th largest logit from below, and few logits reach that bound.
fn top(logits: &[f32], maxima: &[f32], k: usize, ids: &mut Vec<u32>) {
    let bound = if k <= maxima.len() {
        kth(&mut maxima.to_vec(), k)
    } else {
        f32::NEG_INFINITY
    };
    ids.clear();
    let blocks = logits.chunks(BLOCK).zip(maxima.chunks(LANES)).enumerate();
    for (index, (block, _)) in blocks.filter(|(_, (_, max))| max.iter().any(|&max| max >= bound)) {
        let found = (index * BLOCK..)
            .zip(block)
            .filter(|(_, logit)| **logit >= bound);
        ids.extend(found.map(|(id, _)| id as u32));
    }
    if k < ids.len() {
        let least = kth(
            &mut ids
                .iter()
                .map(|&id| logits[id as usize])
                .collect::<Vec<_>>(),
            k,
        );
        ids.retain(|&id| logits[id as usize] >= least);
    }
}

fn kth(values: &mut [f32], k: usize) -> f32 {
    *values
        .select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a))
        .1
}

/// The weights of `logits`, e^((logit - max) · scale), and their sums block by block.
fn weigh(logits: &[f32], max: f32, scale: f32, weights: &mut Vec<f32>, sums: &mut Vec<f64>) {
    weights.resize(logits.len(), 0.0);
    sums.resize(logits.len().div_ceil(BLOCK), 0.0);
    exponentiate(logits, max, scale, weights, sums);
}

vectorized! {
    fn exponentiate(logits: &[f32], max: f32, scale: f32, weights: &mut [f32], sums: &mut [f64]) -> () {
        let blocks = logits.chunks(BLOCK).zip(weights.chunks_mut(BLOCK));
        for ((logits, weights), total) in blocks.zip(sums) {
            for (weight, logit) in weights.iter_mut().zip(logits) {
                *weight = exp((logit - max) * scale);
            }
            *total = sum(weights);
        }
    }
}

vectorized! {
    /// Keeps the candidates more probable than `drawn`, and of its equals those before it.
    fn keep_before(drawn: usize, weights: &mut [f32], sums: &mut [f64]) -> () {
        let least = weights[drawn];
        for (index, (block, total)) in weights.chunks_mut(BLOCK).zip(sums).enumerate() {
            let (before, after) = block.split_at_mut(drawn.saturating_sub(index * BLOCK).min(block.len()));
            for weight in before {
                *weight = if *weight >= least { *weight } else { 0.0 };
            }
            for weight in after {
                *weight = if *weight > least { *weight } else { 0.0 };
            }
            *total = sum(block);
        }
    }
}

/// The index at which the running sum of the weights passes `share` (from 0 to below 1) of the whole.
fn pick(weights: &[f32], sums: &[f64], share: f64) -> usize {
    let mut left = share * sums.iter().sum::<f64>();
    for (index, (block, &total)) in weights.chunks(BLOCK).zip(sums).enumerate() {
        if left >= total {
            left -= total;
            continue;
        }
        for (at, &weight) in (index * BLOCK..).zip(block) {
            if left < f64::from(weight) {
                return at;
            }
            left -= f64::from(weight);
        }
    }
    // Rounding left a little over: the last candidate takes it.
    weights
        .iter()
        .rposition(|&weight| weight > 0.0)
        .unwrap_or(0)
}

#[inline(always)]
fn sum(weights: &[f32]) -> f64 {
    let mut lanes = [0f32; LANES];
    let (rows, rest) = weights.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            lanes[lane] += row[lane];
        }
    }
    for (lane, weight) in lanes.iter_mut().zip(rest) {
        *lane += weight;
    }
    // In halves: each addition of the lanes one by one would wait for the one before.
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    f64::from(lanes[0])
}

/// e^x for x ≤ 0, to about 2e-7 of the value, and 0 below e^-87: the library's is called once a value, this compiles to
/// vector instructions. e^x = 2^n · e^r, with n the whole part of x / ln 2.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 · 2^23: adding it leaves a small number, rounded, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let y = if x > -87.0 { x } else { -87.0 };
    let shifted = y * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (y - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 24.0 + r * (1.0 / 120.0 + r * series);
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * series)));
    let value = f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x > -87.0 { value } else { 0.0 }
}

#[cfg(test)]
#[path = "sampling_tests.rs"]
mod tests;
