//! The format that an answer is to have, in the words of the API and in vLLM's.

use api::AnswerFormat;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::request::is_off;

/// Fields that vLLM had before `structured_outputs`, with what each is called there.
const GUIDED: [(&str, &str); 4] = [
    ("guided_json", "json"),
    ("guided_regex", "regex"),
    ("guided_choice", "choice"),
    ("guided_grammar", "grammar"),
];

/// The format that a request's fields ask for. One that isn't understood is refused, never passed over.
///
/// # Errors
/// `bad_format`, by the field.
pub fn find(fields: &Map<String, Value>) -> Result<Option<AnswerFormat>, Refusal> {
    let mut found = Vec::new();
    if let Some(format) = given(fields, "response_format") {
        found.extend(response_format(format, "response_format")?);
    }
    if let Some(constraints) = given(fields, "structured_outputs") {
        let Value::Object(constraints) = constraints else {
            return Err(bad("structured_outputs", "It has to be an object."));
        };
        for (name, value) in constraints.iter().filter(|(_, value)| !is_off(value)) {
            let field = format!("structured_outputs.{name}");
            found.push(constraint(name, value, &field)?);
        }
    }
    for (field, name) in GUIDED {
        if let Some(value) = given(fields, field) {
            found.push(constraint(name, value, field)?);
        }
    }
    if found.len() > 1 {
        return Err(bad(
            "response_format",
            "An answer can have one format, and the request asks for several.",
        ));
    }
    Ok(found.pop())
}

fn given<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// A `response_format`; `None` if that is text. `field` is what it is called.
pub fn response_format(format: &Value, field: &str) -> Result<Option<AnswerFormat>, Refusal> {
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(AnswerFormat::JsonObject)),
        Some("json_schema") => {
            // One API has the schema a level deeper than the other.
            let schema = format["json_schema"].get("schema").or(format.get("schema"));
            let schema = schema
                .ok_or_else(|| bad(field, "A json_schema has its schema in json_schema.schema."))?;
            Ok(Some(AnswerFormat::JsonSchema {
                schema: schema.clone(),
            }))
        }
        _ => Err(bad(
            field,
            "Its type has to be text, json_object or json_schema.",
        )),
    }
}

fn constraint(name: &str, value: &Value, field: &str) -> Result<AnswerFormat, Refusal> {
    let text = || {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| bad(field, "It has to be a string."))
    };
    match name {
        "json" => {
            let schema = match value {
                Value::String(text) => serde_json::from_str(text).map_err(|problem| {
                    bad(field, &format!("The schema is no JSON ({problem})."))
                })?,
                schema => schema.clone(),
            };
            Ok(AnswerFormat::JsonSchema { schema })
        }
        "json_object" => Ok(AnswerFormat::JsonObject),
        "regex" => Ok(AnswerFormat::Regex { regex: text()? }),
        "grammar" => Ok(AnswerFormat::Grammar { grammar: text()? }),
        "choice" => {
            let texts = value.as_array().map(|list| {
                let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
                texts.collect::<Option<Vec<String>>>()
            });
            let choice = texts.flatten();
            let choice = choice.ok_or_else(|| bad(field, "It has to be a list of strings."))?;
            Ok(AnswerFormat::Choice { choice })
        }
        _ => Err(bad(field, "This server has no such constraint.")),
    }
}

fn bad(field: &str, message: &str) -> Refusal {
    let message = format!("{field} is not understood: {message}");
    Refusal::bad_request("bad_format", field, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(fields: Value) -> Result<Option<AnswerFormat>, String> {
        let Value::Object(fields) = fields else {
            panic!("fields are an object")
        };
        find(&fields).map_err(|refusal| {
            let body = serde_json::to_value(refusal.body()).unwrap();
            body["error"]["param"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
    }

    #[test]
    fn each_way_to_say_it_is_understood() {
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let json_schema = || AnswerFormat::JsonSchema {
            schema: schema.clone(),
        };
        let choice = || AnswerFormat::Choice {
            choice: vec!["yes".into(), "no".into()],
        };
        let regex = || AnswerFormat::Regex { regex: "a+".into() };
        for (fields, format) in [
            (json!({}), None),
            (
                json!({"response_format": null, "structured_outputs": {}}),
                None,
            ),
            (json!({"response_format": {"type": "text"}}), None),
            (
                json!({"response_format": {"type": "json_object"}}),
                Some(AnswerFormat::JsonObject),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}}}),
                Some(json_schema()),
            ),
            (
                json!({"structured_outputs": {"json": schema.to_string(), "regex": null}}),
                Some(json_schema()),
            ),
            (json!({"guided_json": schema}), Some(json_schema())),
            (
                json!({"structured_outputs": {"json_object": true, "disable_any_whitespace": false}}),
                Some(AnswerFormat::JsonObject),
            ),
            (
                json!({"structured_outputs": {"choice": ["yes", "no"]}}),
                Some(choice()),
            ),
            (json!({"guided_choice": ["yes", "no"]}), Some(choice())),
            (json!({"guided_regex": "a+"}), Some(regex())),
            (
                json!({"structured_outputs": {"grammar": "start: \"a\""}}),
                Some(AnswerFormat::Grammar {
                    grammar: "start: \"a\"".into(),
                }),
            ),
        ] {
            assert_eq!(found(fields.clone()), Ok(format), "{fields}");
        }
    }

    #[test]
    fn what_is_not_understood_is_never_passed_over() {
        for (fields, named) in [
            (
                json!({"response_format": {"type": "xml"}}),
                "response_format",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format",
            ),
            (
                json!({"structured_outputs": {"structural_tag": {"a": 1}}}),
                "structured_outputs.structural_tag",
            ),
            (
                json!({"structured_outputs": {"disable_any_whitespace": true}}),
                "structured_outputs.disable_any_whitespace",
            ),
            (json!({"structured_outputs": "json"}), "structured_outputs"),
            (
                json!({"structured_outputs": {"json": "{"}}),
                "structured_outputs.json",
            ),
            (json!({"guided_choice": [1, 2]}), "guided_choice"),
            (
                json!({"guided_regex": "a", "guided_choice": ["a"]}),
                "response_format",
            ),
        ] {
            assert_eq!(found(fields.clone()), Err(named.into()), "{fields}");
        }
    }
}
