//! Against Pillow's own results (`tests/pixels/make_goldens.py`), and against damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use safetensors::SafeTensors;

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pixels")
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join("fixtures").join(name)).unwrap()
}

fn fixtures() -> Vec<String> {
    let entries = std::fs::read_dir(folder().join("fixtures")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn options(raw: bool) -> Options {
    Options {
        raw,
        ..Options::default()
    }
}

/// The largest and the mean difference, in 8-bit steps.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let steps = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = steps.clone().map(u64::from).sum();
    (steps.max().unwrap(), sum as f64 / a.len() as f64)
}

/// Every fixture's goldens: (name, raw?, size) to RGB.
fn goldens() -> BTreeMap<(String, bool, u32), Vec<u8>> {
    let file = std::fs::read(folder().join("goldens.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut goldens = BTreeMap::new();
    for (key, tensor) in tensors.iter() {
        let [name, mode, size] = key.split('/').collect::<Vec<_>>().try_into().unwrap();
        let key = (name.to_owned(), mode == "raw", size.parse().unwrap());
        goldens.insert(key, tensor.data().to_vec());
    }
    // What is the same either way is stored once.
    for ((name, raw, size), data) in goldens.clone() {
        if raw {
            goldens.entry((name, false, size)).or_insert(data);
        }
    }
    goldens
}

/// Whether the resize is Pillow's to the bit on this machine.
fn is_exact() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[test]
fn equals_pillow() {
    let goldens = goldens();
    for name in fixtures() {
        for raw in [true, false] {
            assert!(goldens.keys().any(|key| key.0 == name && key.1 == raw));
        }
    }
    let mut sum = 0.0;
    for ((name, raw, size), golden) in &goldens {
        let picture = load(&fixture(name), *size, &options(*raw)).unwrap();
        let (most, mean) = difference(picture.pixels.rgb(), golden);
        println!("{name:28} raw={raw:5} {size:3}: at most {most}, mean {mean:.4}");
        sum += mean;
        let bounds = if is_exact() { (0, 0.0) } else { (1, 0.02) };
        assert!(
            most <= bounds.0 && mean <= bounds.1,
            "{name} raw={raw} {size}: at most {most}, mean {mean}"
        );
    }
    assert!(sum / (goldens.len() as f64) < 0.02);
}

#[test]
fn portable_decoder_is_close() {
    for ((name, raw, size), golden) in goldens() {
        // Four inks are beyond it in Adobe's form.
        if name.ends_with(".jpg") && !name.starts_with("cmyk") && !name.starts_with("ycck") {
            let options = Options {
                decoder: Decoder::Portable,
                ..options(raw)
            };
            let picture = load(&fixture(&name), size, &options).unwrap();
            let (most, mean) = difference(picture.pixels.rgb(), &golden);
            assert!(most <= 40 && mean <= 2.0, "{name}: {most}, {mean}");
        }
    }
}

#[test]
fn size_is_of_the_upright_picture() {
    for (name, raw, expected) in [
        ("exif-1.jpg", false, (30, 20)),
        ("exif-4.jpg", false, (30, 20)),
        ("exif-5.jpg", false, (20, 30)),
        ("exif-8.jpg", false, (20, 30)),
        ("exif-8.jpg", true, (30, 20)),
        ("exif-6.png", false, (20, 30)),
        ("exif-8.webp", false, (20, 30)),
        ("exif-6.tif", false, (20, 30)),
    ] {
        let picture = load(&fixture(name), 14, &options(raw)).unwrap();
        assert_eq!((picture.width, picture.height), expected, "{name} {raw}");
        assert_eq!(
            probe(&fixture(name), &Options::default()).unwrap().width,
            30
        );
    }
}

/// An EXIF block, or a TIFF of 8 × 8 black pixels: its first directory has `pointers` entries that say where further
/// directories lie, 12 bytes apart, each of 65,535 entries; then orientation 6.
fn pointers_everywhere(pointers: u16) -> Vec<u8> {
    let pixels = 8u32;
    let directory = pixels + 64;
    let mut tiff = b"II\x2A\0".to_vec();
    tiff.extend_from_slice(&directory.to_le_bytes());
    tiff.extend_from_slice(&[0; 64]);
    tiff.extend_from_slice(&(pointers + 9).to_le_bytes());
    let mut entry = |tag: u16, kind: u16, value: u32| {
        tiff.extend_from_slice(&tag.to_le_bytes());
        tiff.extend_from_slice(&kind.to_le_bytes());
        tiff.extend_from_slice(&1u32.to_le_bytes());
        tiff.extend_from_slice(&value.to_le_bytes());
    };
    for (tag, value) in [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1)] {
        entry(tag, 3, value);
    }
    entry(273, 4, pixels);
    entry(278, 3, 8);
    entry(279, 4, 64);
    let after = directory + 2 + 12 * (u32::from(pointers) + 9) + 4;
    for n in 0..u32::from(pointers) {
        entry(0x8769, 4, after + 12 * n);
    }
    entry(0x0112, 3, 6);
    tiff.extend_from_slice(&[0; 4]);
    tiff.resize(tiff.len() + 12 * 65_535, 0xFF);
    tiff
}

/// `file` with `block` as its EXIF.
fn with_exif(file: &[u8], block: &[u8]) -> Vec<u8> {
    match file {
        [0xFF, 0xD8, rest @ ..] => {
            let block = &block[..block.len().min(65_000)];
            let length = (block.len() as u16 + 8).to_be_bytes();
            [
                &[0xFF, 0xD8, 0xFF, 0xE1],
                &length[..],
                b"Exif\0\0",
                block,
                rest,
            ]
            .concat()
        }
        [0x89, ..] => {
            let chunk = [b"eXIf", block].concat();
            let (length, sum) = (block.len() as u32, crc32(&chunk));
            let (head, rest) = file.split_at(33);
            [
                head,
                &length.to_be_bytes(),
                &chunk,
                &sum.to_be_bytes(),
                rest,
            ]
            .concat()
        }
        // A WebP without alpha.
        _ => {
            let Header { width, height, .. } = probe(file, &Options::default()).unwrap();
            let (width, height) = ((width - 1).to_le_bytes(), (height - 1).to_le_bytes());
            let head = [&b"VP8X\x0A\0\0\0\x08\0\0\0"[..], &width[..3], &height[..3]].concat();
            let length = (block.len() as u32).to_le_bytes();
            let pad = &[0][..block.len() % 2];
            let chunks = [
                &b"WEBP"[..],
                &head,
                &file[12..],
                b"EXIF",
                &length,
                block,
                pad,
            ]
            .concat();
            [b"RIFF", &(chunks.len() as u32).to_le_bytes()[..], &chunks].concat()
        }
    }
}

#[test]
fn directories_of_exif_are_not_followed() {
    let block = pointers_everywhere(3000);
    for name in ["420.jpg", "rgb.png", "lossless.webp"] {
        let plain = probe(&fixture(name), &Options::default()).unwrap();
        let picture = load(&with_exif(&fixture(name), &block), 14, &options(false)).unwrap();
        assert_eq!(
            (picture.width, picture.height),
            (plain.height, plain.width),
            "{name}"
        );
    }
    assert_eq!(
        load(&block, 8, &options(false)).unwrap().pixels.rgb(),
        [0; 8 * 8 * 3]
    );
}

/// ImageMagick's way before PNG had `eXIf`; Pillow honours it.
#[test]
fn the_orientation_in_a_raw_profile_of_a_png() {
    let block = b"II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let digits: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "\nexif\n      {}\n{}\n{}\n",
        block.len(),
        &digits[..36],
        &digits[36..]
    );
    let mut deflated = flate2::read::ZlibEncoder::new(text.as_bytes(), flate2::Compression::best());
    let mut zlib = Vec::new();
    std::io::Read::read_to_end(&mut deflated, &mut zlib).unwrap();
    let keyword = b"Raw profile type exif\0";
    let file = fixture("exif-6.png");
    let plain = file.windows(4).position(|name| name == b"eXIf").unwrap();
    for (name, data) in [
        (b"tEXt", text.as_bytes()),
        (b"zTXt", &[&[0], &zlib[..]].concat()),
    ] {
        let mut file = file.clone();
        // Some other chunk.
        file[plain..plain + 4].copy_from_slice(b"teSt");
        let chunk = [&name[..], keyword, data].concat();
        let (length, sum) = (chunk.len() as u32 - 4, crc32(&chunk));
        let chunk = [&length.to_be_bytes(), &chunk[..], &sum.to_be_bytes()].concat();
        file.splice(33..33, chunk);
        assert_eq!(metadata::orientation(&file), None);
        assert_eq!(load(&file, 14, &options(false)).unwrap().width, 20);
    }
}

#[test]
fn formats_are_told_by_their_bytes() {
    for (name, expected) in [
        ("420.jpg", "jpeg"),
        ("rgb.png", "png"),
        ("lossy.webp", "webp"),
        ("plain.gif", "gif"),
        ("rgb.bmp", "bmp"),
        ("lzw.tif", "tiff"),
    ] {
        let Header { format, .. } = probe(&fixture(name), &Options::default()).unwrap();
        assert_eq!(format.as_str(), expected);
    }
}

/// Of an arithmetic-coded JPEG libjpeg-turbo reads the header and Rust's decoder does not: so it tells who was asked.
#[test]
fn the_portable_decoder_reads_headers_itself() {
    let mut bytes = fixture("420.jpg");
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]);
    bytes[frame.unwrap() + 1] = 0xc9;
    let by = |decoder| Options {
        decoder,
        ..Options::default()
    };
    assert!(probe(&bytes, &by(Decoder::TurboJpeg)).is_ok());
    assert!(probe(&bytes, &by(Decoder::Portable)).is_err());
}

#[test]
fn a_used_buffer_shows_nothing_of_the_picture_before() {
    let small = fixture("offset-transparent.gif");
    let first = load(&small, 24, &options(false)).unwrap().pixels;
    for name in ["large.png", "rgba.png", "cmyk.jpg", "thin.png"] {
        load(&fixture(name), 40, &options(false)).unwrap();
        assert_eq!(load(&small, 24, &options(false)).unwrap().pixels, first);
    }
}

/// A JPEG of waves and noise, as a camera's: `width` × `height`, 4:2:0.
pub(crate) fn photo(width: usize, height: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(1);
    let pixels: Vec<u8> = (0..width * height)
        .flat_map(|i| {
            let (x, y) = ((i % width) as f32, (i / width) as f32);
            let wave = |a: f32, b: f32| 127.0 + 70.0 * (x / a).sin() + 50.0 * (y / b).cos();
            [wave(31.0, 23.0), wave(57.0, 41.0), wave(13.0, 17.0)]
                .map(|v| (v + random.random_range(-12.0..12.0)).clamp(0.0, 255.0) as u8)
        })
        .collect();
    let image = turbojpeg::Image {
        pixels: pixels.as_slice(),
        width,
        pitch: 3 * width,
        height,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(image, 90, turbojpeg::Subsamp::Sub2x2)
        .unwrap()
        .to_vec()
}

#[test]
fn scaled_decoding_of_large_photos_differs_little() {
    let bytes = photo(1203, 907);
    // 1/2 leaves 602 × 454, 1/4 leaves 301 × 227, 1/8 leaves 151 × 114.
    for size in [224, 112, 56] {
        let exact = load(&bytes, size, &options(true)).unwrap();
        let scaled = load(&bytes, size, &options(false)).unwrap();
        assert_eq!((scaled.width, scaled.height), (1203, 907));
        let (most, mean) = difference(scaled.pixels.rgb(), exact.pixels.rgb());
        println!("{size}: at most {most}, mean {mean:.3}");
        assert!(most > 0, "{size}: nothing was scaled");
        assert!(
            most <= 8 && mean <= 0.6,
            "{size}: at most {most}, mean {mean}"
        );
    }
    // Too small for it: exactly the same.
    let (exact, other) = (options(true), options(false));
    assert_eq!(
        load(&bytes, 460, &exact).unwrap().pixels,
        load(&bytes, 460, &other).unwrap().pixels
    );
}

#[test]
fn limits_come_before_decoding() {
    let limited = Options {
        max_pixels: 61 * 47 - 1,
        ..Options::default()
    };
    let error = load(&fixture("rgb.png"), 24, &limited).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageTooLarge);
    let exactly = Options {
        max_pixels: 61 * 47,
        ..limited
    };
    assert!(load(&fixture("rgb.png"), 24, &exactly).is_ok());

    // Headers that lie: 100,000 × 100,000 pixels, and one pixel by two thousand million.
    for (width, height) in [(100_000u32, 100_000u32), (1, 2_000_000_000)] {
        let mut bytes = fixture("rgb.png");
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = load(&bytes, 24, &Options::default()).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
    // 65,500 × 65,500 in a JPEG of 700 bytes.
    let mut bytes = fixture("420.jpg");
    let at = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    bytes[at + 5..at + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let error = load(&bytes, 24, &Options::default()).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageTooLarge, "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn what_is_no_picture_is_told_so() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"hello, world", "no picture"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0qt  mif2", "video"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1unif", "HEIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw file"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"8BPS\0\x01", "Photoshop"),
    ] {
        let error = load(bytes, 24, &Options::default()).unwrap_err();
        assert_eq!(error.code(), api::ErrorCode::ImageUnsupported);
        let sentence = error.to_string();
        assert!(sentence.contains(word), "{sentence}");
        assert!(sentence.contains("JPEG, PNG"), "{sentence}");
    }
}

#[test]
fn what_is_cut_off_is_broken() {
    for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
        for name in fixtures() {
            let bytes = fixture(&name);
            let options = Options {
                decoder,
                ..Options::default()
            };
            for part in [40, 60, 80] {
                let cut = &bytes[..bytes.len() * part / 100];
                // The second frame of an animation is not looked at.
                if name.starts_with("animated") && part >= 40 {
                    continue;
                }
                // Behind the last row lie a PNG's checksums and end, which can be done without.
                if name.ends_with(".png") && cut.len() + 20 >= bytes.len() {
                    continue;
                }
                let result = load(cut, 24, &options);
                let error = result.map(|_| ()).expect_err(&format!("{name} {part}%"));
                assert_ne!(
                    error.code(),
                    api::ErrorCode::ImageTooLarge,
                    "{name} {part}%: {error}"
                );
            }
        }
    }
    let bytes = fixture("420.jpg");
    let error = load(&bytes[..bytes.len() - 40], 24, &Options::default()).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageBroken);
    assert!(
        error
            .to_string()
            .starts_with("This JPEG picture is cut off")
    );
}

/// No panic, no long wait, and no effect on the picture after: whatever is cut off or flipped.
#[test]
fn damage_is_survived() {
    let mut random = StdRng::seed_from_u64(2);
    let options = Options {
        max_pixels: 1_000_000,
        ..Options::default()
    };
    let [mut slowest, mut slowest_whole] = [Duration::ZERO; 2];
    for name in fixtures() {
        let bytes = fixture(&name);
        let start = Instant::now();
        let good = load(&bytes, 14, &options).unwrap().pixels;
        slowest_whole = slowest_whole.max(start.elapsed());
        for round in 0..60 {
            let mut damaged = bytes.clone();
            if round % 3 == 0 {
                damaged.truncate(random.random_range(0..bytes.len()));
            }
            for _ in 0..if round % 3 == 1 { 1 } else { 8 } {
                if !damaged.is_empty() {
                    let at = random.random_range(0..damaged.len());
                    damaged[at] ^= 1 << random.random_range(0..8);
                }
            }
            let start = Instant::now();
            let decoder = [Decoder::TurboJpeg, Decoder::Portable][round % 2];
            match load(&damaged, 14, &Options { decoder, ..options }) {
                Ok(picture) => assert_eq!(picture.pixels.rgb().len(), 14 * 14 * 3),
                Err(error) => assert!(error.to_string().ends_with('.'), "{error}"),
            }
            slowest = slowest.max(start.elapsed());
        }
        let again = load(&bytes, 14, &options).unwrap().pixels;
        assert!(again == good, "{name} after damaged ones");
    }
    // A damaged header may tell of as many pixels as are allowed, some hundred times those of a fixture.
    assert!(
        slowest < 1000 * slowest_whole,
        "{slowest:?}, {slowest_whole:?}"
    );
}

/// What a person is told is words, whatever is wrong with the file: no names of types, no fields, no numbers of bytes.
#[test]
fn no_decoders_own_words_reach_a_person() {
    let mut random = StdRng::seed_from_u64(3);
    let mut files: Vec<_> = fixtures().iter().map(|name| fixture(name)).collect();
    for entry in std::fs::read_dir(folder().join("heif")).unwrap() {
        files.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let mut told = std::collections::BTreeSet::new();
    for bytes in &files {
        for round in 0..60 {
            let mut damaged = bytes.clone();
            match round % 3 {
                0 => damaged.truncate(random.random_range(0..bytes.len())),
                // Where the headers are.
                1 => {
                    let at = random.random_range(0..bytes.len().min(64));
                    damaged[at] = random.random();
                }
                _ => {
                    let at = random.random_range(0..bytes.len());
                    damaged[at] = random.random();
                }
            }
            for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
                let options = Options {
                    decoder,
                    max_pixels: 1_000_000,
                    ..Options::default()
                };
                if let Err(error) = load(&damaged, 14, &options) {
                    told.insert(error.to_string());
                }
            }
        }
    }
    assert!(told.len() > 10, "{told:?}");
    for sentence in &told {
        for mark in [
            "{", "}", "::", "\"", "`", "_", "0x", "Error", "error", "None", "Some",
        ] {
            assert!(!sentence.contains(mark), "{mark}: {sentence}");
        }
        // A name such as ChunkType or (SomethingElse): a capital within a word, but in formats' names.
        for word in sentence.split(|c: char| !c.is_alphanumeric()) {
            let is_name = word.chars().skip(1).any(char::is_uppercase)
                && word.chars().any(char::is_lowercase);
            assert!(!is_name || word == "WebP", "{word}: {sentence}");
        }
        assert!(
            !sentence.contains('(') && sentence.ends_with('.'),
            "{sentence}"
        );
    }
}
