//! The model on a card against the same model on the CPU.

use std::collections::HashMap;
use std::path::PathBuf;

use api::Pixels;
use candle_core::{DType, Device, Tensor};
use glimpse_model::Quantize;
use glimpse_model::glm4v::{Config, Model, inventory};
use glimpse_model::kernels::cuda::ScoreReader;
use glimpse_model::kernels::{Arena, PAGE, Span};
use glimpse_model::scores::{Chosen, Scores, Wanted};
use glimpse_model::weights::{Folder, Weights};

use super::support::card;

type Files = &'static [(&'static str, &'static [u8])];

macro_rules! folder {
    ($folder:literal: $($file:literal),*) => {
        &[$(($file, include_bytes!(concat!("../../../../tests/data/checkpoints/", $folder, "/", $file)))),*]
    };
}

/// The small checkpoints of odd shapes.
const SMALL: [(&str, Files); 5] = [
    (
        "one-group-f32",
        folder!("one-group-f32": "config.json", "model.safetensors"),
    ),
    (
        "four-groups-f16",
        folder!("four-groups-f16": "config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors"),
    ),
    (
        "tied-f16",
        folder!("tied-f16": "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"),
    ),
    (
        "two-groups-bf16",
        folder!("two-groups-bf16": "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"),
    ),
    (
        "wide-heads-mixed",
        folder!("wide-heads-mixed": "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"),
    ),
];

/// Sizes whose decode steps have kernels of their own, in every format; the published model's heads.
const ALIGNED: &str = r#"{
    "num_layers": 3, "hidden_size": 512, "num_attention_heads": 16, "kv_channels": 128, "ffn_hidden_size": 800,
    "padded_vocab_size": 1024, "seq_length": 512, "multi_query_group_num": 2, "eos_token_id": [1001, 1008, 1010],
    "boi_token_id": 1011, "eoi_token_id": 1012,
    "vision_config": {"image_size": 112, "patch_size": 14, "hidden_size": 224, "num_hidden_layers": 2, "num_heads": 2,
        "intermediate_size": 512, "num_positions": 65}
}"#;

/// Sizes that a step of many rows has kernels for, odd as they may be: what a block has of outputs is no whole number of tiles, and
/// the last pass through the MLP's inner columns is one of few.
const MANY: &str = r#"{
    "num_layers": 3, "hidden_size": 640, "num_attention_heads": 12, "kv_channels": 128, "ffn_hidden_size": 5056,
    "padded_vocab_size": 1021, "seq_length": 1400, "multi_query_group_num": 2, "eos_token_id": [1001, 1008, 1010],
    "boi_token_id": 1011, "eoi_token_id": 1012,
    "vision_config": {"image_size": 112, "patch_size": 14, "hidden_size": 224, "num_hidden_layers": 2, "num_heads": 2,
        "intermediate_size": 512, "num_positions": 65}
}"#;

fn load(folder: &Folder, dtype: DType, quantize: Quantize, device: &Device) -> Model {
    let config = Config::parse(&folder.file("config.json").unwrap()).unwrap();
    let weights = Weights::open(folder, &inventory(&config).unwrap()).unwrap();
    Model::load(config, &weights, dtype, quantize, device, &mut |_, _| {}).unwrap()
}

/// One conversation in a cache of its own.
struct Solo {
    model: Model,
    arena: Arena,
    pages: Vec<u32>,
}

impl Solo {
    fn new(model: Model) -> Self {
        let arena = model.arena(9).unwrap();
        let pages = vec![7, 2, 5, 8];
        Solo {
            model,
            arena,
            pages,
        }
    }

    fn next(&self, ids: &[u32], start: usize) -> Vec<f32> {
        let places: Vec<u32> = (start..start + ids.len()).map(|p| p as u32).collect();
        let span = Span {
            start,
            len: ids.len(),
            pages: self.pages.clone(),
        };
        let logits = self.model.next(ids, vec![span], &places, &self.arena, &[0]);
        logits.unwrap().remove(0)
    }
}

fn most_different(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|x| x.is_finite()));
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn likeliest(logits: &[f32]) -> usize {
    (0..logits.len())
        .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
        .unwrap()
}

/// Prefill, then decode steps, on both; the CPU's answer is continued on both. The largest difference of logits.
fn conversation(name: &str, cpu: &Solo, card: &Solo, bar: f32) {
    let vocabulary = cpu.model.config.padded_vocab_size as u32;
    let prompt: Vec<u32> = (0..70).map(|i| (i * 37 + 11) % vocabulary).collect();
    let (mut at, mut ids) = (0, prompt);
    for step in 0..8 {
        let (exact, got) = (cpu.next(&ids, at), card.next(&ids, at));
        let off = most_different(&exact, &got);
        let largest = exact.iter().fold(1f32, |m, x| m.max(x.abs()));
        assert!(
            off <= bar * largest,
            "{name}, step {step}: logits are off by {off} of {largest}"
        );
        let (a, b) = (likeliest(&exact), likeliest(&got));
        assert!(
            a == b || exact[a] - exact[b] < 2.0 * bar * largest,
            "{name}, step {step}: {b} instead of {a}"
        );
        at += ids.len();
        ids = vec![a as u32];
    }
}

/// The largest difference between two pictures' vectors, relative to the largest of the first.
fn vision_off(cpu: &Model, card: &Model) -> f32 {
    let size = cpu.config.vision_config.image_size;
    let bytes: Vec<u8> = (0..3 * size * size).map(|i| (i * 31 % 251) as u8).collect();
    let pixels = Pixels::new(size as u32, bytes);
    let values = |m: &Model| -> Vec<f32> {
        let x = m
            .vision
            .encode(&pixels)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap();
        x.flatten_all().unwrap().to_vec1().unwrap()
    };
    let exact = values(cpu);
    let largest = exact.iter().fold(0f32, |m, x| m.max(x.abs()));
    most_different(&exact, &values(card)) / largest
}

#[test]
fn small_checkpoints_agree_with_the_cpu() {
    let Some(device) = card() else { return };
    for (name, files) in SMALL {
        let folder = Folder::Embedded(files);
        let cpu = Solo::new(load(&folder, DType::F32, Quantize::None, &Device::Cpu));
        for (dtype, bar) in [(DType::F32, 1e-4), (DType::F16, 4e-3), (DType::BF16, 2e-2)] {
            let card = Solo::new(load(&folder, dtype, Quantize::None, &device));
            let what = format!("{name} in {dtype:?}");
            conversation(&what, &cpu, &card, bar);
            let off = vision_off(&cpu.model, &card.model);
            assert!(off <= 2.0 * bar, "{what}: the picture is off by {off}");
        }
    }
}

/// A folder that goes when its test is over.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A folder with random weights, the same for every device.
fn random(name: &str, json: &str) -> (Kept, Folder) {
    let path = std::env::temp_dir().join(format!("glimpse-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("config.json"), json).unwrap();
    let config = Config::parse(json.as_bytes()).unwrap();
    let all: HashMap<String, Tensor> = inventory(&config)
        .unwrap()
        .specs
        .into_iter()
        .map(|spec| {
            let norm = spec.name.ends_with("norm.weight") || spec.name.ends_with("norm1.weight");
            let deviation = match &spec.shape[..] {
                [_, row] => 1.0 / (*row as f32).sqrt(),
                _ => 0.1,
            };
            let mean = if norm { 1f32 } else { 0f32 };
            let x = Tensor::randn(mean, deviation, spec.shape.clone(), &Device::Cpu).unwrap();
            (spec.name, x.to_dtype(DType::BF16).unwrap())
        })
        .collect();
    candle_core::safetensors::save(&all, path.join("model.safetensors")).unwrap();
    (Kept(path.clone()), Folder::OnDisk(path))
}

#[test]
fn decode_steps_agree_with_the_cpu_in_every_format() {
    let Some(device) = card() else { return };
    let (_kept, folder) = random("formats", ALIGNED);
    for quantize in [Quantize::None, Quantize::Q8, Quantize::Fp8, Quantize::Q4] {
        let cpu = Solo::new(load(&folder, DType::F32, quantize, &Device::Cpu));
        for (dtype, bar) in [(DType::F16, 5e-3), (DType::BF16, 3e-2)] {
            let card = Solo::new(load(&folder, dtype, quantize, &device));
            conversation(&format!("{quantize:?} in {dtype:?}"), &cpu, &card, bar);
            let off = vision_off(&cpu.model, &card.model);
            assert!(
                off <= 2.0 * bar,
                "{quantize:?}: the picture is off by {off}"
            );
        }
    }
}

/// Two sequences in one step get what each gets alone, also when they change places and grow over a page.
#[test]
fn two_in_a_step_get_what_each_gets_alone() {
    let Some(device) = card() else { return };
    let (_kept, folder) = random("pairs", ALIGNED);
    for quantize in [Quantize::None, Quantize::Fp8] {
        two_in_a_step(&load(&folder, DType::BF16, quantize, &device));
    }
}

fn two_in_a_step(model: &Model) {
    let arena = model.arena(12).unwrap();
    let span = |slot: u32, start: usize, len: usize| Span {
        start,
        len,
        pages: (slot * 3..slot * 3 + 3).collect(),
    };
    let starts = [PAGE - 2, 2 * PAGE - 1];
    for slot in 0..4 {
        let start = starts[slot as usize % 2];
        let ids: Vec<u32> = (0..start as u32)
            .map(|i| (i * 13 + slot % 2 * 5) % 1000)
            .collect();
        let places: Vec<u32> = (0..start as u32).collect();
        model
            .next(&ids, vec![span(slot, 0, start)], &places, &arena, &[0])
            .unwrap();
    }
    for step in 0..5 {
        let at = starts.map(|s| s + step);
        let ids = [7 + step as u32, 900 - step as u32];
        let order = if step % 2 == 0 { [0, 1] } else { [1, 0] };
        let spans = order.map(|s| span(s as u32, at[s], 1)).to_vec();
        let together = model
            .next(
                &order.map(|s| ids[s]),
                spans,
                &order.map(|s| at[s] as u32),
                &arena,
                &[0, 1],
            )
            .unwrap();
        for (row, s) in order.into_iter().enumerate() {
            let alone = span(s as u32 + 2, at[s], 1);
            let alone = model
                .next(&[ids[s]], vec![alone], &[at[s] as u32], &arena, &[0])
                .unwrap();
            let off = most_different(&together[row], &alone[0]);
            assert!(off < 1e-3, "step {step}, sequence {s}: off by {off}");
        }
    }
}

/// Of a step of any number of sequences the largest scores alone are what all scores have at most; a mixture of both too, and
/// where none is asked for none comes.
#[test]
fn the_largest_scores_are_those_of_all() {
    let Some(device) = card() else { return };
    for (name, config) in [("largest-few", ALIGNED), ("largest-many", MANY)] {
        let (_kept, folder) = random(name, config);
        let model = load(&folder, DType::BF16, Quantize::None, &device);
        let arena = model.arena(16).unwrap();
        for rows in [1, 2, 3, 8, 16] {
            let ids: Vec<u32> = (0..rows as u32).map(|row| row * 31 % 1000).collect();
            let span = |slot: usize| Span {
                start: 0,
                len: 1,
                pages: vec![slot as u32],
            };
            let step = |wanted: &dyn Fn(usize) -> Option<Wanted>| {
                let chosen = (0..rows).filter_map(|span| Some((span, wanted(span)?)));
                let chosen: Vec<Chosen> = chosen
                    .map(|(span, wanted)| Chosen { span, wanted })
                    .collect();
                let (spans, places) = ((0..rows).map(span).collect(), vec![0; rows]);
                model
                    .next_scores(&ids, spans, &places, &arena, &chosen)
                    .unwrap()
            };
            let all = step(&|_| Some(Wanted::All));
            for count in [1, 50, 128] {
                let few = step(&|_| Some(Wanted::Largest(count)));
                let mixed = step(&|row| Some([Wanted::All, Wanted::Largest(count)][row % 2]));
                for row in 0..rows {
                    assert_listed(&all[row], &few[row], count);
                    match row % 2 {
                        0 => assert_eq!(mixed[row], all[row]),
                        _ => assert_listed(&all[row], &mixed[row], count),
                    }
                }
            }
            assert_eq!(step(&|_| None), []);
        }
    }
}

/// What is listed is all that reaches some bound, `count` at least and not many more.
fn assert_listed(all: &Scores, few: &Scores, count: usize) {
    let Scores::All(all) = all else {
        panic!("all scores were asked for")
    };
    let Scores::Largest(few) = few else {
        // A table in which too many reach the bound, which a small one may be.
        return assert!(all.len() < 64 * count, "all {} scores came", all.len());
    };
    assert!(few.ids.len() >= count && few.ids.is_sorted());
    let least = few.scores.iter().copied().fold(f32::INFINITY, f32::min);
    let reach = (0u32..).zip(all).filter(|(_, score)| **score >= least);
    let (ids, scores): (Vec<u32>, Vec<f32>) = reach.unzip();
    assert_eq!((&few.ids, &few.scores), (&ids, &scores));
}

/// Tables as a model may give them, of the published size: the lists of each row, or all of it where there is no list.
#[test]
fn tables_of_any_kind_are_searched() {
    let Some(device) = card() else { return };
    let vocabulary = 151_552;
    let noise = |seed: u32| -> Vec<f32> {
        let mixed = |at: u32| (at ^ seed).wrapping_mul(0x9e37_79b9).rotate_left(13);
        (0..vocabulary)
            .map(|at| mixed(at).wrapping_mul(0x85eb_ca6b) as f32 / 2f32.powi(29) - 4.0)
            .collect()
    };
    let mut rows: Vec<Vec<f32>> = (0..6).map(noise).collect();
    rows[1].fill(0.5);
    rows[2][77_000] = f32::NAN;
    rows[3][151_551] = f32::INFINITY;
    rows[4].fill(f32::NEG_INFINITY);
    rows[4][..700].copy_from_slice(&noise(9)[..700]);
    for (at, score) in rows[5].iter_mut().enumerate() {
        *score = match at % 3000 {
            0 => 0.0,
            1 => -0.0,
            _ => -1.0,
        };
    }
    let table = Tensor::new(rows.concat(), &device).unwrap();
    let table = table.reshape((rows.len(), vocabulary as usize)).unwrap();
    let wanted = vec![Wanted::Largest(50); rows.len()];
    let found = ScoreReader::of(&table)
        .and_then(|mut reader| reader.read_table(&table, &wanted))
        .unwrap();
    for (row, (found, scores)) in found.iter().zip(&rows).enumerate() {
        match (row, found) {
            (0 | 5, Scores::Largest(_)) => {
                assert_listed(&Scores::All(scores.clone()), found, 50);
            }
            (1..=4, Scores::All(all)) => {
                let bits = |scores: &[f32]| scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(all), bits(scores));
            }
            _ => panic!("row {row}: {} scores", found.len()),
        }
    }
}

/// Every number of sequences that a step can have, from an empty cache to a thousand entries, also where the new one is the first
/// or the last of a page or of what a warp attends to at once: on the card what the CPU finds for each alone in f32;
/// and each step's entries are there for the next.
#[test]
fn many_in_a_step_get_what_each_gets_alone_on_the_cpu() {
    let Some(device) = card() else { return };
    let (_kept, folder) = random("many", MANY);
    for quantize in [Quantize::None, Quantize::Fp8] {
        let cpu = load(&folder, DType::F32, quantize, &Device::Cpu);
        many_in_a_step(&cpu, &load(&folder, DType::BF16, quantize, &device));
    }
}

fn many_in_a_step(cpu: &Model, model: &Model) {
    let starts = [
        1, 1000, 15, 16, 17, 31, 63, 64, 65, 127, 128, 300, 47, 48, 500, 2,
    ];
    let most = 1100usize.div_ceil(PAGE);
    let span = |slot: usize, start: usize, len: usize| Span {
        start,
        len,
        pages: (0..most)
            .map(|p| (p * starts.len() + slot) as u32)
            .collect(),
    };
    let ids = |slot: usize, start: usize, len: usize| -> Vec<u32> {
        let id = |at: usize| (at * 13 + slot * 57) as u32 % 1000;
        (start..start + len).map(id).collect()
    };
    let places =
        |start: usize, len: usize| -> Vec<u32> { (start..start + len).map(|p| p as u32).collect() };
    let begin = |model: &Model| {
        let arena = model.arena(most * starts.len()).unwrap();
        for (slot, start) in starts.into_iter().enumerate() {
            let spans = vec![span(slot, 0, start)];
            let new = ids(slot, 0, start);
            model
                .next(&new, spans, &places(0, start), &arena, &[0])
                .unwrap();
        }
        arena
    };
    let cpu_arena = begin(cpu);
    let arena = begin(model);
    let mut at = starts;
    for (step, rows) in [3, 4, 7, 8, 9, 12, 15, 16, 16, 5].into_iter().enumerate() {
        // Another order every time.
        let slots: Vec<usize> = (0..rows)
            .map(|row| (row * 5 + step * 3) % starts.len())
            .collect();
        let new: Vec<u32> = slots.iter().flat_map(|s| ids(*s, at[*s], 1)).collect();
        let spans = slots.iter().map(|s| span(*s, at[*s], 1)).collect();
        let positions: Vec<u32> = slots.iter().map(|s| at[*s] as u32).collect();
        let chosen: Vec<usize> = (0..rows).collect();
        let together = model
            .next(&new, spans, &positions, &arena, &chosen)
            .unwrap();
        assert_eq!(together.len(), rows);
        for (row, slot) in slots.into_iter().enumerate() {
            let alone = vec![span(slot, at[slot], 1)];
            let exact = cpu.next(
                &new[row..=row],
                alone,
                &positions[row..=row],
                &cpu_arena,
                &[0],
            );
            let exact = exact.unwrap().remove(0);
            let largest = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
            let off = most_different(&together[row], &exact) / largest;
            assert!(off <= 3e-2, "{rows} rows, entry {}: off by {off}", at[slot]);
            at[slot] += 1;
        }
    }
}
