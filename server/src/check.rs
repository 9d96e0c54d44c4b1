//! `glimpse check`: whether a checkpoint is whole, and whether this machine computes with it what it should.
//!
//! What `must` hold is what every right computation gives: the files agree with each other, known texts have known ids, every
//! number is finite. What is `usual` is what a good model says, which nobody can promise.

use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Result, Tensor};

use crate::config::CheckArgs;
use crate::loading::Loading;
use crate::solo::Solo;
use crate::{inspect, pull};
use api::{Conversation, Pixels, Sampling, Turn};
use model::checkpoint::Checkpoint;
use model::device::Target;
use model::glm4v::Model;
use model::network::Language;
use model::text::Answer;

/// The longest answer that is asked for, in tokens.
const MOST: usize = 96;
/// Embeddings of the published model, and the id of its first special token.
const PUBLISHED_VOCABULARY: usize = 151_552;
const PUBLISHED_SPECIAL: u32 = 151_329;

/// What the original makes of a picture and 描述这张图片, and of a conversation of three turns.
const PICTURE_IDS: [u32; 11] = [
    151_331, 151_333, 151_336, 198, 151_339, 151_329, 151_340, 100_395, 108_627, 100_736, 151_337,
];
const TURNS_IDS: [u32; 28] = [
    151_331, 151_333, 151_336, 198, 109_377, 151_337, 198, 109_377, 9281, 239, 233, 6313, 118_295,
    103_810, 98_406, 3837, 101_665, 110_368, 99_444, 99_212, 11_314, 151_336, 198, 101_160,
    120_410, 99_379, 103_298, 151_337,
];

/// Questions about the test card, and the words of a right answer: of each list one.
type Usual = (&'static str, &'static [&'static [&'static str]]);

const ASKED: &[Usual] = &[
    ("How many circles are there?", &[&["3", "three"]]),
    ("What colour are the circles?", &[&["red"]]),
    ("有几个圆？", &[&["3", "三"]]),
    ("圆是什么颜色？", &[&["红"]]),
];
/// These the demo has not learnt.
const DESCRIBED: &[Usual] = &[
    ("Describe this picture.", &[&["red"], &["circle", "dot"]]),
    ("描述这张图片。", &[&["红"], &["圆"]]),
];

/// How much a line counts.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Must,
    Usual,
    /// Told, and not judged.
    Told,
}

/// The report, printed line by line.
#[derive(Default)]
struct Report {
    failed: usize,
    unusual: usize,
}

impl Report {
    fn line(&mut self, level: Level, holds: bool, what: &str, detail: &str) {
        let (level, verdict) = match (level, holds) {
            (Level::Must, true) => ("must", "ok"),
            (Level::Must, false) => ("must", "FAILED"),
            (Level::Usual, true) => ("usual", "ok"),
            (Level::Usual, false) => ("usual", "unusual"),
            (Level::Told, _) => ("", ""),
        };
        self.failed += usize::from(verdict == "FAILED");
        self.unusual += usize::from(verdict == "unusual");
        println!("  {level:<6} {verdict:<8} {what}: {detail}");
    }
}

/// Prints the report; the result says whether all holds that must.
///
/// # Errors
/// A sentence for the user, where it can't even be tried.
pub fn run(args: &CheckArgs) -> std::result::Result<bool, String> {
    let mut report = Report::default();
    println!("glimpse {} check", env!("CARGO_PKG_VERSION"));
    if args.model.random_weights.is_none() {
        let folder = args.model.model.as_deref().map(pull::folder).transpose()?;
        let problems = inspect::problems(folder.as_deref())?;
        let whole = problems.is_empty();
        let detail = match problems.as_slice() {
            [] => "each agrees with its header and with the index".to_owned(),
            [first, rest @ ..] => format!("{first} (and {} more: glimpse inspect)", rest.len()),
        };
        report.line(Level::Must, whole, "files", &detail);
        if !whole {
            return Ok(false);
        }
        if let Some((model, folder)) = args.model.model.as_deref().zip(folder) {
            let (level, same, detail) = beside_the_hub(model, &folder);
            report.line(level, same, "the hub's files", &detail);
            if level == Level::Must && !same {
                return Ok(false);
            }
        }
    }
    let checkpoint = args.model.checkpoint().map_err(|e| e.to_string())?;
    let target = Target::choose(args.model.device, args.model.dtype).map_err(|e| e.to_string())?;
    let quantize = checkpoint
        .quantize(args.model.quantize, &target)
        .map_err(|e| e.to_string())?;
    let how = format!(
        "{} on {} in {}, --quantize {quantize}",
        checkpoint.name,
        target.device_name(),
        target.dtype_name()
    );
    report.line(Level::Told, true, "model", &how);
    prompt_ids(&checkpoint, &mut report);
    let mut loading = Loading::new("loading");
    let model = checkpoint.load(&target, quantize, &mut |done, total| {
        loading.at(done, total)
    });
    loading.finish();
    let model = model.map_err(|e| e.to_string())?;
    let failed = |e| format!("the model failed ({e})");
    compute(&checkpoint, &model, &mut report).map_err(failed)?;
    match (report.failed, report.unusual) {
        (0, 0) => println!("all of it holds"),
        (0, n) => println!("all holds that must; {n} unusual"),
        (n, _) => println!(
            "{n} of what must hold FAILED: this checkpoint does not compute here as it should"
        ),
    }
    Ok(report.failed == 0)
}

/// Whether each file is the one that the hub has, where that can be known.
fn beside_the_hub(model: &Path, folder: &Path) -> (Level, bool, String) {
    let unknown = |why: &str| (Level::Told, true, format!("not compared: {why}"));
    let settings = hub::Settings::from_environment();
    match model.to_str().map(hub::Model::told) {
        Some(hub::Model::Named(_)) if settings.offline => {
            unknown("HF_HUB_OFFLINE says to ask nobody")
        }
        Some(hub::Model::Named(name)) => match hub::compare(&name, folder, &settings) {
            Ok(others) if others.is_empty() => (
                Level::Must,
                true,
                "each has the checksum that the hub tells".into(),
            ),
            Ok(others) => {
                let others = others.join(", ");
                let mend = format!("glimpse models --remove {name}, then glimpse pull {name}");
                (Level::Must, false, format!("{others} differ: {mend}"))
            }
            Err(problem) => unknown(&format!("{}; glimpse pull {name} says more", problem.code)),
        },
        _ => unknown("this is a folder; give the model's name instead, as glimpse pull takes it"),
    }
}

/// Whether the vocabulary is the published one.
fn is_published(checkpoint: &Checkpoint) -> bool {
    checkpoint.config.padded_vocab_size == PUBLISHED_VOCABULARY
        && checkpoint.tokenizer.special("<|endoftext|>") == Some(PUBLISHED_SPECIAL)
}

fn prompt_ids(checkpoint: &Checkpoint, report: &mut Report) {
    if !is_published(checkpoint) {
        let detail = "not judged: this is not the published vocabulary";
        report.line(Level::Told, true, "prompt ids", detail);
        return;
    }
    let history = [Turn {
        question: "你好".into(),
        answer: "你好👋！很高兴见到你，有什么可以帮助你的吗？".into(),
        answer_ids: None,
    }];
    let picture = Conversation {
        question: "描述这张图片",
        picture: Some(0),
        ..Conversation::default()
    };
    let turns = Conversation {
        history: &history,
        question: "晚上睡不着应该怎么办",
        ..Conversation::default()
    };
    for (what, conversation, known) in [
        ("prompt ids of a picture", picture, &PICTURE_IDS[..]),
        ("prompt ids of three turns", turns, &TURNS_IDS[..]),
    ] {
        let planned = checkpoint.language().plan(&conversation);
        let (holds, detail) = match planned {
            Ok(planned) if planned.ids == known => (true, "as the original's".to_owned()),
            Ok(planned) => (
                false,
                format!("{:?}, where the original has {known:?}", planned.ids),
            ),
            Err(problem) => (false, problem.to_string()),
        };
        report.line(Level::Must, holds, what, &detail);
    }
}

fn compute(checkpoint: &Checkpoint, model: &Model, report: &mut Report) -> Result<()> {
    let side = checkpoint.config.vision_config.image_size;
    let card = test_card(side);
    let vectors = vision(model, &card, report)?;
    decoder(checkpoint, model, &vectors, report)?;

    let described = if checkpoint.demo { &[] } else { DESCRIBED };
    for (question, words) in ASKED.iter().chain(described) {
        let said = say(checkpoint, model, question, Some(&vectors))?;
        let lower = said.text.to_lowercase();
        let holds = words
            .iter()
            .all(|any| any.iter().any(|word| lower.contains(word)));
        report.line(Level::Usual, holds, question, &shown(&said.text));
    }
    if is_published(checkpoint) {
        let said = say(checkpoint, model, "你好", None)?;
        report.line(
            Level::Usual,
            said.text.contains("你好"),
            "你好",
            &shown(&said.text),
        );
    }
    figures(checkpoint, model, &card, report)
}

/// Three red discs on white.
fn test_card(side: usize) -> Pixels {
    let mut rgb = vec![255u8; side * side * 3];
    let radius = side as f64 / 10.0;
    for (index, pixel) in rgb.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((index % side) as f64 + 0.5, (index / side) as f64 + 0.5);
        let within = (1..=3).any(|disc| {
            let (dx, dy) = (
                x - side as f64 * f64::from(disc) / 4.0,
                y - side as f64 / 2.0,
            );
            dx.hypot(dy) < radius
        });
        if within {
            pixel.copy_from_slice(&[220, 20, 20]);
        }
    }
    Pixels::new(side as u32, rgb)
}

/// The largest of a state's numbers, by size; `None` if one is none.
fn largest(state: &Tensor) -> Result<Option<f32>> {
    let values = state
        .flatten_all()?
        .to_dtype(DType::F32)?
        .to_vec1::<f32>()?;
    let all = values.iter().try_fold(0f32, |most, value| {
        value.is_finite().then(|| most.max(value.abs()))
    });
    Ok(all)
}

/// Which of the states that layers left are all numbers.
#[derive(Default)]
struct States {
    count: usize,
    largest: f32,
    broken: Option<usize>,
}

impl States {
    fn add(&mut self, state: &Tensor) -> Result<()> {
        match largest(state)? {
            Some(value) => self.largest = self.largest.max(value),
            None => self.broken = self.broken.or(Some(self.count)),
        }
        self.count += 1;
        Ok(())
    }

    fn tell(&self, what: &str, report: &mut Report) {
        let detail = match self.broken {
            None => format!("{} states, none beyond ±{:.3e}", self.count, self.largest),
            Some(at) => format!(
                "infinite or no numbers from state {at} of {} on",
                self.count
            ),
        };
        report.line(Level::Must, self.broken.is_none(), what, &detail);
    }
}

/// The picture through the tower, looked at behind each stage.
fn vision(model: &Model, card: &Pixels, report: &mut Report) -> Result<Tensor> {
    let mut encoding = model.vision.start(card)?;
    let mut states = States::default();
    let vectors = loop {
        let step = model.vision.step(&mut encoding, usize::MAX)?;
        if let Some(vectors) = step.vectors {
            break vectors;
        }
        states.add(encoding.state())?;
    };
    states.add(&vectors)?;
    states.tell("numbers of the vision tower", report);
    Ok(vectors)
}

/// A question about it through the decoder, looked at behind each layer.
fn decoder(
    checkpoint: &Checkpoint,
    model: &Model,
    vectors: &Tensor,
    report: &mut Report,
) -> Result<()> {
    let planned = checkpoint.language().plan(&Conversation {
        question: "How many circles are there?",
        picture: Some(0),
        ..Conversation::default()
    });
    let prompt = planned.map_err(candle_core::Error::wrap)?.prompt;
    let entries = prompt.entries().len();
    let solo = Solo::new(model, &prompt, 1)?;
    let x = model.embed(&prompt, Some(vectors))?;
    let mut states = States::default();
    states.add(&x)?;
    let spans = vec![solo.span(0, entries)];
    let mut pass = model.begin(x, spans, prompt.positions(0..entries))?;
    loop {
        let (next, done) = model.go_on(pass, 1, solo.arena())?;
        states.add(next.state())?;
        if done {
            break;
        }
        pass = next;
    }
    let logits = solo.prefill(&prompt, Some(vectors))?;
    states.add(&Tensor::new(logits, &candle_core::Device::Cpu)?)?;
    states.tell("numbers of the decoder", report);
    Ok(())
}

/// What the model says, and how long it takes.
struct Said {
    text: String,
    first_ms: f64,
    token_ms: Option<f64>,
}

/// The likeliest answer.
fn say(
    checkpoint: &Checkpoint,
    model: &Model,
    question: &str,
    vectors: Option<&Tensor>,
) -> Result<Said> {
    let language = checkpoint.language();
    let planned = language.plan(&Conversation {
        question,
        picture: vectors.map(|_| 0),
        ..Conversation::default()
    });
    let planned = planned.map_err(candle_core::Error::wrap)?;
    let greedy = Sampling {
        temperature: Some(0.0),
        ..Sampling::default()
    };
    let sampling = checkpoint.sampling.with(&greedy, MOST as u64, 0);
    let sampling = sampling.map_err(candle_core::Error::msg)?;
    let tokenizer = checkpoint.tokenizer.clone();
    let mut answer = Answer::new(tokenizer, &sampling, &planned.ids, language.ends(), MOST);
    let solo = Solo::new(model, &planned.prompt, MOST)?;
    let started = Instant::now();
    let mut logits = solo.prefill(&planned.prompt, vectors)?;
    let first = Instant::now();
    let mut text = String::new();
    loop {
        let step = answer.next(&mut logits).map_err(candle_core::Error::wrap)?;
        text.push_str(&step.text);
        if step.end.is_some() {
            break;
        }
        logits = solo.next(step.id, answer.tokens() - 1)?;
    }
    text.push_str(&answer.finish());
    let further = answer.tokens().saturating_sub(1);
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    Ok(Said {
        text,
        first_ms: ms(started, first),
        token_ms: (further > 0).then(|| ms(first, Instant::now()) / further as f64),
    })
}

/// An answer, on one line and not too long.
fn shown(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// How fast this machine is, beside what a field report published of this model.
fn figures(
    checkpoint: &Checkpoint,
    model: &Model,
    card: &Pixels,
    report: &mut Report,
) -> Result<()> {
    let started = Instant::now();
    let vectors = model.vision.encode(card)?;
    model.device().synchronize()?;
    let vision_ms = started.elapsed().as_secs_f64() * 1e3;
    let said = say(checkpoint, model, "Describe this picture.", Some(&vectors))?;
    let token = said
        .token_ms
        .map_or_else(|| "—".to_owned(), |ms| format!("{ms:.1} ms"));
    let mut told = |what, detail: &str| report.line(Level::Told, true, what, detail);
    told(
        "vision tower",
        &format!("{vision_ms:.1} ms (a field report: 198)"),
    );
    told(
        "picture and question to first token",
        &format!("{:.1} ms", said.first_ms),
    );
    told("each further token", &token);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_card_has_three_discs() {
        let card = test_card(40);
        let row = &card.rgb()[20 * 40 * 3..21 * 40 * 3];
        let red: Vec<bool> = row.chunks(3).map(|pixel| pixel[1] < 100).collect();
        let begins = red.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert_eq!((begins, red[0], red[39]), (3, false, false));
    }

    #[test]
    fn what_is_no_number_is_found() {
        let device = candle_core::Device::Cpu;
        let state = |values: &[f32]| Tensor::new(values, &device).unwrap();
        assert_eq!(largest(&state(&[1.0, -3.0])).unwrap(), Some(3.0));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(largest(&state(&[1.0, wrong])).unwrap(), None);
        }
        let mut states = States::default();
        states.add(&state(&[1.0])).unwrap();
        states.add(&state(&[f32::NAN])).unwrap();
        states.add(&state(&[f32::NAN])).unwrap();
        assert_eq!(states.broken, Some(1));
    }

    #[test]
    fn answers_are_shown_on_one_line() {
        assert_eq!(shown("\n a\n b "), "a b");
        assert_eq!(shown(&"图".repeat(200)).chars().count(), 101);
    }
}
