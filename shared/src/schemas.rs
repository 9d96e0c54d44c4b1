//! The JSON Schemas in docs/schemas: made from these types, and held against them here, so that neither drifts.
//!
//! `GLIMPSE_WRITE_SCHEMAS=1 cargo test --release -p glimpse-wire schemas` writes them anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::client::CLIENT_TYPES;
use crate::{ClientMessage, MAX_INTEGER, ServerEnvelope, ServerMessage};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas")
}

/// What a client says in a session; every message once at least.
fn client_examples() -> Vec<Value> {
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    vec![
        json!({"type": "hello", "token": "0123456789abcdef0123456789abcdef"}),
        json!({"type": "hello", "resume": {"session": "9f86d081884c7d659a2feaa0c55ad015", "last_event": 41}}),
        json!({"type": "upload", "upload": 1, "bytes": 1234567, "sha256": hash, "name": "harbour.jpg"}),
        json!({"type": "upload", "upload": 2, "bytes": 183204, "system": "Answer in one word."}),
        json!({"type": "ask", "request": "q1", "text": "How many boats are there?", "upload": 1}),
        json!({
            "type": "ask", "request": "q2", "text": "And what colour are they?", "conversation": "conv_5f3a_1",
            "sampling": {"temperature": 0, "max_new_tokens": 200, "stop": ["\n\n"]}
        }),
        json!({
            "type": "ask", "request": "q3", "text": "Which is the largest?", "image": "img_5f3a_1",
            "history": [{"question": "How many boats are there?", "answer": "Three."}]
        }),
        json!({
            "type": "ask", "request": "q4", "text": "What does the sign say?", "upload": 1, "picture_turn": 1,
            "system": "Answer in JSON.", "history": [{"question": "Hello!", "answer": "Hello."}], "logprobs": 2,
            "sampling": {"presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {"198": -100}},
            "format": {
                "type": "json_schema",
                "schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
            }
        }),
        json!({"type": "cancel", "request": "q2"}),
        json!({"type": "cancel", "upload": 1}),
        json!({"type": "forget", "image": "img_5f3a_1"}),
        json!({"type": "ack", "event": 41}),
        json!({"type": "ping", "t": 1234.5}),
    ]
}

/// What the server says in a session; every message once at least.
fn server_examples() -> Vec<Value> {
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    vec![
        json!({
            "type": "welcome", "at": 0.0, "session": "9f86d081884c7d659a2feaa0c55ad015", "protocol": "glimpse.v1",
            "state": "ready",
            "model": {
                "name": "glm-4v-9b", "demo": false, "image_size": 1120, "max_positions": 8192, "device": "cuda:0",
                "dtype": "bf16", "quantization": "none"
            },
            "limits": {
                "message_bytes": 2097152, "text_chars": 16384, "upload_bytes": 67108864, "image_pixels": 100000000,
                "open_uploads": 4, "images": 16, "session_image_bytes": 268435456, "open_requests": 8,
                "max_new_tokens": 2048, "upload_window": 1048576, "outbox_bytes": 262144, "replay_bytes": 4194304,
                "resume_seconds": 300.0, "idle_seconds": 60.0, "upload_idle_seconds": 30.0, "request_seconds": 600.0,
                "stall_seconds": 30.0
            },
            "formats": ["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "avif"],
            "sampling": {
                "temperature": 0.8, "top_p": 0.8, "top_k": 50, "repetition_penalty": 1.0, "max_new_tokens": 1024
            }
        }),
        json!({"type": "status", "at": 12.5, "state": "loading", "progress": 0.4}),
        json!({
            "type": "status", "at": 12.5, "state": "warming",
            "model": {
                "name": "glm-4v-9b", "demo": false, "image_size": 1120, "max_positions": 8192, "device": "cuda:0",
                "dtype": "bf16", "quantization": "none"
            },
            "sampling": {
                "temperature": 0.8, "top_p": 0.8, "top_k": 50, "repetition_penalty": 1.0, "max_new_tokens": 1024
            }
        }),
        json!({"type": "status", "at": 12.5, "state": "loading", "progress": 0.1,
            "download": {"bytes": 9_663_676_416_u64, "total": 27_812_643_840_u64, "bytes_per_second": 31_457_280.0}}),
        json!({"type": "status", "at": 12.5, "state": "ready", "moving": ["r1"]}),
        json!({"type": "upload_accepted", "at": 20.1, "upload": 1, "received": 0}),
        json!({"type": "upload_progress", "at": 31.0, "upload": 1, "received": 262144}),
        json!({
            "type": "upload_received", "at": 60.2, "event": 1, "upload": 1, "image": "img_5f3a_1", "bytes": 1234567,
            "sha256": hash
        }),
        json!({
            "type": "image_ready", "at": 85.0, "event": 2, "image": "img_5f3a_1", "width": 4032, "height": 3024,
            "format": "jpeg", "timings": {"upload_ms": 40.1, "decode_ms": 18.2, "preprocess_ms": 6.0}
        }),
        json!({
            "type": "image_ready", "at": 85.0, "event": 2, "image": "img_5f3a_2", "width": 320, "height": 240,
            "format": "gif", "frame": 3, "timings": {"upload_ms": 4.1, "decode_ms": 1.2, "preprocess_ms": 2.0}
        }),
        json!({
            "type": "image_encoded", "at": 160.0, "event": 3, "image": "img_5f3a_1", "tokens": 1602,
            "timings": {"queue_ms": 0.2, "vision_ms": 50.0, "prefill_ms": 24.0}
        }),
        json!({"type": "queued", "at": 900.0, "event": 4, "request": "q1", "conversation": "conv_5f3a_1", "position": 0}),
        json!({"type": "queued", "at": 900.0, "event": 4, "request": "q1", "conversation": "conv_5f3a_1", "position": null}),
        json!({"type": "started", "at": 900.3, "event": 5, "request": "q1"}),
        json!({"type": "token", "at": 914.0, "event": 6, "request": "q1", "index": 0, "text": "Three"}),
        json!({
            "type": "token", "at": 914.0, "event": 6, "request": "q1", "index": 0, "text": "猫", "tokens": [
                {"id": 163, "bytes": [231, 140], "logprob": -0.25, "top": [{"id": 163, "bytes": [231, 140], "logprob": -0.25}]},
                {"id": 104, "bytes": [171], "logprob": -0.01, "top": [{"id": 104, "bytes": [171], "logprob": -0.01}]}
            ]
        }),
        json!({
            "type": "done", "at": 940.0, "event": 9, "request": "q1", "conversation": "conv_5f3a_1",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 1617, "image_tokens": 1602, "cached_tokens": 1606, "completion_tokens": 4},
            "timings": {
                "image_wait_ms": 0.0, "queue_ms": 0.2, "prefill_ms": 13.5, "first_token_ms": 13.9, "decode_ms": 26.0,
                "total_ms": 39.7, "tokens_per_second": 115.4
            }
        }),
        json!({"type": "forgotten", "at": 2000.0, "event": 10, "image": "img_5f3a_1"}),
        json!({
            "type": "error", "at": 2100.0, "event": 11, "code": "busy", "request": "q4",
            "message": "64 questions are waiting already: ask again in 12 s.", "retry_after_ms": 12000.0
        }),
        json!({"type": "pong", "at": 2200.0, "t": 1234.5}),
    ]
}

/// The schema of one direction: a definition for each message, with what every message of the direction carries.
fn document<T: JsonSchema>(
    title: &str,
    examples: &[Value],
    carried: impl Fn(&str, &mut Map<String, Value>, &mut Vec<Value>),
) -> Value {
    let root = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    let mut definitions = root["$defs"].as_object().unwrap().clone();
    let mut messages = Vec::new();
    for variant in root["oneOf"].as_array().unwrap() {
        let kind = variant["properties"]["type"]["const"].as_str().unwrap();
        let place = variant["$ref"].as_str().unwrap();
        let name = place.strip_prefix("#/$defs/").unwrap();
        let message = definitions[name].as_object_mut().unwrap();
        let mut properties = Map::from_iter([("type".to_owned(), json!({ "const": kind }))]);
        let mut required = vec![json!("type")];
        carried(kind, &mut properties, &mut required);
        if let Some(Value::Object(own)) = message.remove("properties") {
            properties.extend(own);
        }
        if let Some(Value::Array(own)) = message.remove("required") {
            required.extend(own);
        }
        let of_kind = examples.iter().filter(|e| e["type"] == kind);
        message.insert("properties".into(), properties.into());
        message.insert("required".into(), required.into());
        message.insert("examples".into(), of_kind.cloned().collect());
        messages.push(json!({ "$ref": place }));
    }
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "oneOf": messages,
        "$defs": definitions,
    });
    bound(&mut document);
    document
}

/// Rust's names for numbers mean nothing elsewhere, but their bounds do: on the wire integers end at 2^53 - 1.
fn bound(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let most = match object.get("format").and_then(Value::as_str) {
                Some("uint64") => Some(MAX_INTEGER),
                Some("uint32") => Some(u32::MAX.into()),
                _ => None,
            };
            if let Some(most) = most {
                object.entry("maximum").or_insert(most.into());
            }
            object.retain(|key, value| key != "format" || !value.is_string());
            let inner = object.iter_mut().filter(|(key, _)| *key != "examples");
            inner.for_each(|(_, value)| bound(value));
        }
        Value::Array(array) => array.iter_mut().for_each(bound),
        _ => {}
    }
}

fn client() -> Value {
    document::<ClientMessage>(
        "glimpse.v1: what a client sends",
        &client_examples(),
        |_, _, _| {},
    )
}

fn server() -> Value {
    let examples = server_examples();
    document::<ServerMessage>(
        "glimpse.v1: what the server sends",
        &examples,
        |kind, properties, required| {
            let example = examples.iter().find(|example| example["type"] == kind);
            let example = ServerEnvelope::read(&example.unwrap().to_string()).unwrap();
            let at = "Milliseconds since the session's start, on the server's monotonic clock.";
            properties.insert("at".into(), json!({"type": "number", "description": at}));
            required.push(json!("at"));
            if example.message.is_event() {
                let event = "1, 2, 3 … without gaps: what a resume replays.";
                let schema = json!({
                    "type": "integer", "minimum": 1, "maximum": MAX_INTEGER, "description": event
                });
                properties.insert("event".into(), schema);
                required.push(json!("event"));
            }
        },
    )
}

fn kinds(examples: &[Value]) -> BTreeSet<&str> {
    examples
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .collect()
}

fn documented(schema: &Value) -> BTreeSet<&str> {
    schema["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| {
            let name = place["$ref"].as_str().unwrap();
            let name = name.strip_prefix("#/$defs/").unwrap();
            schema["$defs"][name]["properties"]["type"]["const"]
                .as_str()
                .unwrap()
        })
        .collect()
}

#[test]
fn what_is_written_is_what_the_types_say() {
    for (name, schema) in [("client.json", client()), ("server.json", server())] {
        let path = folder().join(name);
        if std::env::var_os("GLIMPSE_WRITE_SCHEMAS").is_some() {
            std::fs::create_dir_all(folder()).unwrap();
            let mut sorted = schema.clone();
            sorted.sort_all_objects();
            let text = serde_json::to_string_pretty(&sorted).unwrap();
            std::fs::write(&path, text + "\n").unwrap();
        }
        let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(
            written == schema,
            "{} is not what the types say: write it anew with GLIMPSE_WRITE_SCHEMAS=1 cargo test --release -p \
             glimpse-wire schemas",
            path.display()
        );
    }
}

#[test]
fn every_message_has_an_example_that_the_types_understand() {
    let (client, server) = (client(), server());
    assert_eq!(documented(&client), BTreeSet::from(CLIENT_TYPES));
    assert_eq!(documented(&client), kinds(&client_examples()));
    assert_eq!(documented(&server), kinds(&server_examples()));
    for example in client_examples() {
        let message: ClientMessage = serde_json::from_value(example.clone()).unwrap();
        assert!(same(&serde_json::to_value(message).unwrap(), &example));
    }
    for example in server_examples() {
        let message = ServerEnvelope::read(&example.to_string()).unwrap();
        assert_eq!(message.event.is_some(), message.message.is_event());
        assert!(same(&serde_json::to_value(message).unwrap(), &example));
    }
}

/// Equal, where 0 is 0.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
