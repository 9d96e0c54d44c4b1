//! Odd chunks, and animations that begin with nothing.

use super::*;
use crate::tests::fixture;
use crate::{Options, Picture, load};

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 24, &Options::default())
}

#[track_caller]
fn assert_twin(bytes: &[u8], twin: &[u8]) {
    assert!(read(bytes).unwrap().pixels == read(twin).unwrap().pixels);
}

/// Chunks with a header before them.
fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    for (kind, data) in chunks {
        write(&mut file, kind, data);
    }
    let size = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    file
}

/// The data of a file's chunk.
fn chunk(file: &[u8], kind: &[u8; 4]) -> Vec<u8> {
    let mut at = 12;
    loop {
        let chunk = Chunk::read(file, &mut at).unwrap();
        if chunk.kind == *kind {
            return chunk.data.to_vec();
        }
    }
}

/// VP8X's contents.
fn extended(flags: u8, (width, height): (u32, u32)) -> Vec<u8> {
    let mut header = vec![flags, 0, 0, 0];
    header.extend(&(width - 1).to_le_bytes()[..3]);
    header.extend(&(height - 1).to_le_bytes()[..3]);
    header
}

#[test]
fn chunks_that_are_promised_and_not_there_cost_nothing() {
    for (name, kind) in [("lossy.webp", b"VP8 "), ("lossless.webp", b"VP8L")] {
        let twin = fixture(name);
        let size = read(&twin)
            .map(|picture| (picture.width, picture.height))
            .unwrap();
        let image = chunk(&twin, kind);
        // Every flag but the animation's.
        for flags in [0x04, 0x08, 0x10, 0x20, 0x3c] {
            let header = extended(flags, size);
            assert_twin(&riff(&[(b"VP8X", &header), (kind, &image)]), &twin);
            // Named otherwise, of an odd length, and before it.
            let odd = riff(&[
                (b"VP8X", &header),
                (b"Exif", &[1; 7]),
                (kind, &image),
                (b"zzzz", &[2; 3]),
            ]);
            assert_twin(&odd, &twin);
        }
    }
}

#[test]
fn wrong_sizes_cost_nothing_as_long_as_the_pixels_are_there() {
    for name in [
        "lossy.webp",
        "lossless.webp",
        "alpha-lossy.webp",
        "alpha-lossless.webp",
    ] {
        let twin = fixture(name);
        let size = u32::from_le_bytes(*twin[4..].first_chunk().unwrap());
        for wrong in [0, 8, size - 2, size - 1, size + 1, size + 100, u32::MAX] {
            let mut odd = twin.clone();
            odd[4..8].copy_from_slice(&wrong.to_le_bytes());
            assert_twin(&odd, &twin);
        }
        assert_twin(&[&twin[..], b"and something else"].concat(), &twin);
    }
    // No padding behind an odd chunk.
    let twin = fixture("lossy.webp");
    let size = read(&twin)
        .map(|picture| (picture.width, picture.height))
        .unwrap();
    let mut odd = riff(&[(b"VP8X", &extended(0x08, size)), (b"ICCP", &[1; 7])]);
    odd.pop();
    odd.extend(&twin[12..]);
    assert_twin(&odd, &twin);
}

/// An animation of lossless frames, each with its place: x, y, width, height.
fn animated(size: (u32, u32), frames: &[([u32; 4], Vec<u8>)]) -> Vec<u8> {
    let header = extended(ANIMATION | ALPHA, size);
    let mut chunks = vec![(b"VP8X", header), (b"ANIM", vec![0; 6])];
    for ([x, y, width, height], pixels) in frames {
        let mut frame = Vec::new();
        for number in [x / 2, y / 2, width - 1, height - 1, 100] {
            frame.extend(&number.to_le_bytes()[..3]);
        }
        frame.push(0);
        let mut file = Vec::new();
        image_webp::WebPEncoder::new(&mut file)
            .encode(pixels, *width, *height, image_webp::ColorType::Rgba8)
            .unwrap();
        write(&mut frame, b"VP8L", &chunk(&file, b"VP8L"));
        chunks.push((b"ANMF", frame));
    }
    let chunks: Vec<_> = chunks
        .iter()
        .map(|(kind, data)| (*kind, data.as_slice()))
        .collect();
    riff(&chunks)
}

#[test]
fn the_first_frame_with_anything_on_it_is_taken() {
    let filled = |color: [u8; 4], count: usize| color.repeat(count);
    let whole = [0, 0, 40, 30];
    let red = (whole, filled([250, 0, 0, 255], 1200));
    let blue = (whole, filled([0, 0, 250, 255], 1200));
    let nothing = (whole, filled([0; 4], 1200));
    let dot = ([10, 10, 1, 1], filled([0, 0, 0, 255], 1));
    let twin = animated((40, 30), std::slice::from_ref(&red));
    for (before, frame) in [
        (vec![], 0),
        (vec![nothing.clone()], 1),
        (vec![dot], 1),
        (vec![nothing.clone(); 5], 5),
    ] {
        let file = animated(
            (40, 30),
            &[before, vec![red.clone(), blue.clone()]].concat(),
        );
        let picture = read(&file).unwrap();
        assert_eq!(picture.frame, frame);
        assert!(picture.pixels == read(&twin).unwrap().pixels);
    }
    // Nothing on any: white.
    let picture = read(&animated((40, 30), &[nothing.clone(), nothing])).unwrap();
    assert_eq!(picture.frame, 0);
    assert!(picture.pixels.rgb().iter().all(|&v| v == 255));
}
