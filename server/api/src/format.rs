//! The format that an answer has to have.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most bytes that a format may be written in: a schema as JSON, the choices together.
pub const MAX_FORMAT_BYTES: usize = 64 * 1024;
/// The most choices that an answer may be one of.
pub const MAX_CHOICES: usize = 1024;

/// The format that an answer has to have: each token is chosen among those that keep to it. An answer that ends with `stop`
/// has the format, one that ends with `length` begins like one that has. A stop string cuts the answer wherever it appears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AnswerFormat {
    /// Whatever the model says, as without a format.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that is valid by a JSON Schema; an object's properties come in the order that the schema names them.
    JsonSchema { schema: Value },
    /// Text that a regular expression (in the syntax of Rust's crate regex, without anchors) matches as a whole.
    Regex { regex: String },
    /// One of some strings.
    Choice {
        #[cfg_attr(feature = "schemas", schemars(length(min = 1, max = 1024)))]
        choice: Vec<String>,
    },
    /// Text that a grammar in Lark's notation, as llguidance reads it, derives from its `start`.
    Grammar { grammar: String },
}

impl AnswerFormat {
    /// Whether it can be understood at all; what its schema, expression or grammar says is found out when it is compiled.
    ///
    /// # Errors
    /// A sentence for the user (`bad_format`) that says what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if let AnswerFormat::Choice { choice } = self
            && !(1..=MAX_CHOICES).contains(&choice.len())
        {
            let count = choice.len();
            return Err(format!(
                "choice must have 1 to {MAX_CHOICES} strings, not {count}."
            ));
        }
        if let AnswerFormat::JsonSchema { schema } = self
            && !matches!(schema, Value::Object(_) | Value::Bool(_))
        {
            return Err("schema must be a JSON Schema, which is an object.".into());
        }
        let bytes = self.bytes();
        if bytes > MAX_FORMAT_BYTES {
            return Err(format!(
                "the format has {bytes} bytes, but at most {MAX_FORMAT_BYTES} are taken: send a smaller one."
            ));
        }
        Ok(())
    }

    /// How many bytes the format is written in.
    pub fn bytes(&self) -> usize {
        match self {
            AnswerFormat::Text | AnswerFormat::JsonObject => 0,
            AnswerFormat::JsonSchema { schema } => schema.to_string().len(),
            AnswerFormat::Regex { regex } => regex.len(),
            AnswerFormat::Choice { choice } => choice.iter().map(String::len).sum(),
            AnswerFormat::Grammar { grammar } => grammar.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_as_it_is_written() {
        let written = [
            r#"{"type":"text"}"#,
            r#"{"type":"json_object"}"#,
            r#"{"type":"json_schema","schema":{"type":"object","properties":{"b":true,"a":true}}}"#,
            r#"{"type":"regex","regex":"[0-9]+"}"#,
            r#"{"type":"choice","choice":["yes","no"]}"#,
            r#"{"type":"grammar","grammar":"start: \"a\"+"}"#,
        ];
        for text in written {
            let format: AnswerFormat = serde_json::from_str(text).unwrap();
            format.check().unwrap();
            // Properties keep their order: it is the answer's.
            assert_eq!(serde_json::to_string(&format).unwrap(), text);
        }
        for text in [
            r#"{"type":"dance"}"#,
            r#"{"type":"regex"}"#,
            r#"{"regex":"a"}"#,
        ] {
            assert!(serde_json::from_str::<AnswerFormat>(text).is_err());
        }
    }

    #[test]
    fn what_no_answer_can_have_is_refused() {
        let refused = |format: AnswerFormat| format.check().unwrap_err();
        let choice = |count| AnswerFormat::Choice {
            choice: vec!["a".into(); count],
        };
        assert!(refused(choice(0)).contains("choice"));
        assert!(refused(choice(MAX_CHOICES + 1)).contains("choice"));
        choice(MAX_CHOICES).check().unwrap();
        let schema = Value::from(3);
        assert!(refused(AnswerFormat::JsonSchema { schema }).contains("schema"));
        let regex = "a".repeat(MAX_FORMAT_BYTES + 1);
        assert!(refused(AnswerFormat::Regex { regex }).contains("65537"));
    }
}
