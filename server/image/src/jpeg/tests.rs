//! Files as cameras, phones and editors leave them, and files that only look like them.

use super::*;
use crate::tests::{fixture, photo};
use crate::{Picture, load};

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 56, &Options::default())
}

fn by(decoder: Decoder) -> Options {
    Options {
        decoder,
        ..Options::default()
    }
}

/// By either decoder `bytes` gives the pixels of `twin`, which is well formed.
#[track_caller]
fn assert_twin(bytes: &[u8], twin: &[u8]) {
    for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
        let pixels = load(bytes, 56, &by(decoder)).unwrap().pixels;
        assert!(
            pixels == load(twin, 56, &by(decoder)).unwrap().pixels,
            "{decoder:?}"
        );
    }
}

#[track_caller]
fn assert_broken(bytes: &[u8]) {
    for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
        let result = load(bytes, 56, &by(decoder)).map(|_| ());
        let code = result.as_ref().map_err(ImageError::code);
        assert_eq!(
            code,
            Err(api::ErrorCode::ImageBroken),
            "{decoder:?}: {result:?}"
        );
    }
}

/// Where a marker is, behind its 0xff.
fn position(bytes: &[u8], marker: u8) -> usize {
    bytes
        .windows(2)
        .position(|pair| pair == [0xff, marker])
        .unwrap()
}

fn insert(bytes: &[u8], at: usize, more: &[u8]) -> Vec<u8> {
    [&bytes[..at], more, &bytes[at..]].concat()
}

/// Encoded in another way than [`photo`].
fn encoded(set: impl FnOnce(&mut turbojpeg::Compressor)) -> Vec<u8> {
    let pixels = turbojpeg::decompress(&photo(203, 155), PixelFormat::RGB).unwrap();
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    set(&mut compressor);
    compressor.compress_to_vec(pixels.as_deref()).unwrap()
}

fn progressive() -> Vec<u8> {
    encoded(|compressor| compressor.set_progressive(true).unwrap())
}

#[test]
fn stray_bytes_before_a_marker_cost_nothing() {
    let twin = photo(203, 155);
    for marker in [0xe0, 0xdb, 0xc0, 0xc4, 0xda] {
        for stray in [&[0][..], &[1, 2, 3], &[0xff], &[0xff, 0xff], &[0xff, 0, 7]] {
            assert_twin(&insert(&twin, position(&twin, marker), stray), &twin);
        }
    }
    // An APP2 whose length is four bytes short.
    let app = [0xff, 0xe2, 0, 4, 1, 2, 3, 4, 5, 6];
    let odd = insert(&twin, 2, &app);
    assert_twin(&odd, &twin);
    // Which doesn't hide that rows are missing.
    for part in [50, 90, 99] {
        let cut = odd.len() * part / 100;
        assert_broken(&odd[..cut]);
        assert_broken(&[&odd[..cut], &[0xff, 0xd9]].concat());
    }
}

#[test]
fn oddities_in_the_header_hide_no_missing_rows() {
    let twin = photo(203, 155);
    let changes: [(u8, usize, u8); 3] = [
        // JFIF 9; the first coefficient of a sequential scan; its bits.
        (0xe0, 9, 9),
        (0xda, 11, 1),
        (0xda, 13, 0x11),
    ];
    for (marker, at, value) in changes {
        let mut odd = twin.clone();
        odd[position(&twin, marker) + at] = value;
        assert_twin(&odd, &twin);
        let cut = odd.len() * 3 / 4;
        assert_broken(&[&odd[..cut], &[0xff, 0xd9]].concat());
    }
}

#[test]
fn an_end_marker_alone_may_be_missing() {
    for twin in [
        photo(203, 155),
        progressive(),
        fixture("restart.jpg"),
        fixture("gray.jpg"),
    ] {
        let bare = &twin[..twin.len() - 2];
        assert_twin(bare, &twin);
        assert_twin(&twin[..twin.len() - 1], &twin);
        let video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom and so on";
        let utc = b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1527180000000";
        // A list with one block, which begins 40 bytes before it.
        let list = b"\0\0\x30\x0a\x04\0\0\0Some                            SEFH\x6b\0\0\0\x01\0\0\0\0\0\x30\x0a\x28\0\0\0\x28\0\0\0\x18\0\0\0SEFT";
        let second = photo(40, 30);
        let trailers = [&video[..], utc, list, &second, &[0; 5000], &[0; 3]];
        for trailer in trailers {
            assert_twin(&[bare, trailer].concat(), &twin);
            assert_twin(&[&twin, trailer].concat(), &twin);
            for less in [100, 1000] {
                let cut = &twin[..twin.len().saturating_sub(less).max(twin.len() * 4 / 5)];
                assert_broken(&[cut, trailer].concat());
            }
        }
    }
}

#[test]
fn a_picture_of_zeros_needs_no_end_marker() {
    let gray = turbojpeg::Image {
        pixels: &[128; 640 * 480 * 3][..],
        width: 640,
        pitch: 3 * 640,
        height: 480,
        format: PixelFormat::RGB,
    };
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_optimize(true).unwrap();
    let twin = compressor.compress_to_vec(gray).unwrap();
    assert!(twin.ends_with(&[0, 0xff, 0xd9]) || twin.len() > 100);
    let bare = &twin[..twin.len() - 2];
    assert!(read(bare).unwrap().pixels == read(&twin).unwrap().pixels);
}

#[test]
fn missing_rows_are_refused_with_an_end_and_without() {
    for whole in [photo(203, 155), progressive(), fixture("restart.jpg")] {
        for part in [30, 60, 90, 97] {
            let cut = &whole[..whole.len() * part / 100];
            assert_broken(cut);
            assert_broken(&[cut, &[0; 9000]].concat());
        }
        let cut = &whole[..whole.len() * 9 / 10];
        assert_broken(&[cut, &[0xff, 0xd9]].concat());
    }
}

#[test]
fn kinds_that_nothing_decodes_are_named() {
    let twin = photo(40, 30);
    let frame = position(&twin, 0xc0);
    for (marker, precision, word) in [
        (0xc1, 12, "12 bits"),
        (0xc0, 12, "12 bits"),
        (0xf7, 8, "JPEG-LS"),
        (0xc5, 8, "hierarchical"),
        (0xcd, 8, "hierarchical"),
        (0xc3, 16, "lossless"),
        (0xcb, 8, "lossless"),
    ] {
        let mut bytes = twin.clone();
        (bytes[frame + 1], bytes[frame + 4]) = (marker, precision);
        for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
            let error = load(&bytes, 24, &by(decoder)).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), api::ErrorCode::ImageUnsupported);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

#[test]
fn arithmetic_coding_is_read_by_one_decoder_and_refused_by_the_other() {
    let coded = encoded(|compressor| compressor.set_arithmetic(true).unwrap());
    let twin = encoded(|_| ());
    assert!(read(&coded).unwrap().pixels == read(&twin).unwrap().pixels);
    let error = load(&coded, 24, &by(Decoder::Portable))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageUnsupported);
    let error = read(&coded[..coded.len() / 2]).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageBroken);
}

/// A baseline JPEG whose components come in a scan each: a progressive one's DC scans can't be taken, so it is written
/// here, of flat blocks: 16 × 8 pixels, the left block white, the right one black.
fn a_scan_each() -> Vec<u8> {
    let mut file = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    file.extend([8; 64]);
    file.extend([
        0xff, 0xc0, 0, 17, 8, 0, 8, 0, 16, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0,
    ]);
    // DC: categories 0 and 7 and 8, in codes of 2 bits: 00, 01, 10. AC: the end of the block, in 1 bit: 0.
    for (class, codes) in [(0, &[0, 7, 8][..]), (0x10, &[0])] {
        let mut lengths = [0; 16];
        lengths[codes.len() / 2] = codes.len() as u8;
        file.extend([0xff, 0xc4, 0, 19 + codes.len() as u8, class]);
        file.extend(lengths);
        file.extend(codes);
    }
    // Luma: +127 (01 1111111), end; −255 (10 00000000), end. Chroma: 0, end, twice.
    let luma = [0b0111_1111, 0b1010_0000, 0b0000_0111];
    let chroma = [0b0000_0011];
    for (component, data) in [(1, &luma[..]), (2, &chroma), (3, &chroma)] {
        file.extend([0xff, 0xda, 0, 8, 1, component, 0, 0, 63, 0]);
        file.extend(data);
    }
    file.extend([0xff, 0xd9]);
    file
}

#[test]
fn a_scan_for_each_component_gives_its_pixels_or_a_refusal() {
    let file = a_scan_each();
    let pixels = read(&file).unwrap().pixels;
    assert!(
        pixels.rgb()[..3].iter().all(|&v| v > 250),
        "{:?}",
        &pixels.rgb()[..3]
    );
    assert!(pixels.rgb()[55 * 3..56 * 3].iter().all(|&v| v < 5));
    let error = load(&file, 24, &by(Decoder::Portable))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageUnsupported);
    // One scan too few is a missing colour.
    let third = file.len() - 2 - 11;
    let error = read(&[&file[..third], &[0xff, 0xd9]].concat())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageBroken);
}

/// Rust's decoder gives what libjpeg-turbo gives, or nothing, whatever the sampling.
#[test]
fn the_portable_decoder_makes_no_garbage_of_any_sampling() {
    let flat = [[200, 60, 40]; 64 * 48].as_flattened().to_vec();
    let image = turbojpeg::Image {
        pixels: &flat[..],
        width: 64,
        pitch: 192,
        height: 48,
        format: PixelFormat::RGB,
    };
    let mut read = 0;
    for luma in [0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x42] {
        for chroma in [0x11, 0x12, 0x21, 0x22, 0x41, 0x14] {
            for red in [0x11, chroma] {
                // What a flat picture's blocks are doesn't depend on how many there are: those of one sampling are
                // valid for any other with as many to an MCU, and where they aren't, nobody decodes it.
                let mut bytes = turbojpeg::compress(image, 95, Subsamp::None)
                    .unwrap()
                    .to_vec();
                let frame = position(&bytes, 0xc0);
                (bytes[frame + 11], bytes[frame + 14], bytes[frame + 17]) = (luma, chroma, red);
                let (Ok(right), Ok(portable)) = (
                    load(&bytes, 24, &Options::default()),
                    load(&bytes, 24, &by(Decoder::Portable)),
                ) else {
                    continue;
                };
                read += 1;
                let (a, b) = (right.pixels.rgb(), portable.pixels.rgb());
                let most = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                assert!(most < 40, "{luma:x} {chroma:x} {red:x}: {most}");
            }
        }
    }
    assert!(read > 0);
}

/// Of a header that says so: a file with one scan's data of flat blocks.
fn flat(width: u16, height: u16) -> Vec<u8> {
    let mut file = a_scan_each();
    let frame = position(&file, 0xc0);
    let [y0, y1] = height.to_be_bytes();
    let [x0, x1] = width.to_be_bytes();
    file[frame + 5..frame + 9].copy_from_slice(&[y0, y1, x0, x1]);
    let scan = position(&file, 0xda);
    file.truncate(scan);
    file.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
    // 9 bits an MCU, all 0.
    let mcus = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    file.resize(file.len() + (mcus * 9).div_ceil(8), 0);
    file.extend([0xff, 0xd9]);
    file
}

#[test]
fn phones_large_pictures_are_read_at_a_fraction() {
    let file = flat(16320, 12240);
    let header = crate::probe(&file, &Options::default()).unwrap();
    assert_eq!((header.width, header.height), (16320, 12240));
    // A quarter of its 200 million pixels, as counted for each; the file, and what the resize takes.
    assert!(
        header.memory < 16320 * 12240 / 4 * 4 + 8_000_000 + 2048 * 8160 * 3 + (4 << 20),
        "{}",
        header.memory
    );
    let picture = read(&file).unwrap();
    assert_eq!((picture.width, picture.height), (16320, 12240));
    assert!(picture.pixels.rgb().iter().all(|&v| v == 128));
    for options in [
        by(Decoder::Portable),
        Options {
            raw: true,
            ..Options::default()
        },
    ] {
        let error = load(&file, 24, &options).map(|_| ()).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn progressive_pictures_cost_their_coefficients() {
    let file = progressive();
    let header = crate::probe(&file, &Options::default()).unwrap();
    // 208 × 160 of luma, a half of it of chroma, two bytes each.
    assert!(header.memory > 208 * 160 * 3);
    assert!(header.work > 3 * 203 * 155, "{}", header.work);
    let tight = |max_memory, max_pixels| Options {
        max_memory,
        max_pixels,
        ..Options::default()
    };
    let file_of_many_passes = {
        let scan = file
            .windows(2)
            .rposition(|pair| pair == [0xff, 0xda])
            .unwrap();
        let last = &file[scan..file.len() - 2];
        // The last scan again and again.
        let mut first = file[..scan].to_vec();
        for _ in 0..60 {
            first.extend(last);
        }
        first
    };
    for (file, options) in [
        (&file, tight(header.memory - 1, 100_000_000)),
        (&file_of_many_passes, tight(1 << 30, 203 * 155 / 2)),
    ] {
        let Err(error) = crate::probe(file, &options) else {
            continue;
        };
        assert_eq!(error.code(), api::ErrorCode::ImageTooLarge);
        assert!(error.to_string().contains("progressive"), "{error}");
    }
}
