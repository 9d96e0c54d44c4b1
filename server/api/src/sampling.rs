//! How the next token is chosen: what a request asks for, and the settings that hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::MAX_INTEGER;

/// The most stop strings of a request.
pub const MAX_STOPS: usize = 8;
/// The most characters of a stop string.
pub const MAX_STOP_CHARS: usize = 64;
/// At most so many tokens may have a bias.
pub const MAX_BIASES: usize = 1024;

/// How the next token is chosen; what is absent takes the checkpoint's default (generation_config.json).
// What the page never asks for is not in its WASM, which would be some KB larger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Sampling {
    /// 0–2; 0 is greedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(range(min = 0, max = 2)))]
    pub temperature: Option<f64>,
    /// Over 0, at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(range(max = 1), extend("exclusiveMinimum" = 0)))]
    pub top_p: Option<f64>,
    /// 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u64>,
    /// Over 0, at most 2; 1 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(range(max = 2), extend("exclusiveMinimum" = 0)))]
    pub repetition_penalty: Option<f64>,
    /// -2 to 2; 0 is off. What is taken from the score of each token that the answer has already.
    #[cfg(not(target_family = "wasm"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(range(min = -2, max = 2)))]
    pub presence_penalty: Option<f64>,
    /// -2 to 2; 0 is off. What is taken from the score of a token each time that the answer has it already.
    #[cfg(not(target_family = "wasm"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(range(min = -2, max = 2)))]
    pub frequency_penalty: Option<f64>,
    /// What is added to the scores of tokens, -100 to 100 each, by their ids; of at most 1,024.
    #[cfg(not(target_family = "wasm"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schemas",
        schemars(
            extend("maxProperties" = 1024),
            extend("additionalProperties" = { "type": "number", "minimum": -100, "maximum": 100 })
        )
    )]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// At least 1, at most `limits.max_new_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(range(min = 1)))]
    pub max_new_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// At most 8 strings of at most 64 characters; the answer ends before the first that appears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schemas",
        schemars(length(max = 8), inner(length(max = 64)))
    )]
    pub stop: Option<Vec<String>>,
}

/// How the next token is chosen: all settings in range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// 0–2; 0 is greedy.
    pub temperature: f64,
    /// Over 0, at most 1; 1 is off.
    pub top_p: f64,
    /// 0 is off.
    pub top_k: u64,
    /// Over 0, at most 2; 1 is off.
    pub repetition_penalty: f64,
    /// -2 to 2; 0 is off.
    #[serde(default)]
    pub presence_penalty: f64,
    /// -2 to 2; 0 is off.
    #[serde(default)]
    pub frequency_penalty: f64,
    /// -100 to 100 each, by ids of the model's table.
    #[serde(default)]
    pub logit_bias: BTreeMap<u32, f64>,
    /// At least 1.
    pub max_new_tokens: u64,
    /// Seed of the random draws: equal seeds give equal answers.
    pub seed: u64,
    /// The answer ends before the first that appears.
    pub stop: Vec<String>,
}

/// The checkpoint's own settings: generation_config.json, and which ids its tokens have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    params: SamplingParams,
    /// Ids below may have a bias.
    vocabulary: u32,
}

impl Defaults {
    /// What holds where neither the request nor the checkpoint says anything: greedy, as in transformers, and as many
    /// tokens as the published demos allow.
    pub const MAX_NEW_TOKENS: u64 = 1024;

    /// The defaults of a checkpoint that brings settings.
    ///
    /// # Errors
    /// A sentence that names the setting that is out of range.
    pub fn new(params: SamplingParams) -> Result<Self, String> {
        params.check(u64::MAX)?;
        Ok(Defaults {
            params,
            ..Defaults::default()
        })
    }

    /// The settings for a model whose table has so many entries: ids below may have a bias.
    pub fn with_vocabulary(self, entries: u32) -> Self {
        Defaults {
            vocabulary: entries,
            ..self
        }
    }

    /// The settings of a request: its own where it has them, else these; and where it has no seed, `seed`.
    ///
    /// `max_new_tokens` is the most that the server allows; a default above it becomes it, a request's is refused.
    ///
    /// # Errors
    /// A sentence for the user (`bad_sampling`) that names the setting that is out of range. Nothing is clamped.
    #[cfg(not(target_family = "wasm"))]
    pub fn with(
        &self,
        ask: &Sampling,
        max_new_tokens: u64,
        seed: u64,
    ) -> Result<SamplingParams, String> {
        let own = &self.params;
        let params = SamplingParams {
            temperature: ask.temperature.unwrap_or(own.temperature),
            top_p: ask.top_p.unwrap_or(own.top_p),
            top_k: ask.top_k.unwrap_or(own.top_k),
            repetition_penalty: ask.repetition_penalty.unwrap_or(own.repetition_penalty),
            presence_penalty: ask.presence_penalty.unwrap_or(own.presence_penalty),
            frequency_penalty: ask.frequency_penalty.unwrap_or(own.frequency_penalty),
            logit_bias: match &ask.logit_bias {
                Some(bias) => self.biases(bias)?,
                None => own.logit_bias.clone(),
            },
            max_new_tokens: ask
                .max_new_tokens
                .unwrap_or(own.max_new_tokens.min(max_new_tokens)),
            seed: ask.seed.unwrap_or(seed),
            stop: ask.stop.clone().unwrap_or_default(),
        };
        params.check(max_new_tokens)?;
        Ok(params)
    }

    /// What holds for a request that leaves it out, as far as a person may want to know it.
    ///
    /// `max_new_tokens` is the most that the server allows.
    #[cfg(not(target_family = "wasm"))]
    pub fn told(&self, max_new_tokens: u64) -> Sampling {
        let own = &self.params;
        Sampling {
            temperature: Some(own.temperature),
            top_p: Some(own.top_p),
            top_k: Some(own.top_k),
            repetition_penalty: Some(own.repetition_penalty),
            max_new_tokens: Some(own.max_new_tokens.min(max_new_tokens)),
            ..Sampling::default()
        }
    }

    /// Biases by ids.
    #[cfg(not(target_family = "wasm"))]
    fn biases(&self, asked: &BTreeMap<String, f64>) -> Result<BTreeMap<u32, f64>, String> {
        if asked.len() > MAX_BIASES {
            let count = asked.len();
            return Err(format!(
                "logit_bias may have at most {MAX_BIASES} tokens, not {count}."
            ));
        }
        let bias = |(name, &bias): (&String, &f64)| {
            let id = name.parse().ok();
            let id = id.filter(|id: &u32| *id < self.vocabulary && id.to_string() == *name);
            let id = id.ok_or_else(|| {
                let name: String = name.chars().take(40).collect();
                let vocabulary = self.vocabulary;
                format!(
                    "logit_bias names {name:?}, which is no id of the model's {vocabulary} tokens."
                )
            })?;
            Ok((id, bias))
        };
        asked.iter().map(bias).collect()
    }
}

impl Default for SamplingParams {
    /// What holds where nobody says anything.
    fn default() -> Self {
        SamplingParams {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            max_new_tokens: Defaults::MAX_NEW_TOKENS,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

impl Default for Defaults {
    /// The defaults of a checkpoint without generation_config.json.
    fn default() -> Self {
        Defaults {
            params: SamplingParams::default(),
            vocabulary: u32::MAX,
        }
    }
}

/// A seed for an answer whose question brings none.
#[cfg(feature = "compute")]
pub fn random_seed() -> u64 {
    rand::random::<u64>() & MAX_INTEGER
}

impl SamplingParams {
    fn check(&self, max_new_tokens: u64) -> Result<(), String> {
        let Self {
            temperature,
            top_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
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
        for (name, value) in [
            ("presence_penalty", presence_penalty),
            ("frequency_penalty", frequency_penalty),
        ] {
            if !(-2.0..=2.0).contains(&value) {
                return Err(format!(
                    "{name} must be from -2 to 2 (0 is off), not {value}."
                ));
            }
        }
        if let Some((id, bias)) = self
            .logit_bias
            .iter()
            .find(|(_, bias)| !(-100.0..=100.0).contains(*bias))
        {
            return Err(format!(
                "logit_bias must be from -100 to 100, not {bias} as for token {id}."
            ));
        }
        if !(1..=max_new_tokens).contains(&self.max_new_tokens) {
            let asked = self.max_new_tokens;
            return Err(format!(
                "max_new_tokens must be from 1 to {max_new_tokens}, not {asked}."
            ));
        }
        for (name, value) in [("top_k", self.top_k), ("seed", self.seed)] {
            if value > MAX_INTEGER {
                return Err(format!(
                    "{name} must be at most {}, not {value}.",
                    MAX_INTEGER
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
