//! Every tensor of the published format, as loading asks for it.

use super::{Config, Decoder, VisionTower};
use crate::LoadError;
use crate::weights::{Inventory, Loader};

/// What the names of all tensors begin with.
pub(super) const PREFIX: &str = "transformer.";

/// Derived from the configuration, so ignored where a checkpoint holds it.
const ROTARY: &str = "transformer.rotary_pos_emb.inv_freq";

/// A part of the model, as its parameters are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    DecoderLayers,
    VisionLayers,
    /// Embeddings, output layer, final norm, patch embedding, adapter.
    Rest,
}

impl Part {
    /// The one that a tensor belongs to, by its name.
    pub fn of(name: &str) -> Self {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        if name.starts_with("encoder.layers.") {
            Part::DecoderLayers
        } else if name.starts_with("vision.transformer.layers.") {
            Part::VisionLayers
        } else {
            Part::Rest
        }
    }
}

/// What a checkpoint of this configuration holds.
///
/// # Errors
/// None: nothing is read.
pub fn inventory(config: &Config) -> Result<Inventory, LoadError> {
    let specs = Loader::list(PREFIX, |loader| {
        Decoder::load(config, loader)?;
        VisionTower::load(config, loader)
    })?;
    let tied = config.tie_word_embeddings;
    let output = tied.then(|| format!("{PREFIX}output_layer.weight"));
    Ok(Inventory {
        model: "GLM-4V",
        specs,
        ignored: [ROTARY.to_owned()].into_iter().chain(output).collect(),
        stored: config.stored_quantize(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quantize;
    use crate::weights::{Format, TensorSpec, format_of};

    /// The counts that users of the published checkpoint report.
    #[test]
    fn published_counts() {
        let config = Config::parse(include_bytes!(
            "../../../../tests/data/glm-4v-9b.config.json"
        ))
        .unwrap();
        let specs = inventory(&config).unwrap().specs;
        let count = |part| -> usize {
            let specs = specs.iter();
            specs
                .filter(|spec| Part::of(&spec.name) == part)
                .map(TensorSpec::elements)
                .sum()
        };
        assert_eq!(count(Part::DecoderLayers), 8_158_433_280);
        assert_eq!(count(Part::VisionLayers), 4_279_387_392);
        assert_eq!(count(Part::Rest), 1_468_500_224);
        assert_eq!(config.image_tokens(), 1602);
        assert_eq!(config.max_entries(), 8192 + 1599);
    }

    #[test]
    fn the_published_model_in_four_bits() {
        let json = include_bytes!("../../../../tests/data/glm-4v-9b.config.json");
        let config = Config::parse(json).unwrap();
        for spec in inventory(&config).unwrap().specs {
            let large = spec.elements() > 40_000_000;
            let format = format_of(&spec, Quantize::Q4);
            assert!(format.is_some() || !large, "{} stays plain", spec.name);
            assert!(!spec.name.contains("norm") || format.is_none());
            if spec.name.ends_with("word_embeddings.weight") {
                assert_eq!(format, Some(Format::Q4K));
            }
            assert!(format_of(&spec, Quantize::None).is_none());
        }
    }
}
