//! The tensors of a checkpoint: safetensors shards by memory map, or random ones of the same shapes.

use std::collections::HashMap;

use candle_core::{DType, Device, Shape, Tensor};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorInfo};

use super::files::{FileBytes, Folder};
use super::tensors::{IGNORED, TensorSpec, tensors};
use super::{Config, LoadError};

/// Where the weights come from.
pub enum Weights {
    Stored(Vec<Shard>),
    /// Full-size shapes with no checkpoint: norms near 1, everything else small, the same for the same seed.
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
    fn open(folder: &Folder, name: &str) -> Result<Self, LoadError> {
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

const INDEX: &str = "model.safetensors.index.json";
const ONE_FILE: &str = "model.safetensors";

/// Whether there are any weights in the folder, complete or not.
pub fn holds_weights(folder: &Folder) -> Result<bool, LoadError> {
    Ok(folder.optional(INDEX)?.is_some() || folder.optional(ONE_FILE)?.is_some())
}

impl Weights {
    /// Opens every shard of the folder and compares all it holds with what `config` asks for.
    pub fn open(folder: &Folder, config: &Config) -> Result<Self, LoadError> {
        let (shards, problems) = Self::inspect(folder, config)?;
        match problems.len() {
            0 => Ok(Weights::Stored(shards)),
            1 => Err(LoadError(problems.into_iter().next().unwrap_or_default())),
            n => Err(LoadError(format!(
                "{} (and {} more: `glimpse inspect --model` lists all)",
                problems[0],
                n - 1
            ))),
        }
    }

    /// The shards and everything wrong with them, a sentence each.
    pub fn inspect(
        folder: &Folder,
        config: &Config,
    ) -> Result<(Vec<Shard>, Vec<String>), LoadError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: HashMap<String, String>,
        }
        let (names, index) = match folder.optional(INDEX)? {
            Some(bytes) => {
                let index: Index = serde_json::from_slice(&bytes).map_err(|e| {
                    LoadError(format!(
                        "{INDEX} is not a valid index ({e}): download it again"
                    ))
                })?;
                let mut names: Vec<String> = index.weight_map.values().cloned().collect();
                names.sort();
                names.dedup();
                if let Some(bad) = names.iter().find(|n| n.contains(['/', '\\'])) {
                    return Err(LoadError(format!(
                        "{INDEX} names the file {bad:?} outside the folder: use the index as published"
                    )));
                }
                (names, Some(index))
            }
            // A checkpoint of one file needs no index.
            None if folder.optional(ONE_FILE)?.is_some() => (vec![ONE_FILE.to_string()], None),
            None => {
                let problem = format!(
                    "{INDEX} is missing from {}, and so is {ONE_FILE}: download the weights with their index",
                    folder.place()
                );
                return Ok((vec![], vec![problem]));
            }
        };
        let mut shards = Vec::new();
        let mut problems = Vec::new();
        for name in &names {
            match Shard::open(folder, name) {
                Ok(shard) => shards.push(shard),
                Err(e) => problems.push(e.0),
            }
        }
        let specs = tensors(config);
        let mut at: HashMap<&str, &Shard> = HashMap::new();
        for shard in &shards {
            for name in shard.tensors.keys() {
                if let Some(other) = at.insert(name, shard) {
                    problems.push(format!(
                        "{} and {} both hold the tensor {name}, where one was expected: download both again",
                        other.name, shard.name
                    ));
                }
            }
        }
        for spec in &specs {
            let told = index.as_ref().and_then(|i| i.weight_map.get(&spec.name));
            match (at.get(spec.name.as_str()), told) {
                (Some(shard), told) => {
                    if let Some(told) = told.filter(|told| **told != shard.name) {
                        problems.push(format!("{INDEX} says that {} is in {told}, but {} holds it: download the index again", spec.name, shard.name));
                    }
                    problems.extend(check(spec, shard));
                }
                (None, Some(told)) if !shards.iter().any(|s| s.name == *told) => {} // the shard's own problem
                (None, Some(told)) => problems.push(format!("{told} lacks the tensor {} that {INDEX} promises: download it again", spec.name)),
                (None, None) if shards.len() < names.len() => {} // the missing file's own problem
                (None, None) => problems.push(format!("the tensor {} of shape {:?} is missing from the checkpoint: download it again, or check that config.json belongs to it", spec.name, spec.shape)),
            }
        }
        let known: std::collections::HashSet<&str> = specs
            .iter()
            .map(|s| s.name.as_str())
            .chain([IGNORED])
            .collect();
        let tied = config
            .tie_word_embeddings
            .then_some("transformer.output_layer.weight");
        for shard in &shards {
            let mut extra: Vec<&String> = shard
                .tensors
                .keys()
                .filter(|n| !known.contains(n.as_str()) && Some(n.as_str()) != tied)
                .collect();
            extra.sort();
            for name in extra {
                problems.push(format!(
                    "{} holds a tensor {name} of shape {:?} that GLM-4V has not: check that config.json belongs to these weights",
                    shard.name, shard.tensors[name].shape
                ));
            }
        }
        Ok((shards, problems))
    }

    /// Bytes of what [`Self::get`] reads for a tensor, or makes up.
    pub fn tensor_bytes(&self, name: &str, shape: &[usize], dtype: DType) -> u64 {
        match self {
            Weights::Stored(shards) => shards
                .iter()
                .find_map(|s| s.tensors.get(name))
                .map_or(0, |t| (t.data_offsets.1 - t.data_offsets.0) as u64),
            Weights::Random { .. } => {
                (shape.iter().product::<usize>() * dtype.size_in_bytes()) as u64
            }
        }
    }

    /// Bytes of all tensors that `config` asks for.
    pub fn bytes(&self, config: &Config, dtype: DType) -> u64 {
        tensors(config)
            .iter()
            .map(|t| self.tensor_bytes(&t.name, &t.shape, dtype))
            .sum()
    }

    /// Bytes on disk of all tensors.
    pub fn stored_bytes(&self) -> u64 {
        match self {
            Weights::Stored(shards) => shards
                .iter()
                .flat_map(|s| s.tensors.values())
                .map(|t| (t.data_offsets.1 - t.data_offsets.0) as u64)
                .sum(),
            Weights::Random { .. } => 0,
        }
    }

    /// The stored types, for telling.
    pub fn stored_dtypes(&self) -> Vec<String> {
        let mut types: Vec<String> = match self {
            Weights::Stored(shards) => shards
                .iter()
                .flat_map(|s| s.tensors.values())
                .map(|t| format!("{:?}", t.dtype).to_lowercase())
                .collect(),
            Weights::Random { .. } => vec![],
        };
        types.sort();
        types.dedup();
        types
    }

    /// The tensor of this name on `device`, in `dtype` whatever the stored type.
    pub fn get(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, LoadError> {
        let shape = shape.into();
        let name = format!("transformer.{name}");
        let tensor = match self {
            Weights::Random { seed } => random(*seed, &name, &shape, dtype, device),
            Weights::Stored(shards) => {
                let found = shards
                    .iter()
                    .find_map(|s| s.tensors.get(&name).map(|info| (s, info)));
                let Some((shard, info)) = found else {
                    return Err(LoadError(format!(
                        "the tensor {name} is missing from the checkpoint: download it again"
                    )));
                };
                if info.shape != shape.dims() {
                    return Err(LoadError(misshapen(
                        &name,
                        &shard.name,
                        shape.dims(),
                        &info.shape,
                    )));
                }
                stored(shard, info, dtype, device)
            }
        };
        tensor.map_err(|e| {
            LoadError(format!(
                "{name} could not be put on the device ({e}): is there enough memory?"
            ))
        })
    }
}

fn stored(
    shard: &Shard,
    info: &TensorInfo,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let (start, end) = info.data_offsets;
    let range = shard.data_at + start..shard.data_at + end;
    let bytes = shard
        .bytes
        .get(range.clone())
        .ok_or_else(|| candle_core::Error::msg("the file got shorter"))?;
    let stored = match info.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        _ => DType::BF16, // `check` let no other pass
    };
    let tensor = Tensor::from_raw_buffer(bytes, stored, &info.shape, &Device::Cpu)?;
    shard.bytes.release(range);
    tensor.to_dtype(dtype)?.to_device(device)
}

fn misshapen(name: &str, file: &str, expected: &[usize], found: &[usize]) -> String {
    format!(
        "{file}: the tensor {name} has the shape {found:?} where config.json asks for {expected:?}: check that config.json belongs to these weights"
    )
}

/// What is wrong with a stored tensor.
fn check(spec: &TensorSpec, shard: &Shard) -> Option<String> {
    let info = shard.tensors.get(&spec.name)?;
    if info.shape != spec.shape {
        return Some(misshapen(&spec.name, &shard.name, &spec.shape, &info.shape));
    }
    if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Some(format!(
            "{}: the tensor {} is stored as {:?}; f32, f16 and bf16 are served: use the published weights",
            shard.name, spec.name, info.dtype
        ));
    }
    None
}

/// Normal values of deviation 0.02 for what multiplies, 1 ± 0.02 for the scales of norms.
fn random(
    seed: u64,
    name: &str,
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let norm = name.ends_with("norm.weight") || name.ends_with("norm1.weight");
    let mean = if norm { 1f32 } else { 0f32 };
    if device.is_cuda() {
        return Tensor::randn(mean, 0.02, shape, device)?.to_dtype(dtype);
    }
    use rand::{RngExt, SeedableRng};
    // The name decides too, so that the order of loading does not matter (FNV-1a).
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed ^ hash);
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| {
            // The sum of four uniforms is close enough to normal, and cheap.
            let sum: f32 = (0..4).map(|_| rng.random::<f32>()).sum();
            mean + (sum - 2.0) * 0.02 * 1.732
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}
