//! Headers of every age, against the usual one.

use crate::{ImageError, Options, Picture, load};

const WIDTH: usize = 21;
const HEIGHT: usize = 13;

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 24, &Options::default())
}

fn pixel(x: usize, y: usize) -> [u8; 3] {
    [x as u8 * 12, y as u8 * 19, 90 + (x * y % 7) as u8]
}

/// A file of a picture's header, what lies between it and the pixels, and the pixels, their rows as they come.
fn file(header: &[u8], between: &[u8], pixels: &[u8]) -> Vec<u8> {
    let at = 14 + header.len() + between.len();
    let mut file = b"BM".to_vec();
    file.extend(((at + pixels.len()) as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend((at as u32).to_le_bytes());
    [&file[..], header, between, pixels].concat()
}

/// Of `length` bytes, after the usual one's fields.
fn header(length: u32, height: i32, bits: u16, method: u32) -> Vec<u8> {
    let mut header = length.to_le_bytes().to_vec();
    header.extend((WIDTH as u32).to_le_bytes());
    header.extend(height.to_le_bytes());
    header.extend(1u16.to_le_bytes());
    header.extend(bits.to_le_bytes());
    header.extend(method.to_le_bytes());
    header.resize(length as usize, 0);
    header
}

/// Rows of pixels, each padded to four bytes.
fn rows(ys: impl Iterator<Item = usize>, each: impl Fn([u8; 3]) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for y in ys {
        for x in 0..WIDTH {
            out.extend(each(pixel(x, y)));
        }
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn upwards() -> impl Iterator<Item = usize> {
    (0..HEIGHT).rev()
}

fn bgr([r, g, b]: [u8; 3]) -> Vec<u8> {
    vec![b, g, r]
}

fn usual() -> Vec<u8> {
    file(
        &header(40, HEIGHT as i32, 24, 0),
        &[],
        &rows(upwards(), bgr),
    )
}

#[track_caller]
fn assert_twin(bytes: &[u8]) {
    let picture = read(bytes).unwrap();
    assert_eq!(
        (picture.width, picture.height),
        (WIDTH as u32, HEIGHT as u32)
    );
    assert!(picture.pixels == read(&usual()).unwrap().pixels);
}

#[test]
fn every_header_gives_the_same_picture() {
    let pixels = rows(upwards(), bgr);
    // OS/2's second version, whole and cut short as it may be.
    for length in [16u32, 20, 24, 36, 44, 48, 60, 64] {
        let mut short = header(64, HEIGHT as i32, 24, 0);
        short.truncate(length as usize);
        short[..4].copy_from_slice(&length.to_le_bytes());
        assert_twin(&file(&short, &[], &pixels));
    }
    for length in [52, 56, 108, 124] {
        assert_twin(&file(&header(length, HEIGHT as i32, 24, 0), &[], &pixels));
    }
    let downwards = rows(0..HEIGHT, bgr);
    assert_twin(&file(&header(40, -(HEIGHT as i32), 24, 0), &[], &downwards));
}

/// A header of 124 bytes with masks for red, green, blue and alpha.
fn masked(bits: u16, masks: [u32; 4]) -> Vec<u8> {
    let mut header = header(124, HEIGHT as i32, bits, 3);
    for (at, mask) in masks.into_iter().enumerate() {
        header[40 + 4 * at..44 + 4 * at].copy_from_slice(&mask.to_le_bytes());
    }
    header
}

#[test]
fn alpha_that_is_nowhere_set_is_no_alpha() {
    let masks = [0xff_0000, 0xff00, 0xff, 0xff00_0000];
    for alpha in [0, 255] {
        let pixels = rows(upwards(), |[r, g, b]| vec![b, g, r, alpha]);
        assert_twin(&file(&masked(32, masks), &[], &pixels));
        assert_twin(&file(&header(40, HEIGHT as i32, 32, 0), &[], &pixels));
    }
    // Where one pixel has some, the others are transparent: white.
    let mut pixels = rows(upwards(), |_| vec![0; 4]);
    pixels[3] = 255;
    let picture = read(&file(&masked(32, masks), &[], &pixels)).unwrap();
    assert_eq!(picture.pixels.rgb()[..3], [255; 3]);
}

#[test]
fn sixteen_bits_are_read_by_their_masks() {
    let pixels = rows(upwards(), |[r, g, b]| {
        let value = u16::from(r >> 3) << 11 | u16::from(g >> 2) << 5 | u16::from(b >> 3);
        value.to_le_bytes().to_vec()
    });
    let found = read(&file(&masked(16, [0xf800, 0x07e0, 0x1f, 0]), &[], &pixels)).unwrap();
    let right = read(&usual()).unwrap();
    let steps = found
        .pixels
        .rgb()
        .iter()
        .zip(right.pixels.rgb())
        .map(|(a, b)| a.abs_diff(*b));
    assert!(steps.clone().max() <= Some(9), "{:?}", steps.max());
}

#[test]
fn runs_are_read() {
    // 256 grays; rows of one run each, whose value is the row's.
    let palette: Vec<u8> = (0..=255).flat_map(|v| [v, v, v, 0]).collect();
    let runs: Vec<u8> = upwards()
        .flat_map(|y| [WIDTH as u8, y as u8 * 10, 0, 0])
        .chain([0, 1])
        .collect();
    let plain: Vec<u8> = upwards().flat_map(|y| [y as u8 * 10; 24]).collect();
    let found = read(&file(&header(40, HEIGHT as i32, 8, 1), &palette, &runs)).unwrap();
    let right = read(&file(&header(40, HEIGHT as i32, 8, 0), &palette, &plain)).unwrap();
    assert!(found.pixels == right.pixels);
    // OS/2's palettes of its second version have four bytes an entry too.
    let os2 = read(&file(&header(64, HEIGHT as i32, 8, 1), &palette, &runs)).unwrap();
    assert!(os2.pixels == right.pixels);
    let huffman = read(&file(
        &header(64, HEIGHT as i32, 1, 3),
        &palette[..8],
        &plain,
    ))
    .map(|_| ());
    assert_eq!(
        huffman.unwrap_err().code(),
        api::ErrorCode::ImageUnsupported
    );
    let cut = file(
        &header(40, HEIGHT as i32, 24, 0),
        &[],
        &rows(upwards(), bgr)[..500],
    );
    assert_eq!(
        read(&cut).map(|_| ()).unwrap_err().code(),
        api::ErrorCode::ImageBroken
    );
}
