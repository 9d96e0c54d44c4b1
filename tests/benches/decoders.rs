//! Tokens a second of the server's decoder beside those of candle-transformers', on the CPU, in one run:
//! `cargo bench --workspace --exclude 'glimpse-page*' --bench decoders [-- FOLDER]`.
//!
//! Both take turns, so that a machine that gets slower meanwhile slows both.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use glimpse_tests::decoders::{Decoder, Ours, Problem, Theirs, language, likeliest, prompt};

const ROUNDS: usize = 21;
const TOKENS: usize = 64;
/// About as long as a prompt with the demo's picture.
const QUESTION: &str = "the cat saw how the other cat ate, and then the third cat came; ";
const TIMES: usize = 8;

/// What one answer took: the prompt, and each token behind it.
fn round(decoder: &mut dyn Decoder, ids: &[u32]) -> Result<(Duration, Duration), Problem> {
    decoder.forget();
    let start = Instant::now();
    let mut logits = decoder.next(ids)?;
    let first = start.elapsed();
    let start = Instant::now();
    for _ in 0..TOKENS {
        logits = decoder.next(&[likeliest(&logits)])?;
    }
    Ok((first, start.elapsed() / TOKENS as u32))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn main() -> Result<(), Problem> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = PathBuf::from(named.unwrap_or_else(|| demo.into()));
    let threads = model::device::settle_threads(None);
    let ids = prompt(&language(&folder)?, &QUESTION.repeat(TIMES))?;
    let mut ours = Ours::open(&folder)?;
    let mut theirs = Theirs::open(&folder)?;
    let both: [(&str, &mut dyn Decoder); 2] =
        [("Glimpse", &mut ours), ("candle-transformers", &mut theirs)];
    let mut times = both.map(|(name, decoder)| (name, decoder, vec![], vec![]));
    for number in 0..=ROUNDS {
        for (_, decoder, firsts, nexts) in &mut times {
            let (first, next) = round(*decoder, &ids)?;
            // The first round fills caches.
            if number > 0 {
                firsts.push(first);
                nexts.push(next);
            }
        }
    }
    println!(
        "{}: f32 on {threads} threads, a prompt of {} tokens, then {TOKENS} one by one; median of {ROUNDS}",
        folder.display(),
        ids.len()
    );
    for (name, _, firsts, nexts) in times {
        let (first, next) = (median(firsts), median(nexts));
        println!(
            "{name:20} prompt {:7.1} ms, {:7.0} tokens/s; then {:5.2} ms a token, {:5.0} tokens/s",
            first * 1e3,
            ids.len() as f64 / first,
            next * 1e3,
            1.0 / next
        );
    }
    Ok(())
}
