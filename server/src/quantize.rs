//! `glimpse quantize`: writes a folder's weights in blocks of 8 or 4 bits, once.
//!
//! What comes out is a folder in the published form with the same shards, in which a weight that takes blocks is a tensor
//! of bytes, [rows, bytes of a row], under its own name, and config.json says so: `quantization_config`. Tensors that stay
//! plain are copied as they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use parking_lot::Mutex;
use safetensors::tensor::{Dtype, View};
use serde_json::{Value, json};

use crate::config::QuantizeArgs;
use crate::loading::Loading;
use crate::pull;
use model::Quantize;
use model::checkpoint::folder;
use model::glm4v::{Config, QuantizationConfig, inventory};
use model::save_tensors;
use model::weights::{Folder, Format, INDEX, Source, TensorSpec, Weights, format_of, row_bytes};

/// Files of the folder that are taken over as they are, where there are any.
const TEXTS: [&str; 3] = [
    "generation_config.json",
    "tokenizer.model",
    "tokenizer_config.json",
];

/// Writes the folder. config.json comes last: what was interrupted has none, and says so when it is opened.
///
/// # Errors
/// A sentence for the user.
pub fn run(args: &QuantizeArgs) -> Result<(), String> {
    if args.quantize == Quantize::None {
        return Err("--quantize none would only copy the folder: choose q8 or q4".into());
    }
    if args.quantize == Quantize::Fp8 {
        return Err(
            "no folder is stored in fp8, which a card makes while it loads: serve the folder as it is with --quantize fp8, or \
             choose q8 or q4"
                .into(),
        );
    }
    let from = folder(&pull::folder(&args.model)?);
    let text = from.file("config.json").map_err(|e| e.to_string())?;
    let config = Config::parse(&text)?;
    if config.stored_quantize() != Quantize::None {
        return Err(format!(
            "{} holds its weights in {} already: give --model the original folder",
            from.place(),
            config.stored_quantize()
        ));
    }
    let asked = inventory(&config).map_err(|e| e.to_string())?;
    let weights = Weights::open(&from, &asked).map_err(|e| e.to_string())?;
    prepare(&args.out)?;

    let total = weights.stored_bytes();
    let progress = Mutex::new(Progress {
        bar: Loading::new("quantizing"),
        done: 0,
        total,
    });
    let mut places = BTreeMap::new();
    let mut written = 0;
    for shard in weights.shards() {
        let failure = Mutex::new(None);
        let mut views = Vec::new();
        for spec in &asked.specs {
            if let Some(source) = shard.source(spec) {
                let view = Written::new(spec, source, args.quantize, &failure, &progress);
                written += view.data_len();
                places.insert(spec.name.clone(), shard.name.clone());
                views.push((spec.name.clone(), view));
            }
        }
        let out = args.out.join(&shard.name);
        let metadata = [("format".to_string(), "pt".to_string())].into();
        let saved = save_tensors(views, Some(metadata), &out);
        if let Some(problem) = failure.into_inner() {
            return Err(format!("{} can't be quantized ({problem})", shard.name));
        }
        saved.map_err(|e| unwritable(&out, &e))?;
    }
    if from.optional(INDEX).map_err(|e| e.to_string())?.is_some() {
        let index = json!({ "metadata": { "total_size": written }, "weight_map": places });
        write(&args.out.join(INDEX), &pretty(&index)?)?;
    }
    copy_texts(&from, &args.out)?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    config["quantization_config"] = json!(QuantizationConfig::new(args.quantize));
    write(&args.out.join("config.json"), &pretty(&config)?)?;
    progress.into_inner().bar.finish();
    println!(
        "wrote {}: {written} bytes of weights instead of {total}; serve it with --model {}",
        args.out.display(),
        args.out.display()
    );
    Ok(())
}

/// The folder must be ours alone: files that were there before could be taken for its own.
fn prepare(out: &Path) -> Result<(), String> {
    fs::create_dir_all(out).map_err(|e| unwritable(out, &e))?;
    match fs::read_dir(out).map_err(|e| unwritable(out, &e))?.next() {
        None => Ok(()),
        Some(_) => Err(format!(
            "the folder {} is not empty: give --out a new one",
            out.display()
        )),
    }
}

fn copy_texts(from: &Folder, out: &Path) -> Result<(), String> {
    for name in TEXTS {
        if let Some(bytes) = from.optional(name).map_err(|e| e.to_string())? {
            write(&out.join(name), &bytes)?;
        }
    }
    Ok(())
}

fn pretty(value: &Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec_pretty(value).map_err(|e| e.to_string())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| unwritable(path, &e))
}

fn unwritable(path: &Path, e: &dyn std::fmt::Display) -> String {
    format!(
        "{} can't be written ({e}): check the room on the disk and the permissions, and begin with an empty folder",
        path.display()
    )
}

struct Progress {
    bar: Loading,
    done: u64,
    total: u64,
}

/// A tensor as it will be written; it is read and quantized when its turn comes, and not held before or after.
struct Written<'a> {
    source: Source<'a>,
    format: Option<GgmlDType>,
    dtype: Dtype,
    shape: Vec<usize>,
    /// The serializer can't be told that reading failed.
    failure: &'a Mutex<Option<String>>,
    progress: &'a Mutex<Progress>,
}

impl<'a> Written<'a> {
    fn new(
        spec: &TensorSpec,
        source: Source<'a>,
        quantize: Quantize,
        failure: &'a Mutex<Option<String>>,
        progress: &'a Mutex<Progress>,
    ) -> Self {
        let format = format_of(spec, quantize);
        let (dtype, shape) = match format {
            Some(format) => (
                Dtype::U8,
                vec![spec.shape[0], row_bytes(format, spec.shape[1])],
            ),
            None => (
                source.stored_dtype().unwrap_or(Dtype::F32),
                spec.shape.clone(),
            ),
        };
        Written {
            source,
            format: format.and_then(Format::ggml),
            dtype,
            shape,
            failure,
            progress,
        }
    }

    fn read(&self) -> candle_core::Result<Cow<'_, [u8]>> {
        let mut progress = self.progress.lock();
        let (size, before) = (self.source.stored()?.len() as u64, progress.done);
        let bytes = match self.format {
            None => Cow::Borrowed(self.source.stored()?),
            Some(format) => Cow::Owned(self.source.quantized(format, |done| {
                let now = before + (done * size as f64) as u64;
                let total = progress.total;
                progress.bar.at(now, total);
            })?),
        };
        progress.done += size;
        let (done, total) = (progress.done, progress.total);
        progress.bar.at(done, total);
        Ok(bytes)
    }
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.read().unwrap_or_else(|e| {
            *self.failure.lock() = Some(e.to_string());
            Cow::Borrowed(&[])
        })
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}
