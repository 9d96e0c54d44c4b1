//! How the engine works.

use model::Quantize;

/// How each worker of the engine works. Each optimisation has a switch that turns it off, for measuring.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Questions answered in one forward pass, as far as the cache has pages for them.
    pub max_batch: usize,
    /// Questions that may wait beyond those.
    pub queue: usize,
    /// Bytes of the KV cache; by default what is sensible for the device's free memory.
    pub cache_bytes: Option<u64>,
    /// Look at a picture as soon as it is there, not at its first question.
    pub eager_encode: bool,
    /// Keep what was computed of a conversation for its next question.
    pub prefix_cache: bool,
    pub warmup: bool,
    /// How the weights are kept.
    pub quantize: Quantize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_batch: 2,
            queue: 64,
            cache_bytes: None,
            eager_encode: true,
            prefix_cache: true,
            warmup: true,
            quantize: Quantize::None,
        }
    }
}
