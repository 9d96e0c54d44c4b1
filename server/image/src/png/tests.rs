//! Files without an end, with wrong checksums, of Apple's kind, and animations.

use ::png::{BlendOp, Encoder};

use super::*;
use crate::tests::fixture;
use crate::{Options, Picture, load};

const WIDTH: u32 = 61;
const HEIGHT: u32 = 47;

/// Noise on a slope, with alpha.
fn pixels() -> Vec<[u8; 4]> {
    let pixel = |x: u32, y: u32| {
        let noise = (x * 7919 + y * 104_729) % 23;
        [x * 4, y * 5, 60 + noise, 128 + x * 2].map(|v| v.min(255) as u8)
    };
    (0..HEIGHT)
        .flat_map(|y| (0..WIDTH).map(move |x| pixel(x, y)))
        .collect()
}

fn encoded(pixels: &[[u8; 4]]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(::png::ColorType::Rgba);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels.as_flattened()).unwrap();
    writer.finish().unwrap();
    file
}

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 40, &Options::default())
}

#[track_caller]
fn assert_twin(bytes: &[u8], twin: &[u8]) {
    assert!(read(bytes).unwrap().pixels == read(twin).unwrap().pixels);
}

#[track_caller]
fn assert_broken(bytes: &[u8]) {
    let error = read(bytes).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), api::ErrorCode::ImageBroken, "{error}");
}

/// Where a chunk's name is.
fn position(bytes: &[u8], kind: &[u8; 4]) -> usize {
    bytes.windows(4).position(|four| four == kind).unwrap()
}

#[test]
fn what_comes_after_the_last_row_may_be_missing() {
    // IEND is 12 bytes, IDAT's checksum 4, zlib's 4.
    for twin in [
        encoded(&pixels()),
        fixture("rgb.png"),
        fixture("palette-transparent.png"),
        fixture("gray16.png"),
    ] {
        for less in [1, 12, 13, 16, 17, 20] {
            assert_twin(&twin[..twin.len() - less], &twin);
        }
        assert_twin(
            &[&twin[..twin.len() - 12], b"and something else"].concat(),
            &twin,
        );
        for part in [50, 80, 95] {
            assert_broken(&twin[..(twin.len() - 20) * part / 100]);
        }
    }
}

#[test]
fn one_wrong_checksum_costs_nothing_but_wrong_data_is_told() {
    let twin = encoded(&pixels());
    let data = position(&twin, b"IDAT");
    let end = twin.len() - 12;
    // Of the chunk, and of the header.
    for at in [end - 1, end - 4, data - 5] {
        let mut odd = twin.clone();
        odd[at] ^= 0x55;
        assert_twin(&odd, &twin);
    }
    // Of the compressed data, in a chunk whose checksum is right.
    let mut odd = twin.clone();
    odd[end - 5] ^= 0x55;
    let sum = checksum(*b"IDAT", &odd[data + 4..end - 4]);
    odd[end - 4..end].copy_from_slice(&sum.to_be_bytes());
    assert_twin(&odd, &twin);
    // Of something that isn't needed, and of nothing at all.
    let mut text = twin[..33].to_vec();
    text.extend(b"\0\0\0\x05tEXtab\0cdxxxx");
    text.extend(&twin[33..]);
    assert_twin(&text, &twin);
    // Data that is wrong has both wrong.
    let mut wrong = 0;
    for at in (data + 20..end - 20).step_by(7) {
        let mut damaged = twin.clone();
        damaged[at] ^= 0x10;
        // Some bits make no difference.
        match read(&damaged) {
            Ok(picture) => assert!(picture.pixels == read(&twin).unwrap().pixels),
            Err(_) => wrong += 1,
        }
    }
    assert!(wrong > 20, "{wrong}");
}

/// As Apple's tools write it: no header around the data, blue first, colours multiplied by alpha.
fn apple(pixels: &[[u8; 4]]) -> Vec<u8> {
    let multiplied: Vec<_> = pixels
        .iter()
        .map(|&[r, g, b, a]| {
            let by = |v: u8| ((u32::from(v) * u32::from(a) + 127) / 255) as u8;
            [by(b), by(g), by(r), a]
        })
        .collect();
    let plain = encoded(&multiplied);
    let data = position(&plain, b"IDAT");
    let end = plain.len() - 12;
    let mut file = SIGNATURE.to_vec();
    write(&mut file, b"CgBI", &[0x50, 0, 0x20, 2]);
    file.extend(&plain[8..33]);
    write(&mut file, b"IDAT", &plain[data + 6..end - 8]);
    write(&mut file, b"IEND", &[]);
    file
}

#[test]
fn apples_kind_is_read() {
    let twin = encoded(&pixels());
    let found = read(&apple(&pixels())).unwrap().pixels;
    let right = read(&twin).unwrap().pixels;
    let most = found
        .rgb()
        .iter()
        .zip(right.rgb())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    // Multiplied and divided by an alpha of at least 128.
    assert!(most.unwrap() <= 2, "{most:?}");
    // Its mark alone changes nothing.
    let mut marked = twin[..8].to_vec();
    write(&mut marked, b"CgBI", &[0x50, 0, 0x20, 2]);
    marked.extend(&twin[8..]);
    assert_twin(&marked, &twin);
}

/// An animation of one frame, `side` × `side` at (20, 10), behind a still picture that it hides.
fn hidden(side: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(::png::ColorType::Rgba);
    encoder.set_animated(1, 0).unwrap();
    encoder.set_sep_def_img(true).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels().as_flattened()).unwrap();
    writer.set_frame_dimension(side, side).unwrap();
    writer.set_frame_position(20, 10).unwrap();
    writer.set_blend_op(BlendOp::Source).unwrap();
    let red = vec![[250, 0, 0, 255]; (side * side) as usize];
    writer.write_image_data(red.as_flattened()).unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn an_animation_is_taken_from_its_first_frame() {
    let side = 30;
    let mut canvas = vec![[0; 4]; (WIDTH * HEIGHT) as usize];
    for y in 10..10 + side {
        canvas[(y * WIDTH + 20) as usize..][..side as usize].fill([250, 0, 0, 255]);
    }
    let file = hidden(side);
    assert_twin(&file, &encoded(&canvas));
    let raw = Options {
        raw: true,
        ..Options::default()
    };
    let still = load(&file, 40, &raw).unwrap().pixels;
    assert!(still == load(&encoded(&pixels()), 40, &raw).unwrap().pixels);
    let data = position(&file, b"fdAT");
    assert_broken(&file[..data + 20]);
}

/// A picture of two colours by palette, whose PLTE chunk is `palette`.
fn of_palette(palette: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(::png::ColorType::Indexed);
    encoder.set_palette(&[9, 8, 7, 250, 240, 230][..]);
    let indices: Vec<u8> = (0..WIDTH * HEIGHT).map(|i| (i % 2) as u8).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&indices).unwrap();
    writer.finish().unwrap();
    let at = position(&file, b"PLTE") - 4;
    let mut other = file[..at].to_vec();
    write(&mut other, b"PLTE", palette);
    other.extend(&file[at + 12 + 6..]);
    other
}

#[test]
fn a_palette_is_as_many_whole_colours_as_there_may_be() {
    let colors = [9, 8, 7, 250, 240, 230];
    let twin = of_palette(&colors);
    let with = |count: usize| {
        let mut palette = colors.to_vec();
        palette.resize(count, 77);
        of_palette(&palette)
    };
    for odd in [7, 8, 100, 768, 769, 771, 1024, 3000] {
        assert_twin(&with(odd), &twin);
    }
    // Of the second colour two parts, or nothing of any.
    for short in [0, 1, 2, 5] {
        match read(&with(short)) {
            Ok(picture) => assert_eq!(picture.pixels.size(), 40),
            Err(error) => assert!(!error.to_string().contains("gave up"), "{error}"),
        }
    }
}
