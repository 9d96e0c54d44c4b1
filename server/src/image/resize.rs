//! Pillow's `resize((S, S), BICUBIC)`: antialiased, in two passes with 8 bits between them.
//!
//! The convolution is `fast_image_resize`'s, which follows Pillow's fixed-point arithmetic with SIMD. Left to itself it
//! always does the vertical pass first; Pillow mostly the horizontal one, and what is rounded and clipped between the
//! passes differs by tens of steps beside hard edges. So the passes are asked for one by one, in Pillow's order.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeError, ResizeOptions, Resizer};

use super::others::Decoded;
use super::scratch::{Scratch, at_least};

/// Whether Pillow (13 and later) makes the vertical pass first: when the height shrinks by more than twice what the
/// width does. Earlier versions never do.
pub(super) fn is_vertical_first(width: u32, height: u32, size: u32) -> bool {
    let shrinks = |side: u32| i64::from(side) - i64::from(size);
    shrinks(height) > (2 * shrinks(width)).max(0)
}

/// `scratch.decoded` (RGB by now) to [size, size, 3].
pub(super) fn resize(
    scratch: &mut Scratch,
    picture: &Decoded,
    size: u32,
    vertical_first: bool,
) -> Result<Vec<u8>, ResizeError> {
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
    let mut out = vec![0; bytes((size, size))];
    let source = &scratch.decoded[..bytes(whole)];
    let resizer = &mut scratch.resizer;
    // A pass that would change nothing is left out, by Pillow too.
    if middle == whole {
        pass(resizer, source, whole, second, &mut out, (size, size))?;
    } else {
        let between = at_least(&mut scratch.between, bytes(middle));
        pass(resizer, source, whole, first, between, middle)?;
        pass(resizer, between, middle, second, &mut out, (size, size))?;
    }
    Ok(out)
}

/// Resizes the upper left `extent` of `source` to the whole of `target`.
fn pass(
    resizer: &mut Resizer,
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
        (Ok(source), Ok(mut target)) => resizer.resize_typed(&source, &mut target, &options),
        _ => Err(ResizeError::PixelTypesAreDifferent),
    }
}

fn bytes((width, height): (u32, u32)) -> usize {
    width as usize * height as usize * 3
}
