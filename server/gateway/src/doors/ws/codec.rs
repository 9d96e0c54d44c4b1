//! Text frames to messages: strict about what is understood, generous about what is not (unknown fields are ignored).

use crate::intake::{MAX_VALUES, has_many_values};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use wire::client::CLIENT_TYPES;
use wire::{ClientMessage, ErrorCode, Failure, MAX_ID_BYTES, MAX_INTEGER, parse_sha256};

/// Why a message was refused, and which request or upload it was for.
pub type Refusal = Box<wire::Error>;

fn refusal(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Box::new(Failure::new(code, message).into())
}

/// Reads one text frame.
///
/// # Errors
/// `bad_json` for what is no JSON object (too deep a one included), `unknown_type`, `bad_message` for a field missing
/// or of the wrong type or range or too many values, `bad_sampling` for a sampling value of the wrong type or sign,
/// `bad_format` for a format that there is none of.
pub fn decode(text: &str) -> Result<ClientMessage, Refusal> {
    // Before anything is kept of it.
    if has_many_values(text.as_bytes()) {
        return Err(too_many_values(text));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        refusal(
            ErrorCode::BadJson,
            format!("The message is no JSON ({error}): send one JSON object a text frame."),
        )
    })?;
    let Value::Object(mut object) = value else {
        return Err(refusal(
            ErrorCode::BadJson,
            "The message is JSON, but no object: send one JSON object a text frame.",
        ));
    };
    let kind = match object.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => {
            return Err(refusal(
                ErrorCode::BadMessage,
                format!(
                    "The message has no \"type\", which must be one of: {}.",
                    CLIENT_TYPES.join(", ")
                ),
            ));
        }
    };
    // Known before the rest is checked, so that the answer can say what it is for.
    let request = match object.get("request") {
        Some(Value::String(id)) if kind == "ask" && id_is_fine(id) => Some(id.clone()),
        _ => None,
    };
    let upload = match object.get("upload").and_then(Value::as_u64) {
        Some(number) if kind == "upload" => u32::try_from(number).ok(),
        _ => None,
    };
    message(&kind, object).map_err(|mut refusal| {
        (refusal.request, refusal.upload) = (request, upload);
        refusal
    })
}

/// What a message with too many values is answered. All but the names of what it is for is skipped unkept.
fn too_many_values(text: &str) -> Refusal {
    #[derive(Deserialize)]
    struct Head {
        r#type: Option<String>,
        request: Option<String>,
        upload: Option<u32>,
    }
    if !text.trim_start().starts_with('{') {
        return refusal(
            ErrorCode::BadJson,
            "The message is no JSON object: send one JSON object a text frame.",
        );
    }
    match serde_json::from_str::<Head>(text) {
        Err(error) if !error.is_data() => refusal(
            ErrorCode::BadJson,
            format!(
                "The message is no JSON ({}): send one JSON object a text frame.",
                brief(&error)
            ),
        ),
        head => {
            let head = head.ok();
            let is = |head: &Head, kind: &str| head.r#type.as_deref() == Some(kind);
            let ask = head.as_ref().filter(|head| is(head, "ask"));
            let upload = head.as_ref().filter(|head| is(head, "upload"));
            let mut refusal = refusal(
                ErrorCode::BadMessage,
                format!(
                    "The message has more than {MAX_VALUES} values: send a shorter history, or less of whatever it has so many of."
                ),
            );
            refusal.request = ask
                .and_then(|ask| ask.request.clone())
                .filter(|id| id_is_fine(id));
            refusal.upload = upload.and_then(|upload| upload.upload);
            refusal
        }
    }
}

fn message(kind: &str, mut object: Map<String, Value>) -> Result<ClientMessage, Refusal> {
    let message = match kind {
        "hello" => ClientMessage::Hello(fields(kind, object)?),
        "upload" => ClientMessage::Upload(fields(kind, object)?),
        "ask" => {
            let sampling = sampling(object.remove("sampling"))?;
            let format = format(object.remove("format"))?;
            let mut ask: wire::Ask = fields(kind, object)?;
            ask.sampling = sampling;
            ask.format = format;
            ClientMessage::Ask(Box::new(ask))
        }
        "cancel" => ClientMessage::Cancel(fields(kind, object)?),
        "forget" => ClientMessage::Forget(fields(kind, object)?),
        "ack" => ClientMessage::Ack(fields(kind, object)?),
        "ping" => ClientMessage::Ping(fields(kind, object)?),
        other => {
            let shown: String = other.chars().take(40).collect();
            return Err(refusal(
                ErrorCode::UnknownType,
                format!(
                    "{} has no message of type {shown:?}, only: {}.",
                    wire::PROTOCOL,
                    CLIENT_TYPES.join(", ")
                ),
            ));
        }
    };
    check(&message).map_err(|problem| {
        refusal(
            ErrorCode::BadMessage,
            format!("The {kind} was not understood: {problem}."),
        )
    })?;
    Ok(message)
}

fn fields<T: DeserializeOwned>(kind: &str, object: Map<String, Value>) -> Result<T, Refusal> {
    serde_json::from_value(Value::Object(object)).map_err(|error| {
        refusal(
            ErrorCode::BadMessage,
            format!("The {kind} was not understood: {}.", brief(&error)),
        )
    })
}

/// What serde says, which may quote all of what it was given.
fn brief(error: &serde_json::Error) -> String {
    const MOST: usize = 200;
    let said = error.to_string();
    match said.char_indices().nth(MOST) {
        None => said,
        Some((end, _)) => format!("{}…", &said[..end]),
    }
}

/// Apart from the other fields, so that a negative `top_k` is as much a `bad_sampling` as a negative temperature.
fn sampling(value: Option<Value>) -> Result<Option<wire::Sampling>, Refusal> {
    let refuse = |problem: String| {
        let message = format!("The sampling values can't be used: {problem}.");
        refusal(ErrorCode::BadSampling, message)
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => serde_json::from_value(Value::Object(object))
            .map(Some)
            .map_err(|error| refuse(brief(&error))),
        Some(_) => Err(refuse("they must be an object".into())),
    }
}

/// Apart from the other fields, so that a format that is not understood is a `bad_format` whatever is wrong with it.
fn format(value: Option<Value>) -> Result<Option<wire::AnswerFormat>, Refusal> {
    let format = value.filter(|value| !value.is_null());
    let format = format.map(serde_json::from_value).transpose();
    format.map_err(|error| {
        let message = format!("The format can't be used: {}.", brief(&error));
        refusal(ErrorCode::BadFormat, message)
    })
}

/// What the types alone do not say.
fn check(message: &ClientMessage) -> Result<(), String> {
    match message {
        ClientMessage::Hello(hello) => {
            if let Some(resume) = &hello.resume {
                id("resume.session", &resume.session)?;
                integer("resume.last_event", resume.last_event)?;
            }
        }
        ClientMessage::Upload(upload) => {
            integer("bytes", upload.bytes)?;
            if let Some(hash) = &upload.sha256
                && parse_sha256(hash).is_none()
            {
                return Err("sha256 must be 64 lower-case hex digits".into());
            }
        }
        ClientMessage::Ask(ask) => {
            id("request", &ask.request)?;
            for (name, value) in [("conversation", &ask.conversation), ("image", &ask.image)] {
                if let Some(value) = value {
                    id(name, value)?;
                }
            }
            if ask.upload.is_some() && ask.image.is_some() {
                return Err("give upload or image, not both".into());
            }
        }
        ClientMessage::Cancel(cancel) => {
            if cancel.request.is_some() == cancel.upload.is_some() {
                return Err("give exactly one of request and upload".into());
            }
            if let Some(request) = &cancel.request {
                id("request", request)?;
            }
        }
        ClientMessage::Forget(forget) => {
            if forget.conversation.is_some() == forget.image.is_some() {
                return Err("give exactly one of conversation and image".into());
            }
            for (name, value) in [
                ("conversation", &forget.conversation),
                ("image", &forget.image),
            ] {
                if let Some(value) = value {
                    id(name, value)?;
                }
            }
        }
        ClientMessage::Ack(ack) => integer("event", ack.event)?,
        ClientMessage::Ping(_) => {}
    }
    Ok(())
}

fn integer(name: &str, value: u64) -> Result<(), String> {
    if value > MAX_INTEGER {
        return Err(format!("{name} must be at most 2^53-1"));
    }
    Ok(())
}

fn id(name: &str, value: &str) -> Result<(), String> {
    if !id_is_fine(value) {
        return Err(format!("{name} must be 1 to {MAX_ID_BYTES} bytes long"));
    }
    Ok(())
}

fn id_is_fine(value: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ErrorCode {
        decode(text).unwrap_err().failure.code
    }

    #[test]
    fn what_is_no_json_object() {
        for text in [
            "",
            "{",
            "nonsense",
            "[]",
            "null",
            "\"ask\"",
            "{}{}",
            "{\"type\": NaN}",
        ] {
            assert_eq!(code(text), ErrorCode::BadJson, "{text}");
        }
        let deep = format!("{{\"type\":\"ping\",\"t\":{}", "[".repeat(100_000));
        assert_eq!(code(&deep), ErrorCode::BadJson);
        let closed = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(
            code(&format!("{{\"type\":\"ping\",\"t\":{closed}}}")),
            ErrorCode::BadJson
        );
    }

    #[test]
    fn what_is_no_message() {
        for text in [
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"upload","upload":1}"#,
            r#"{"type":"upload","upload":-1,"bytes":1}"#,
            r#"{"type":"upload","upload":4294967296,"bytes":1}"#,
            r#"{"type":"upload","upload":1,"bytes":-1}"#,
            r#"{"type":"upload","upload":1,"bytes":9007199254740992}"#,
            r#"{"type":"upload","upload":1,"bytes":1,"sha256":"AB"}"#,
            r#"{"type":"ask","text":"?"}"#,
            r#"{"type":"ask","request":"","text":"?"}"#,
            r#"{"type":"ask","request":"r","text":1}"#,
            r#"{"type":"ask","request":"r","text":"?","upload":1,"image":"i"}"#,
            r#"{"type":"ask","request":"r","text":"?","history":{}}"#,
            r#"{"type":"cancel"}"#,
            r#"{"type":"cancel","request":"r","upload":1}"#,
            r#"{"type":"forget"}"#,
            r#"{"type":"forget","image":"i","conversation":"c"}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","event":1.5}"#,
            r#"{"type":"hello","resume":{"session":"s"}}"#,
        ] {
            assert_eq!(code(text), ErrorCode::BadMessage, "{text}");
        }
        let long = "x".repeat(MAX_ID_BYTES + 1);
        assert_eq!(
            code(&format!(
                r#"{{"type":"ask","request":"{long}","text":"?"}}"#
            )),
            ErrorCode::BadMessage
        );
    }

    #[test]
    fn unknown_types_and_fields() {
        assert_eq!(code(r#"{"type":"dance"}"#), ErrorCode::UnknownType);
        assert_eq!(
            decode(r#"{"type":"ack","event":3,"new":{"x":[]}}"#),
            Ok(ClientMessage::Ack(wire::Ack { event: 3 }))
        );
    }

    #[test]
    fn sampling_out_of_range_is_named_with_its_request() {
        for sampling in [
            r#"{"top_k":-1}"#,
            r#"{"seed":1.5}"#,
            r#"{"temperature":"hot"}"#,
            "[]",
        ] {
            let refusal = decode(&format!(
                r#"{{"type":"ask","request":"r","text":"?","sampling":{sampling}}}"#
            ))
            .unwrap_err();
            assert_eq!(refusal.failure.code, ErrorCode::BadSampling, "{sampling}");
            assert_eq!(refusal.request.as_deref(), Some("r"));
        }
        assert_eq!(
            code(r#"{"type":"ask","request":"r","text":"?","sampling":{"temperature":NaN}}"#),
            ErrorCode::BadJson
        );
    }

    #[test]
    fn a_format_that_is_not_understood_is_named_with_its_request() {
        for format in [
            r#"{"type":"dance"}"#,
            r#"{"type":"regex"}"#,
            "[]",
            r#""json""#,
        ] {
            let ask = format!(r#"{{"type":"ask","request":"r","text":"?","format":{format}}}"#);
            let refusal = decode(&ask).unwrap_err();
            assert_eq!(refusal.failure.code, ErrorCode::BadFormat, "{format}");
            assert_eq!(refusal.request.as_deref(), Some("r"));
        }
        let ask = r#"{"type":"ask","request":"r","text":"?","format":null}"#;
        decode(ask).unwrap();
    }

    #[test]
    fn many_values_are_refused_before_they_take_memory() {
        let turns = |count: usize| {
            let turn = r#"{"question":"a\\\",,","answer":""}"#;
            let turns = vec![turn; count].join(",");
            format!(r#"{{"type":"ask","request":"r","text":"?","history":[{turns}]}}"#)
        };
        let ClientMessage::Ask(ask) = decode(&turns(6000)).unwrap() else {
            panic!("it is a question");
        };
        assert_eq!(ask.history.unwrap()[5999].question, "a\\\",,");
        let refusal = decode(&turns(7000)).unwrap_err();
        assert_eq!(refusal.failure.code, ErrorCode::BadMessage);
        assert_eq!(refusal.request.as_deref(), Some("r"));
        let many = |open: &str, close: &str| format!("{open}{}{close}", "{},".repeat(40_000));
        assert_eq!(code(&many("", "")), ErrorCode::BadJson);
        assert_eq!(code(&many("[", "0]")), ErrorCode::BadJson);
        let ping = many(r#"{"type":"ping","t":["#, "0]}");
        assert_eq!(code(&ping), ErrorCode::BadMessage);
        assert_eq!(code(&ping[..ping.len() - 2]), ErrorCode::BadJson);
    }

    #[test]
    fn refusals_name_their_upload() {
        let refusal = decode(r#"{"type":"upload","upload":7,"bytes":"many"}"#).unwrap_err();
        assert_eq!(refusal.upload, Some(7));
        let refusal = decode(r#"{"type":"ask","request":"r","upload":7}"#).unwrap_err();
        assert_eq!(
            (refusal.request.as_deref(), refusal.upload),
            (Some("r"), None)
        );
    }
}
