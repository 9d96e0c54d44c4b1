//! What a header says about memory is true: every kind of picture is decoded while each allocation is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use glimpse_image::{Decoder, Options, load, probe};
use image::{DynamicImage, ImageFormat};

struct Counting;

static NOW: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is the system's allocator's; the counts are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size() as u64, Ordering::Relaxed) + layout.size() as u64;
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const WIDTH: u32 = 2300;
const HEIGHT: u32 = 1900;
const SIZE: u32 = 672;

/// What `work` takes at once, in bytes, beside what was taken before it.
fn peak(work: impl FnOnce()) -> u64 {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A TIFF of one strip, or one for each row, not packed: gray or RGB, with or without alpha.
fn tiff(bits: u16, samples: u16, is_float: bool, is_one_strip: bool) -> Vec<u8> {
    let row = WIDTH * u32::from(samples) * u32::from(bits / 8);
    let rows_per_strip = if is_one_strip { HEIGHT } else { 1 };
    let strips = HEIGHT / rows_per_strip;
    let mut file = b"II\x2A\0\x08\0\0\0".to_vec();
    let photometric = if samples < 3 { 1 } else { 2 };
    let after = 8 + 2 + 12 * 10 + 4;
    let tables = after + 16;
    let pixels = tables + 8 * strips;
    let place = |at: u32, value: u32| if strips == 1 { value } else { at };
    let depths = if samples < 3 { u32::from(bits) } else { after };
    file.extend(10_u16.to_le_bytes());
    for (tag, kind, count, value) in [
        (256_u16, 4_u16, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, if samples < 3 { 1 } else { samples.into() }, depths),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, strips, place(tables, pixels)),
        (277, 3, 1, samples.into()),
        (278, 4, 1, rows_per_strip),
        (279, 4, strips, place(tables + 4 * strips, row * HEIGHT)),
        (339, 3, 1, if is_float { 3 } else { 1 }),
    ] {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(u32::to_le_bytes(count));
        file.extend(u32::to_le_bytes(value));
    }
    file.extend([0; 4]);
    file.extend([bits.to_le_bytes(); 8].as_flattened());
    file.extend((0..strips).flat_map(|strip| (pixels + strip * row).to_le_bytes()));
    file.extend((0..strips).flat_map(|_| row.to_le_bytes()));
    file.resize((pixels + row * HEIGHT) as usize, 0x3C);
    file
}

/// A lossless WebP with a group of codes for each number that there is, of which it uses the last: literals with codes
/// for `literals` symbols, and colours with a code each for 256.
fn webp_of_many_codes(literals: u32) -> Vec<u8> {
    let (width, height) = (640, 480);
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |value: u32, count: u32| bits.extend((0..count).map(|bit| value >> bit & 1 == 1));
    // The one symbol of a code, which takes no bits.
    let only = |symbol: u32| [(1, 1), (0, 1), (1, 1), (symbol, 8)];
    // As many symbols as a power of two says have codes of its length: no bits say so, once that length is all there is.
    let all = |power: usize, has_more: bool| {
        const ORDER: [usize; 19] = [
            17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        ];
        let count = ORDER.iter().position(|&length| length == power).unwrap() + 1;
        let mut parts = vec![(0, 1), (count as u32 - 4, 4)];
        parts.extend((1..=count).map(|at| (u32::from(at == count), 3)));
        match has_more {
            true => parts.extend([(1, 1), (5, 3), ((1 << power) - 2, 12)]),
            false => parts.push((0, 1)),
        }
        parts
    };
    let mut put_all = |parts: &[(u32, u32)]| parts.iter().for_each(|&(v, n)| put(v, n));
    // No transforms; a cache of 2048 colours; groups by blocks of 512 × 512, each of which has the last.
    put_all(&[(0, 1), (1, 1), (11, 4), (1, 1), (7, 3), (0, 1)]);
    for symbol in [255, 255, 0, 0, 0] {
        put_all(&only(symbol));
    }
    let power = literals.ilog2() as usize;
    let group = [
        all(power, true),
        all(8, false),
        all(8, false),
        all(8, false),
    ]
    .concat();
    for _ in 0..1 << 16 {
        put_all(&group);
        put_all(&only(0));
    }
    let mut data = vec![0x2f];
    data.extend(u32::to_le_bytes((width - 1) | (height - 1) << 14));
    let bytes = bits.chunks(8);
    data.extend(bytes.map(|byte| {
        byte.iter()
            .rev()
            .fold(0, |all, &bit| all << 1 | u8::from(bit))
    }));
    // Codes of zeros.
    data.resize(data.len() + (width * height * 5) as usize, 0);
    data.resize(data.len().next_multiple_of(2), 0);
    let length = data.len() as u32;
    let head = [&b"RIFF"[..], &(length + 12).to_le_bytes(), b"WEBPVP8L"];
    [&head.concat()[..], &length.to_le_bytes(), &data].concat()
}

fn pictures() -> Vec<(&'static str, Vec<u8>)> {
    let pixels = (0..WIDTH * HEIGHT).flat_map(|at| {
        let (x, y) = (at % WIDTH, at / WIDTH);
        [x / 9, y / 7, x * y / 3000, 255 - x / 30].map(|value| value as u8)
    });
    let pixels = image::RgbaImage::from_raw(WIDTH, HEIGHT, pixels.collect()).unwrap();
    let rgba = DynamicImage::ImageRgba8(pixels);
    let kinds = [
        ("L8", DynamicImage::ImageLuma8(rgba.to_luma8())),
        ("LA8", DynamicImage::ImageLumaA8(rgba.to_luma_alpha8())),
        ("L16", DynamicImage::ImageLuma16(rgba.to_luma16())),
        ("LA16", DynamicImage::ImageLumaA16(rgba.to_luma_alpha16())),
        ("RGB8", DynamicImage::ImageRgb8(rgba.to_rgb8())),
        ("RGB16", DynamicImage::ImageRgb16(rgba.to_rgb16())),
        ("RGBA16", DynamicImage::ImageRgba16(rgba.to_rgba16())),
        ("RGBA8", rgba.clone()),
    ];
    let mut pictures: Vec<_> = kinds
        .iter()
        .map(|(name, image)| (*name, encoded(image, ImageFormat::Png)))
        .collect();
    let rgb = DynamicImage::ImageRgb8(rgba.to_rgb8());
    pictures.extend([
        ("BMP", encoded(&rgb, ImageFormat::Bmp)),
        ("BMP with alpha", encoded(&rgba, ImageFormat::Bmp)),
        ("GIF", encoded(&rgba, ImageFormat::Gif)),
        ("lossless WebP", encoded(&rgb, ImageFormat::WebP)),
        (
            "lossless WebP with alpha",
            encoded(&rgba, ImageFormat::WebP),
        ),
        ("lossy WebP", include_bytes!("lossy.webp").to_vec()),
        (
            "lossy WebP with alpha",
            include_bytes!("lossy-alpha.webp").to_vec(),
        ),
        ("WebP with 65,536 codes", webp_of_many_codes(256)),
        ("animated WebP", include_bytes!("animated.webp").to_vec()),
        ("AVIF", include_bytes!("plain.avif").to_vec()),
        ("AVIF with alpha", include_bytes!("alpha.avif").to_vec()),
        (
            "AVIF, 10 bits, 4:4:4",
            include_bytes!("10bit-444.avif").to_vec(),
        ),
        ("AVIF, tiles", include_bytes!("grid.avif").to_vec()),
        (
            "JPEG",
            glimpse_image::to_jpeg(rgb.as_bytes(), WIDTH as usize, HEIGHT as usize, 80).unwrap(),
        ),
        ("TIFF, gray", tiff(8, 1, false, true)),
        ("TIFF, RGB", tiff(8, 3, false, true)),
        ("TIFF, RGBA16", tiff(16, 4, false, true)),
        ("TIFF, RGBA16 in strips", tiff(16, 4, false, false)),
        ("TIFF, RGBA32F", tiff(32, 4, true, true)),
        ("TIFF, RGBA64F", tiff(64, 4, true, true)),
    ]);
    pictures
}

/// Set for this program run once more, for one file: its decoder and its path.
const CHILD: &str = "GLIMPSE_TEST_DECODE";

/// In a process of its own for each picture, which keeps no buffers of others.
#[test]
fn no_picture_takes_more_than_its_header_says() {
    if let Ok(order) = std::env::var(CHILD) {
        return measure(&order);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    let mut wrong = Vec::new();
    for (name, file) in pictures() {
        std::fs::write(&path, &file).unwrap();
        for decoder in ["turbo", "portable"] {
            let child = Command::new(std::env::current_exe().unwrap())
                .env(CHILD, format!("{decoder} {}", path.display()))
                .args(["--nocapture", "--test-threads=1"])
                .output()
                .unwrap();
            let output = String::from_utf8(child.stdout).unwrap();
            let numbers: Vec<u64> = output
                .lines()
                .find_map(|line| line.split_once("MEASURED "))
                .unwrap_or_else(|| panic!("{name}: {output}"))
                .1
                .split(' ')
                .map(|number| number.parse().unwrap())
                .collect();
            let [said, taken, probing] = numbers[..] else {
                panic!("{output}")
            };
            let pixels = f64::from(WIDTH) * f64::from(HEIGHT);
            println!(
                "{name:24} {decoder:8}: {:5.2} bytes a pixel of {:5.2}, {probing} bytes for its header",
                taken as f64 / pixels,
                said as f64 / pixels,
            );
            // An account of much more than is taken would keep others waiting.
            if taken > said
                || said > 2 * taken + (72 << 20)
                || probing > (4 << 20) + file.len() as u64
            {
                wrong.push(format!(
                    "{name}: {taken} taken, {said} said, {probing} for its header"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file of two megabytes can ask for gigabytes of tables.
#[test]
fn codes_that_take_too_much_are_refused_before_they_are_read() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let file = webp_of_many_codes(2048);
    let error = probe(&file, &Options::default()).map(drop).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageTooLarge, "{error}");
}

fn measure(order: &str) {
    let (decoder, path) = order.split_once(' ').unwrap();
    let options = Options {
        decoder: match decoder {
            "turbo" => Decoder::TurboJpeg,
            _ => Decoder::Portable,
        },
        ..Options::default()
    };
    let file = std::fs::read(path).unwrap();
    let mut header = None;
    let probing = peak(|| header = Some(probe(&file, &options).unwrap()));
    let taken = peak(|| drop(load(&file, SIZE, &options).unwrap()));
    // Beside what it returns.
    let taken = taken - u64::from(SIZE * SIZE * 3);
    println!("MEASURED {} {taken} {probing}", header.unwrap().memory);
}
