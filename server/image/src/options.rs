//! How pictures are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metadata::Region;
use serde::{Deserialize, Serialize};

/// What decodes JPEG (`--image-decoder`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decoder {
    /// libjpeg-turbo: Pillow's own decoder, bit for bit, and the fastest.
    #[default]
    TurboJpeg,
    /// Rust only; may differ from the other by a few steps where chroma is subsampled.
    Portable,
}

/// How to read a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub decoder: Decoder,
    /// `--raw-pixels`: what Pillow's `.convert("RGB")` gives: no orientation (but TIFF's own, and HEIC's), no colour
    /// profile, alpha dropped, 16-bit gray clipped; and no scaled decoding of very large JPEGs.
    pub raw: bool,
    /// The part that the model is to see, of the upright picture; `None` is all of it. It is grown by what surrounds it
    /// until neither side is longer than twice the other.
    pub region: Option<Region>,
    /// The most pixels, width × height, that are decoded.
    pub max_pixels: u64,
    /// The most memory that decoding one picture may take, in bytes.
    pub max_memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            decoder: Decoder::TurboJpeg,
            raw: false,
            region: None,
            max_pixels: 100_000_000,
            max_memory: 1 << 30,
        }
    }
}

/// The longest side of a picture: JPEG's own limit. It bounds the memory that a picture one pixel wide can ask for.
pub const MAX_SIDE: u32 = 65_535;

/// Ends a decode from outside: shared with whoever may want it to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Makes whatever decodes with this give up as soon as it reads on.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
