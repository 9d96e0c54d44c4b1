//! Pictures: pixels of the right size or words for people, whatever a file says of itself.

use glimpse_image::{Decoder, Options, Region, load};

mod bytes;
pub mod exif;
mod ifd;
pub mod png;
pub mod tiff;
pub mod webp;

/// The model's square, of pixels a side.
const SIZE: u32 = 28;
/// A file that takes more is refused; the fuzzer's own bounds (scripts/fuzz.sh) lie above it.
const MAX_MEMORY: u64 = 256 << 20;
const MAX_PIXELS: u64 = 1 << 20;

/// Of most pictures a part, of small ones nothing.
const REGION: Region = Region {
    x: 3.0,
    y: 2.0,
    width: 5.0,
    height: 40.0,
};

/// Reads `file` in every way that there is for its format; whether it is a picture by any.
pub fn check(file: &[u8]) -> bool {
    // What has JPEG in it has two decoders.
    let decoders: &[Decoder] = match file {
        [0xff, 0xd8, ..] | [b'I', b'I', ..] | [b'M', b'M', ..] => {
            &[Decoder::TurboJpeg, Decoder::Portable]
        }
        _ => &[Decoder::TurboJpeg],
    };
    let mut is_read = false;
    for &decoder in decoders {
        for (raw, region) in [(false, None), (true, None), (false, Some(REGION))] {
            let options = Options {
                decoder,
                raw,
                region,
                max_pixels: MAX_PIXELS,
                max_memory: MAX_MEMORY,
            };
            match load(file, SIZE, &options) {
                Ok(picture) => {
                    let side = SIZE as usize;
                    assert_eq!(picture.pixels.rgb().len(), side * side * 3);
                    // A JPEG may be decoded at an eighth of its sides.
                    let pixels = u64::from(picture.width) * u64::from(picture.height);
                    assert!(pixels <= MAX_PIXELS << 6);
                    is_read = true;
                }
                Err(error) => {
                    let words = error.to_string();
                    // Neither a decoder's own words nor the end of one that panicked.
                    assert!(!words.is_empty() && !words.contains('{'), "{words}");
                    assert!(!words.contains("gave up in the middle"), "{words}");
                }
            }
        }
    }
    is_read
}
