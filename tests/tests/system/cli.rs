//! `generate` and `inspect` as others use them: the built binary, its output and its exit status.

use std::process::{Output, Stdio};

use glimpse_image as image;
use serde_json::Value;

use crate::support::{self, checkpoints, data, glimpse};

#[track_caller]
fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    let list = value.as_array().unwrap();
    list.iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

#[test]
fn generate_tells_all_that_it_takes_to_check_it() {
    for golden in checkpoints() {
        let turn = &golden.conversation[0];
        let path = |name| golden.folder.join(name).to_str().unwrap().to_owned();
        let arguments = [
            "generate",
            "--model",
            &path(""),
            "--image",
            &path("picture.png"),
            "--prompt",
            &turn.question,
            "--greedy",
            "--max-new-tokens",
            "6",
            "--logprobs",
            "5",
            "--json",
            "--device",
            "cpu",
        ];
        let report = json(&glimpse(&arguments));
        assert_eq!(numbers(&report["prompt_token_ids"]), turn.prompt_ids);
        assert_eq!(numbers(&report["position_ids"]), turn.position_ids);
        let entries = turn.position_ids.len() as u64;
        assert_eq!(report["prompt_tokens"], entries);
        assert_eq!(
            report["image_tokens"],
            entries + 3 - turn.prompt_ids.len() as u64
        );
        assert_eq!(report["cached_tokens"], 0);
        assert_eq!(report["finish_reason"], "length");
        assert!(
            report["text"].is_string()
                && report["timings"]["first_token_ms"].as_f64().unwrap() > 0.0
        );

        let tokens = report["tokens"].as_array().unwrap();
        let ids: Vec<u32> = tokens
            .iter()
            .map(|t| t["id"].as_u64().unwrap() as u32)
            .collect();
        assert_eq!(ids, turn.answer_ids, "{}", golden.name());
        for (token, logits) in tokens.iter().zip(golden.rows("turn_0_logits")) {
            let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
            let exact = |id: usize| f64::from(logits[id]) - sum.ln();
            let logprob = token["logprob"].as_f64().unwrap();
            assert!((logprob - exact(token["id"].as_u64().unwrap() as usize)).abs() < 1e-4);
            let top = token["top"].as_array().unwrap();
            assert_eq!(top.len(), 5);
            assert_eq!(top[0]["id"], token["id"]);
            let mut best: Vec<f64> = (0..logits.len()).map(exact).collect();
            best.sort_by(|a, b| b.total_cmp(a));
            for (candidate, best) in top.iter().zip(best) {
                assert!((candidate["logprob"].as_f64().unwrap() - best).abs() < 1e-4);
            }
        }
        // The same without --json: the answer alone.
        let plain: Vec<&str> = arguments.into_iter().filter(|a| *a != "--json").collect();
        let output = glimpse(&plain);
        let text = report["text"].as_str().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{text}\n"));
    }
}

/// The tensor `pixels` of what `--dump-pixels` writes.
fn dumped(image: &str, raw: bool) -> Vec<f32> {
    let out =
        std::env::temp_dir().join(format!("glimpse-pixels-{}.safetensors", std::process::id()));
    let model = data("checkpoints/one-group-f32");
    let mut arguments = vec![
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--image",
        image,
    ];
    arguments.extend(["--dump-pixels", out.to_str().unwrap()]);
    arguments.extend(raw.then_some("--raw-pixels"));
    let output = glimpse(&arguments);
    assert!(output.status.success() && output.stdout.is_empty());
    let tensors = candle_core::safetensors::load(&out, &candle_core::Device::Cpu).unwrap();
    std::fs::remove_file(out).unwrap();
    assert_eq!(tensors.len(), 1);
    let pixels = &tensors["pixels"];
    assert_eq!(pixels.dims(), [1, 3, 24, 24]);
    // Fails unless it is F32.
    pixels.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn dump_pixels_writes_what_enters_the_tower() {
    let path = data("checkpoints/one-group-f32/picture.png");
    let bytes = std::fs::read(&path).unwrap();
    let options = image::Options {
        raw: true,
        ..image::Options::default()
    };
    let picture = image::load(&bytes, 24, &options).unwrap();
    let got = dumped(path.to_str().unwrap(), true);
    let (mean, std) = (
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.261_302_58, 0.275_777_1],
    );
    for (i, value) in got.iter().enumerate() {
        let (channel, place) = (i / 576, i % 576);
        let byte = f64::from(picture.pixels.rgb()[place * 3 + channel]);
        let exact = (byte / 255.0 - mean[channel]) / std[channel];
        assert!((f64::from(*value) - exact).abs() < 1e-5);
    }
}

#[test]
fn raw_pixels_ignore_what_exif_says() {
    let turned = data("../pixels/fixtures/exif-6.jpg");
    let turned = turned.to_str().unwrap();
    assert_ne!(dumped(turned, true), dumped(turned, false));
}

#[test]
fn inspect_counts_from_config_json_alone() {
    let folder = std::env::temp_dir().join(format!("glimpse-inspect-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(data("glm-4v-9b.config.json"), folder.join("config.json")).unwrap();
    let path = folder.to_str().unwrap();
    let report = json(&glimpse(&["inspect", "--model", path, "--json"]));
    let text = glimpse(&["inspect", "--model", path]);
    std::fs::remove_dir_all(&folder).unwrap();

    let parameters = &report["parameters"];
    assert_eq!(parameters["total"], 13_906_320_896u64);
    assert_eq!(parameters["decoder_layers"], 8_158_433_280u64);
    assert_eq!(parameters["vision_layers"], 4_279_387_392u64);
    assert_eq!(parameters["rest"], 1_468_500_224u64);
    assert_eq!(report["image_tokens"], 1602);
    assert_eq!(
        report["memory"][0]["cuda_weight_bytes"],
        2 * 13_906_320_896u64
    );
    // The tokenizer's two files and the weights, a sentence each.
    assert_eq!(report["problems"].as_array().unwrap().len(), 3);

    assert!(text.status.success());
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("13,906,320,896") && text.lines().count() < 40,
        "{text}"
    );
}

#[test]
fn inspect_says_what_is_wrong_and_fails() {
    for golden in checkpoints() {
        let report = json(&glimpse(&[
            "inspect",
            "--model",
            golden.folder.to_str().unwrap(),
            "--json",
        ]));
        assert_eq!(
            report["problems"],
            serde_json::json!([]),
            "{}",
            golden.name()
        );
    }
    let folder = std::env::temp_dir().join(format!("glimpse-wrong-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for name in [
        "config.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "model.safetensors.index.json",
    ] {
        std::fs::copy(
            data("checkpoints/four-groups-f16").join(name),
            folder.join(name),
        )
        .unwrap();
    }
    let path = folder.to_str().unwrap();
    let inspected = glimpse(&["inspect", "--model", path]);
    let served = glimpse(&["generate", "--model", path, "--prompt", "a"]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(inspected.status.code(), Some(1));
    let text = String::from_utf8(inspected.stdout).unwrap();
    assert!(
        text.contains("1 thing wrong") && text.contains("model-00001-of-00001.safetensors"),
        "{text}"
    );
    assert_eq!(served.status.code(), Some(1));
    let errors = String::from_utf8(served.stderr).unwrap();
    assert!(
        errors.starts_with("glimpse: model-00001-of-00001.safetensors is missing")
            && errors.lines().count() == 1,
        "{errors}"
    );
}

/// What `serve` would refuse is told, and config.json counted whatever else is wrong.
#[test]
fn inspect_counts_beside_what_is_broken() {
    let folder = std::env::temp_dir().join(format!("glimpse-beside-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(data("checkpoints/four-groups-f16")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.to_str().unwrap();
    for name in ["generation_config.json", "model.safetensors.index.json"] {
        let kept = std::fs::read(folder.join(name)).ok();
        std::fs::write(folder.join(name), "junk").unwrap();
        let inspected = glimpse(&["inspect", "--model", path, "--json"]);
        assert_eq!(inspected.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
        let problems = report["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].as_str().unwrap().contains(name), "{problems:?}");
        assert!(report["parameters"]["total"].as_u64().unwrap() > 0);
        match kept {
            Some(bytes) => std::fs::write(folder.join(name), bytes).unwrap(),
            None => std::fs::remove_file(folder.join(name)).unwrap(),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn whoever_has_read_enough_is_no_reason_to_panic() {
    let mut child = support::command(&["inspect", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn flags_may_come_from_the_environment() {
    let output = support::command(&["generate", "--json"])
        .env("GLIMPSE_PROMPT", "Hello")
        .env("GLIMPSE_MAX_NEW_TOKENS", "2")
        .env("GLIMPSE_GREEDY", "true")
        .output()
        .unwrap();
    assert_eq!(json(&output)["tokens"].as_array().unwrap().len(), 2);
}

/// Before a picture is looked at or a weight loaded.
#[test]
fn generate_says_what_it_cannot_be_asked() {
    for (arguments, says) in [
        (
            &["--prompt", "\u{200b}\u{feff} "][..],
            "the question is empty",
        ),
        (
            &["--prompt", "a", "--device", "cuda:0", "--dtype", "f16"][..],
            "--dtype bf16",
        ),
    ] {
        let refused = glimpse(&[&["generate"][..], arguments].concat());
        assert_eq!(refused.status.code(), Some(1));
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            errors.contains(says) && errors.lines().count() == 1,
            "{errors}"
        );
    }
}

/// By random weights: nothing but the schema leads to it.
#[test]
fn generate_answers_by_a_schema_behind_a_system_turn() {
    let schema = std::env::temp_dir().join(format!("glimpse-schema-{}.json", std::process::id()));
    let written = r#"{"type": "object", "properties": {"yes": {"type": "boolean"}, "count": {"enum": [1, 22]}},
        "required": ["yes", "count"], "additionalProperties": false}"#;
    std::fs::write(&schema, written).unwrap();
    let config = data("tiny.config.json");
    let arguments = [
        "generate",
        "--random-weights",
        "1",
        "--config",
        config.to_str().unwrap(),
        "--prompt",
        "What is it?",
        "--max-new-tokens",
        "300",
        "--json",
        "--json-schema",
        schema.to_str().unwrap(),
    ];
    let free = json(&glimpse(&arguments));
    let behind = json(&glimpse(
        &[&arguments[..], &["--system", "Be brief."]].concat(),
    ));
    std::fs::remove_file(&schema).unwrap();
    assert!(behind["prompt_tokens"].as_u64() > free["prompt_tokens"].as_u64());
    for report in [free, behind] {
        assert_eq!(report["finish_reason"], "stop");
        let said: Value = serde_json::from_str(report["text"].as_str().unwrap()).unwrap();
        assert!(said["yes"].is_boolean() && [1, 22].map(Value::from).contains(&said["count"]));
    }
    let refused = glimpse(&arguments);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be read"));
}
