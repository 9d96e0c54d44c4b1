//! The messages of a request, and the conversation that they are.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use wire::{ErrorCode, Turn};

use super::refusal::Refusal;

/// A message as clients send it. What belongs to it and changes no answer (`name`, say) is passed over.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Message<'a> {
    #[serde(borrow)]
    pub role: Cow<'a, str>,
    #[serde(borrow, default)]
    pub content: Content<'a>,
    #[serde(default)]
    tool_calls: Option<serde_json::Value>,
}

impl<'a> Message<'a> {
    /// What the user says.
    pub fn user(content: Content<'a>) -> Self {
        Message {
            role: "user".into(),
            content,
            tool_calls: None,
        }
    }
}

/// What a message says.
#[derive(Debug, Default, JsonSchema)]
#[schemars(untagged)]
pub enum Content<'a> {
    /// Nothing, as of a message that only calls tools.
    #[default]
    None,
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

/// A part of what a message says. Which fields count is told by `type`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Part<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    image_url: Option<ImageUrl<'a>>,
}

/// Where a picture is: an object with a `url`, or the URL alone. `detail` is passed over, since the model sees every picture at
/// one size.
#[derive(Debug)]
pub struct ImageUrl<'a>(Cow<'a, str>);

impl JsonSchema for ImageUrl<'_> {
    fn schema_name() -> Cow<'static, str> {
        "ImageUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let url = json_schema!({
            "type": "string",
            "description": "data:image/…;base64,… or, where the server fetches pictures, http(s)://…",
        });
        json_schema!({
            "anyOf": [
                { "type": "object", "properties": { "url": url }, "required": ["url"] },
                url,
            ]
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ImageUrl<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<'a> {
            Object {
                #[serde(borrow)]
                url: Cow<'a, str>,
            },
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        Ok(ImageUrl(match Either::deserialize(from)? {
            Either::Object { url } | Either::Text(url) => url,
        }))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, a list of parts, or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Content::None)
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Text(text.into()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(text.to_owned().into()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Content::Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        from.deserialize_any(Either)
    }
}

/// A conversation whose pictures are still where the request has them.
#[derive(Debug, Default, PartialEq)]
pub struct Reading<'a> {
    pub system: String,
    pub history: Vec<Turn>,
    pub question: String,
    pub pictures: Vec<Mention<'a>>,
}

/// A picture as a message names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention<'a> {
    pub url: Cow<'a, str>,
    /// The turn whose message has it, from 0.
    pub turn: usize,
    /// The path to it in the request.
    pub param: String,
}

/// Reads messages as a conversation: system turns first, then what was asked and answered in turn. A question that was not
/// answered stands alone, as the model has it, and so does an answer that was not asked for. `most` is how many bytes of text
/// they may have in all.
///
/// # Errors
/// What can't be a part of a conversation with this model, by its name; `text_too_long`.
pub fn read<'a>(messages: &[Message<'a>], field: &str, most: u64) -> Result<Reading<'a>, Refusal> {
    let mut reading = Reading::default();
    // The question that has no answer yet.
    let mut open: Option<String> = None;
    let mut bytes = 0;
    for (index, message) in messages.iter().enumerate() {
        let place = format!("{field}[{index}]");
        let is_call = |calls: &serde_json::Value| calls.as_array().is_some_and(|it| !it.is_empty());
        if message.tool_calls.as_ref().is_some_and(is_call) {
            return Err(without_tools(format!("{place}.tool_calls")));
        }
        let turn = reading.history.len() + usize::from(open.is_some());
        let (text, pictures) = content(&message.content, turn, &place)?;
        bytes += text.len() as u64;
        if bytes > most {
            let message = format!("The messages have more than {most} bytes of text: send fewer.");
            return Err(Refusal::bad_request(
                ErrorCode::TextTooLong.as_str(),
                field,
                message,
            ));
        }
        if !pictures.is_empty() && message.role != "user" {
            return Err(Refusal::bad_request(
                "unsupported_value",
                format!("{place}.content"),
                format!(
                    "A picture can only be in a message of the user, not of {:?}.",
                    message.role
                ),
            ));
        }
        match &*message.role {
            "system" | "developer" => {
                if !reading.system.is_empty() && !text.is_empty() {
                    reading.system.push_str("\n\n");
                }
                reading.system.push_str(&text);
            }
            "user" => {
                if let Some(question) = open.replace(text) {
                    reading.history.push(Turn {
                        question,
                        answer: String::new(),
                    });
                }
                reading.pictures.extend(pictures);
            }
            "assistant" => reading.history.push(Turn {
                question: open.take().unwrap_or_default(),
                answer: text,
            }),
            "tool" | "function" => return Err(without_tools(format!("{place}.role"))),
            other => {
                return Err(Refusal::bad_request(
                    "unsupported_value",
                    format!("{place}.role"),
                    format!("There is no role {other:?}: use system, user or assistant."),
                ));
            }
        }
    }
    reading.question = open.ok_or_else(|| {
        Refusal::bad_request(
            "bad_message",
            field,
            "The last message has to be of the user: it is what is answered.",
        )
    })?;
    Ok(reading)
}

/// A message's text, and the pictures in it.
fn content<'a>(
    content: &Content<'a>,
    turn: usize,
    place: &str,
) -> Result<(String, Vec<Mention<'a>>), Refusal> {
    let parts = match content {
        Content::None => return Ok(Default::default()),
        Content::Text(text) => return Ok((text.to_string(), Vec::new())),
        Content::Parts(parts) => parts,
    };
    let (mut texts, mut pictures) = (Vec::new(), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        let param = format!("{place}.content[{index}]");
        match (&*part.r#type, &part.text, &part.image_url) {
            ("text" | "input_text" | "output_text", Some(text), _) => texts.push(&**text),
            ("image_url" | "input_image", _, Some(ImageUrl(url))) => pictures.push(Mention {
                url: url.clone(),
                turn,
                param,
            }),
            ("text" | "input_text" | "output_text", None, _) => {
                let message = "The part has no \"text\".";
                return Err(Refusal::bad_request("bad_message", param, message));
            }
            ("image_url" | "input_image", _, None) => {
                let message = "The part has no \"image_url\".";
                return Err(Refusal::bad_request("bad_message", param, message));
            }
            (other, ..) => {
                return Err(Refusal::bad_request(
                    "unsupported_value",
                    format!("{param}.type"),
                    format!("This model reads text and pictures, not {other:?}."),
                ));
            }
        }
    }
    Ok((texts.join("\n"), pictures))
}

pub fn without_tools(param: impl Into<String>) -> Refusal {
    let message = "This model calls no tools: leave them out.";
    Refusal::bad_request("unsupported_parameter", param, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reading(messages: serde_json::Value) -> Result<Reading<'static>, String> {
        let text = messages.to_string().leak();
        let messages: Vec<Message> = serde_json::from_str(text).map_err(|it| it.to_string())?;
        read(&messages, "messages", 64).map_err(|refusal| {
            let body = serde_json::to_value(refusal.body()).unwrap();
            body["error"]["param"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
    }

    fn turn(question: &str, answer: &str) -> Turn {
        Turn {
            question: question.into(),
            answer: answer.into(),
        }
    }

    #[test]
    fn a_conversation_is_read() {
        let found = reading(json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "In French."}]},
            {"role": "user", "name": "me", "content": [
                {"type": "image_url", "image_url": {"url": "data:,a", "detail": "low"}},
                {"type": "text", "text": "What?"},
                {"type": "text", "text": "Where?"},
            ]},
            {"role": "assistant", "content": "A cat.", "tool_calls": [], "refusal": null},
            {"role": "user", "content": "Sure?"},
        ]));
        assert_eq!(
            found.unwrap(),
            Reading {
                system: "Be brief.\n\nIn French.".into(),
                history: vec![turn("What?\nWhere?", "A cat.")],
                question: "Sure?".into(),
                pictures: vec![Mention {
                    url: "data:,a".into(),
                    turn: 0,
                    param: "messages[2].content[0]".into(),
                }],
            }
        );
    }

    #[test]
    fn what_was_not_answered_stands_alone() {
        let found = reading(json!([
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "One?"},
            {"role": "user", "content": [{"type": "image_url", "image_url": "data:,b"}, {"type": "text", "text": "Two?"}]},
            {"role": "assistant", "content": null},
            {"role": "user", "content": "Three?"},
        ]))
        .unwrap();
        assert_eq!(
            found.history,
            [turn("", "Hello!"), turn("One?", ""), turn("Two?", "")]
        );
        assert_eq!((&*found.question, found.pictures[0].turn), ("Three?", 2));
    }

    #[test]
    fn what_cannot_be_part_of_it_is_named() {
        for (messages, named) in [
            (json!([]), "messages"),
            (
                json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]),
                "messages",
            ),
            (
                json!([{"role": "tool", "content": "3"}]),
                "messages[0].role",
            ),
            (
                json!([{"role": "narrator", "content": "3"}]),
                "messages[0].role",
            ),
            (
                json!([{"role": "user", "content": "4".repeat(65)}]),
                "messages",
            ),
            (
                json!([{"role": "assistant", "content": null, "tool_calls": [{}]}]),
                "messages[0].tool_calls",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
                "messages[0].content[0].type",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "messages[0].content[0]",
            ),
            (
                json!([{"role": "assistant", "content": [{"type": "image_url", "image_url": "data:,"}]}]),
                "messages[0].content",
            ),
        ] {
            assert_eq!(reading(messages.clone()), Err(named.into()), "{messages}");
        }
    }
}
