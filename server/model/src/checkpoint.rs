//! A checkpoint, whole: weights, configuration, tokenizer and defaults, from a folder or made up.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;

use api::Defaults;
use sha2::{Digest, Sha256};

use crate::device::{Target, device_memory};
use crate::glm4v::{Config, Glm4v, Model, inventory, memory};
use crate::text::{Tokenizer, defaults};
use crate::weights::{Coming, Folder, Inventory, Progress, Weights};
use crate::{LoadError, Quantize, QuantizeChoice};

/// Everything of a checkpoint; the weights are mapped, not yet on a device.
pub struct Checkpoint {
    pub name: String,
    /// Whether this is the embedded demo.
    pub demo: bool,
    pub config: Config,
    pub tokenizer: Arc<Tokenizer>,
    /// The sampling settings of generation_config.json.
    pub sampling: Defaults,
    weights: Weights,
}

#[cfg(feature = "demo")]
include!(concat!(env!("OUT_DIR"), "/demo.rs"));
#[cfg(not(feature = "demo"))]
static DEMO_FILES: &[(&str, &[u8])] = &[];

/// The demo checkpoint, compiled in.
pub static DEMO: Folder = Folder::Embedded(DEMO_FILES);

/// A checkpoint's folder on disk.
pub fn folder(path: &Path) -> Folder {
    Folder::OnDisk(path.to_path_buf())
}

/// A folder's tokenizer.
pub fn tokenizer(folder: &Folder) -> Result<Tokenizer, LoadError> {
    Tokenizer::from_files(
        &folder.file("tokenizer.model")?,
        &folder.file("tokenizer_config.json")?,
    )
    .map_err(|e| LoadError(e.to_string()))
}

/// A folder's own settings for sampling.
pub fn sampling(folder: &Folder) -> Result<Defaults, LoadError> {
    match folder.optional("generation_config.json")? {
        Some(bytes) => defaults(&bytes).map_err(|e| LoadError(e.to_string())),
        None => Ok(Defaults::default()),
    }
}

impl Checkpoint {
    /// Opens a folder in the published format and checks all of it.
    pub fn open(folder: &Folder) -> Result<Self, LoadError> {
        Self::read(folder, |asked| Weights::open(folder, &asked))
    }

    /// Opens a folder whose weights, of so many bytes, are still on their way: what else is in it is there. Whoever fetches
    /// them tells the second.
    pub fn coming(folder: &Folder, bytes: u64) -> Result<(Self, Arc<Coming>), LoadError> {
        let config = Config::parse(&folder.file("config.json")?).map_err(LoadError)?;
        let coming = Coming::new(folder, inventory(&config)?, bytes)?;
        let checkpoint = Self::read(folder, |_| Ok(Weights::Coming(coming.clone())))?;
        Ok((checkpoint, coming))
    }

    fn read(
        folder: &Folder,
        weights: impl FnOnce(Inventory) -> Result<Weights, LoadError>,
    ) -> Result<Self, LoadError> {
        let config = Config::parse(&folder.file("config.json")?).map_err(LoadError)?;
        let tokenizer = tokenizer(folder)?;
        if tokenizer.vocab_size() > config.padded_vocab_size {
            return Err(LoadError(format!(
                "tokenizer.model and tokenizer_config.json have {} tokens where config.json's padded_vocab_size has \
                 room for {}: check that they belong together",
                tokenizer.vocab_size(),
                config.padded_vocab_size
            )));
        }
        let sampling = sampling(folder)?.with_vocabulary(config.padded_vocab_size as u32);
        Ok(Checkpoint {
            name: folder.name(),
            demo: matches!(folder, Folder::Embedded(_)),
            weights: weights(inventory(&config)?)?,
            tokenizer: Arc::new(tokenizer),
            sampling,
            config,
        })
    }

    /// Full-size shapes with random weights and a made-up vocabulary: for measuring where there is no checkpoint.
    pub fn random(config: &Path, seed: u64) -> Result<Self, LoadError> {
        let json = std::fs::read(config).map_err(|e| {
            LoadError(format!(
                "--config {} cannot be read ({e})",
                config.display()
            ))
        })?;
        let config = Config::parse(&json).map_err(LoadError)?;
        let (model, settings) = made_up_vocabulary(&config);
        let tokenizer = Tokenizer::from_files(model.as_bytes(), settings.as_bytes())
            .map_err(|e| LoadError(e.to_string()))?;
        Ok(Checkpoint {
            name: format!("random-{seed}"),
            demo: false,
            weights: Weights::Random { seed },
            tokenizer: Arc::new(tokenizer),
            sampling: Defaults::default().with_vocabulary(config.padded_vocab_size as u32),
            config,
        })
    }

    /// How its model writes conversations down.
    pub fn language(&self) -> Glm4v {
        Glm4v::new(self.config.clone(), self.tokenizer.clone())
    }

    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Names what answers depend on: workers of equal fingerprints go on with each other's answers. Of the weights, names and
    /// shapes count, and some of the values.
    pub fn fingerprint(&self, target: &Target, quantize: Quantize) -> String {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{:?} {} {quantize}",
            self.config,
            target.dtype_name()
        ));
        for id in 0..self.tokenizer.vocab_size() {
            hash.update(self.tokenizer.token_bytes(id as u32).unwrap_or_default());
            hash.update([0xff]);
        }
        self.weights.sample(&mut |bytes| hash.update(bytes));
        let digest = hash.finalize();
        digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// How the weights are kept on a device if `asked` is asked for.
    ///
    /// # Errors
    /// The folder holds blocks already, of another kind; or the device doesn't know the kind that is asked for, or has no
    /// room: what would do.
    pub fn quantize(&self, asked: QuantizeChoice, target: &Target) -> Result<Quantize, LoadError> {
        use QuantizeChoice::{Auto, Given};
        let quantize = match (self.config.stored_quantize(), asked) {
            (Quantize::None, Auto) => match target.known_memory() {
                Some(free) => {
                    return memory::most_exact(&self.config, target.ways(), target.dtype, free);
                }
                None => Quantize::None,
            },
            (Quantize::None, Given(asked)) => {
                target.knows(asked)?;
                asked
            }
            (stored, Given(asked)) if asked != stored => {
                return Err(LoadError(format!(
                    "{} holds its weights in {stored}, but --quantize {asked} was asked for: leave --quantize away, or point \
                 --model at the original folder",
                    self.name
                )));
            }
            (stored, _) => stored,
        };
        self.fits(target, quantize)?;
        Ok(quantize)
    }

    /// How the weights are kept on several devices: as on the one that has room for the most exact. Those that have no room for
    /// that, or don't know it, are left out.
    ///
    /// # Errors
    /// Those of [`Checkpoint::quantize`], if there is none.
    pub fn quantize_all(
        &self,
        asked: QuantizeChoice,
        targets: &mut Vec<Target>,
    ) -> Result<Quantize, LoadError> {
        let each: Result<Vec<_>, _> = targets.iter().map(|t| self.quantize(asked, t)).collect();
        let best = each?.into_iter().min().unwrap_or(Quantize::None);
        targets.retain(|target| target.knows(best).and(self.fits(target, best)).is_ok());
        if asked == QuantizeChoice::Auto {
            let free = targets.iter().filter_map(Target::known_memory).min();
            let free = free.map(|free| format!("{:.1} GB", free as f64 / 1e9));
            tracing::info!(quantize = %best, free, "the weights are kept as exactly as there is room for");
        }
        Ok(best)
    }

    /// Whether the device has the memory for it, with its weights as [`Checkpoint::quantize`] settled it.
    ///
    /// # Errors
    /// It has not: what would fit.
    fn fits(&self, target: &Target, quantize: Quantize) -> Result<(), LoadError> {
        match device_memory(&target.device) {
            Some((free, _)) => {
                memory::check(&self.config, target.ways(), quantize, target.dtype, free)
            }
            None => Ok(()),
        }
    }

    /// Puts the weights on the device. `progress` hears bytes loaded, as stored, and bytes in all.
    pub fn load(
        &self,
        target: &Target,
        quantize: Quantize,
        progress: &mut Progress<'_>,
    ) -> Result<Model, LoadError> {
        let mut progress = |done, total| progress(done, total);
        self.fits(target, quantize)?;
        Model::load(
            self.config.clone(),
            &self.weights,
            target.dtype,
            quantize,
            &target.device,
            &mut progress,
        )
    }
}

/// The bytes, then made-up words up to the first special token; the special tokens under the published names and in
/// their published order.
fn made_up_vocabulary(config: &Config) -> (String, String) {
    let first_special = config
        .eos_token_id
        .as_slice()
        .iter()
        .min()
        .copied()
        .unwrap_or(256);
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut model = String::new();
    for rank in 0..first_special {
        let token = match u8::try_from(rank) {
            Ok(byte) => encode(&[byte]),
            Err(_) => encode(format!(" {rank}").as_bytes()),
        };
        model.push_str(&format!("{token} {rank}\n"));
    }
    (model, special_tokens(first_special as usize))
}

/// `tokenizer_config.json`, as far as it is read: the published special tokens, whose ids are `first` and those after it.
pub fn special_tokens(first: usize) -> String {
    const NAMES: [&str; 14] = [
        "<|endoftext|>",
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<eop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
    ];
    let special: serde_json::Map<String, serde_json::Value> = (first..)
        .zip(NAMES)
        .map(|(id, name)| {
            let token = serde_json::json!({ "content": name, "special": true });
            (id.to_string(), token)
        })
        .collect();
    serde_json::json!({ "added_tokens_decoder": special }).to_string()
}
