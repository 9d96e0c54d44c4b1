//! `glimpse inspect`: what a folder holds, what it takes to run it, and what is wrong with it.

use std::path::Path;

use candle_core::DType;
use serde::Serialize;

use crate::config::InspectArgs;
use crate::pull;
use model::Quantize;
use model::checkpoint::{DEMO, folder, sampling, tokenizer};
use model::glm4v::{Config, Part, inventory};
use model::kernels::{Arena, PAGE};
use model::weights::{Folder, TensorSpec, Weights, format_of, holds_weights, row_bytes, why_plain};

#[derive(Serialize)]
struct Report {
    name: String,
    model_type: String,
    parameters: Parameters,
    image_size: usize,
    image_tokens: usize,
    seq_length: usize,
    vocabulary: usize,
    /// Stored types and bytes; absent where the folder holds no weights.
    stored: Option<Stored>,
    memory: Vec<Memory>,
    /// What stays plain whatever `--quantize` says.
    plain: Vec<Plain>,
    problems: Vec<String>,
    /// Neither weights nor a tokenizer, so the problems are only what is not there.
    #[serde(skip)]
    only_config: bool,
}

#[derive(Serialize)]
struct Parameters {
    total: usize,
    decoder_layers: usize,
    vision_layers: usize,
    rest: usize,
}

#[derive(Serialize)]
struct Stored {
    dtypes: Vec<String>,
    bytes: u64,
    shards: usize,
}

/// What it takes to run with a choice of `--quantize`.
#[derive(Serialize)]
struct Memory {
    quantize: String,
    /// On a card (bf16 where not quantized) and on the CPU (f32 where not quantized).
    cuda_weight_bytes: u64,
    /// Absent where the CPU doesn't know the choice.
    cpu_weight_bytes: Option<u64>,
    /// The cache of one conversation to the model's end.
    cuda_conversation_bytes: u64,
    cpu_conversation_bytes: u64,
    formats: Vec<Format>,
}

/// Tensors that no choice of `--quantize` makes smaller.
#[derive(Serialize)]
struct Plain {
    why: &'static str,
    parameters: usize,
    /// Their names, with `*` for a layer's number.
    tensors: Vec<String>,
}

/// Which format a part's weights take.
#[derive(Serialize)]
struct Format {
    part: &'static str,
    format: String,
    parameters: usize,
}

/// Prints the report; the result says whether all that the folder holds is right. A folder with nothing but config.json
/// is: it is there to be counted.
///
/// # Errors
/// A sentence for the user.
pub fn run(args: &InspectArgs) -> Result<bool, String> {
    let model = args.model.as_deref();
    let folder = match model {
        Some(model) => folder(&pull::folder(model)?),
        None => DEMO.clone(),
    };
    if let Some(out) = &args.tokenizer_json {
        let tokenizer = tokenizer(&folder).map_err(|e| e.to_string())?;
        let json = tokenizer.to_json().map_err(|e| e.to_string())?;
        let written = std::fs::write(out, json);
        written.map_err(|e| format!("{} can't be written: {e}", out.display()))?;
        return Ok(true);
    }
    let mut report = report(&folder)?;
    if let Some(hub::Model::Named(name)) = model.and_then(Path::to_str).map(hub::Model::told) {
        // The folder is called by its commit.
        report.name = name.to_string();
    }
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?
        );
    } else {
        print(&report);
    }
    Ok(report.problems.is_empty() || report.only_config)
}

/// What is wrong with a folder, or without one with the demo.
///
/// # Errors
/// A sentence for the user, where it has no configuration.
pub fn problems(model: Option<&Path>) -> Result<Vec<String>, String> {
    let folder = model.map_or_else(|| DEMO.clone(), folder);
    Ok(report(&folder)?.problems)
}

fn report(folder: &Folder) -> Result<Report, String> {
    let config = Config::parse(&folder.file("config.json").map_err(|e| e.to_string())?)?;
    let asked = inventory(&config).map_err(|e| e.to_string())?;
    let specs = &asked.specs;
    let count = |part| {
        specs
            .iter()
            .filter(|spec| Part::of(&spec.name) == part)
            .map(|t| t.elements())
            .sum()
    };
    let parameters = Parameters {
        decoder_layers: count(Part::DecoderLayers),
        vision_layers: count(Part::VisionLayers),
        rest: count(Part::Rest),
        total: specs.iter().map(|t| t.elements()).sum(),
    };

    let mut problems = Vec::new();
    let mut only_config = true;
    for name in ["tokenizer.model", "tokenizer_config.json"] {
        match folder.file(name) {
            Ok(_) => only_config = false,
            Err(e) => problems.push(e.to_string()),
        }
    }
    if problems.is_empty()
        && let Err(e) = tokenizer(folder)
    {
        problems.push(e.to_string());
    }
    only_config &= !holds_weights(folder).map_err(|e| e.to_string())?;
    problems.extend(sampling(folder).err().map(|e| e.to_string()));
    // The counts are those of config.json, whatever else is wrong.
    let (shards, wrong) =
        Weights::inspect(folder, &asked).unwrap_or_else(|e| (vec![], vec![e.to_string()]));
    problems.extend(wrong);
    let shard_count = shards.len();
    let weights = Weights::Stored(shards);
    let stored = (shard_count > 0).then(|| Stored {
        dtypes: weights.stored_dtypes(),
        bytes: weights.stored_bytes(),
        shards: shard_count,
    });

    let conversation = |dtype| {
        let (layers, heads) = (config.num_layers, config.multi_query_group_num);
        let page = Arena::page_bytes(layers, heads, config.kv_channels, dtype);
        (config.max_entries().div_ceil(PAGE) * page) as u64
    };
    // What is stored in blocks stays in them.
    let choices = match config.stored_quantize() {
        Quantize::None => vec![Quantize::None, Quantize::Q8, Quantize::Fp8, Quantize::Q4],
        stored => vec![stored],
    };
    let memory = choices
        .into_iter()
        .map(|quantize| {
            let mut formats: Vec<Format> = Vec::new();
            let (mut cuda, mut cpu) = (0, 0);
            for spec in specs {
                let format = format_of(spec, quantize);
                let elements = spec.elements();
                let bytes = |plain: u64| match format {
                    Some(f) => (elements / spec.shape[1] * row_bytes(f, spec.shape[1])) as u64,
                    None => elements as u64 * plain,
                };
                cuda += bytes(2);
                cpu += bytes(4);
                let part = match Part::of(&spec.name) {
                    Part::DecoderLayers => "decoder layers",
                    Part::VisionLayers => "vision layers",
                    Part::Rest => "rest",
                };
                let format =
                    format.map_or_else(|| "plain".into(), |f| format!("{f:?}").to_lowercase());
                match formats
                    .iter_mut()
                    .find(|f| f.part == part && f.format == format)
                {
                    Some(known) => known.parameters += elements,
                    None => formats.push(Format {
                        part,
                        format,
                        parameters: elements,
                    }),
                }
            }
            Memory {
                quantize: quantize.to_string(),
                cuda_weight_bytes: cuda,
                cpu_weight_bytes: (quantize != Quantize::Fp8).then_some(cpu),
                cuda_conversation_bytes: conversation(DType::BF16),
                cpu_conversation_bytes: conversation(DType::F32),
                formats,
            }
        })
        .collect();
    Ok(Report {
        name: folder.name(),
        model_type: "GLM-4V".into(),
        parameters,
        image_size: config.vision_config.image_size,
        image_tokens: config.image_tokens(),
        seq_length: config.seq_length,
        vocabulary: config.padded_vocab_size,
        stored,
        memory,
        plain: plain(specs),
        problems,
        only_config,
    })
}

/// What stays plain, by reason.
fn plain(specs: &[TensorSpec]) -> Vec<Plain> {
    let mut all: Vec<Plain> = Vec::new();
    for spec in specs {
        let Some(why) = why_plain(spec) else {
            continue;
        };
        let parts = spec.name.split('.');
        let starred = parts.map(|part| match part.parse::<usize>() {
            Ok(_) => "*",
            Err(_) => part,
        });
        let name = starred.collect::<Vec<_>>().join(".");
        let at = all.iter().position(|plain| plain.why == why);
        let at = at.unwrap_or_else(|| {
            all.push(Plain {
                why,
                parameters: 0,
                tensors: Vec::new(),
            });
            all.len() - 1
        });
        all[at].parameters += spec.elements();
        if !all[at].tensors.contains(&name) {
            all[at].tensors.push(name);
        }
    }
    all
}

/// As many are printed: a config.json of other sizes makes every tensor wrong.
const MOST_PROBLEMS: usize = 20;

fn print(report: &Report) {
    let p = &report.parameters;
    println!("{}: {}", report.name, report.model_type);
    println!("  parameters      {:>16}", grouped(p.total));
    println!("    decoder layers{:>16}", grouped(p.decoder_layers));
    println!("    vision layers {:>16}", grouped(p.vision_layers));
    println!("    the rest      {:>16}", grouped(p.rest));
    println!(
        "  pictures        {0}×{0} pixels, {1} cache entries",
        report.image_size, report.image_tokens
    );
    println!("  length          {} positions", grouped(report.seq_length));
    println!("  vocabulary      {}", grouped(report.vocabulary));
    match &report.stored {
        Some(s) => println!(
            "  stored          {} in {} shards, {}",
            gib(s.bytes),
            s.shards,
            s.dtypes.join(", ")
        ),
        None => println!("  stored          no weights here"),
    }
    println!(
        "  memory          --quantize   on a card: weights, a whole conversation   on the CPU"
    );
    for m in &report.memory {
        println!(
            "                  {:<10} {:>16} {:>11} {:>22} {:>11}",
            m.quantize,
            gib(m.cuda_weight_bytes),
            gib(m.cuda_conversation_bytes),
            m.cpu_weight_bytes.map_or("–".into(), gib),
            m.cpu_weight_bytes
                .map_or("–".into(), |_| gib(m.cpu_conversation_bytes))
        );
        for f in m.formats.iter().filter(|f| f.format != "plain") {
            println!(
                "                    {}: {} parameters in {}",
                f.part,
                grouped(f.parameters),
                f.format
            );
        }
    }
    for plain in &report.plain {
        println!(
            "  always plain    {} parameters, as {}: {}",
            grouped(plain.parameters),
            plain.why,
            plain.tensors.join(", ")
        );
    }
    match report.problems.len() {
        0 => println!("  complete: it can be served"),
        n => {
            println!("  {n} thing{} wrong:", if n == 1 { "" } else { "s" });
            for problem in report.problems.iter().take(MOST_PROBLEMS) {
                println!("  - {problem}");
            }
            if n > MOST_PROBLEMS {
                println!("  - and {} more: --json lists all", n - MOST_PROBLEMS);
            }
        }
    }
}

/// 13906320896 → 13,906,320,896.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn gib(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= (1u64 << 30) as f64 => format!("{:.2} GiB", b / (1u64 << 30) as f64),
        b => format!("{:.1} MiB", b / (1u64 << 20) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_plain_is_told_with_its_reason() {
        let spec = |name: &str, shape: &[usize], in_blocks| TensorSpec {
            name: name.into(),
            shape: shape.to_vec(),
            in_blocks,
        };
        let told = plain(&[
            spec("layers.0.norm.weight", &[8], false),
            spec("layers.0.dense.weight", &[8, 64], true),
            spec("layers.1.norm.weight", &[8], false),
            spec("layers.1.odd.weight", &[2, 33], true),
        ]);
        let [norms, odd] = &told[..] else {
            panic!("{} reasons", told.len())
        };
        assert_eq!(
            (norms.parameters, &norms.tensors[..]),
            (16, &["layers.*.norm.weight".to_string()][..])
        );
        assert!(odd.why.contains("32") && odd.parameters == 66);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(13_906_320_896), "13,906,320,896");
        assert_eq!(grouped(999), "999");
        assert_eq!(gib(27_812_641_792), "25.90 GiB");
    }
}
