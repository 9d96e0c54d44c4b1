//! `POST /tokenize` and `POST /detokenize`: text as the model counts it, in vLLM's words.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::ErrorCode;

use super::messages::{self, Message};
use super::refusal::Refusal;
use super::{Api, request};
use crate::access::{Guests, Login, Visit};
use crate::doors::body::{self, Body};
use crate::doors::in_use::InUse;
use api::{Conversation, Failure, Turn};

/// A text, or a conversation.
#[derive(Deserialize, JsonSchema)]
pub struct TokenizeRequest<'a> {
    model: Option<String>,
    /// A text. Where there is one, `messages` are not looked at.
    prompt: Option<String>,
    /// A conversation, as /v1/chat/completions takes it: the ids of the prompt that asks for its next answer. A picture is three
    /// placeholders, and is not fetched.
    #[serde(borrow)]
    messages: Option<Vec<Message<'a>>>,
    /// Whether a text's ids begin as every conversation's do [default: true]. A conversation's always do.
    add_special_tokens: Option<bool>,
    /// Tells the text of each id too.
    return_token_strs: Option<bool>,
}

/// The ids of a text.
#[derive(Serialize, JsonSchema)]
pub struct Tokenized {
    count: usize,
    max_model_len: u32,
    tokens: Vec<u32>,
    /// The text of each; what is a part of a character has U+FFFD in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
}

/// Ids.
#[derive(Deserialize, JsonSchema)]
pub struct DetokenizeRequest {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// The text of ids.
#[derive(Serialize, JsonSchema)]
pub struct Detokenized {
    prompt: String,
}

/// The ids of a text or a conversation.
pub async fn tokenize(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    answer(request, payload, api, guests, ids).await
}

/// The text of ids.
pub async fn detokenize(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    answer(request, payload, api, guests, text).await
}

fn ids(body: &Body, api: &Api) -> Result<Tokenized, Refusal> {
    let asked: TokenizeRequest = request::read(&body.bytes)?;
    api.model(asked.model.as_deref())?;
    let shared = &api.exchanges.hub.shared;
    let limits = &shared.limits;
    let tokens = match (&asked.prompt, &asked.messages) {
        (Some(prompt), _) => {
            if prompt.len() as u64 > limits.message_bytes {
                let most = limits.message_bytes;
                let message =
                    format!("The text has more than the {most} bytes that are taken: shorten it.");
                let code = ErrorCode::TextTooLong.as_str();
                return Err(Refusal::bad_request(code, "prompt", message));
            }
            let begins = asked.add_special_tokens.unwrap_or(true);
            api.tokens.encode(prompt, begins)?
        }
        (None, Some(messages)) => {
            let reading = messages::read(messages, "messages", limits.message_bytes)?;
            let history: Vec<Turn> = reading.history.into_iter().map(Turn::from).collect();
            api.tokens.prompt(&Conversation {
                system: &reading.system,
                history: &history,
                question: &reading.question,
                picture: reading.pictures.last().map(|picture| picture.turn),
            })?
        }
        (None, None) => {
            let message = "There is nothing to count: give prompt, or messages.";
            let code = ErrorCode::BadMessage.as_str();
            return Err(Refusal::bad_request(code, "prompt", message));
        }
    };
    let wants_strings = asked.return_token_strs.unwrap_or(false);
    let token_strs = wants_strings.then(|| -> Result<_, Failure> {
        let bytes = api.tokens.bytes(&tokens)?;
        let strings = bytes.iter().map(|it| String::from_utf8_lossy(it).into());
        Ok(strings.collect())
    });
    Ok(Tokenized {
        count: tokens.len(),
        max_model_len: shared.status().model.max_positions,
        token_strs: token_strs.transpose()?,
        tokens,
    })
}

fn text(body: &Body, api: &Api) -> Result<Detokenized, Refusal> {
    let asked: DetokenizeRequest = request::read(&body.bytes)?;
    api.model(asked.model.as_deref())?;
    let most = api.exchanges.hub.shared.status().model.max_positions;
    if asked.tokens.len() > most as usize {
        let message = format!("There are more than the {most} ids that are taken: send fewer.");
        let code = ErrorCode::TextTooLong.as_str();
        return Err(Refusal::bad_request(code, "tokens", message));
    }
    let bytes = api.tokens.bytes(&asked.tokens)?.concat();
    Ok(Detokenized {
        prompt: String::from_utf8_lossy(&bytes).into(),
    })
}

/// Lets the client in, takes the body in as files are taken in, and answers beside what serves the network.
async fn answer<T: Serialize + Send + 'static>(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
    count: fn(&Body, &Api) -> Result<T, Refusal>,
) -> HttpResponse {
    let in_use = InUse::begin(&request);
    let told = async {
        let guests = guests.into_inner();
        let (guest, _) = Login::of(&request, &guests, in_use.place(), Visit::Request).admit()?;
        let shared = &api.exchanges.hub.shared;
        let body = body::read(&request, payload, shared, guest.client().number()).await?;
        let api = api.clone();
        body::apart(move || count(&body, &api)).await
    };
    match told.await {
        Ok(told) => HttpResponse::Ok().json(told),
        Err(refusal) => refusal.response(),
    }
}
