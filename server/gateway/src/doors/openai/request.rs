//! A request for chat completions, as clients send it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use wire::{Limits, MAX_INTEGER, Sampling};

use crate::intake::{MAX_VALUES, has_many_values};

use super::messages::{Message, without_tools};
use super::refusal::Refusal;

/// The body of `POST /v1/chat/completions`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ChatRequest<'a> {
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub messages: Vec<Message<'a>>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// How many answers.
    #[serde(default)]
    n: Option<u64>,
    /// Tells the client's own users apart.
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    prompt_cache_key: Option<Cow<'a, str>>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    /// 0 and -1 are off.
    #[serde(default)]
    top_k: Option<i64>,
    #[serde(default)]
    repetition_penalty: Option<f64>,
    #[serde(default)]
    presence_penalty: Option<f64>,
    #[serde(default)]
    frequency_penalty: Option<f64>,
    #[serde(default)]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Whether to tell how probable each token was, …
    #[serde(default)]
    logprobs: Option<bool>,
    /// … and how many others in its place.
    #[serde(default)]
    top_logprobs: Option<u32>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    stop: Option<Stop>,
    /// What is not named above: passed over, unless it would change the answer.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a stream has beside the answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub struct StreamOptions {
    #[serde(default)]
    pub include_usage: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

/// Whether a value of a field changes nothing.
type IsNeutral = fn(&Value) -> bool;

/// Fields that would change the answer in ways that this server has not.
const UNSUPPORTED: &[(&str, IsNeutral)] = &[
    ("audio", Value::is_null),
    ("modalities", |value| *value == serde_json::json!(["text"])),
    ("min_p", is_off),
    ("min_tokens", is_off),
    ("best_of", |value| *value == 1),
    ("use_beam_search", is_off),
    ("length_penalty", |value| value.as_f64() == Some(1.0)),
    ("ignore_eos", is_off),
    ("stop_token_ids", is_off),
    ("bad_words", is_off),
    ("allowed_token_ids", is_off),
    ("prompt_logprobs", is_off),
    ("echo", is_off),
    ("add_generation_prompt", |value| *value == true),
    ("continue_final_message", is_off),
    ("chat_template", Value::is_null),
    ("documents", is_off),
    ("web_search_options", Value::is_null),
];

/// Whether a value asks for nothing.
pub fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Reads a body.
///
/// # Errors
/// `bad_json`, and `bad_message` with the path to what is wrong.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    if has_many_values(body) {
        let message = format!("The request has more than {MAX_VALUES} values: send a shorter one.");
        return Err(Refusal::bad_request("bad_message", "", message));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|problem| {
        let path = problem.path().to_string();
        let path = if path == "." { "" } else { &path };
        let problem = problem.into_inner();
        let (code, what) = match problem.is_data() {
            true => ("bad_message", "is not as the API has it"),
            false => ("bad_json", "has a body that is no JSON"),
        };
        Refusal::bad_request(code, path, format!("The request {what}: {problem}."))
    })
}

impl ChatRequest<'_> {
    /// Refuses what would change the answer in ways that this server has not.
    ///
    /// # Errors
    /// `unsupported_parameter`, by its name.
    pub fn check(&self) -> Result<(), Refusal> {
        for field in ["tools", "functions"] {
            if self.rest.get(field).is_some_and(|value| !is_off(value)) {
                return Err(without_tools(field));
            }
        }
        for field in ["tool_choice", "function_call"] {
            let choice = self.rest.get(field).filter(|choice| !choice.is_null());
            if choice.is_some_and(|choice| *choice != "none" && *choice != "auto") {
                return Err(without_tools(field));
            }
        }
        for (field, is_neutral) in UNSUPPORTED {
            let value = self.rest.get(*field).filter(|value| !value.is_null());
            if value.is_some_and(|value| !is_neutral(value)) {
                return Err(Refusal::bad_request(
                    "unsupported_parameter",
                    *field,
                    format!("This server has no {field}: leave it out."),
                ));
            }
        }
        Ok(())
    }

    /// Whom the request is for, beside the key.
    pub fn user(&self) -> Option<&str> {
        self.prompt_cache_key.as_deref().or(self.user.as_deref())
    }

    /// How many answers are wanted: at least one.
    ///
    /// # Errors
    /// If that is more than a session may have questions open.
    pub fn choices(&self, limits: &Limits) -> Result<usize, Refusal> {
        let n = self.n.unwrap_or(1);
        if !(1..=limits.open_requests).contains(&n) {
            return Err(Refusal::bad_request(
                "bad_sampling",
                "n",
                format!("n must be from 1 to {}, not {n}.", limits.open_requests),
            ));
        }
        Ok(usize::try_from(n).unwrap_or(1))
    }

    /// Beside how many others each token's probability is told, if it is.
    ///
    /// # Errors
    /// `bad_sampling`, for others without it.
    pub fn logprobs(&self) -> Result<Option<u32>, Refusal> {
        match (
            self.logprobs.unwrap_or(false),
            self.top_logprobs.unwrap_or(0),
        ) {
            (true, top) => Ok(Some(top)),
            (false, 0) => Ok(None),
            (false, _) => Err(Refusal::bad_request(
                "bad_sampling",
                "top_logprobs",
                "top_logprobs are told with logprobs alone: ask for both.",
            )),
        }
    }

    /// How to draw the answers' tokens. Without a length an answer may be as long as this server lets any be.
    pub fn sampling(&self, limits: &Limits) -> Sampling {
        let most = self.max_completion_tokens.or(self.max_tokens);
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k.map(|k| u64::try_from(k).unwrap_or(0)),
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            max_new_tokens: Some(most.unwrap_or(limits.max_new_tokens)),
            seed: self.seed.map(|seed| seed as u64 & MAX_INTEGER),
            stop: self.stop.as_ref().map(|stop| match stop {
                Stop::One(text) => vec![text.clone()],
                Stop::Many(texts) => texts.clone(),
            }),
        }
    }
}
