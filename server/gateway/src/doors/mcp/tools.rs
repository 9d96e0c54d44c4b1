//! The tools: what each is told, asks the model, and gives back.

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::{AnswerTimings, ErrorCode, FinishReason, Sampling, Usage};

use api::Failure;
use glimpse_image::Region;

/// A part of a picture, in pixels from its upper left corner, as it is seen upright.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    x: u32,
    y: u32,
    #[schemars(range(min = 1))]
    width: u32,
    #[schemars(range(min = 1))]
    height: u32,
}

impl From<Part> for Region {
    fn from(part: Part) -> Self {
        Region {
            x: part.x.into(),
            y: part.y.into(),
            width: part.width.into(),
            height: part.height.into(),
        }
    }
}

/// A question in the picture's own words.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskPicture {
    /// The picture: a data URL (data:image/jpeg;base64,…), the handle that an earlier result returned (picture_…), a path
    /// beneath the server's --root, or an http(s) URL. The server has the last two only where it was started with them.
    picture: String,
    /// Looks closer: only this part of the picture is seen, at its full resolution, grown by what surrounds it where it is
    /// longer than twice its other side. Small print is read so.
    #[serde(default)]
    region: Option<Part>,
    /// What to find out about the picture.
    question: String,
    /// Instructions that the model keeps to while it answers.
    #[serde(default)]
    system: Option<String>,
    /// The most tokens that the answer may have.
    #[serde(default)]
    #[schemars(range(min = 1))]
    max_tokens: Option<u64>,
}

/// A picture with text on it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadText {
    /// The picture: a data URL (data:image/jpeg;base64,…), the handle that an earlier result returned (picture_…), a path
    /// beneath the server's --root, or an http(s) URL. The server has the last two only where it was started with them.
    picture: String,
    /// Looks closer: only this part of the picture is seen, at its full resolution, grown by what surrounds it where it is
    /// longer than twice its other side. Small print is read so.
    #[serde(default)]
    region: Option<Part>,
}

/// A picture to describe.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Describe {
    /// The picture: a data URL (data:image/jpeg;base64,…), the handle that an earlier result returned (picture_…), a path
    /// beneath the server's --root, or an http(s) URL. The server has the last two only where it was started with them.
    picture: String,
    /// Looks closer: only this part of the picture is seen, at its full resolution, grown by what surrounds it where it is
    /// longer than twice its other side. Small print is read so.
    #[serde(default)]
    region: Option<Part>,
    /// The language to describe it in, such as English or 中文.
    #[serde(default)]
    language: Option<String>,
}

/// What a tool's call comes down to.
#[derive(Debug, PartialEq)]
pub struct Question {
    /// As the call names it.
    pub picture: String,
    pub region: Option<Region>,
    pub text: String,
    pub system: String,
    pub sampling: Sampling,
}

/// What a tool gives back.
#[derive(Serialize, JsonSchema)]
pub struct Answer {
    pub answer: String,
    /// The picture's handle: the next call may name it by this, for as long as the server keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// The whole picture's, in pixels, upright.
    pub width: u32,
    /// The whole picture's, in pixels, upright.
    pub height: u32,
    /// Why the answer ended; after `length` there would be more of it.
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timings: AnswerTimings,
}

impl From<AskPicture> for Question {
    fn from(call: AskPicture) -> Self {
        Question {
            picture: call.picture,
            region: call.region.map(Region::from),
            text: call.question,
            system: call.system.unwrap_or_default(),
            sampling: Sampling {
                max_new_tokens: call.max_tokens,
                ..Sampling::default()
            },
        }
    }
}

impl From<ReadText> for Question {
    fn from(call: ReadText) -> Self {
        Question {
            picture: call.picture,
            region: call.region.map(Region::from),
            text: "Read out all the text in the picture, line by line, exactly as it stands there, and nothing else.".into(),
            system: String::new(),
            // What stands there is not a matter of chance.
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
        }
    }
}

impl From<Describe> for Question {
    fn from(call: Describe) -> Self {
        let language = call.language.unwrap_or_default();
        let text = "Describe the picture in detail: what is in it, where, and what text there is.";
        Question {
            picture: call.picture,
            region: call.region.map(Region::from),
            text: match language.trim() {
                "" => text.to_owned(),
                language => format!("{text} Answer in {language}."),
            },
            system: String::new(),
            sampling: Sampling::default(),
        }
    }
}

/// A tool by its name, and how its calls are read.
struct Entry {
    name: &'static str,
    tool: fn(Tool) -> Tool,
    description: &'static str,
    read: fn(Value) -> Result<Question, serde_json::Error>,
}

const TOOLS: [Entry; 3] = [
    Entry {
        name: "ask_picture",
        tool: Tool::with_input_schema::<AskPicture>,
        description: "Asks a model that can see one question about one picture. Each call stands alone: the question has to say all that matters.",
        read: read::<AskPicture>,
    },
    Entry {
        name: "read_text",
        tool: Tool::with_input_schema::<ReadText>,
        description: "Reads out the text in a picture: a page, a sign, a receipt, a screenshot.",
        read: read::<ReadText>,
    },
    Entry {
        name: "describe",
        tool: Tool::with_input_schema::<Describe>,
        description: "Describes what is to be seen in a picture.",
        read: read::<Describe>,
    },
];

fn read<T: DeserializeOwned + Into<Question>>(
    arguments: Value,
) -> Result<Question, serde_json::Error> {
    serde_json::from_value::<T>(arguments).map(Into::into)
}

/// All tools, as clients list them.
pub fn list() -> Vec<Tool> {
    let looks_only = ToolAnnotations::new().read_only(true).open_world(false);
    let each = TOOLS.iter().map(|entry| {
        let tool = Tool::new(entry.name, entry.description, JsonObject::new());
        (entry.tool)(tool)
            .with_output_schema::<Answer>()
            .with_annotations(looks_only.clone())
    });
    each.collect()
}

/// The question that a call of this tool asks; `None` if there is no such tool.
///
/// # Errors
/// `bad_message` about arguments that don't fit.
pub fn question(name: &str, arguments: JsonObject) -> Option<Result<Question, Failure>> {
    let entry = TOOLS.iter().find(|entry| entry.name == name)?;
    let read = (entry.read)(Value::Object(arguments));
    Some(read.map_err(|problem| {
        let message = format!("The arguments of {name} don't fit: {problem}.");
        Failure::new(ErrorCode::BadMessage, message)
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(name: &str, arguments: Value) -> Result<Question, String> {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        let read = question(name, arguments).unwrap();
        read.map_err(|failure| failure.message)
    }

    #[test]
    fn every_tool_says_what_it_takes_and_gives() {
        let tools = list();
        let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["ask_picture", "read_text", "describe"]);
        for tool in tools {
            assert_eq!(tool.input_schema["type"], "object");
            assert_eq!(tool.input_schema["additionalProperties"], false);
            assert_eq!(tool.input_schema["required"][0], "picture");
            let output = tool.output_schema.unwrap();
            assert_eq!(output["properties"]["answer"]["type"], "string");
        }
    }

    #[test]
    fn calls_become_questions() {
        let asked = read(
            "ask_picture",
            json!({"picture": "p", "question": "How many?", "system": "Be brief.", "max_tokens": 5}),
        );
        let asked = asked.unwrap();
        assert_eq!((&*asked.text, &*asked.system), ("How many?", "Be brief."));
        assert_eq!(asked.sampling.max_new_tokens, Some(5));
        assert_eq!(asked.region, None);
        let region = json!({"x": 10, "y": 20, "width": 300, "height": 40});
        let text = read("read_text", json!({"picture": "p", "region": region})).unwrap();
        let region = Region {
            x: 10.0,
            y: 20.0,
            width: 300.0,
            height: 40.0,
        };
        assert_eq!(text.region, Some(region));
        assert_eq!(text.sampling.temperature, Some(0.0));
        let described = read("describe", json!({"picture": "p", "language": "中文"})).unwrap();
        assert!(described.text.ends_with("Answer in 中文."));
        let described = read("describe", json!({"picture": "p"})).unwrap();
        assert!(!described.text.contains("Answer in"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (arguments, named) in [
            (json!({"question": "?"}), "picture"),
            (json!({"picture": 1, "question": "?"}), "string"),
            (json!({"picture": "p", "question": "?", "zoom": 2}), "zoom"),
            (
                json!({"picture": "p", "question": "?", "max_tokens": -1}),
                "-1",
            ),
            (
                json!({"picture": "p", "question": "?", "region": {"x": 0, "y": 0, "width": 9}}),
                "height",
            ),
        ] {
            let problem = read("ask_picture", arguments).unwrap_err();
            assert!(problem.contains(named), "{problem}");
        }
        assert!(question("draw", JsonObject::new()).is_none());
    }
}
