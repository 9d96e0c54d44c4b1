//! The model against the double-precision reference (`tests/reference`), on small checkpoints of odd shapes.

use candle_core::{DType, Device, Tensor};
use glimpse_image as image;
use model::Quantize;
use model::glm4v::{Config, Model, expand, inventory};
use model::kernels::{Arena, PAGE, Plan, Span};
use model::weights::{Folder, Weights};

use crate::support::{Golden, checkpoints};

/// Of the prompt's logits every so many columns are kept.
const STRIDE: usize = 4;

fn load(golden: &Golden, dtype: DType) -> Model {
    let files = Folder::OnDisk(golden.folder.clone());
    let config = Config::parse(&files.file("config.json").unwrap()).unwrap();
    let weights = Weights::open(&files, &inventory(&config).unwrap()).unwrap();
    Model::load(
        config,
        &weights,
        dtype,
        Quantize::None,
        &Device::Cpu,
        &mut |_, _| {},
    )
    .unwrap()
}

/// The largest difference.
fn difference(got: &[Vec<f32>], exact: &[Vec<f32>]) -> f64 {
    assert_eq!((got.len(), got[0].len()), (exact.len(), exact[0].len()));
    let pairs = got.iter().zip(exact).flat_map(|(g, e)| g.iter().zip(e));
    pairs.fold(0.0, |most, (g, e)| {
        let off = (f64::from(*g) - f64::from(*e)).abs();
        assert!(off.is_finite());
        f64::max(most, off)
    })
}

/// One conversation in a cache of its own.
struct Solo<'a> {
    model: &'a Model,
    arena: Arena,
    pages: Vec<u32>,
}

impl<'a> Solo<'a> {
    fn new(model: &'a Model) -> Self {
        let pages = model.config.max_entries().min(512).div_ceil(PAGE);
        Solo {
            model,
            arena: model.arena(pages).unwrap(),
            // Any order will do.
            pages: (0..pages as u32).rev().collect(),
        }
    }

    /// The logits after each row of `x`, which stands at `start`.
    fn run(&self, x: &Tensor, start: usize, places: &[u32]) -> Vec<Vec<f32>> {
        let span = Span {
            start,
            len: places.len(),
            pages: self.pages.clone(),
        };
        let decoder = &self.model.decoder;
        let plan = Plan::new(vec![span], places, decoder.rotary()).unwrap();
        let hidden = decoder.forward(x.clone(), &plan, &self.arena, None);
        let logits = decoder.logits(&hidden.unwrap().unwrap()).unwrap();
        logits.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
    }
}

/// How far vision and logits are off, at most.
struct Off {
    vision: f64,
    logits: f64,
}

/// Vision, the prompt's logits and those of every answer, each follow-up on what the cache holds; prompts are taken in
/// pieces of `piece` entries.
fn check(golden: &Golden, dtype: DType, piece: usize) -> Off {
    let model = load(golden, dtype);
    let pieces = match piece {
        usize::MAX => "whole".into(),
        n => format!("pieces of {n}"),
    };
    let name = format!("{} in {dtype:?}, {pieces}", golden.name());
    let size = model.config.vision_config.image_size as u32;
    let picture = image::load(&golden.picture(), size, &image::Options::default()).unwrap();
    let seen = model.vision.encode(&picture.pixels).unwrap();
    let rows = seen.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    let vision = difference(&rows, &golden.rows("vision"));

    let solo = Solo::new(&model);
    let mut cached = 0;
    let mut most = 0f64;
    for (turn, expected) in golden.conversation.iter().enumerate() {
        let begin = model.config.boi_token_id;
        let picture = expected.prompt_ids.iter().position(|id| *id == begin);
        let prompt = expand(&expected.prompt_ids, picture, &model.config);
        let entries = prompt.entries().len();
        let places = prompt.positions(0..entries);
        assert_eq!(places, expected.position_ids, "{name}");
        let x = model.embed(&prompt, Some(&seen)).unwrap();
        let mut logits = Vec::new();
        while cached < entries {
            let len = piece.min(entries - cached);
            let x = x.narrow(0, cached, len).unwrap().contiguous().unwrap();
            logits.extend(solo.run(&x, cached, &places[cached..cached + len]));
            cached += len;
        }
        if turn == 0 {
            let kept: Vec<Vec<f32>> = logits
                .iter()
                .map(|row| row.iter().step_by(STRIDE).copied().collect())
                .collect();
            let off = difference(&kept, &golden.rows("prompt_logits"));
            most = most.max(off);
        }
        let mut place = places[places.len() - 1];
        let mut steps = vec![logits.pop().unwrap()];
        for id in &expected.answer_ids[..expected.answer_ids.len() - 1] {
            place += 1;
            let x = model.decoder.embed(&[*id]).unwrap();
            steps.extend(solo.run(&x, cached, &[place]));
            cached += 1;
        }
        let off = difference(&steps, &golden.rows(&format!("turn_{turn}_logits")));
        most = most.max(off);
    }
    let off = Off {
        vision,
        logits: most,
    };
    println!("{name}: vision {vision:.1e}, logits {most:.1e}");
    off
}

#[test]
fn f32_agrees_with_double_precision_to_1e_4() {
    for golden in checkpoints() {
        for piece in [usize::MAX, 7, 1] {
            let off = check(&golden, DType::F32, piece);
            assert!(off.vision < 1e-4 && off.logits < 1e-4, "{}", golden.name());
        }
    }
}

#[test]
fn bf16_agrees_with_double_precision_to_2e_2() {
    for golden in checkpoints() {
        let off = check(&golden, DType::BF16, usize::MAX);
        assert!(off.vision < 2e-2 && off.logits < 2e-2, "{}", golden.name());
    }
}

/// The CPU computes in f32, whatever the weights are kept in: those stored in bf16, as the published ones are, lose nothing.
#[test]
fn weights_stored_in_bf16_are_exact_in_bf16() {
    let stored = checkpoints()
        .into_iter()
        .filter(|g| g.name().contains("bf16"));
    let off: Vec<Off> = stored.map(|g| check(&g, DType::BF16, usize::MAX)).collect();
    assert!(!off.is_empty());
    assert!(off.iter().all(|o| o.vision < 1e-4 && o.logits < 1e-4));
}
