//! Pictures of every format: pixels of the right size or an error, with either decoder.

use glimpse_image::{Decoder, Options, load};

pub fn check(data: &[u8]) {
    for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
        for raw in [false, true] {
            let options = Options {
                decoder,
                raw,
                max_pixels: 1 << 20,
                ..Options::default()
            };
            match load(data, 28, &options) {
                Ok(picture) => {
                    assert_eq!(picture.pixels.rgb().len(), 28 * 28 * 3);
                    // A JPEG may be decoded at an eighth of its sides.
                    assert!(u64::from(picture.width) * u64::from(picture.height) <= 64 << 20);
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}
