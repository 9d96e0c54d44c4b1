//! What `--quantize` costs and gives: exact answers by kind of question, how often the likeliest token is the same and how
//! far the distributions are apart (given the plain model's answer so far), and the speed, all side by side.
//!
//! ```sh
//! python models/demo/train/evaluate.py --save /tmp/held-out --each 20
//! cargo run --release -p glimpse --example agreement -- /tmp/held-out/questions.jsonl [MODEL]
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use glimpse::checkpoint::{Checkpoint, DEMO, folder};
use glimpse::config::Quantize;
use glimpse::device::Target;
use glimpse::glm4v::{Model, expand, positions};
use glimpse::image;
use glimpse::kernels::{Arena, PAGE, Span};
use glimpse::text::{AnswerStream, Turn, prompt};
use serde::Deserialize;

/// A line of questions.jsonl: a picture and a conversation about it, whose last question is of that kind.
#[derive(Deserialize)]
struct Row {
    image: String,
    kind: String,
    lang: String,
    turns: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    answer: String,
}

const MOST_TOKENS: usize = 96;

/// A way to keep the weights, and what came of it.
struct Variant {
    quantize: Quantize,
    model: Model,
    arena: Arena,
    pages: Vec<u32>,
    right: BTreeMap<(String, String), usize>,
    /// Answer tokens, and how many of them this one finds likeliest as the plain model does.
    tokens: usize,
    same: usize,
    /// Of the plain model's distribution from this one's, in nats.
    divergences: Vec<f64>,
    /// Milliseconds.
    vision: Vec<f64>,
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

impl Variant {
    fn load(checkpoint: &Checkpoint, quantize: Quantize) -> std::result::Result<Self, String> {
        let target = Target {
            device: Device::Cpu,
            dtype: DType::F32,
        };
        let model = checkpoint
            .load(&target, Some(quantize), &mut |_, _| {})
            .map_err(|e| e.to_string())?;
        let pages = model.config.max_entries().div_ceil(PAGE);
        Ok(Variant {
            arena: model.arena(pages).map_err(|e| e.to_string())?,
            pages: (0..pages as u32).collect(),
            quantize,
            model,
            right: BTreeMap::new(),
            tokens: 0,
            same: 0,
            divergences: Vec::new(),
            vision: Vec::new(),
            prefill: Vec::new(),
            decode: Vec::new(),
        })
    }

    fn see(&mut self, pixels: &[f32]) -> Result<Tensor> {
        let since = Instant::now();
        let vectors = self.model.vision.encode(pixels)?;
        self.vision.push(ms(since));
        Ok(vectors)
    }

    fn forward(&self, x: Tensor, start: usize, places: &[u32]) -> Result<Vec<f32>> {
        let span = Span {
            start,
            len: places.len(),
            pages: self.pages.clone(),
        };
        let hidden = self
            .model
            .forward(x, vec![span], places, &self.arena, &[0])?;
        Ok(self.model.logits(&hidden)?.remove(0))
    }

    /// The logits at each step of an answer: `given`, or where there is none its own greedy one.
    fn answer(
        &mut self,
        ids: &[u32],
        seen: &Tensor,
        given: Option<&[u32]>,
    ) -> Result<Vec<Vec<f32>>> {
        let config = &self.model.config;
        let entries = expand(ids.to_vec(), config).entries;
        let places = positions(&entries, 0);
        let used = places.last().map_or(0, |last| last + 1);
        let since = Instant::now();
        let x = self.model.embed(&entries, Some(seen))?;
        let mut steps = vec![self.forward(x, 0, &places)?];
        self.prefill.push(ms(since));
        loop {
            let at = steps.len() - 1;
            let id = match given {
                Some(given) => given[at],
                None => likeliest(&steps[at]),
            };
            let over = match given {
                Some(given) => at + 1 == given.len(),
                None => self.model.config.eos_token_id.as_slice().contains(&id),
            };
            if over || steps.len() == MOST_TOKENS {
                return Ok(steps);
            }
            let since = Instant::now();
            let x = self.model.decoder.embed(&[id])?;
            steps.push(self.forward(x, entries.len() + at, &[used + at as u32])?);
            self.decode.push(ms(since));
        }
    }

    fn compare(&mut self, plain: &[Vec<f32>], mine: &[Vec<f32>]) {
        for (plain, mine) in plain.iter().zip(mine) {
            self.tokens += 1;
            self.same += usize::from(likeliest(plain) == likeliest(mine));
            let (p, q) = (log_softmax(plain), log_softmax(mine));
            self.divergences
                .push(p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum());
        }
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let off = |l: &f32| f64::from(*l - most);
    let log = logits.iter().map(|l| off(l).exp()).sum::<f64>().ln();
    logits.iter().map(|l| off(l) - log).collect()
}

/// The value at a share of the sorted samples.
fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len() as f64) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn ask(
    row: &Row,
    place: &Path,
    checkpoint: &Checkpoint,
    variants: &mut [Variant],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let size = checkpoint.config.vision_config.image_size as u32;
    let file = std::fs::read(place.join(&row.image))?;
    let picture = image::load(&file, size, &image::Options::default())?;
    let pixels = picture.pixels.to_f32_chw();
    let seen = variants
        .iter_mut()
        .map(|v| v.see(&pixels))
        .collect::<Result<Vec<_>>>()?;
    let mut history = Vec::new();
    for (t, turn) in row.turns.iter().enumerate() {
        let ids = prompt(&checkpoint.tokenizer, &history, &turn.question, true)?;
        let text = |ids: &[u32]| {
            let mut stream = AnswerStream::new(checkpoint.tokenizer.clone(), vec![]);
            let ends = checkpoint.config.eos_token_id.as_slice();
            let shown = ids.iter().filter(|id| !ends.contains(id));
            let said: String = shown.map(|id| stream.push(*id)).collect();
            said + &stream.finish()
        };
        let of = |steps: &[Vec<f32>]| steps.iter().map(|s| likeliest(s)).collect::<Vec<_>>();
        let plain = variants[0].answer(&ids, &seen[0], None)?;
        let said = of(&plain);
        for (variant, seen) in variants.iter_mut().zip(&seen) {
            let mut own = said.clone();
            if variant.quantize != Quantize::None {
                let steps = variant.answer(&ids, seen, Some(&said))?;
                variant.compare(&plain, &steps);
                if of(&steps) != said {
                    own = of(&variant.answer(&ids, seen, None)?);
                }
            }
            if t + 1 == row.turns.len() {
                let right = usize::from(text(&own).trim() == turn.answer);
                *variant
                    .right
                    .entry((row.kind.clone(), row.lang.clone()))
                    .or_default() += right;
            }
        }
        history.push(Turn {
            question: turn.question.clone(),
            answer: text(&said),
            answer_ids: Some(said),
        });
    }
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let questions = arguments
        .next()
        .ok_or("agreement QUESTIONS.jsonl [MODEL]")?;
    let questions = Path::new(&questions);
    let from = arguments
        .next()
        .map_or_else(|| DEMO.clone(), |model| folder(Path::new(&model)));
    glimpse::device::settle_threads(None);
    let checkpoint = Checkpoint::open(&from)?;
    let mut variants = [Quantize::None, Quantize::Q8, Quantize::Q4]
        .map(|quantize| Variant::load(&checkpoint, quantize))
        .into_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let rows = std::fs::read_to_string(questions)?;
    let rows: Vec<Row> = rows
        .lines()
        .map(serde_json::from_str)
        .collect::<std::result::Result<_, _>>()?;
    let mut asked = BTreeMap::<_, usize>::new();
    let place = questions.parent().unwrap_or(Path::new("."));
    for (i, row) in rows.iter().enumerate() {
        ask(row, place, &checkpoint, &mut variants)?;
        *asked
            .entry((row.kind.clone(), row.lang.clone()))
            .or_default() += 1;
        if (i + 1) % 50 == 0 {
            eprintln!("{} of {}", i + 1, rows.len());
        }
    }

    println!("| exact answers | language | of | plain | q8 | q4 |\n|---|---|---|---|---|---|");
    for ((kind, lang), n) in &asked {
        let right = variants
            .iter()
            .map(|v| v.right[&(kind.clone(), lang.clone())].to_string());
        let right = right.collect::<Vec<_>>().join(" | ");
        println!("| {kind} | {lang} | {n} | {right} |");
    }
    let all = variants.iter().map(|v| v.right.values().sum::<usize>());
    let all: Vec<String> = all
        .map(|n| format!("{n} ({:.1}%)", 100.0 * n as f64 / rows.len() as f64))
        .collect();
    println!("| all | | {} | {} |\n", rows.len(), all.join(" | "));

    println!("| | plain | q8 | q4 |\n|---|---|---|---|");
    let line = |what: &str, tell: &dyn Fn(&Variant) -> String| {
        let cells: Vec<String> = variants.iter().map(tell).collect();
        println!("| {what} | {} |", cells.join(" | "));
    };
    line("weights, MB", &|v| {
        format!("{:.1}", v.model.weight_bytes() as f64 / 1e6)
    });
    line("same likeliest token", &|v| match v.tokens {
        0 => "–".into(),
        n => format!("{:.2}% of {n}", 100.0 * v.same as f64 / n as f64),
    });
    line("KL divergence, mean", &|v| match v.divergences.len() {
        0 => "–".into(),
        n => format!("{:.1e}", v.divergences.iter().sum::<f64>() / n as f64),
    });
    line(
        "KL divergence, 99th percentile",
        &|v| match v.divergences.len() {
            0 => "–".into(),
            _ => format!("{:.1e}", quantile(&v.divergences, 0.99)),
        },
    );
    // The fastest tenth: what else runs on the machine makes the rest slower, not these.
    let fast = |samples: &[f64]| quantile(samples, 0.1);
    let plain = &variants[0];
    let against = |mine: &[f64], plain: &[f64]| {
        format!("{:.2} ms ({:.2}×)", fast(mine), fast(plain) / fast(mine))
    };
    line("vision tower", &|v| against(&v.vision, &plain.vision));
    line("prefill of picture and question", &|v| {
        against(&v.prefill, &plain.prefill)
    });
    line("one more token", &|v| against(&v.decode, &plain.decode));
    Ok(())
}
