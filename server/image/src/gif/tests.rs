//! Screens that don't fit, and animations that begin with nothing.

use std::borrow::Cow;

use super::*;
use crate::{Options, Picture, load};

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    load(bytes, 24, &Options::default())
}

/// 0 is red, 1 blue, 2 black, 3 transparent.
const PALETTE: [u8; 12] = [250, 0, 0, 0, 0, 250, 0, 0, 0, 9, 9, 9];

/// A frame of one colour.
fn frame(
    [left, top, width, height]: [u16; 4],
    color: u8,
    dispose: DisposalMethod,
) -> Frame<'static> {
    Frame {
        left,
        top,
        width,
        height,
        dispose,
        transparent: Some(3),
        buffer: Cow::Owned(vec![color; usize::from(width) * usize::from(height)]),
        ..Frame::default()
    }
}

fn file((width, height): (u16, u16), frames: &[Frame<'_>]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = ::gif::Encoder::new(&mut file, width, height, &PALETTE).unwrap();
    for frame in frames {
        encoder.write_frame(frame).unwrap();
    }
    drop(encoder);
    file
}

const KEEP: DisposalMethod = DisposalMethod::Keep;

#[test]
fn the_canvas_grows_to_the_first_frame() {
    let whole = frame([0, 0, 40, 30], 0, KEEP);
    let twin = read(&file((40, 30), &[whole])).unwrap();
    for screen in [(0, 0), (1, 1), (20, 30), (40, 10), (0, 30)] {
        let picture = read(&file(screen, &[frame([0, 0, 40, 30], 0, KEEP)])).unwrap();
        assert_eq!((picture.width, picture.height), (40, 30), "{screen:?}");
        assert!(picture.pixels == twin.pixels, "{screen:?}");
    }
    // Beyond the right and the lower edge, and bare before it.
    let picture = read(&file((30, 20), &[frame([20, 15, 20, 15], 0, KEEP)])).unwrap();
    assert_eq!((picture.width, picture.height), (40, 30));
    let pixel = |x: usize, y: usize| picture.pixels.rgb()[3 * (y * 24 + x)..][..3].to_vec();
    assert_eq!(pixel(0, 0), [255; 3]);
    assert_eq!(pixel(23, 23), [250, 0, 0]);
}

#[test]
fn the_first_frame_with_anything_on_it_is_taken() {
    let whole = [0, 0, 40, 30];
    let twin = read(&file((40, 30), &[frame(whole, 0, KEEP)]))
        .unwrap()
        .pixels;
    for dispose in [KEEP, DisposalMethod::Background, DisposalMethod::Previous] {
        let nothing = frame(whole, 3, dispose);
        let dot = frame([0, 0, 1, 1], 2, dispose);
        for (before, shown) in [
            (vec![], 0),
            (vec![nothing.clone()], 1),
            (vec![dot.clone()], 1),
            (vec![nothing.clone(), dot.clone(), nothing.clone()], 3),
        ] {
            let frames = [before, vec![frame(whole, 0, KEEP), frame(whole, 1, KEEP)]].concat();
            let picture = read(&file((40, 30), &frames)).unwrap();
            assert_eq!(picture.frame, shown, "{dispose:?}");
            assert!(picture.pixels == twin, "{dispose:?}");
        }
        // What is left of a dot lies on the second frame, which doesn't cover it, only if it was kept.
        let frames = [dot.clone(), frame([20, 0, 20, 30], 0, KEEP)];
        let picture = read(&file((40, 30), &frames)).unwrap();
        let is_white = picture.pixels.rgb()[..3] == [255; 3];
        assert_eq!(is_white, dispose != KEEP, "{dispose:?}");
    }
    // Nothing on any, or only far behind: white.
    let mut many = vec![frame(whole, 3, KEEP); 70];
    many.push(frame(whole, 0, KEEP));
    for frames in [&many[..3], &many] {
        let picture = read(&file((40, 30), frames)).unwrap();
        assert_eq!(picture.frame, 0);
        assert!(picture.pixels.rgb().iter().all(|&v| v == 255));
    }
}

#[test]
fn of_large_animations_fewer_frames_are_looked_at() {
    assert_eq!(most_frames((40, 30)), 64);
    assert_eq!(most_frames((10_000, 10_000)), 4);
    assert_eq!(most_frames((65_535, 65_535)), 1);
}

#[test]
fn what_is_told_beside_the_frames_costs_nothing() {
    let plain = file((40, 30), &[frame([0, 0, 40, 30], 0, KEEP)]);
    // An application's block of 20,000 bytes behind the palette.
    let at = 13 + PALETTE.len();
    let mut block = b"\x21\xff\x0bXMP DataXMP".to_vec();
    for _ in 0..100 {
        block.push(200);
        block.extend([b'x'; 200]);
    }
    block.push(0);
    let told = [&plain[..at], &block, &plain[at..]].concat();
    assert!(read(&told).unwrap().pixels == read(&plain).unwrap().pixels);
}

#[test]
fn a_later_frame_may_be_damaged_and_the_shown_one_not() {
    let whole = [0, 0, 40, 30];
    let two = file((40, 30), &[frame(whole, 0, KEEP), frame(whole, 1, KEEP)]);
    let one = file((40, 30), &[frame(whole, 0, KEEP)]);
    assert!(read(&two[..two.len() - 12]).is_ok());
    assert!(read(&one[..one.len() - 12]).is_err());
}
