//! `glimpse generate`: one answer with no server, step by step as the engine does it.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use wire::FinishReason;

use crate::config::GenerateArgs;
use crate::loading::Loading;
use crate::solo::Solo;
use api::{AnswerFormat, Conversation, SamplingParams};
use glimpse_image::{self as image, Picture, Pixels};
use model::checkpoint::Checkpoint;
use model::device::Target;
use model::glm4v::{Model, transform};
use model::network::{Language, Planned};
use model::save_tensors;
use model::text::{Answer, LogSoftmax, TextError, Tokenizer};

/// `--json`: all that others need to check an answer against the original.
#[derive(Serialize)]
struct Report {
    /// Placeholders as they stand before the picture replaces them.
    prompt_token_ids: Vec<u32>,
    /// After it did.
    position_ids: Vec<u32>,
    image_tokens: usize,
    prompt_tokens: usize,
    cached_tokens: usize,
    tokens: Vec<Chosen>,
    text: String,
    finish_reason: FinishReason,
    timings: Timings,
}

/// A generated token.
#[derive(Serialize)]
struct Chosen {
    id: u32,
    text: String,
    /// Log-softmax of the raw f32 logits, before temperature and penalties.
    logprob: f64,
    top: Vec<Candidate>,
}

#[derive(Serialize)]
struct Candidate {
    id: u32,
    logprob: f64,
}

impl Chosen {
    /// `logits` are the model's own; `k` is how many of the likeliest tokens are told beside.
    fn new(id: u32, logits: &[f32], k: usize, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let scores = LogSoftmax::new(logits)?;
        let top = scores.top(k).into_iter();
        let text = tokenizer.token_bytes(id).unwrap_or_default();
        Ok(Chosen {
            id,
            text: String::from_utf8_lossy(text).into_owned(),
            logprob: scores.of(id).unwrap_or(f64::NEG_INFINITY),
            top: top.map(|(id, logprob)| Candidate { id, logprob }).collect(),
        })
    }
}

#[derive(Default, Serialize)]
struct Timings {
    load_ms: f64,
    decode_ms: f64,
    preprocess_ms: f64,
    vision_ms: f64,
    prefill_ms: f64,
    first_token_ms: f64,
    generate_ms: f64,
    tokens_per_second: f64,
}

/// Answers, or with `--dump-pixels` writes what would enter the vision tower.
///
/// # Errors
/// A sentence for the user.
pub fn run(args: &GenerateArgs) -> Result<(), String> {
    let started = Instant::now();
    let checkpoint = args.model.checkpoint().map_err(|e| e.to_string())?;
    let picture = args
        .image
        .as_deref()
        .map(|path| load_picture(path, &checkpoint, args))
        .transpose()?;
    if let (Some(out), Some(picture)) = (&args.dump_pixels, &picture) {
        return dump(&picture.pixels, out)
            .map_err(|e| format!("{} cannot be written ({e})", out.display()));
    }
    let question = args.prompt.as_deref().unwrap_or_default();
    if wire::is_blank(question) {
        return Err("the question is empty: give --prompt some text".into());
    }
    let asked = Asked {
        question,
        sampling: sampling(args, &checkpoint)?,
        format: args.json_schema.as_deref().map(load_schema).transpose()?,
    };
    let target = Target::choose(args.model.device, args.model.dtype).map_err(|e| e.to_string())?;
    let quantize = checkpoint
        .quantize(args.model.quantize, &target)
        .map_err(|e| e.to_string())?;
    let mut loading = Loading::new("loading");
    let model = checkpoint
        .load(&target, quantize, &mut |done, total| {
            loading.at(done, total)
        })
        .map_err(|e| e.to_string())?;
    loading.finish();
    let mut timings = Timings {
        load_ms: ms(started),
        ..Timings::default()
    };
    if let Some(picture) = &picture {
        timings.decode_ms = picture.decode_ms;
        timings.preprocess_ms = picture.preprocess_ms;
    }
    answer(args, &checkpoint, &model, picture.as_ref(), &asked, timings)
        .map_err(|e| format!("the model failed ({e})"))?
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Writes a safetensors file with one tensor, `pixels`, F32 [1, 3, S, S]: what would enter the vision tower.
fn dump(pixels: &Pixels, path: &Path) -> io::Result<()> {
    let floats = transform::to_f32_chw(pixels);
    let bytes: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
    let side = pixels.size() as usize;
    let tensor =
        TensorView::new(Dtype::F32, vec![1, 3, side, side], &bytes).map_err(io::Error::other)?;
    save_tensors([("pixels", tensor)], None, path)
}

fn load_picture(
    path: &Path,
    checkpoint: &Checkpoint,
    args: &GenerateArgs,
) -> Result<Picture, String> {
    let bytes = std::fs::read(path)
        .map_err(|e| format!("the picture {} cannot be read ({e})", path.display()))?;
    let options = image::Options {
        decoder: args.decoder.image_decoder.into(),
        raw: args.raw_pixels,
        ..image::Options::default()
    };
    let size = checkpoint.config.vision_config.image_size as u32;
    image::load(&bytes, size, &options).map_err(|e| format!("{}: {e}", path.display()))
}

/// The format of a `--json-schema`.
fn load_schema(path: &Path) -> Result<AnswerFormat, String> {
    let wrong = |problem: String| format!("the schema {} {problem}", path.display());
    let file = std::fs::read(path).map_err(|e| wrong(format!("cannot be read ({e})")))?;
    let schema = serde_json::from_slice(&file).map_err(|e| wrong(format!("is no JSON ({e})")))?;
    let format = AnswerFormat::JsonSchema { schema };
    format
        .check()
        .map_err(|e| wrong(format!("can't be used: {e}")))?;
    Ok(format)
}

fn sampling(args: &GenerateArgs, checkpoint: &Checkpoint) -> Result<SamplingParams, String> {
    let asked = wire::Sampling {
        temperature: if args.greedy {
            Some(0.0)
        } else {
            args.temperature
        },
        top_p: args.top_p,
        top_k: args.top_k,
        repetition_penalty: args.repetition_penalty,
        max_new_tokens: args.max_new_tokens,
        seed: args.seed,
        ..wire::Sampling::default()
    };
    checkpoint.sampling.with(
        &asked,
        checkpoint.config.seq_length as u64,
        api::random_seed(),
    )
}

/// A question, and how it is to be answered.
struct Asked<'a> {
    question: &'a str,
    sampling: SamplingParams,
    format: Option<AnswerFormat>,
}

fn answer(
    args: &GenerateArgs,
    checkpoint: &Checkpoint,
    model: &Model,
    picture: Option<&Picture>,
    ask: &Asked<'_>,
    mut timings: Timings,
) -> candle_core::Result<Result<(), String>> {
    let Asked {
        question,
        sampling,
        format,
    } = ask;
    let language = checkpoint.language();
    let planned = language.plan(&Conversation {
        system: &args.system,
        question,
        picture: picture.map(|_| 0),
        ..Conversation::default()
    });
    let Planned { ids, prompt } = match planned {
        Ok(planned) => planned,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let (used, positions) = (prompt.used(), language.shape().positions);
    if used >= positions {
        return Ok(Err(format!(
            "the question takes {used} of the model's {positions} positions, so there is no room for an answer: ask a shorter one"
        )));
    }
    let most = (sampling.max_new_tokens as usize).min(positions - used);
    let entries = prompt.entries().len();

    let asked = Instant::now();
    let vectors = picture
        .map(|p| model.vision.encode(&p.pixels))
        .transpose()?;
    model.device().synchronize()?;
    timings.vision_ms = ms(asked);
    let solo = Solo::new(model, &prompt, most)?;
    let prefill = Instant::now();
    let mut logits = solo.prefill(&prompt, vectors.as_ref())?;
    timings.prefill_ms = ms(prefill);
    timings.first_token_ms = ms(asked);

    let tokenizer = checkpoint.tokenizer.clone();
    let mut answer = Answer::new(tokenizer, sampling, &ids, language.ends(), most);
    if let Some(format) = format {
        let compiled = language.grammars().and_then(|all| all.compile(format));
        answer = match compiled {
            Ok(grammar) => answer.with_grammar(grammar),
            Err(e) => return Ok(Err(e.to_string())),
        };
    }
    let mut shown = Shown {
        live: !args.json,
        text: String::new(),
    };
    let mut tokens = Vec::new();
    let generate = Instant::now();
    let finish_reason = loop {
        // The sampler changes the logits: penalties, temperature.
        let raw = args.json.then(|| logits.clone());
        let step = match answer.next(&mut logits) {
            Ok(step) => step,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if let Some(raw) = raw {
            match Chosen::new(step.id, &raw, args.logprobs, &checkpoint.tokenizer) {
                Ok(chosen) => tokens.push(chosen),
                Err(e) => return Ok(Err(e.to_string())),
            }
        }
        shown.show(&step.text);
        if let Some(reason) = step.end {
            break reason;
        }
        logits = solo.next(step.id, answer.tokens() - 1)?;
    };
    shown.show(&answer.finish());
    let generated = answer.tokens();
    timings.generate_ms = ms(generate);
    timings.tokens_per_second =
        (generated.max(1) - 1) as f64 / (timings.generate_ms / 1e3).max(1e-9);

    if args.json {
        let report = Report {
            prompt_token_ids: ids,
            position_ids: prompt.positions(0..entries).to_vec(),
            image_tokens: prompt.picture_entries(),
            prompt_tokens: entries,
            cached_tokens: 0,
            tokens,
            text: shown.text,
            finish_reason,
            timings,
        };
        println!(
            "{}",
            serde_json::to_string_pretty(&report).map_err(candle_core::Error::msg)?
        );
    } else {
        println!();
    }
    Ok(Ok(()))
}

/// The answer so far; without `--json` it is printed as it comes.
struct Shown {
    live: bool,
    text: String,
}

impl Shown {
    fn show(&mut self, piece: &str) {
        self.text.push_str(piece);
        if self.live {
            let mut out = std::io::stdout();
            // A closed pipe ends the printing, not the answer.
            let _ = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_holds_the_floats() {
        let file = include_bytes!("../../public/samples/shapes.jpg");
        let picture = image::load(file, 24, &image::Options::default()).unwrap();
        let path = std::env::temp_dir().join(format!("glimpse-pixels-{}", std::process::id()));
        dump(&picture.pixels, &path).unwrap();
        let file = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let tensor = tensors.tensor("pixels").unwrap();
        assert_eq!(tensor.shape(), [1, 3, 24, 24]);
        assert_eq!(tensor.dtype(), Dtype::F32);
        let floats: Vec<u8> = transform::to_f32_chw(&picture.pixels)
            .iter()
            .flat_map(|f| f.to_le_bytes())
            .collect();
        assert_eq!(tensor.data(), floats);
    }
}
