//! WebP by its chunks: pixels of the right size or an error, whatever the fields say.
#![no_main]

use glimpse_image::{Options, load};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target makes one kind")]
#[path = "../files.rs"]
mod files;

fuzz_target!(|data: &[u8]| {
    for raw in [false, true] {
        let options = Options {
            raw,
            max_pixels: 1 << 20,
            ..Options::default()
        };
        match load(&files::webp(data), 28, &options) {
            Ok(picture) => assert_eq!(picture.pixels.rgb().len(), 28 * 28 * 3),
            Err(error) => assert!(!error.to_string().contains('{')),
        }
    }
});
