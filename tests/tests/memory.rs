//! Loading holds no weights twice: the most memory that a process ever had, for each way to keep them. One test, since a
//! process can tell the largest of its children only.
#![cfg(target_os = "linux")]

#[path = "system/support.rs"]
mod support;

use std::borrow::Cow;
use std::fs;

use model::glm4v::{Config, inventory};
use safetensors::tensor::{Dtype, View};
use serde_json::{Value, json};
use support::{data, glimpse};

/// Small bf16 values, made when they are asked for.
struct Stored(Vec<usize>);

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.0
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let pairs = (0..self.data_len() / 2).map(|i| [(i % 251) as u8, 0x3c]);
        pairs.flatten().collect()
    }

    fn data_len(&self) -> usize {
        2 * self.0.iter().product::<usize>()
    }
}

/// The most bytes that any child had, in memory.
fn most() -> u64 {
    // SAFETY: plain numbers, which the call fills.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    assert_eq!(
        unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) },
        0
    );
    usage.ru_maxrss as u64 * 1024
}

#[test]
fn loading_takes_little_more_than_the_weights() {
    let folder = std::env::temp_dir().join(format!("glimpse-memory-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let small = data("checkpoints/wide-heads-mixed");
    for name in ["tokenizer.model", "tokenizer_config.json"] {
        fs::copy(small.join(name), folder.join(name)).unwrap();
    }
    let config = fs::read(small.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    for (key, size) in [
        ("hidden_size", 1024),
        ("ffn_hidden_size", 3424),
        ("num_layers", 6),
    ] {
        config[key] = size.into();
    }
    config["padded_vocab_size"] = 16_384.into();
    config["seq_length"] = 256.into();
    let text = config.to_string();
    fs::write(folder.join("config.json"), &text).unwrap();
    let config = Config::parse(text.as_bytes()).unwrap();
    let specs = inventory(&config).unwrap().specs;
    let views = specs
        .iter()
        .map(|spec| (spec.name.clone(), Stored(spec.shape.clone())));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();

    let model = folder.to_str().unwrap();
    let report = glimpse(&["inspect", "--model", model, "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["problems"], json!([]));
    let base = most();
    // The largest tensor, as it is stored and as it is kept, may be on its way; what is small is not counted.
    let words = 16_384 * 1024;
    const SMALL: u64 = 16 << 20;
    for (quantize, on_its_way) in [("q4", 0), ("q8", 0), ("none", words * 6)] {
        let taken = report["memory"].as_array().unwrap();
        let taken = taken.iter().find(|m| m["quantize"] == quantize).unwrap();
        let weights = taken["cpu_weight_bytes"].as_u64().unwrap();
        let flags = [
            "--quantize",
            quantize,
            "--max-new-tokens",
            "1",
            "--threads",
            "2",
        ];
        let run = [
            "generate", "--model", model, "--prompt", "a", "--device", "cpu",
        ];
        let output = glimpse(&[&run, &flags[..]].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (most, bar) = (most(), base + weights + on_its_way + SMALL);
        println!("{quantize}: {most} bytes for {weights} bytes of weights");
        assert!(
            most > weights && most < bar,
            "{quantize}: {most} of at most {bar}"
        );
    }
    fs::remove_dir_all(&folder).unwrap();
}
