//! The model against the double-precision reference (`tests/reference`), on small checkpoints of odd shapes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use glimpse::glm4v::{Config, Folder, Model, Weights, expand, positions};
use glimpse::kernels::{PAGE, Span};

fn checkpoints() -> Vec<PathBuf> {
    let folder = std::env::var("CKPT").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("data/checkpoints"),
        PathBuf::from,
    );
    let mut all: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("goldens.safetensors").exists())
        .collect();
    all.sort();
    assert!(!all.is_empty(), "no checkpoints in {}", folder.display());
    all
}

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn ids(&self, name: &str) -> Vec<u32> {
        self.0[name]
            .to_vec1::<i64>()
            .unwrap()
            .into_iter()
            .map(|id| id as u32)
            .collect()
    }

    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        let t = &self.0[name];
        let t = if t.rank() == 3 {
            t.squeeze(0).unwrap()
        } else {
            t.clone()
        };
        t.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }
}

fn load(folder: &Path, dtype: DType) -> (Model, Golden) {
    let files = Folder::OnDisk(folder.into());
    let config = Config::parse(&files.file("config.json").unwrap()).unwrap();
    let weights = Weights::open(&files, &config).unwrap();
    let model = Model::load(config, &weights, dtype, &Device::Cpu, &mut |_, _| {}).unwrap();
    let golden =
        candle_core::safetensors::load(folder.join("goldens.safetensors"), &Device::Cpu).unwrap();
    (model, Golden(golden))
}

/// The largest difference, beside the largest value.
fn difference(got: &[Vec<f32>], exact: &[Vec<f64>]) -> f64 {
    assert_eq!((got.len(), got[0].len()), (exact.len(), exact[0].len()));
    let pairs = got.iter().zip(exact).flat_map(|(g, e)| g.iter().zip(e));
    pairs.fold(0.0, |most, (g, e)| {
        let off = (f64::from(*g) - e).abs();
        assert!(off.is_finite());
        f64::max(most, off)
    })
}

fn vectors(model: &Model, golden: &Golden) -> Tensor {
    let pixels = golden.0["pixels"]
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    model.vision.encode(&pixels).unwrap()
}

/// Vision, all logits of the prompt, and greedy decoding in `pieces` of the prompt.
fn check(folder: &Path, dtype: DType, tolerance: f64, piece: usize) {
    let (model, golden) = load(folder, dtype);
    let name = folder.file_name().unwrap().to_string_lossy();
    let seen = vectors(&model, &golden);
    let rows = seen.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    let off = difference(&rows, &golden.rows("vision"));
    assert!(
        off < tolerance,
        "{name} in {dtype:?}: vision is off by {off}"
    );

    let prompt = expand(golden.ids("prompt_ids"), &model.config);
    let places = positions(&prompt.entries, 0);
    assert_eq!(places, golden.ids("position_ids"), "{name}");
    let begin = prompt
        .entries
        .iter()
        .position(|e| *e == model.config.boi_token_id)
        .unwrap();
    let n = model.config.image_tokens();
    let embed = |ids: &[u32]| model.decoder.embed(ids).unwrap();
    let x = Tensor::cat(
        &[
            &embed(&prompt.entries[..begin]),
            &seen,
            &embed(&prompt.entries[begin + n..]),
        ],
        0,
    )
    .unwrap();

    let total = prompt.entries.len();
    let pages: Vec<u32> = (0..(total + 16).div_ceil(PAGE) as u32).rev().collect();
    let arena = model.arena(pages.len()).unwrap();
    let mut logits = Vec::new();
    let mut start = 0;
    while start < total {
        let len = piece.min(total - start);
        let span = Span {
            start,
            len,
            pages: pages.clone(),
        };
        let x = x.narrow(0, start, len).unwrap().contiguous().unwrap();
        let plan = glimpse::kernels::Plan::new(
            vec![span],
            &places[start..start + len],
            model.decoder.rotary(),
        )
        .unwrap();
        let hidden = model.decoder.forward(x, &plan, &arena).unwrap();
        let all: Vec<u32> = (0..len as u32).collect();
        let scores = model.decoder.logits(&hidden, &all).unwrap();
        logits.extend(
            scores
                .to_dtype(DType::F32)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap(),
        );
        start += len;
    }
    let off = difference(&logits, &golden.rows("prompt_logits"));
    assert!(
        off < tolerance,
        "{name} in {dtype:?}, pieces of {piece}: logits are off by {off}"
    );

    let expected = golden.ids("greedy_ids");
    let exact = golden.rows("greedy_logits");
    for (i, (id, exact)) in expected.iter().zip(&exact).enumerate() {
        let last = logits.last().unwrap();
        let off = difference(std::slice::from_ref(last), std::slice::from_ref(exact));
        assert!(
            off < tolerance,
            "{name} in {dtype:?}: token {i} is off by {off}"
        );
        let span = Span {
            start: total + i,
            len: 1,
            pages: pages.clone(),
        };
        let place = places[total - 1] + 1 + i as u32;
        let hidden = model
            .forward(embed(&[*id]), vec![span], &[place], &arena)
            .unwrap();
        logits.extend(model.logits(&hidden, &[0]).unwrap());
    }
}

#[test]
fn f32_agrees_with_double_precision_to_1e_4() {
    for folder in checkpoints() {
        for piece in [usize::MAX, 7, 1] {
            check(&folder, DType::F32, 1e-4, piece);
        }
    }
}

#[test]
fn bf16_agrees_with_double_precision_to_2e_2() {
    for folder in checkpoints() {
        check(&folder, DType::BF16, 2e-2, usize::MAX);
    }
}
