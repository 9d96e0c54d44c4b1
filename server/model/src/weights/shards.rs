//! The tensors of a checkpoint: safetensors shards by memory map, or random ones of the same shapes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use candle_core::DType;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorInfo};

use super::coming::Coming;
use super::folder::{FileBytes, Folder};
use super::formats::{format_of, row_bytes};
use super::source::{At, Random, Source, Stored};
use super::spec::{Inventory, TensorSpec};
use crate::{LoadError, Quantize};

/// Where the weights come from.
pub enum Weights {
    Stored(Vec<Shard>),
    /// Shards that are still on their way.
    Coming(Arc<Coming>),
    /// Full-size shapes with no checkpoint.
    Random {
        seed: u64,
    },
}

/// A mapped safetensors file whose header has been read.
pub struct Shard {
    pub name: String,
    bytes: FileBytes,
    /// Where the tensors' data begins.
    data_at: usize,
    tensors: HashMap<String, TensorInfo>,
}

impl Shard {
    pub(super) fn open(folder: &Folder, name: &str) -> Result<Self, LoadError> {
        let bytes = folder.file(name)?;
        // Checks all: every tensor's bytes lie in the file, one after the other, and are as many as its shape and type
        // say.
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| unreadable(name, &bytes, &e))?;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        Ok(Shard {
            name: name.into(),
            data_at: header + 8,
            bytes,
            tensors,
        })
    }
}

impl Shard {
    /// The tensor, if this shard holds it.
    pub fn source(&self, spec: &TensorSpec) -> Option<Source<'_>> {
        Some(Source {
            shape: spec.shape.clone(),
            at: At::Stored(self.stored(&spec.name)?),
        })
    }

    fn stored(&self, name: &str) -> Option<Stored<'_>> {
        let info = self.tensors.get(name)?;
        let (start, end) = info.data_offsets;
        Some(Stored {
            file: &self.bytes,
            range: self.data_at + start..self.data_at + end,
            dtype: info.dtype,
        })
    }
}

/// Why a shard's header was refused: a file cut short is told by the first tensor that it lacks.
fn unreadable(name: &str, bytes: &[u8], e: &SafeTensorError) -> LoadError {
    LoadError(match first_lacking(bytes) {
        Some((tensor, end)) => format!(
            "{name} is cut off in the tensor {tensor}: it has {} bytes and needs {end}: download it again",
            bytes.len()
        ),
        None => format!(
            "{name} is not a valid safetensors file ({e}; it has {} bytes): download it again",
            bytes.len()
        ),
    })
}

/// The first tensor of a readable header whose bytes end behind the file's, and where they end.
fn first_lacking(bytes: &[u8]) -> Option<(String, u64)> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let data_at = length.checked_add(8)?;
    let header = bytes.get(8..usize::try_from(data_at).ok()?)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    header
        .into_iter()
        .filter_map(|(name, info)| {
            let end = info.get("data_offsets")?.get(1)?.as_u64()?;
            Some((name, data_at.checked_add(end)?))
        })
        .filter(|(_, end)| *end > bytes.len() as u64)
        .min_by_key(|(_, end)| *end)
}

/// The file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
const ONE_FILE: &str = "model.safetensors";

/// Which files hold a folder's weights, and which tensor lies in which.
pub(super) struct Contents {
    /// In the order of their names.
    pub files: Vec<String>,
    /// By tensor; none where one file holds all.
    index: Option<HashMap<String, String>>,
}

impl Contents {
    /// Reads a folder's index, if it has one; nothing, if it has no weights either.
    ///
    /// # Errors
    /// An index that makes no sense.
    pub fn read(folder: &Folder) -> Result<Option<Self>, LoadError> {
        match folder.optional(INDEX)? {
            Some(index) => Self::of_index(&index).map(Some),
            // A checkpoint of one file needs no index.
            None => Ok(folder.optional(ONE_FILE)?.map(|_| Self::one_file())),
        }
    }

    /// All in one file.
    pub fn one_file() -> Self {
        Contents {
            files: vec![ONE_FILE.into()],
            index: None,
        }
    }

    /// What an index says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_index(bytes: &[u8]) -> Result<Self, LoadError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: HashMap<String, String>,
        }
        let index: Index = serde_json::from_slice(bytes).map_err(|e| {
            LoadError(format!(
                "{INDEX} is not a valid index ({e}): download it again"
            ))
        })?;
        let mut files: Vec<String> = index.weight_map.values().cloned().collect();
        files.sort();
        files.dedup();
        if let Some(bad) = files.iter().find(|n| n.contains(['/', '\\'])) {
            return Err(LoadError(format!(
                "{INDEX} names the file {bad:?} outside the folder: use the index as published"
            )));
        }
        Ok(Contents {
            files,
            index: Some(index.weight_map),
        })
    }

    /// The file that should hold a tensor, if any is said to.
    pub fn file_of(&self, tensor: &str) -> Option<&str> {
        match &self.index {
            Some(index) => index.get(tensor).map(String::as_str),
            None => self.files.first().map(String::as_str),
        }
    }

    /// What is wrong with those `shards` that are there, a sentence each. Of the others nothing is said.
    pub fn compare(&self, shards: &[&Shard], asked: &Inventory) -> Vec<String> {
        let mut problems = Vec::new();
        let mut at: HashMap<&str, &Shard> = HashMap::new();
        for shard in shards {
            for name in shard.tensors.keys() {
                if let Some(other) = at.insert(name, shard) {
                    problems.push(format!(
                        "{} and {} both hold the tensor {name}, where one was expected: download both again",
                        other.name, shard.name
                    ));
                }
            }
        }
        let lacks_files = shards.len() < self.files.len();
        for spec in &asked.specs {
            let told = self.index.as_ref().and_then(|index| index.get(&spec.name));
            match (at.get(spec.name.as_str()), told) {
                (Some(shard), told) => {
                    if let Some(told) = told.filter(|told| **told != shard.name) {
                        problems.push(format!("{INDEX} says that {} is in {told}, but {} holds it: download the index again", spec.name, shard.name));
                    }
                    problems.extend(check(spec, shard, asked.stored));
                }
                (None, Some(told)) if !shards.iter().any(|s| s.name == *told) => {} // the shard's own problem
                (None, Some(told)) => problems.push(format!("{told} lacks the tensor {} that {INDEX} promises: download it again", spec.name)),
                (None, None) if lacks_files => {} // the missing file's own problem
                (None, None) => problems.push(format!("the tensor {} of shape {:?} is missing from the checkpoint: download it again, or check that config.json belongs to it", spec.name, spec.shape)),
            }
        }
        let names = asked.specs.iter().map(|spec| &spec.name);
        let known: HashSet<&String> = names.chain(&asked.ignored).collect();
        for shard in shards {
            let mut extra: Vec<&String> = shard
                .tensors
                .keys()
                .filter(|name| !known.contains(name))
                .collect();
            extra.sort();
            for name in extra {
                problems.push(format!(
                    "{} holds a tensor {name} of shape {:?} that {} has not: check that config.json belongs to these weights",
                    shard.name, shard.tensors[name].shape, asked.model
                ));
            }
        }
        problems
    }
}

/// Whether there are any weights in the folder, complete or not.
pub fn holds_weights(folder: &Folder) -> Result<bool, LoadError> {
    Ok(folder.optional(INDEX)?.is_some() || folder.optional(ONE_FILE)?.is_some())
}

impl Weights {
    /// Opens every shard of the folder and compares all it holds with what is `asked` for.
    pub fn open(folder: &Folder, asked: &Inventory) -> Result<Self, LoadError> {
        let (shards, problems) = Self::inspect(folder, asked)?;
        told(problems)?;
        Ok(Weights::Stored(shards))
    }

    /// The shards that are there.
    fn there(&self) -> Vec<&Shard> {
        match self {
            Weights::Stored(shards) => shards.iter().collect(),
            Weights::Coming(coming) => coming.there().collect(),
            Weights::Random { .. } => vec![],
        }
    }

    /// The shards and everything wrong with them, a sentence each.
    pub fn inspect(
        folder: &Folder,
        asked: &Inventory,
    ) -> Result<(Vec<Shard>, Vec<String>), LoadError> {
        let Some(contents) = Contents::read(folder)? else {
            let problem = format!(
                "{INDEX} is missing from {}, and so is {ONE_FILE}: download the weights with their index",
                folder.place()
            );
            return Ok((vec![], vec![problem]));
        };
        let mut shards = Vec::new();
        let mut problems = Vec::new();
        for name in &contents.files {
            match Shard::open(folder, name) {
                Ok(shard) => shards.push(shard),
                Err(e) => problems.push(e.0),
            }
        }
        let there: Vec<&Shard> = shards.iter().collect();
        problems.extend(contents.compare(&there, asked));
        Ok((shards, problems))
    }

    /// Bytes of all tensors that are asked for, as stored; as `dtype` has them where they are made up.
    pub fn bytes(&self, asked: &Inventory, dtype: DType) -> u64 {
        if let Weights::Coming(coming) = self {
            return coming.bytes();
        }
        let specs = asked.specs.iter();
        specs
            .filter_map(|t| self.find(&t.name, &t.shape))
            .map(|source| source.bytes(dtype))
            .sum()
    }

    /// The files that are there, none where the weights are made up.
    pub fn shards(&self) -> Vec<&Shard> {
        self.there()
    }

    /// Bytes on disk of all tensors.
    pub fn stored_bytes(&self) -> u64 {
        let tensors = self.there().into_iter().flat_map(|s| s.tensors.values());
        tensors
            .map(|t| (t.data_offsets.1 - t.data_offsets.0) as u64)
            .sum()
    }

    /// Gives `each` what tells these weights from others: what they are called and are like, and a few of their values.
    pub fn sample(&self, each: &mut dyn FnMut(&[u8])) {
        /// Of so many tensors one: each may have to be fetched from a disk.
        const STEP: usize = 16;
        const BYTES: usize = 1024;
        if let Weights::Random { seed } = self {
            return each(&seed.to_le_bytes());
        }
        let all = (self.there().into_iter())
            .flat_map(|shard| shard.tensors.iter().map(move |it| (it, shard)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|((name, _), _)| *name);
        for (index, ((name, info), shard)) in all.into_iter().enumerate() {
            each(format!("{name} {:?} {:?} ", info.dtype, info.shape).as_bytes());
            if index % STEP == 0 {
                let (start, end) = info.data_offsets;
                let end = end.min(start + BYTES);
                let data = shard.bytes.get(shard.data_at + start..shard.data_at + end);
                each(data.unwrap_or_default());
            }
        }
    }

    /// The stored types, for telling.
    pub fn stored_dtypes(&self) -> Vec<String> {
        let tensors = self.there().into_iter().flat_map(|s| s.tensors.values());
        let mut types: Vec<String> = tensors
            .map(|t| format!("{:?}", t.dtype).to_lowercase())
            .collect();
        types.sort();
        types.dedup();
        types
    }

    /// Where a tensor lies; waits for one that is on its way.
    ///
    /// # Errors
    /// There is none of this name, or none comes any more.
    pub fn source(&self, name: &str, shape: &[usize]) -> Result<Source<'_>, LoadError> {
        if let Weights::Coming(coming) = self {
            coming.wait_for(name)?;
        }
        self.find(name, shape).ok_or_else(|| {
            LoadError(format!(
                "the tensor {name} is missing from the checkpoint: download it again"
            ))
        })
    }

    fn find(&self, name: &str, shape: &[usize]) -> Option<Source<'_>> {
        let at = match self {
            Weights::Random { seed } => At::Random(Random::new(*seed, name)),
            _ => At::Stored(self.there().into_iter().find_map(|s| s.stored(name))?),
        };
        let shape = shape.to_vec();
        Some(Source { shape, at })
    }
}

/// Several problems as one.
///
/// # Errors
/// If there is any.
pub(super) fn told(problems: Vec<String>) -> Result<(), LoadError> {
    match &problems[..] {
        [] => Ok(()),
        [only] => Err(LoadError(only.clone())),
        [first, others @ ..] => Err(LoadError(format!(
            "{first} (and {} more: `glimpse inspect --model` lists all)",
            others.len()
        ))),
    }
}

fn misshapen(name: &str, file: &str, expected: &[usize], found: &[usize]) -> String {
    format!(
        "{file}: the tensor {name} has the shape {found:?} where config.json asks for {expected:?}: check that config.json belongs to these weights"
    )
}

/// What is wrong with a stored tensor; `quantize` is how config.json says that the folder holds weights.
fn check(spec: &TensorSpec, shard: &Shard, quantize: Quantize) -> Option<String> {
    let info = shard.tensors.get(&spec.name)?;
    let (name, file, stored) = (&spec.name, &shard.name, info.dtype);
    if let Some(format) = format_of(spec, quantize) {
        let expected = [spec.shape[0], row_bytes(format, spec.shape[1])];
        return (stored != Dtype::U8 || info.shape != expected).then(|| {
            format!(
                "{file}: the tensor {name} is stored as {stored:?} of shape {:?} where config.json's quantization_config \
                 asks for blocks of {format:?}, U8 of shape {expected:?}: run `glimpse quantize` on the original again",
                info.shape
            )
        });
    }
    if info.shape != spec.shape {
        return Some(misshapen(name, file, &spec.shape, &info.shape));
    }
    if !matches!(stored, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Some(format!(
            "{file}: the tensor {name} is stored as {stored:?}; f32, f16 and bf16 are served: use the published weights"
        ));
    }
    None
}
