//! `GET /openapi.json`: the HTTP API as OpenAPI 3.1 has it, made from the types that read and write it.

use actix_web::HttpResponse;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use super::answer::{Chunk, Completion};
use super::models::{List, Model};
use super::refusal::ErrorBody;
use super::request::ChatRequest;
use super::responses::ResponsesRequest;
use super::tokenization::{DetokenizeRequest, Detokenized, TokenizeRequest, Tokenized};

/// The document.
pub async fn show() -> HttpResponse {
    HttpResponse::Ok().json(document())
}

fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    // What is read may lack what is written always.
    let mut read = SchemaGenerator::new(settings().for_deserialize());
    let mut written = SchemaGenerator::new(settings().for_serialize());
    let chat = read.subschema_for::<ChatRequest>();
    let responses = read.subschema_for::<ResponsesRequest>();
    let tokenize = read.subschema_for::<TokenizeRequest>();
    let detokenize = read.subschema_for::<DetokenizeRequest>();
    let [
        completion,
        chunk,
        list,
        model,
        tokenized,
        detokenized,
        error,
    ] = [
        written.subschema_for::<Completion>(),
        written.subschema_for::<Chunk>(),
        written.subschema_for::<List>(),
        written.subschema_for::<Model>(),
        written.subschema_for::<Tokenized>(),
        written.subschema_for::<Detokenized>(),
        written.subschema_for::<ErrorBody>(),
    ];
    let mut schemas = read.take_definitions(true);
    schemas.extend(written.take_definitions(true));
    let refused = json!({
        "description": "Why not, in a sentence, with a code that is stable.",
        "content": { "application/json": { "schema": error } },
    });
    let json = |description: &str, schema: Value| {
        json!({
            "responses": {
                "200": {
                    "description": description,
                    "content": { "application/json": { "schema": schema } },
                },
                "default": refused,
            }
        })
    };
    let post = |summary: &str, request: Value, whole: Value, events: Value| {
        json!({
            "summary": summary,
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": request } },
            },
            "responses": {
                "200": {
                    "description": "The answer: whole, or with `stream` as server-sent events.",
                    "content": {
                        "application/json": { "schema": whole },
                        "text/event-stream": { "schema": events },
                    },
                },
                "default": refused,
            },
        })
    };
    let counted = |summary: &str, request: Value, answer: Value| {
        let mut path = json(summary, answer);
        path["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": request } },
        });
        json!({ "post": path })
    };
    let named = json!([{ "name": "model", "in": "path", "required": true, "schema": { "type": "string" } }]);
    let mut one_model = json("The model.", json!(model));
    one_model["parameters"] = named;
    let object = || json!({ "type": "object" });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Glimpse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Questions about a picture, as OpenAI's API has them.",
        },
        // A key only where the server asks for one.
        "security": [{}, { "key": [] }],
        "paths": {
            "/v1/chat/completions": {
                "post": post("Answers a conversation.", json!(chat), json!(completion), json!(chunk)),
            },
            "/v1/responses": {
                "post": post("Answers a conversation.", json!(responses), object(), object()),
            },
            "/v1/models": { "get": json("The names that the model is served under.", json!(list)) },
            "/v1/models/{model}": { "get": one_model },
            "/tokenize": counted("The ids of a text or a conversation.", json!(tokenize), json!(tokenized)),
            "/detokenize": counted("The text of ids.", json!(detokenize), json!(detokenized)),
            "/health": { "get": json("The process is alive.", object()) },
            "/version": { "get": json("Which release this is.", object()) },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}
