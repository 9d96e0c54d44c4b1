//! Two decoders of one checkpoint, each with a conversation of its own: the server's, and the GLM-4 of candle-transformers,
//! which nobody here wrote. Both compute in f32 on the CPU.

use std::collections::HashMap;
use std::path::Path;

use api::Conversation;
use candle_core::{DType, Device, Tensor, safetensors};
use candle_nn::VarBuilder;
use candle_transformers::models::glm4;
use model::Quantize;
use model::glm4v::{Config, Glm4v, Model, inventory};
use model::kernels::{Arena, PAGE, Span};
use model::network::Language;
use model::text::Tokenizer;
use model::weights::{Folder, Weights};

/// Why a checkpoint can't be used. Whoever runs this has the checkpoint at hand.
pub type Problem = Box<dyn std::error::Error>;

/// A decoder and one conversation's cache.
pub trait Decoder {
    /// Computes what comes next in the conversation, and the scores of the token behind it.
    ///
    /// # Errors
    /// Those of candle.
    fn next(&mut self, ids: &[u32]) -> candle_core::Result<Vec<f32>>;

    /// Forgets the conversation.
    fn forget(&mut self);
}

/// A checkpoint's way of writing conversations down.
///
/// # Errors
/// What the folder lacks.
pub fn language(folder: &Path) -> Result<Glm4v, Problem> {
    let files = Folder::OnDisk(folder.to_owned());
    let config = Config::parse(&files.file("config.json")?)?;
    let (tokens, added) = ("tokenizer.model", "tokenizer_config.json");
    let tokenizer = Tokenizer::from_files(&files.file(tokens)?, &files.file(added)?)?;
    Ok(Glm4v::new(config, tokenizer.into()))
}

/// The prompt that asks a question without a picture, as ids.
///
/// # Errors
/// Those of the tokenizer.
pub fn prompt(language: &Glm4v, question: &str) -> Result<Vec<u32>, Problem> {
    let conversation = Conversation {
        question,
        ..Conversation::default()
    };
    Ok(language.plan(&conversation)?.ids)
}

/// The server's.
pub struct Ours {
    model: Model,
    arena: Arena,
    pages: Vec<u32>,
    /// Entries in the cache.
    cached: usize,
}

impl Ours {
    /// # Errors
    /// What the folder lacks.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        let files = Folder::OnDisk(folder.to_owned());
        let config = Config::parse(&files.file("config.json")?)?;
        let weights = Weights::open(&files, &inventory(&config)?)?;
        let model = Model::load(
            config,
            &weights,
            DType::F32,
            Quantize::None,
            &Device::Cpu,
            &mut |_, _| {},
        )?;
        let pages = model.config.max_entries().min(1024).div_ceil(PAGE);
        Ok(Ours {
            arena: model.arena(pages)?,
            model,
            pages: (0..pages as u32).collect(),
            cached: 0,
        })
    }
}

impl Decoder for Ours {
    fn next(&mut self, ids: &[u32]) -> candle_core::Result<Vec<f32>> {
        let span = Span {
            start: self.cached,
            len: ids.len(),
            pages: self.pages.clone(),
        };
        let end = self.cached + ids.len();
        let places: Vec<u32> = (self.cached as u32..end as u32).collect();
        self.cached = end;
        let logits = self
            .model
            .next(ids, vec![span], &places, &self.arena, &[0])?;
        Ok(logits.into_iter().next().unwrap_or_default())
    }

    fn forget(&mut self) {
        self.cached = 0;
    }
}

/// candle-transformers'.
///
/// It can load what has heads × kv_channels = hidden, a whole rope_ratio and an output layer of its own. It masks a chunk
/// behind a cache as if the cache were not there, so behind one it takes single tokens alone.
pub struct Theirs {
    model: glm4::Model,
    is_empty: bool,
}

impl Theirs {
    /// # Errors
    /// What the folder lacks, or what of it candle-transformers does not know.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        let config: glm4::Config =
            serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for file in std::fs::read_dir(folder)? {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                tensors.extend(safetensors::load(&path, &Device::Cpu)?);
            }
        }
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Ok(Theirs {
            model: glm4::Model::new(&config, weights)?,
            is_empty: true,
        })
    }
}

impl Decoder for Theirs {
    fn next(&mut self, ids: &[u32]) -> candle_core::Result<Vec<f32>> {
        if !self.is_empty && ids.len() > 1 {
            candle_core::bail!("behind a cache it takes one token at a time");
        }
        self.is_empty = false;
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        self.model.forward(&ids)?.squeeze(0)?.to_vec1()
    }

    fn forget(&mut self) {
        self.model.reset_kv_cache();
        self.is_empty = true;
    }
}

/// The likeliest token.
pub fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}
