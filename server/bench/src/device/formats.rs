//! What it costs to hold an answer to a format: timed alone, over a vocabulary of full size.

use std::hint::black_box;
use std::time::{Duration, Instant};

use api::AnswerFormat;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::checkpoint::special_tokens;
use model::text::{Grammar, Grammars, TextError, Tokenizer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

/// As long as a decode step of GLM-4V-9B in bf16 takes on an H100: what may come next is found out meanwhile.
const STEP: Duration = Duration::from_micros(4_900);
/// Tokens of each answer, and answers.
const TOKENS: usize = 80;
const ANSWERS: u64 = 5;

/// What holding an answer to a format adds to each of its steps while the device works beside, and what it would take alone, in
/// milliseconds. Of a receipt as JSON, written by random scores.
///
/// # Errors
/// The vocabulary or the format can't be used.
pub fn measure(entries: usize) -> Result<(Vec<f64>, Vec<f64>), TextError> {
    let tokenizer = vocabulary(entries)?;
    let ends = ["<|endoftext|>", "<|user|>", "<|observation|>"];
    let ends: Vec<u32> = ends
        .iter()
        .filter_map(|name| tokenizer.special(name))
        .collect();
    let grammars = Grammars::new(&tokenizer, &ends, entries)?;
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    for seed in 0..ANSWERS {
        for (step, times) in [(STEP, &mut beside), (Duration::ZERO, &mut alone)] {
            let grammar = grammars.compile(&receipt())?;
            times.extend(steps(grammar, step, &ends, entries, seed)?);
        }
    }
    Ok((beside, alone))
}

/// One answer's steps.
fn steps(
    mut grammar: Grammar,
    step: Duration,
    ends: &[u32],
    entries: usize,
    seed: u64,
) -> Result<Vec<f64>, TextError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let scores: Vec<f32> = (0..entries).map(|_| rng.random()).collect();
    let (mut times, mut last) = (Vec::new(), None);
    for place in 0..TOKENS {
        let mut logits = scores.clone();
        logits.rotate_left(place * 997 % entries);
        let started = Instant::now();
        grammar.advance(last);
        let mut took = started.elapsed();
        std::thread::sleep(step);
        let started = Instant::now();
        // Behind the newline that the model begins with.
        grammar.mask(black_box(&mut logits), place + 1)?;
        took += started.elapsed();
        times.push(took.as_secs_f64() * 1e3);
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let best = best.map_or(0, |(id, _)| id as u32);
        if ends.contains(&best) {
            break;
        }
        last = Some(best);
    }
    Ok(times)
}

fn receipt() -> AnswerFormat {
    let text = json!({ "type": "string", "maxLength": 60 });
    AnswerFormat::JsonSchema {
        schema: json!({
            "type": "object",
            "properties": {
                "shop": text,
                "date": { "type": "string", "format": "date" },
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": { "name": text, "price": { "type": "number" } },
                        "required": ["name", "price"],
                        "additionalProperties": false
                    }
                },
                "currency": { "enum": ["EUR", "USD", "CNY"] }
            },
            "required": ["shop", "date", "items", "currency"],
            "additionalProperties": false
        }),
    }
}

/// Made-up tokens in about the proportions of a real vocabulary: the bytes, words with and without a space, numbers, signs,
/// blanks, characters of three bytes.
fn vocabulary(entries: usize) -> Result<Tokenizer, TextError> {
    const SPECIAL: usize = 14;
    let mut rng = StdRng::seed_from_u64(1);
    let mut known = std::collections::HashSet::new();
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    known.extend(tokens.iter().cloned());
    let word = |rng: &mut StdRng, letters: std::ops::RangeInclusive<u32>, most: usize| -> String {
        let length = rng.random_range(1..=most);
        let letters = (0..length).filter_map(|_| char::from_u32(rng.random_range(letters.clone())));
        letters.collect()
    };
    while tokens.len() + SPECIAL < entries {
        let token = match rng.random_range(0..20) {
            0..=7 => format!(" {}", word(&mut rng, 0x61..=0x7a, 9)),
            8..=11 => word(&mut rng, 0x61..=0x7a, 9),
            12 => word(&mut rng, 0x30..=0x39, 3),
            13 => word(&mut rng, 0x21..=0x2f, 5) + &word(&mut rng, 0x20..=0x2f, 2),
            14 => ["\n", " ", "\t"][rng.random_range(0..3)].repeat(rng.random_range(1..=60)),
            _ => word(&mut rng, 0x4e00..=0x9fa0, 4),
        };
        if known.insert(token.clone().into_bytes()) {
            tokens.push(token.into_bytes());
        }
    }
    let lines = tokens.iter().enumerate();
    let lines = lines.map(|(rank, token)| format!("{} {rank}\n", BASE64.encode(token)));
    let settings = special_tokens(tokens.len());
    Tokenizer::from_files(lines.collect::<String>().as_bytes(), settings.as_bytes())
}
