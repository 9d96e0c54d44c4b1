//! `glimpse quantize`: what it writes is what quantizing at load gives, and whatever does not fit is told in a sentence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::DType;
use model::checkpoint::{Checkpoint, folder};
use model::device::Target;
use model::{Quantize, QuantizeChoice};
use serde_json::{Value, json};

use crate::support::{data, glimpse};

/// Three shards, two stored types; it has a weight with rows of 256, in blocks of as many, and many that stay plain.
const MODEL: &str = "checkpoints/wide-heads-mixed";
/// Its rows of 128 take blocks of 32.
const TIED: &str = "checkpoints/tied-f16";

/// A folder of its own, removed at the end.
struct Out(PathBuf);

impl Out {
    fn new(name: &str) -> Self {
        let out =
            std::env::temp_dir().join(format!("glimpse-quantize-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&out);
        Out(out)
    }

    /// `model` in `quantize`.
    fn of(name: &str, model: &Path, quantize: &str) -> Self {
        let out = Out::new(name);
        let made = out.write(model, quantize);
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{errors}");
        out
    }

    fn write(&self, model: &Path, quantize: &str) -> Output {
        let flags = ["--quantize", quantize, "--out", self.0.to_str().unwrap()];
        let model = model.to_str().unwrap();
        glimpse(&[&["quantize", "--model", model], &flags[..]].concat())
    }

    fn config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.0.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    #[track_caller]
    fn says(&self, parts: &[&str]) {
        let Err(problem) = Checkpoint::open(&folder(&self.0)) else {
            panic!("{} was opened", self.0.display())
        };
        sentence(&problem.to_string(), parts);
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn sentence(problem: &str, parts: &[&str]) {
    let problem = problem.trim_end();
    assert!(!problem.contains('\n') && problem.len() < 400, "{problem}");
    for part in parts {
        assert!(problem.contains(part), "{part:?} is not in: {problem}");
    }
}

#[track_caller]
fn fails(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    let problem = errors.lines().find(|line| line.starts_with("glimpse: "));
    sentence(problem.unwrap_or_else(|| panic!("{errors}")), parts);
    assert!(errors.trim_end().ends_with(problem.unwrap()));
}

/// The chosen tokens with their scores.
fn tokens(model: &Path, more: &[&str]) -> Value {
    let picture = data(MODEL).join("picture.png");
    let mut arguments = vec!["generate", "--model", model.to_str().unwrap(), "--image"];
    arguments.extend([
        picture.to_str().unwrap(),
        "--prompt",
        "how many cats?",
        "--greedy",
    ]);
    arguments.extend([
        "--max-new-tokens",
        "5",
        "--json",
        "--logprobs",
        "3",
        "--device",
        "cpu",
    ]);
    arguments.extend(more);
    let output = glimpse(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["tokens"].take()
}

#[test]
fn a_quantized_folder_is_the_folder_quantized_at_load() {
    for (model, name) in [(MODEL, "sharded"), (TIED, "tied")] {
        let original = data(model);
        for quantize in ["q8", "q4"] {
            let out = Out::of(&format!("{name}-{quantize}"), &original, quantize);
            let at_load = tokens(&original, &["--quantize", quantize]);
            assert_eq!(tokens(&out.0, &[]), at_load);
            assert_eq!(tokens(&out.0, &["--quantize", quantize]), at_load);
            assert_ne!(tokens(&original, &[]), at_load);
            for text in [
                "tokenizer.model",
                "tokenizer_config.json",
                "generation_config.json",
            ] {
                assert_eq!(
                    fs::read(out.0.join(text)).unwrap(),
                    fs::read(original.join(text)).unwrap()
                );
            }
        }
    }
}

#[test]
fn inspect_knows_a_quantized_folder_and_what_it_takes() {
    for quantize in [Quantize::None, Quantize::Q8, Quantize::Q4] {
        let (original, out) = (data(MODEL), Out::new(&format!("inspected-{quantize}")));
        let place = match quantize {
            Quantize::None => original.clone(),
            _ => {
                assert!(out.write(&original, &quantize.to_string()).status.success());
                out.0.clone()
            }
        };
        let report = glimpse(&["inspect", "--model", place.to_str().unwrap(), "--json"]);
        assert!(report.status.success());
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(report["problems"], json!([]));
        let kinds = report["memory"].as_array().unwrap();
        assert_eq!(kinds.len(), if quantize == Quantize::None { 4 } else { 1 });

        // It says what is really used, of the original too.
        let checkpoint = Checkpoint::open(&folder(&place)).unwrap();
        let target = Target {
            device: candle_core::Device::Cpu,
            dtype: DType::F32,
        };
        for kind in kinds {
            let asked: QuantizeChoice = kind["quantize"].as_str().unwrap().parse().unwrap();
            if asked == QuantizeChoice::Given(Quantize::Fp8) {
                assert_eq!(kind["cpu_weight_bytes"], Value::Null);
                assert!(checkpoint.quantize(asked, &target).is_err());
                continue;
            }
            let quantize = checkpoint.quantize(asked, &target).unwrap();
            let model = checkpoint.load(&target, quantize, &mut |_, _| {}).unwrap();
            assert_eq!(kind["cpu_weight_bytes"], model.weight_bytes(), "{kind}");
        }
    }
}

#[test]
fn a_kind_that_is_not_there_cannot_be_had() {
    let out = Out::of("q4", &data(MODEL), "q4");
    let place = out.0.to_str().unwrap();
    for asked in ["q8", "none"] {
        let arguments = [
            "generate",
            "--model",
            place,
            "--prompt",
            "a",
            "--quantize",
            asked,
        ];
        let words = ["in q4", &format!("--quantize {asked}"), "original folder"];
        fails(&glimpse(&arguments), &words);
    }
    fails(
        &Out::new("again").write(&out.0, "q4"),
        &["in q4 already", "original folder"],
    );
    fails(&out.write(&data(MODEL), "q4"), &["is not empty", "--out"]);
    fails(&Out::new("none").write(&data(MODEL), "none"), &["q8 or q4"]);
    fails(
        &Out::new("fp8").write(&data(MODEL), "fp8"),
        &["fp8", "q8 or q4"],
    );
    let nowhere = Out::new("nowhere");
    fails(
        &Out::new("of-nothing").write(&nowhere.0, "q4"),
        &["does not exist", "--model"],
    );
}

#[test]
fn the_processor_refuses_8_bit_floats() {
    let place = data(MODEL);
    let model = ["--model", place.to_str().unwrap(), "--device", "cpu"];
    for command in [vec!["generate", "--prompt", "a"], vec!["check"]] {
        let arguments = [&command[..], &model, &["--quantize", "fp8"]].concat();
        fails(
            &glimpse(&arguments),
            &["--quantize fp8", "8.9", "--quantize q8"],
        );
    }
}

#[test]
fn a_folder_that_is_not_what_it_says() {
    let out = Out::of("lies", &data(MODEL), "q4");
    let dense = "encoder.layers.0.self_attention.dense.weight";
    // Other blocks than told, plain weights told as blocks, and the other way round.
    out.config(|config| config["quantization_config"]["quantize"] = "q8".into());
    out.says(&[
        dense,
        "U8",
        "[24, 144]",
        "Q8_0",
        "[24, 272]",
        "glimpse quantize",
    ]);
    out.config(|config| {
        config
            .as_object_mut()
            .unwrap()
            .remove("quantization_config");
    });
    out.says(&[dense, "[24, 144]", "[24, 256]", "config.json"]);
    let plain = Out::new("plain");
    fs::create_dir_all(&plain.0).unwrap();
    for entry in fs::read_dir(data(MODEL)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, plain.0.join(path.file_name().unwrap())).unwrap();
    }
    plain.config(|config| {
        config["quantization_config"] = json!({"quant_method": "glimpse", "quantize": "q4"});
    });
    plain.says(&[dense, "BF16", "Q4K", "glimpse quantize"]);
    // What others quantized.
    plain.config(|config| {
        config["quantization_config"] =
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true});
    });
    plain.says(&["quantization_config", "\"bitsandbytes\"", "published"]);
    // Interrupted before the end.
    fs::remove_file(out.0.join("config.json")).unwrap();
    out.says(&["config.json is missing"]);
}
