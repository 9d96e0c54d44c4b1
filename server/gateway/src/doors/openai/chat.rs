//! `POST /v1/chat/completions`.

use std::sync::Arc;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer::{
    AnswerMessage, Choice, Chunk, Completion, Delta, Head, Logprobs, UsageReport, Words,
    finish_reason,
};
use super::call::{Call, Form, Prepared, event, named_event};
use super::refusal::Refusal;
use super::request::ChatRequest;
use super::{Api, formats, messages, pictures, request};
use crate::access::Guests;
use crate::doors::body::Body;
use crate::exchange::{Dialogue, Event, Settings};
use wire::TokenLogprob;

/// Answers a conversation.
pub async fn complete(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    let call = Call::begin(&request, api.into_inner(), guests.into_inner());
    match call
        .answer(&request, payload, prepare, Completions::new)
        .await
    {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

/// What a request asks for beside its answer.
pub struct Wanted {
    include_usage: bool,
    logprobs: bool,
}

fn prepare(body: &Arc<Body>, api: &Api) -> Result<Prepared<Wanted>, Refusal> {
    let request: ChatRequest = request::read(&body.bytes)?;
    let model = api.model(request.model.as_deref())?;
    request.check()?;
    let shared = &api.exchanges.hub.shared;
    let limits = &shared.limits;
    let settings = Settings {
        choices: request.choices(limits)?,
        sampling: request.sampling(limits),
        format: formats::find(&request.rest)?,
        logprobs: request.logprobs()?,
        traceparent: None,
    };
    let mut reading = messages::read(&request.messages, "messages", limits.message_bytes)?;
    let (picture, dropped) = pictures::find(&mut reading, body, api, request.user())?;
    let options = request.stream_options.unwrap_or_default();
    Ok(Prepared {
        model,
        user: request.user().map(str::to_owned),
        stream: request.stream.unwrap_or(false),
        wanted: Wanted {
            include_usage: options.include_usage.unwrap_or(false),
            logprobs: settings.logprobs.is_some(),
        },
        dropped,
        settings,
        dialogue: Dialogue {
            system: reading.system,
            history: reading.history,
            question: reading.question,
            picture,
        },
    })
}

/// An answer in the making.
pub struct Completions {
    head: Owned,
    wanted: Wanted,
    choices: Vec<Text>,
    usage: UsageReport,
}

/// [`Head`], for as long as it takes.
struct Owned {
    id: String,
    created: u64,
    model: String,
}

/// One of the answers, as far as it has come.
#[derive(Default)]
struct Text {
    said: String,
    tokens: Vec<TokenLogprob>,
    begun: bool,
    finish_reason: &'static str,
}

impl Completions {
    fn new(call: &Call, model: String, wanted: Wanted, choices: usize) -> Self {
        Completions {
            head: Owned {
                id: format!("chatcmpl-{}", call.id),
                created: call.created,
                model,
            },
            wanted,
            choices: std::iter::repeat_with(Text::default)
                .take(choices)
                .collect(),
            usage: UsageReport::default(),
        }
    }

    fn head(&self, object: &'static str) -> Head<'_> {
        Head {
            id: &self.head.id,
            object,
            created: self.head.created,
            model: &self.head.model,
        }
    }

    /// How probable these tokens were, where that was asked for.
    fn logprobs(&self, tokens: &[TokenLogprob]) -> Option<Logprobs> {
        self.wanted.logprobs.then(|| Logprobs::of(tokens))
    }

    fn chunk(&self, delta: Delta<'_>) -> Bytes {
        event(&Chunk {
            head: self.head("chat.completion.chunk"),
            choices: vec![delta],
            usage: self.wanted.include_usage.then_some(None),
        })
    }
}

impl Form for Completions {
    fn tell(&mut self, told: Event, out: &mut Vec<Bytes>) {
        let index = match &told {
            Event::Started { choice }
            | Event::Token { choice, .. }
            | Event::Done { choice, .. } => *choice,
        };
        let Some(text) = self.choices.get_mut(index) else {
            return;
        };
        if !std::mem::replace(&mut text.begun, true) {
            out.push(self.chunk(Delta {
                delta: Words {
                    role: Some("assistant"),
                    content: Some(""),
                },
                ..Delta::of(index)
            }));
        }
        match told {
            Event::Started { .. } => {}
            Event::Token { token, .. } => {
                out.push(self.chunk(Delta {
                    delta: Words {
                        role: None,
                        content: Some(&token.text),
                    },
                    logprobs: self.logprobs(&token.tokens),
                    ..Delta::of(index)
                }));
            }
            Event::Done { done, .. } => {
                self.usage.add(&done);
                out.push(self.chunk(Delta {
                    finish_reason: Some(finish_reason(done.finish_reason)),
                    ..Delta::of(index)
                }));
            }
        }
    }

    fn end(&mut self, out: &mut Vec<Bytes>) {
        if self.wanted.include_usage {
            out.push(event(&Chunk {
                head: self.head("chat.completion.chunk"),
                choices: Vec::new(),
                usage: Some(Some(self.usage)),
            }));
        }
        out.push(Bytes::from_static(b"data: [DONE]\n\n"));
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<Bytes>) {
        out.push(named_event("error", &refusal.body()));
    }

    fn collect(&mut self, told: Event) {
        match told {
            Event::Started { .. } => {}
            Event::Token { choice, token } => {
                self.choices[choice].said.push_str(&token.text);
                self.choices[choice].tokens.extend(token.tokens);
            }
            Event::Done { choice, done } => {
                self.choices[choice].finish_reason = finish_reason(done.finish_reason);
                self.usage.add(&done);
            }
        }
    }

    fn whole(&mut self) -> HttpResponse {
        let choices = std::mem::take(&mut self.choices);
        let each = choices.into_iter().enumerate();
        let choices = each.map(|(index, text)| Choice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: text.said,
                refusal: None,
            },
            logprobs: self.logprobs(&text.tokens),
            finish_reason: text.finish_reason,
        });
        let completion = Completion {
            choices: choices.collect(),
            head: self.head("chat.completion"),
            usage: self.usage,
        };
        HttpResponse::Ok()
            .insert_header(("Server-Timing", self.usage.server_timing()))
            .json(completion)
    }
}
