//! Reads a checkpoint's JSON files: what is wrong is told with its key, what was expected and what was found.

use serde::de::DeserializeOwned;

/// A whole file. The error is a part of a sentence, to follow the file's name.
pub fn read<T: DeserializeOwned>(file: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(file);
    serde_path_to_error::deserialize(&mut json).map_err(|e| match e.inner().classify() {
        serde_json::error::Category::Data => told(&e),
        _ => format!("not valid JSON ({})", e.inner()),
    })
}

/// A part that has been read already.
pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|e| told(&e))
}

fn told(e: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let (key, what) = (e.path().to_string(), e.inner().to_string());
    // Where it stands follows in what was read from a file; the key tells it better.
    let what = what.split(" at line ").next().unwrap_or_default();
    let wrong = ["invalid type: ", "invalid value: "];
    let told = wrong.iter().find_map(|prefix| what.strip_prefix(prefix));
    match told.and_then(|told| told.split_once(", expected ")) {
        Some((found, expected)) => {
            let expected = match expected {
                "usize" | "u32" | "u64" => "a whole number, 0 or more",
                "f64" => "a number",
                "a map" => "an object",
                _ if expected.starts_with("struct ") => "an object",
                other => other,
            };
            let key = if key == "." { "the whole" } else { &key };
            format!("{key} must be {expected}, but is the {found}")
        }
        // It names the key itself; the path is the object that lacks it.
        None if key == "." => what.to_string(),
        None => format!("{key}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        count: usize,
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        share: f64,
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (json, sentence) in [
            (
                r#"{"count": "two"}"#,
                r#"count must be a whole number, 0 or more, but is the string "two""#,
            ),
            (
                r#"{"count": -1}"#,
                "count must be a whole number, 0 or more, but is the integer `-1`",
            ),
            (
                r#"{"count": 1, "inner": {"share": []}}"#,
                "inner.share must be a number, but is the sequence",
            ),
            (
                r#"{"count": 1, "inner": 5}"#,
                "inner must be an object, but is the integer `5`",
            ),
            (
                r#"{"count": 1, "inner": {}}"#,
                "inner: missing field `share`",
            ),
            ("{}", "missing field `count`"),
            ("5", "the whole must be an object, but is the integer `5`"),
            (r#"{"count": "#, "not valid JSON"),
        ] {
            let problem = read::<Outer>(json.as_bytes()).unwrap_err();
            assert!(problem.starts_with(sentence), "{problem}");
            if let Ok(value) = serde_json::from_str(json) {
                let problem = from_value::<Outer>(value).unwrap_err();
                assert!(problem.starts_with(sentence), "{problem}");
            }
        }
    }
}
