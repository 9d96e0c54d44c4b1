//! Folders with something wrong: one sentence that names the file and the tensor, what was expected and found, and what
//! to do; never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use model::checkpoint::{Checkpoint, folder};
use serde_json::Value;

use crate::support;

/// A copy of a good checkpoint, removed at the end.
struct Copy(PathBuf);

impl Copy {
    /// Of the checkpoint with three shards and two stored types.
    fn new(name: &str) -> Self {
        let from = support::data("checkpoints/wide-heads-mixed");
        let to = std::env::temp_dir().join(format!("glimpse-broken-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        Copy(to)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// Rewrites a shard's header; its data stays.
    fn header(&self, shard: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let path = self.path(shard);
        let bytes = fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header = serde_json::from_slice(&bytes[8..end]).unwrap();
        change(&mut header);
        let header = Value::Object(header).to_string();
        let mut new = (header.len() as u64).to_le_bytes().to_vec();
        new.extend(header.as_bytes());
        new.extend(&bytes[end..]);
        fs::write(path, new).unwrap();
    }

    /// What opening it says, which must be one sentence on one line that has all of `parts`.
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        let Err(problem) = Checkpoint::open(&folder(&self.0)) else {
            panic!("{} was opened", self.0.display())
        };
        let problem = problem.to_string();
        assert!(!problem.contains('\n') && problem.len() < 400, "{problem}");
        for part in parts {
            assert!(problem.contains(part), "{part:?} is not in: {problem}");
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FIRST: &str = "model-00001-of-00003.safetensors";
const LAST: &str = "model-00003-of-00003.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const WORDS: &str = "transformer.embedding.word_embeddings.weight";
const AGAIN: &str = "download it again";

#[test]
fn a_good_copy_opens() {
    let copy = Copy::new("good");
    assert!(Checkpoint::open(&folder(&copy.0)).is_ok());
}

#[test]
fn a_missing_tensor() {
    let copy = Copy::new("missing");
    copy.header(FIRST, |header| {
        let words = header.remove(WORDS).unwrap();
        header.insert("transformer.embedding.words".into(), words);
    });
    copy.says(&[FIRST, WORDS, AGAIN]);
    // With no index to promise it.
    let one = Copy::new("missing-one");
    fs::remove_file(one.path(INDEX)).unwrap();
    fs::rename(one.path(FIRST), one.path("model.safetensors")).unwrap();
    one.says(&["transformer.", "is missing", AGAIN, "config.json"]);
}

#[test]
fn an_extra_tensor() {
    let copy = Copy::new("extra");
    copy.config(|config| config["tie_word_embeddings"] = true.into());
    // Tied, the output layer is ignored, as the original does.
    assert!(Checkpoint::open(&folder(&copy.0)).is_ok());
    copy.config(|config| {
        config["tie_word_embeddings"] = false.into();
        config["add_qkv_bias"] = false.into();
    });
    let extra = "transformer.encoder.layers.0.self_attention.query_key_value.bias";
    copy.says(&[".safetensors", extra, "[512]", "config.json"]);
}

#[test]
fn a_misshapen_tensor() {
    let copy = Copy::new("misshapen");
    copy.config(|config| config["padded_vocab_size"] = 300.into());
    copy.says(&[
        FIRST,
        WORDS,
        "[288, 24]",
        "[300, 24]",
        "config.json",
        "more",
    ]);
}

#[test]
fn a_type_that_is_not_served() {
    let copy = Copy::new("type");
    copy.header(FIRST, |header| header[WORDS]["dtype"] = "I16".into());
    copy.says(&[FIRST, WORDS, "I16", "bf16", "use the published weights"]);
}

#[test]
fn a_shard_cut_short() {
    let copy = Copy::new("cut");
    let bytes = fs::read(copy.path(FIRST)).unwrap();
    let length = bytes.len();
    fs::write(copy.path(FIRST), &bytes[..length - 1]).unwrap();
    let had = format!("{} bytes", length - 1);
    copy.says(&[
        FIRST,
        "cut off in the tensor transformer.",
        &had,
        &length.to_string(),
        AGAIN,
    ]);
    // In the header, in its length, and with nothing in it.
    for left in [100, 8, 7, 0] {
        fs::write(copy.path(FIRST), &bytes[..left]).unwrap();
        copy.says(&[FIRST, &format!("{left} bytes"), AGAIN]);
    }
}

#[test]
fn a_header_that_lies() {
    let copy = Copy::new("lies");
    let offsets = |begin: u64, end: u64| serde_json::json!([begin, end]);
    for (begin, end) in [
        (0, 2),
        (1 << 40, (1 << 40) + 2),
        (0, 1 << 40),
        (0, u64::MAX),
        (2, 1),
    ] {
        copy.header(LAST, |header| {
            let name = header
                .keys()
                .find(|k| k.starts_with("transformer."))
                .unwrap()
                .clone();
            header[&name]["data_offsets"] = offsets(begin, end);
        });
        copy.says(&[LAST, "bytes", AGAIN]);
    }
    let copy = Copy::new("lies-in-shape");
    copy.header(LAST, |header| {
        let name = header
            .keys()
            .find(|k| k.starts_with("transformer."))
            .unwrap()
            .clone();
        header[&name]["shape"] = serde_json::json!([u64::MAX, u64::MAX]);
    });
    copy.says(&[LAST, AGAIN]);
    fs::write(copy.path(LAST), [0xff; 64]).unwrap();
    copy.says(&[LAST, "64 bytes", AGAIN]);
}

#[test]
fn absent_files() {
    for name in [
        LAST,
        "config.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ] {
        let copy = Copy::new(&format!("absent-{name}"));
        fs::remove_file(copy.path(name)).unwrap();
        copy.says(&[name, "missing from the model folder", AGAIN]);
    }
    let copy = Copy::new("absent-index");
    fs::remove_file(copy.path(INDEX)).unwrap();
    copy.says(&[INDEX, "missing from the model folder", "download"]);
    let nowhere = Copy(Path::new("/nowhere/glm-4v-9b").into());
    nowhere.says(&["/nowhere/glm-4v-9b", "does not exist", "--model"]);
}

#[test]
fn an_index_that_misleads() {
    let copy = Copy::new("index");
    let good = fs::read_to_string(copy.path(INDEX)).unwrap();
    fs::write(copy.path(INDEX), &good[..good.len() / 2]).unwrap();
    copy.says(&[INDEX, AGAIN]);
    fs::write(
        copy.path(INDEX),
        good.replace(LAST, "../secret.safetensors"),
    )
    .unwrap();
    copy.says(&[INDEX, "outside the folder"]);
    let swapped = good
        .replace(FIRST, "x")
        .replace(LAST, FIRST)
        .replace("\"x\"", &format!("{LAST:?}"));
    fs::write(copy.path(INDEX), swapped).unwrap();
    copy.says(&[INDEX, FIRST, LAST, "download the index again"]);
}

#[test]
fn one_tensor_in_two_shards() {
    let copy = Copy::new("twice");
    fs::copy(copy.path(FIRST), copy.path(LAST)).unwrap();
    copy.says(&[FIRST, LAST, "both hold the tensor transformer."]);
}

#[test]
fn a_config_that_cannot_be() {
    for (change, parts) in [
        (
            serde_json::json!({"model_type": "llama"}),
            &["\"llama\"", "GLM-4V"][..],
        ),
        (
            serde_json::json!({"vision_config": null}),
            &["without a vision_config"],
        ),
        (
            serde_json::json!({"num_layers": "two"}),
            &[
                "num_layers must be a whole number",
                "\"two\"",
                "as published",
            ],
        ),
        (
            serde_json::json!({"rope_ratio": [1]}),
            &["rope_ratio must be a number", "sequence"],
        ),
        (
            serde_json::json!({"vision_config": {"image_size": 1120}}),
            &["vision_config: missing field `patch_size`"],
        ),
        (
            serde_json::json!({"vision_config": 5}),
            &["vision_config must be an object", "`5`"],
        ),
        (
            serde_json::json!({"eos_token_id": "<|user|>"}),
            &["eos_token_id", "a token id or a list of token ids"],
        ),
        (serde_json::json!({"hidden_size": 0}), &["hidden_size is 0"]),
        (
            serde_json::json!({"hidden_size": 1u64 << 60}),
            &["hidden_size"],
        ),
        (serde_json::json!({"rmsnorm": false}), &["rmsnorm is false"]),
        (
            serde_json::json!({"multi_query_group_num": 3}),
            &["3", "num_attention_heads 2"],
        ),
        (
            serde_json::json!({"boi_token_id": 400}),
            &["boi_token_id 400", "288"],
        ),
        (serde_json::json!({"rope_ratio": -1}), &["rope_ratio"]),
    ] {
        let copy = Copy::new("config");
        copy.config(|config| {
            for (key, value) in change.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        copy.says(&[&["config.json"], parts].concat());
    }
    let copy = Copy::new("no-json");
    fs::write(copy.path("config.json"), "{\"num_layers\": ").unwrap();
    copy.says(&["config.json", "not valid JSON", AGAIN]);
    let copy = Copy::new("generation");
    fs::write(copy.path("generation_config.json"), r#"{"top_p": "most"}"#).unwrap();
    copy.says(&[
        "generation_config.json",
        "top_p must be a number",
        "\"most\"",
        "again",
    ]);
}

#[test]
fn a_tokenizer_that_is_none() {
    for (name, content) in [
        ("tokenizer.model", "no base64 at all\n"),
        ("tokenizer_config.json", "{}"),
        ("tokenizer_config.json", "["),
        ("tokenizer_config.json", r#"{"added_tokens_decoder": []}"#),
    ] {
        let copy = Copy::new("tokenizer");
        fs::write(copy.path(name), content).unwrap();
        copy.says(&[name]);
    }
    let copy = Copy::new("tokenizer-of-another");
    copy.config(|config| config["padded_vocab_size"] = 285.into());
    copy.says(&["tokenizer.model", "286 tokens", "config.json", "285"]);
}
