//! What the fuzzers began with, and what they have learnt where they ran: pixels of the right size or words, in a bounded
//! time each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Decoder, Options, load};

#[path = "../../../fuzz/files.rs"]
mod files;

/// A corpus that grew large is replayed in part.
const TIME: Duration = Duration::from_secs(40);

/// Files of a folder in the fuzzers', none if it isn't there.
fn inputs(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz")
        .join(folder);
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

#[test]
fn fuzzers_inputs_end_in_pixels_or_words() {
    let as_it_is: fn(&[u8]) -> Vec<u8> = <[u8]>::to_vec;
    let start = Instant::now();
    let mut read = 0;
    for (folder, make) in [
        ("seeds/png", files::png as fn(&[u8]) -> Vec<u8>),
        ("seeds/webp", files::webp),
        ("../tests/pixels/fixtures", as_it_is),
        ("../tests/pixels/heif", as_it_is),
        ("corpus/png", files::png),
        ("corpus/webp", files::webp),
        ("corpus/pictures", as_it_is),
    ] {
        for path in inputs(folder) {
            if start.elapsed() > TIME {
                break;
            }
            let file = make(&std::fs::read(&path).unwrap());
            for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
                for raw in [false, true] {
                    let options = Options {
                        decoder,
                        raw,
                        max_pixels: 1 << 20,
                        ..Options::default()
                    };
                    match load(&file, 28, &options) {
                        Ok(picture) => {
                            assert_eq!(picture.pixels.rgb().len(), 28 * 28 * 3);
                            read += u32::from(folder.starts_with("seeds"));
                        }
                        Err(error) => {
                            assert!(!error.to_string().contains('{'), "{path:?}: {error}");
                        }
                    }
                }
            }
        }
    }
    // Seeds that nothing reads would teach a fuzzer nothing: of thirteen all but those that are wrong on purpose.
    assert!(read >= 11 * 4, "{read}");
}
