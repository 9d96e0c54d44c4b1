//! Against what libheif shows of the same files (`tests/pixels/make_heif.py`).

use std::path::Path;

use super::*;
use crate::{Options, Picture, load, probe};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pixels/heif")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 48, &Options::default())
}

#[test]
fn equals_libheif() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".heic") {
            continue;
        }
        count += 1;
        let right = read(&file(&format!("{name}.png"))).unwrap();
        let found = read(&file(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.format.as_str(), "heic");
        assert_eq!(
            (found.width, found.height),
            (right.width, right.height),
            "{name}"
        );
        let steps = || {
            found
                .pixels
                .rgb()
                .iter()
                .zip(right.pixels.rgb())
                .map(|(a, b)| a.abs_diff(*b))
        };
        let mean = steps().map(f64::from).sum::<f64>() / steps().count() as f64;
        // libheif takes the nearest chroma, or rounds in other places.
        assert!(
            mean < 2.0,
            "{name}: mean {mean}, at most {:?}",
            steps().max()
        );
    }
    assert_eq!(count, 15);
}

#[test]
fn what_is_cut_off_or_damaged_is_told_so() {
    for name in ["plain.heic", "grid.heic", "alpha.heic"] {
        let bytes = file(name);
        for part in [10, 50, 90] {
            let error = read(&bytes[..bytes.len() * part / 100])
                .map(|_| ())
                .unwrap_err();
            assert_eq!(error.code(), api::ErrorCode::ImageBroken, "{name}: {error}");
        }
        for at in 12..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let _ = load(
                &damaged,
                14,
                &Options {
                    max_pixels: 1_000_000,
                    ..Options::default()
                },
            );
        }
    }
}

#[test]
fn the_limit_is_on_the_whole_grid() {
    let bytes = file("grid.heic");
    let limited = |max_pixels| Options {
        max_pixels,
        ..Options::default()
    };
    assert!(probe(&bytes, &limited(200 * 100)).is_ok());
    let error = probe(&bytes, &limited(200 * 100 - 1)).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageTooLarge);
}
