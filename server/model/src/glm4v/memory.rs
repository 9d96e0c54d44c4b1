//! How much memory a card must have, told before minutes of loading.

use candle_core::DType;

use super::Config;
use super::inventory;
use crate::kernels::{Arena, MOST_PLAIN, PAGE};
use crate::weights::{TensorSpec, format_of, row_bytes};
use crate::{LoadError, Quantize};

/// What libraries and kernels take beside the model.
const BESIDE: u64 = 300 << 20;

/// Bytes of the weights on a card.
fn weight_bytes(specs: &[TensorSpec], quantize: Quantize, dtype: DType) -> u64 {
    let plain = dtype.size_in_bytes();
    specs
        .iter()
        .map(|spec| match (format_of(spec, quantize), &spec.shape[..]) {
            (Some(format), [rows, row]) => (rows * row_bytes(format, *row)) as u64,
            _ => (spec.elements() * plain) as u64,
        })
        .sum()
}

/// Bytes of what encoding a picture takes at once: in the tower, the wide layer of its MLP beside its input, its result,
/// and what is kept for little things.
pub fn work_bytes(config: &Config, dtype: DType) -> u64 {
    let v = &config.vision_config;
    (v.positions() * (v.intermediate_size + 3 * v.hidden_size) * dtype.size_in_bytes()) as u64
}

/// Bytes of everything: the weights, so many of the longest conversations, and what encoding a picture takes.
fn least_bytes(
    config: &Config,
    specs: &[TensorSpec],
    quantize: Quantize,
    dtype: DType,
    conversations: usize,
) -> u64 {
    let size = dtype.size_in_bytes();
    let page = Arena::page_bytes(
        config.num_layers,
        config.multi_query_group_num,
        config.kv_channels,
        dtype,
    );
    let entries = conversations * config.max_entries() + config.image_tokens();
    let pages = entries.div_ceil(PAGE) + 2 + conversations;
    // A quantized weight is made plain for a product with many rows, part by part.
    let plain = match quantize {
        Quantize::None => 0,
        _ => MOST_PLAIN.min(2 * config.ffn_hidden_size * config.hidden_size * size),
    };
    let beside = work_bytes(config, dtype) + BESIDE;
    weight_bytes(specs, quantize, dtype) + (pages * page + plain) as u64 + beside
}

/// The most exact of `ways` to keep the weights that `free` bytes hold with two of the longest conversations, or else with
/// one. The ways come in the order of how exact they are.
///
/// # Errors
/// Nothing fits: how much would.
pub fn most_exact(
    config: &Config,
    ways: &[Quantize],
    dtype: DType,
    free: u64,
) -> Result<Quantize, LoadError> {
    let specs = inventory(config)?.specs;
    let ways = || ways.iter().copied();
    let needs =
        |quantize, conversations| least_bytes(config, &specs, quantize, dtype, conversations);
    let two = ways().find(|quantize| needs(*quantize, 2) <= free);
    let one = || ways().find(|quantize| needs(*quantize, 1) <= free);
    two.or_else(one).ok_or_else(|| {
        LoadError(format!(
            "the model takes {} of memory even in 4 bits (--quantize q4) and {} are free: end what else runs there, or use a \
             device with more memory",
            gb(needs(Quantize::Q4, 1)),
            gb(free)
        ))
    })
}

fn gb(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Refuses what `free` bytes of a card don't hold, and names which of its `ways` they do.
pub fn check(
    config: &Config,
    ways: &[Quantize],
    quantize: Quantize,
    dtype: DType,
    free: u64,
) -> Result<(), LoadError> {
    let specs = inventory(config)?.specs;
    let needs = |q| least_bytes(config, &specs, q, dtype, 1);
    if needs(quantize) <= free {
        return Ok(());
    }
    let fits = ways.iter().copied().find(|way| needs(*way) <= free);
    let instead = match fits {
        Some(way) => format!("use --quantize {way}, which takes {}", gb(needs(way))),
        None => "use --device cpu, or a card with more memory".into(),
    };
    Err(LoadError(format!(
        "the model takes {} of the card's memory and {} are free: {instead}",
        gb(needs(quantize)),
        gb(free)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [Quantize; 4] = [Quantize::None, Quantize::Q8, Quantize::Fp8, Quantize::Q4];

    #[test]
    fn the_published_model_is_told_where_it_fits() {
        let json = include_bytes!("../../../../tests/data/glm-4v-9b.config.json");
        let config = Config::parse(json).unwrap();
        let specs = inventory(&config).unwrap().specs;
        let plain = weight_bytes(&specs, Quantize::None, DType::BF16);
        assert_eq!(plain, 2 * 13_906_320_896);
        let told = |free: u64| {
            check(&config, &WAYS, Quantize::None, DType::BF16, free).map_err(|e| e.to_string())
        };
        assert_eq!(told(40_000_000_000), Ok(()));
        assert!(told(24_000_000_000).unwrap_err().contains("--quantize q8"));
        assert!(told(12_000_000_000).unwrap_err().contains("--quantize q4"));
        assert!(told(6_000_000_000).unwrap_err().contains("--device cpu"));
        let q4 = least_bytes(&config, &specs, Quantize::Q4, DType::BF16, 1);
        assert!((8_500_000_000..9_800_000_000).contains(&q4), "{q4}");
    }

    #[test]
    fn the_most_exact_that_fits_is_taken() {
        let json = include_bytes!("../../../../tests/data/glm-4v-9b.config.json");
        let config = Config::parse(json).unwrap();
        let chosen =
            |free: u64| most_exact(&config, &WAYS, DType::BF16, free).map_err(|e| e.to_string());
        for (gigabytes, quantize) in [
            (80, Quantize::None),
            (40, Quantize::None),
            (24, Quantize::Q8),
            (16, Quantize::Fp8),
            (15, Quantize::Q4),
            (12, Quantize::Q4),
        ] {
            assert_eq!(
                chosen(gigabytes * 1_000_000_000),
                Ok(quantize),
                "{gigabytes}"
            );
        }
        let problem = chosen(6_000_000_000).unwrap_err();
        assert!(problem.contains("6.0 GB are free"), "{problem}");
        // Where two have no room, one has.
        let specs = inventory(&config).unwrap().specs;
        let one = least_bytes(&config, &specs, Quantize::Q4, DType::BF16, 1);
        assert_eq!(chosen(one), Ok(Quantize::Q4));
        assert!(chosen(one - 1).is_err());
        // 8-bit floats take a little less than blocks of 8 bits, and not every device has them.
        let two = least_bytes(&config, &specs, Quantize::Fp8, DType::BF16, 2);
        assert_eq!(chosen(two), Ok(Quantize::Fp8));
        let without = WAYS.map(|way| match way {
            Quantize::Fp8 => Quantize::Q4,
            way => way,
        });
        let chosen = most_exact(&config, &without, DType::BF16, two);
        assert_eq!(chosen.map_err(|e| e.to_string()), Ok(Quantize::Q4));
    }
}
