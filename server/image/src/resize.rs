//! Pillow's `resize((S, S), BICUBIC)`: antialiased, in two passes with 8 bits between them.
//!
//! Where the processor has AVX-512 VNNI the passes are ours ([`vnni`]) and the result is Pillow's, bit for bit. Elsewhere
//! they are `fast_image_resize`'s, which has Pillow's arithmetic with fewer bits in the weights: one value in two
//! hundred is one step off. Left to itself it always does the vertical pass first; Pillow mostly the horizontal one, and
//! what is rounded and clipped between the passes differs by tens of steps beside hard edges. So the passes are asked
//! for one by one, in Pillow's order.

#[cfg(target_arch = "x86_64")]
mod vnni;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeError, ResizeOptions};

use super::others::Decoded;
use super::scratch::Scratch;
use super::slack::{SLACK, at_least};
#[cfg(target_arch = "x86_64")]
pub(super) use vnni::Taps;

/// Whether Pillow (13 and later) makes the vertical pass first: when the height shrinks by more than twice what the
/// width does. Earlier versions never do.
pub(super) fn is_vertical_first(width: u32, height: u32, size: u32) -> bool {
    let shrinks = |side: u32| i64::from(side) - i64::from(size);
    shrinks(height) > (2 * shrinks(width)).max(0)
}

/// `scratch.decoded` (RGB by now) to `out`: [size, size, 3].
pub(super) fn resize(
    scratch: &mut Scratch,
    picture: &Decoded,
    out: &mut [u8],
    size: u32,
    vertical_first: bool,
) -> Result<(), ResizeError> {
    let whole = (picture.width, picture.height);
    let (width, height) = picture.extent;
    // What lies between the passes, and which part of its source either pass takes.
    let (middle, first, second) = if vertical_first {
        let middle = (picture.width, size);
        (middle, (picture.width.into(), height), (width, size.into()))
    } else {
        let middle = (size, picture.height);
        (
            middle,
            (width, picture.height.into()),
            (size.into(), height),
        )
    };
    // The buffers are lent to the passes, which use the rest of `scratch`.
    let source = std::mem::take(&mut scratch.decoded);
    let mut between = std::mem::take(&mut scratch.between);
    // A pass that would change nothing is left out, by Pillow too.
    let done = if middle == whole {
        pass(scratch, &source, whole, second, out, (size, size))
    } else {
        let target = at_least(&mut between, bytes(middle));
        pass(scratch, &source, whole, first, target, middle)
            .and_then(|()| pass(scratch, &between, middle, second, out, (size, size)))
    };
    (scratch.decoded, scratch.between) = (source, between);
    done
}

/// Resizes the upper left `extent` of `source`, which has [`SLACK`] after its pixels, to the whole of `target`; one of
/// width and height stays as it is.
fn pass(
    scratch: &mut Scratch,
    source: &[u8],
    (width, height): (u32, u32),
    extent: (f64, f64),
    target: &mut [u8],
    (target_width, target_height): (u32, u32),
) -> Result<(), ResizeError> {
    let source = &source[..bytes((width, height)) + SLACK];
    #[cfg(target_arch = "x86_64")]
    if vnni::is_available() {
        let (width, height) = (width as usize, height as usize);
        let (target_width, target_height) = (target_width as usize, target_height as usize);
        let taps = &mut scratch.taps;
        if extent.0 != target_width as f64 {
            taps.fill(width, extent.0, target_width);
            // SAFETY: the processor has what it takes.
            unsafe { vnni::horizontal(taps, source, width, target, target_width) };
        } else if extent.1 != target_height as f64 {
            taps.fill(height, extent.1, target_height);
            // SAFETY: as above.
            unsafe { vnni::vertical(taps, source, width * 3, target) };
        } else {
            target.copy_from_slice(&source[..target.len()]);
        }
        return Ok(());
    }
    let size = (target_width, target_height);
    portable_pass(scratch, source, (width, height), extent, target, size)
}

fn portable_pass(
    scratch: &mut Scratch,
    source: &[u8],
    (width, height): (u32, u32),
    extent: (f64, f64),
    target: &mut [u8],
    (target_width, target_height): (u32, u32),
) -> Result<(), ResizeError> {
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(0.0, 0.0, extent.0, extent.1);
    // By its type: asked for at run time, fifteen kinds of pixels would be compiled.
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, source);
    let target = TypedImage::<U8x3>::from_buffer(target_width, target_height, target);
    match (source, target) {
        (Ok(source), Ok(mut target)) => {
            scratch.resizer.resize_typed(&source, &mut target, &options)
        }
        _ => Err(ResizeError::PixelTypesAreDifferent),
    }
}

fn bytes((width, height): (u32, u32)) -> usize {
    width as usize * height as usize * 3
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The two ways are never more than a rounding apart; where there is only one, this compares it with itself.
    #[test]
    fn either_convolution_gives_the_same() {
        let mut random = StdRng::seed_from_u64(3);
        let mut scratch = Scratch::default();
        for (from, to) in [
            ((50, 33), (31, 33)),
            ((50, 33), (50, 20)),
            ((7, 5), (64, 5)),
            ((7, 5), (7, 64)),
            ((1, 1), (9, 1)),
            ((1, 9), (1, 70)),
            ((900, 3), (1, 3)),
            ((64, 700), (64, 2)),
            ((21, 22), (21, 22)),
        ] {
            // Half of it hard edges.
            let mut source: Vec<u8> = (0..bytes(from))
                .map(|i| match random.random_range(0..=255) {
                    value if i % 2 == 0 => value,
                    value => value / 128 * 255,
                })
                .collect();
            source.resize(bytes(from) + SLACK, 99);
            let extents = [
                (f64::from(from.0), f64::from(from.1)),
                // A last row or column that is only partly picture.
                (
                    f64::from(from.0) - if from.0 == to.0 { 0.0 } else { 0.4 },
                    f64::from(from.1) - if from.1 == to.1 { 0.0 } else { 0.4 },
                ),
            ];
            for extent in extents {
                let mut ours = vec![0; bytes(to)];
                let mut theirs = vec![0; bytes(to)];
                pass(&mut scratch, &source, from, extent, &mut ours, to).unwrap();
                portable_pass(&mut scratch, &source, from, extent, &mut theirs, to).unwrap();
                let off = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                let most = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(
                    most <= Some(1) && off * 20 <= ours.len(),
                    "{from:?} to {to:?}: {off} of {} differ, at most {most:?}",
                    ours.len()
                );
            }
        }
    }

    #[test]
    fn order_is_pillows() {
        for (width, height, size, vertical_first) in [
            (1920, 1080, 1120, false),
            (1080, 1920, 1120, true),
            (44, 48, 40, false),
            (44, 49, 40, true),
            (30, 40, 40, false),
            (30, 41, 40, true),
        ] {
            assert_eq!(is_vertical_first(width, height, size), vertical_first);
        }
    }
}
