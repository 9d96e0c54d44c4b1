//! What a smaller number type and smaller weights cost and give: exact answers by kind of question, how often the likeliest
//! token is the same and how far the distributions are apart (given the exact model's answer so far), and the speed, all side
//! by side. Exact is f32 on the CPU; everything else is on the device that is asked for.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use serde::Deserialize;

use crate::progress::progress;
use crate::report::stats::percentile;
use api::{Conversation, Turn};
use glimpse_image::{self as image, Pixels};
use model::Quantize;
use model::checkpoint::Checkpoint;
use model::device::Target;
use model::glm4v::Model;
use model::kernels::{Arena, PAGE, Span};
use model::network::Language;
use model::prompt::Prompt;
use model::text::AnswerStream;

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

/// Questions about pictures.
pub struct Questions {
    rows: Vec<Row>,
    /// Where the pictures are.
    place: PathBuf,
}

impl Questions {
    /// Reads a file as `models/demo/train/evaluate.py --save` writes it, beside its pictures.
    ///
    /// # Errors
    /// It is not there, or a line is none of these.
    pub fn read(file: &Path) -> std::result::Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(file)?;
        let rows = text.lines().map(serde_json::from_str);
        Ok(Questions {
            rows: rows.collect::<std::result::Result<_, _>>()?,
            place: file.parent().unwrap_or(Path::new(".")).to_owned(),
        })
    }
}

const MOST_TOKENS: usize = 96;

/// A way to keep the weights, and what came of it.
struct Variant {
    name: String,
    model: Model,
    arena: Arena,
    pages: Vec<u32>,
    /// By kind and language: right answers, of so many.
    right: BTreeMap<(String, String), (usize, usize)>,
    /// Answer tokens, and how many of them this one finds likeliest as the exact model does.
    tokens: usize,
    same: usize,
    /// Of the exact model's distribution from this one's, in nats.
    divergences: Vec<f64>,
    /// Milliseconds.
    vision: Vec<f64>,
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

impl Variant {
    fn load(
        checkpoint: &Checkpoint,
        target: &Target,
        quantize: Quantize,
    ) -> std::result::Result<Self, Box<dyn Error>> {
        let model = checkpoint.load(target, quantize, &mut |_, _| {})?;
        let pages = model.config.max_entries().div_ceil(PAGE);
        let kept = match quantize {
            Quantize::None => target.dtype_name(),
            blocks => blocks.to_string(),
        };
        Ok(Variant {
            name: format!("{kept}, {}", target.device_name()),
            arena: model.arena(pages)?,
            pages: (0..pages as u32).collect(),
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

    fn see(&mut self, pixels: &Pixels) -> Result<Tensor> {
        let since = Instant::now();
        let vectors = self.model.vision.encode(pixels)?;
        self.model.device().synchronize()?;
        self.vision.push(ms(since));
        Ok(vectors)
    }

    fn span(&self, start: usize, len: usize) -> Vec<Span> {
        let pages = self.pages.clone();
        vec![Span { start, len, pages }]
    }

    /// The logits at each step of an answer: `given`, or where there is none its own greedy one.
    fn answer(
        &mut self,
        prompt: &Prompt,
        seen: &Tensor,
        given: Option<&[u32]>,
    ) -> Result<Vec<Vec<f32>>> {
        let entries = prompt.entries().len();
        let since = Instant::now();
        let x = self.model.embed(prompt, Some(seen))?;
        let (spans, places) = (self.span(0, entries), prompt.positions(0..entries));
        let hidden = self.model.forward(x, spans, places, &self.arena, &[0])?;
        let mut steps = self.model.logits(&hidden)?;
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
            let (spans, place) = (self.span(entries + at, 1), (prompt.used() + at) as u32);
            steps.extend(self.model.next(&[id], spans, &[place], &self.arena, &[0])?);
            self.decode.push(ms(since));
        }
    }

    fn hold_against(&mut self, exact: &[Vec<f32>], mine: &[Vec<f32>]) {
        for (exact, mine) in exact.iter().zip(mine) {
            self.tokens += 1;
            self.same += usize::from(likeliest(exact) == likeliest(mine));
            let (p, q) = (log_softmax(exact), log_softmax(mine));
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

fn ask(
    row: &Row,
    place: &Path,
    checkpoint: &Checkpoint,
    variants: &mut [Variant],
) -> std::result::Result<(), Box<dyn Error>> {
    let size = checkpoint.config.vision_config.image_size as u32;
    let file = fs::read(place.join(&row.image))?;
    let picture = image::load(&file, size, &image::Options::default())?;
    let seen = variants
        .iter_mut()
        .map(|v| v.see(&picture.pixels))
        .collect::<Result<Vec<_>>>()?;
    let (language, mut history) = (checkpoint.language(), Vec::new());
    for (t, turn) in row.turns.iter().enumerate() {
        let prompt = language
            .plan(&Conversation {
                history: &history,
                question: &turn.question,
                picture: Some(0),
                ..Conversation::default()
            })?
            .prompt;
        let text = |ids: &[u32]| {
            let mut stream = AnswerStream::new(checkpoint.tokenizer.clone(), vec![]);
            let ends = checkpoint.config.eos_token_id.as_slice();
            let shown = ids.iter().filter(|id| !ends.contains(id));
            let said: String = shown.map(|id| stream.push(*id)).collect();
            said + &stream.finish()
        };
        let of = |steps: &[Vec<f32>]| steps.iter().map(|s| likeliest(s)).collect::<Vec<_>>();
        let exact = variants[0].answer(&prompt, &seen[0], None)?;
        let said = of(&exact);
        for (v, (variant, seen)) in variants.iter_mut().zip(&seen).enumerate() {
            let mut own = said.clone();
            if v > 0 {
                let steps = variant.answer(&prompt, seen, Some(&said))?;
                variant.hold_against(&exact, &steps);
                if of(&steps) != said {
                    own = of(&variant.answer(&prompt, seen, None)?);
                }
            }
            if t + 1 == row.turns.len() {
                let kind = (row.kind.clone(), row.lang.clone());
                let (right, of) = variant.right.entry(kind).or_default();
                *right += usize::from(text(&own).trim() == turn.answer);
                *of += 1;
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

/// Asks all questions and prints the tables.
///
/// # Errors
/// If a picture can't be had, or the device can't hold or run the model.
pub fn run(
    questions: &Questions,
    checkpoint: &Checkpoint,
    target: &Target,
) -> std::result::Result<(), Box<dyn Error>> {
    let exact = Target {
        device: Device::Cpu,
        dtype: DType::F32,
    };
    let mut ways = vec![(&exact, Quantize::None)];
    if !target.device.is_cpu() || target.dtype != DType::F32 {
        ways.push((target, Quantize::None));
    }
    let smaller = target.ways().iter().filter(|way| **way != Quantize::None);
    ways.extend(smaller.map(|way| (target, *way)));
    let mut variants = ways
        .into_iter()
        .map(|(target, quantize)| Variant::load(checkpoint, target, quantize))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let bar = progress("Questions {bar:30} {pos}/{len} · {eta} left");
    bar.set_length(questions.rows.len() as u64);
    for row in &questions.rows {
        ask(row, &questions.place, checkpoint, &mut variants)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    tell(&variants);
    Ok(())
}

fn tell(variants: &[Variant]) {
    let line = |what: &str, tell: &dyn Fn(&Variant) -> String| {
        let cells: Vec<String> = variants.iter().map(tell).collect();
        println!("| {what} | {} |", cells.join(" | "));
    };
    let head = |what: &str| {
        line(what, &|v| v.name.clone());
        println!("|---|{}", "---|".repeat(variants.len()));
    };
    let share = |part: usize, all: usize| 100.0 * part as f64 / all as f64;
    head("exact answers");
    let asked = variants
        .first()
        .map(|v| v.right.clone())
        .unwrap_or_default();
    for (kind @ (name, lang), (_, of)) in &asked {
        line(&format!("{name}, {lang}, of {of}"), &|v| {
            v.right.get(kind).map_or(0, |(right, _)| *right).to_string()
        });
    }
    let of: usize = asked.values().map(|(_, of)| of).sum();
    line(&format!("all, of {of}"), &|v| {
        let right = v.right.values().map(|(right, _)| right).sum();
        format!("{right} ({:.1}%)", share(right, of))
    });

    println!();
    head("");
    line("weights, MB", &|v| {
        format!("{:.1}", v.model.weight_bytes() as f64 / 1e6)
    });
    line("same likeliest token", &|v| match v.tokens {
        0 => "–".into(),
        n => format!("{:.2}% of {n}", share(v.same, n)),
    });
    line("KL divergence, mean", &|v| match v.divergences.len() {
        0 => "–".into(),
        n => format!("{:.1e}", v.divergences.iter().sum::<f64>() / n as f64),
    });
    let at = |percent: f64, samples: &[f64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, percent)
    };
    line("KL divergence, 99th percentile", &|v| {
        at(99.0, &v.divergences).map_or("–".into(), |kl| format!("{kl:.1e}"))
    });
    // The fastest tenth: what else runs on the machine makes the rest slower, not these.
    let fast = |samples: &[f64]| at(10.0, samples).map_or("–".into(), |ms| format!("{ms:.2} ms"));
    line("vision tower", &|v| fast(&v.vision));
    line("prefill of picture and question", &|v| fast(&v.prefill));
    line("one more token", &|v| fast(&v.decode));
}
