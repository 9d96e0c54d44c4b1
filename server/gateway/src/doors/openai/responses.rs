//! `POST /v1/responses`, without state: what came before comes with each request.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wire::{Limits, MAX_INTEGER, Sampling};

use super::answer::UsageReport;
use super::call::{Call, Form, Prepared, named_event};
use super::messages::{self, Content, Message, without_tools};
use super::refusal::Refusal;
use super::request::is_off;
use super::{Api, formats, pictures, request};
use crate::access::Guests;
use crate::doors::body::Body;
use crate::exchange::{Dialogue, Event, Settings};
use wire::FinishReason;

/// Answers a conversation.
pub async fn respond(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    let call = Call::begin(&request, api.into_inner(), guests.into_inner());
    match call.answer(&request, payload, prepare, Response::new).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

/// The body of `POST /v1/responses`.
#[derive(Deserialize, JsonSchema)]
pub struct ResponsesRequest<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: Input<'a>,
    /// The system turn.
    #[serde(borrow, default)]
    instructions: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    prompt_cache_key: Option<Cow<'a, str>>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    text: Option<Value>,
    /// What is not named above: passed over, unless it would change the answer.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is to be answered: a question alone, or messages.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Input<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Messages(#[serde(borrow)] Vec<Message<'a>>),
}

/// What the response repeats of its request.
pub struct Asked {
    instructions: Option<String>,
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    format: Value,
    user: Option<String>,
    metadata: Value,
}

impl ResponsesRequest<'_> {
    /// Refuses what would need state, tools, or anything else that this server has not.
    fn check(&self) -> Result<(), Refusal> {
        for field in [
            "previous_response_id",
            "conversation",
            "background",
            "prompt",
        ] {
            if self.rest.get(field).is_some_and(|value| !is_off(value)) {
                let message = format!(
                    "This server keeps no responses, so there is no {field}: send the whole conversation as input."
                );
                return Err(Refusal::bad_request(
                    "unsupported_parameter",
                    field,
                    message,
                ));
            }
        }
        if self.rest.get("tools").is_some_and(|value| !is_off(value)) {
            return Err(without_tools("tools"));
        }
        let choice = self
            .rest
            .get("tool_choice")
            .filter(|choice| !choice.is_null());
        if choice.is_some_and(|choice| *choice != "none" && *choice != "auto") {
            return Err(without_tools("tool_choice"));
        }
        Ok(())
    }

    fn sampling(&self, limits: &Limits) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: Some(self.max_output_tokens.unwrap_or(limits.max_new_tokens)),
            seed: self.seed.map(|seed| seed as u64 & MAX_INTEGER),
            ..Sampling::default()
        }
    }
}

fn prepare(body: &Arc<Body>, api: &Api) -> Result<Prepared<Asked>, Refusal> {
    let request: ResponsesRequest = request::read(&body.bytes)?;
    let model = api.model(request.model.as_deref())?;
    request.check()?;
    let shared = &api.exchanges.hub.shared;
    let text = request.text.as_ref().and_then(|text| text.get("format"));
    let text = text.filter(|format| !format.is_null());
    let format = text.map(|format| formats::response_format(format, "text.format"));
    let messages = match &request.input {
        Input::Text(text) => &vec![Message::user(Content::Text(Cow::Borrowed(&**text)))],
        Input::Messages(messages) => messages,
    };
    let mut reading = messages::read(messages, "input", shared.limits.message_bytes)?;
    let user = (request.prompt_cache_key.as_deref()).or(request.user.as_deref());
    let (picture, dropped) = pictures::find(&mut reading, body, api, user)?;
    let instructions = request.instructions.as_deref().unwrap_or_default();
    let system = [instructions, &reading.system];
    let system = system.into_iter().filter(|text| !text.is_empty());
    Ok(Prepared {
        model,
        user: user.map(str::to_owned),
        stream: request.stream.unwrap_or(false),
        dropped,
        settings: Settings {
            choices: 1,
            sampling: request.sampling(&shared.limits),
            format: format.transpose()?.flatten(),
            logprobs: None,
            traceparent: None,
        },
        dialogue: Dialogue {
            system: system.collect::<Vec<_>>().join("\n\n"),
            history: reading.history,
            question: reading.question,
            picture,
        },
        wanted: Asked {
            format: text.cloned().unwrap_or_else(|| json!({ "type": "text" })),
            instructions: request.instructions.map(Cow::into_owned),
            max_output_tokens: request.max_output_tokens,
            temperature: request.temperature,
            top_p: request.top_p,
            user: request.user.map(Cow::into_owned),
            metadata: request.rest.get("metadata").cloned().unwrap_or(json!({})),
        },
    })
}

/// A response in the making.
pub struct Response {
    id: String,
    message: String,
    created: u64,
    model: String,
    asked: Asked,
    said: String,
    ended: Option<FinishReason>,
    usage: UsageReport,
    /// Events so far, which numbers the next one.
    events: u64,
}

impl Response {
    fn new(call: &Call, model: String, asked: Asked, _: usize) -> Self {
        Response {
            id: format!("resp_{}", call.id),
            message: format!("msg_{}", call.id),
            created: call.created,
            model,
            asked,
            said: String::new(),
            ended: None,
            usage: UsageReport::default(),
            events: 0,
        }
    }

    /// `completed`, `incomplete`, or `in_progress` before either.
    fn status(&self) -> &'static str {
        match self.ended {
            None => "in_progress",
            Some(FinishReason::Stop) => "completed",
            Some(_) => "incomplete",
        }
    }

    fn part(&self) -> Value {
        json!({ "type": "output_text", "text": self.said, "annotations": [], "logprobs": [] })
    }

    fn item(&self) -> Value {
        let begun = self.ended.is_some() || !self.said.is_empty();
        json!({
            "type": "message",
            "id": self.message,
            "status": self.status(),
            "role": "assistant",
            "content": if begun { vec![self.part()] } else { Vec::new() },
        })
    }

    /// The response as it stands.
    fn object(&self) -> Value {
        let Asked {
            instructions,
            max_output_tokens,
            temperature,
            top_p,
            format,
            user,
            metadata,
        } = &self.asked;
        let usage = self.ended.map(|_| {
            json!({
                "input_tokens": self.usage.prompt_tokens,
                "input_tokens_details": {
                    "cached_tokens": self.usage.prompt_tokens_details.cached_tokens,
                },
                "output_tokens": self.usage.completion_tokens,
                "output_tokens_details": { "reasoning_tokens": 0 },
                "total_tokens": self.usage.total_tokens,
                "timings": self.usage.timings,
            })
        });
        let incomplete = self.ended.filter(|reason| *reason != FinishReason::Stop);
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status(),
            "error": null,
            "incomplete_details": incomplete.map(|_| json!({ "reason": "max_output_tokens" })),
            "instructions": instructions,
            "max_output_tokens": max_output_tokens,
            "metadata": metadata,
            "model": self.model,
            "output": self.ended.map_or(Vec::new(), |_| vec![self.item()]),
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null },
            "store": false,
            "temperature": temperature,
            "text": { "format": format },
            "tool_choice": "auto",
            "tools": [],
            "top_p": top_p,
            "truncation": "disabled",
            "usage": usage,
            "user": user,
        })
    }

    fn event(&mut self, name: &str, fields: Value) -> Bytes {
        let mut data = json!({ "type": name, "sequence_number": self.events });
        merge(&mut data, fields);
        self.events += 1;
        named_event(name, &data)
    }

    /// An event about the one part of the one message.
    fn part_event(&mut self, name: &str, fields: Value) -> Bytes {
        let mut about = json!({ "item_id": self.message, "output_index": 0, "content_index": 0 });
        merge(&mut about, fields);
        self.event(name, about)
    }

    fn begin(&mut self, out: &mut Vec<Bytes>) {
        for name in ["response.created", "response.in_progress"] {
            let fields = json!({ "response": self.object() });
            out.push(self.event(name, fields));
        }
        let fields = json!({ "output_index": 0, "item": self.item() });
        out.push(self.event("response.output_item.added", fields));
        let fields = json!({ "part": self.part() });
        out.push(self.part_event("response.content_part.added", fields));
    }
}

impl Form for Response {
    fn tell(&mut self, told: Event, out: &mut Vec<Bytes>) {
        if self.events == 0 {
            self.begin(out);
        }
        if let Event::Token { token, .. } = &told {
            let fields = json!({ "logprobs": [], "delta": token.text });
            out.push(self.part_event("response.output_text.delta", fields));
        }
        self.collect(told);
    }

    fn end(&mut self, out: &mut Vec<Bytes>) {
        let fields = json!({ "logprobs": [], "text": self.said });
        out.push(self.part_event("response.output_text.done", fields));
        let fields = json!({ "part": self.part() });
        out.push(self.part_event("response.content_part.done", fields));
        let fields = json!({ "output_index": 0, "item": self.item() });
        out.push(self.event("response.output_item.done", fields));
        let fields = json!({ "response": self.object() });
        let name = format!("response.{}", self.status());
        out.push(self.event(&name, fields));
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<Bytes>) {
        let fields = refusal.fields();
        out.push(self.event("error", fields));
    }

    fn collect(&mut self, told: Event) {
        match told {
            Event::Started { .. } => {}
            Event::Token { token, .. } => self.said.push_str(&token.text),
            Event::Done { done, .. } => {
                self.ended = Some(done.finish_reason);
                self.usage.add(&done);
            }
        }
    }

    fn whole(&mut self) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header(("Server-Timing", self.usage.server_timing()))
            .json(self.object())
    }
}

/// Adds an object's fields to another.
fn merge(to: &mut Value, fields: Value) {
    if let (Value::Object(to), Value::Object(fields)) = (to, fields) {
        to.extend(fields);
    }
}
