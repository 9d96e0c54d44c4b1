//! Against what libavif shows of the same files (`tests/pixels/make_heif.py`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::{Options, Picture, load, probe};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pixels/heif")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".avif"))
        .collect()
}

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 48, &Options::default())
}

fn steps(a: &Picture, b: &Picture) -> Vec<u8> {
    let pairs = a.pixels.rgb().iter().zip(b.pixels.rgb());
    pairs.map(|(a, b)| a.abs_diff(*b)).collect()
}

#[test]
fn equals_libavif() {
    let names = names();
    assert_eq!(names.len(), 22);
    for name in names {
        let right = read(&file(&format!("{name}.png"))).unwrap();
        let found = read(&file(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.format.as_str(), "avif");
        assert_eq!(
            (found.width, found.height),
            (right.width, right.height),
            "{name}"
        );
        let steps = steps(&found, &right);
        let mean = steps.iter().copied().map(f64::from).sum::<f64>() / steps.len() as f64;
        let most = steps.iter().max().unwrap();
        println!("{name:20} mean {mean:.2}, at most {most}");
        assert!(mean < 0.8 && *most <= 6, "{name}: mean {mean}, most {most}");
    }
}

#[test]
fn raw_pixels_are_neither_turned_nor_of_another_profile() {
    let raw = Options {
        raw: true,
        ..Options::default()
    };
    for name in ["orientation-6.avif", "p3.avif"] {
        let plain = load(&file("plain.avif"), 48, &raw).unwrap();
        let found = load(&file(name), 48, &raw).unwrap();
        assert_eq!((found.width, found.height), (96, 64), "{name}");
        assert_eq!(found.pixels, plain.pixels, "{name}");
        assert_ne!(read(&file(name)).unwrap().pixels, plain.pixels, "{name}");
    }
}

/// The colours of a grid's tiles go on from one to the next, as within one picture.
#[test]
fn no_seam_is_seen() {
    let options = Options::default();
    let seen = |name: &str| load(&file(name), 100, &options).unwrap();
    let (grid, whole) = (seen("grid.avif"), seen("grid.avif.png"));
    assert!(steps(&grid, &whole).into_iter().all(|step| step <= 4));
}

#[test]
fn wide_primaries_told_by_number_are_converted() {
    let plain = file("plain.avif");
    let at = plain.windows(4).position(|four| four == b"nclx").unwrap() + 4;
    let with = |primaries: u8, transfer: u8| {
        let mut file = plain.clone();
        (file[at + 1], file[at + 3]) = (primaries, transfer);
        read(&file).unwrap().pixels
    };
    let srgb = with(1, 13);
    assert_ne!(with(12, 13), srgb);
    assert_ne!(with(9, 13), with(12, 13));
    // Brighter than a screen: as it is.
    assert_eq!(with(9, 16), srgb);
    assert_eq!(with(9, 18), srgb);
}

#[test]
fn what_is_cut_off_or_damaged_is_told_so() {
    for name in names() {
        let bytes = file(&name);
        for length in (0..bytes.len()).step_by(7).skip(6) {
            let error = read(&bytes[..length]).map(|_| ()).unwrap_err();
            let code = error.code();
            assert_eq!(
                code,
                api::ErrorCode::ImageBroken,
                "{name} {length}: {error}"
            );
        }
        for at in 12..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let options = Options {
                max_pixels: 1_000_000,
                ..Options::default()
            };
            let _ = load(&damaged, 14, &options);
        }
    }
}

#[test]
fn the_limit_is_on_the_whole_grid() {
    let bytes = file("grid.avif");
    let limited = |max_pixels| Options {
        max_pixels,
        ..Options::default()
    };
    assert!(probe(&bytes, &limited(200 * 100)).is_ok());
    let error = probe(&bytes, &limited(200 * 100 - 1)).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageTooLarge);
}

/// What is coded counts, however little of it is shown: here all sides are told as large.
#[test]
fn the_limit_is_on_what_is_coded() {
    for (name, side) in [
        ("plain.avif", u32::MAX),
        ("grid.avif", u32::MAX),
        ("plain.avif", 60_000),
    ] {
        let mut bytes = file(name);
        while let Some(at) = bytes.windows(4).position(|four| four == b"ispe") {
            bytes[at..at + 4].copy_from_slice(b"free");
            bytes[at + 8..at + 12].copy_from_slice(&side.to_be_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&side.to_be_bytes());
        }
        while let Some(at) = bytes.windows(4).position(|four| four == b"free") {
            bytes[at..at + 4].copy_from_slice(b"ispe");
        }
        let error = probe(&bytes, &Options::default()).unwrap_err();
        let code = error.code();
        let expected = match name {
            "plain.avif" => api::ErrorCode::ImageTooLarge,
            // It says itself that it is smaller than its tiles.
            _ => api::ErrorCode::ImageBroken,
        };
        assert_eq!(code, expected, "{name}: {error}");
    }
}

#[test]
fn films_and_other_kinds_are_unsupported() {
    let film = b"\0\0\0\x14ftypavis\0\0\0\0avis\0\0\0\x08moov";
    let mut other = file("plain.avif");
    let at = other.windows(4).position(|four| four == b"av01").unwrap();
    other[at..at + 4].copy_from_slice(b"hvc1");
    for file in [&film[..], &other] {
        let error = read(file).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), api::ErrorCode::ImageUnsupported, "{error}");
    }
}

/// Where a file says that an item's data lies: of each item in its order, the place of offset and length.
fn extents(file: &[u8]) -> Vec<usize> {
    let iloc = file.windows(4).position(|four| four == b"iloc").unwrap();
    let items = u16::from_be_bytes([file[iloc + 10], file[iloc + 11]]);
    (0..items.into())
        .map(|item| iloc + 12 + 14 * item + 6)
        .collect()
}

fn put(file: &mut [u8], at: usize, extent: [usize; 2]) {
    for (i, value) in extent.into_iter().enumerate() {
        file[at + 4 * i..][..4].copy_from_slice(&(value as u32).to_be_bytes());
    }
}

fn extent(file: &[u8], at: usize) -> [usize; 2] {
    [0, 4].map(|i| u32::from_be_bytes(file[at + i..][..4].try_into().unwrap()) as usize)
}

/// Every bit of its head changed by itself: size, depth, colours and their sampling are the other tiles', or nothing is shown.
#[test]
fn a_tile_of_another_kind_is_refused() {
    let grid = file("grid.avif");
    // The first item is the grid, the others are its tiles.
    let [start, _] = extent(&grid, extents(&grid)[2]);
    let of_another_kind = (0..8 * 9).filter(|bit| {
        let mut changed = grid.clone();
        // Behind a unit of two bytes, and the head and length of this one.
        changed[start + 4 + bit / 8] ^= 1 << (bit % 8);
        let found = Still::read(&changed).map(|_| ());
        let told = matches!(found, Err(Fault::Unsupported("tiles of different kinds")));
        assert!(!told || read(&changed).is_err(), "bit {bit}");
        told
    });
    let of_another_kind = of_another_kind.count();
    assert!(of_another_kind > 5, "{of_another_kind}");
}

/// So that a small file can't have much decoded.
#[test]
fn tiles_that_share_their_data_are_refused() {
    let mut grid = file("grid.avif");
    let [start, _] = extent(&grid, extents(&grid)[1]);
    let length = grid.len() - start;
    for at in extents(&grid).split_off(1) {
        put(&mut grid, at, [start, length]);
    }
    let error = read(&grid).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageUnsupported, "{error}");
    let found = Still::read(&grid).map(|_| ());
    assert!(matches!(found, Err(Fault::Unsupported(what)) if what.contains("share")));
}

/// A picture may be several frames on each other, of which the last is shown, but no film.
#[test]
fn frames_behind_frames_are_bounded() {
    let with_frames = |frames: usize| {
        let mut plain = file("plain.avif");
        let at = extents(&plain)[0];
        let [start, length] = extent(&plain, at);
        let (end, data) = (plain.len(), plain[start..start + length].to_vec());
        plain.extend(data.repeat(frames));
        put(&mut plain, at, [end, frames * length]);
        read(&plain).map(|picture| picture.pixels)
    };
    let once = with_frames(1).unwrap();
    for frames in [2, 8] {
        assert!(with_frames(frames).unwrap() == once, "{frames}");
    }
    let error = with_frames(9).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageUnsupported, "{error}");
}

/// No test: how long a file takes, `GLIMPSE_AVIF=FILE cargo test --release -p glimpse-image avif -- --nocapture`.
#[test]
fn time() {
    let Some(path) = std::env::var_os("GLIMPSE_AVIF") else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    for _ in 0..5 {
        let start = Instant::now();
        let picture = load(&bytes, 1120, &Options::default()).unwrap();
        println!(
            "{} × {}: {:?}, of it {:.0} ms decoding",
            picture.width,
            picture.height,
            start.elapsed(),
            picture.decode_ms
        );
    }
}

#[test]
fn a_coarser_alpha_covers_the_picture() {
    let mut bytes = [0, 255, 100, 200];
    let canvas = Canvas {
        width: 2,
        height: 2,
        chroma: Chroma::None,
        depth: 8,
        bytes: &mut bytes,
    };
    let mut pixels = [7; 3 * 4 * 4];
    canvas.to_alpha((4, 4), [1, 0, 3, 4], &mut pixels);
    let alpha: Vec<u8> = pixels.iter().skip(3).step_by(4).copied().collect();
    assert_eq!(
        alpha,
        [0, 255, 255, 0, 255, 255, 100, 200, 200, 100, 200, 200]
    );
    assert!(pixels.chunks(4).all(|pixel| pixel[..3] == [7; 3]));
}
