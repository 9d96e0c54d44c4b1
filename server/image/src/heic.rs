//! HEIC, in Rust alone. Its own rotation and mirroring are applied; an orientation in its EXIF block is a copy of them.

use std::cell::Cell;

use ::heic_decoder::{DecodedImage, HeifError};
use ::image::ColorType;

use super::convert;
use super::others::Decoded;
use super::scratch::Scratch;
use super::slack::at_least;
use super::{Format, Header, ImageError};

#[cfg(test)]
mod tests;

/// Bytes of memory for a pixel's luma, as decoded: 4 for each of the tiles and of the picture that they make.
const LUMA: u64 = 8;

/// Whether a file's brands say so: the first one or one that it is compatible with.
pub(super) fn is_of(bytes: &[u8]) -> bool {
    let brands = super::brands(bytes);
    let has = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(&brand));
    has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
    ]) || has(&[b"mif1", b"msf1"]) && !has(&[b"avif", b"avis", b"jpeg", b"unif"])
}

/// Size and memory, from the container.
pub(super) fn probe(bytes: &[u8]) -> Result<Header, ImageError> {
    let info = ::heic_decoder::probe(bytes).map_err(fault)?;
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let pixels = info.coded_width as u64 * info.coded_height as u64;
    let chroma = match info.chroma_format_idc {
        0 => 0,
        1 => LUMA / 2,
        2 => LUMA,
        _ => 2 * LUMA,
    };
    let alpha = if info.alpha_bit_depth.is_some() {
        LUMA + 4
    } else {
        0
    };
    Ok(Header {
        width: side(info.width),
        height: side(info.height),
        format: Format::Heic,
        // And as RGB; and the decoder's notes on blocks.
        memory: pixels * (LUMA + chroma + alpha + 4) + 2 * bytes.len() as u64 + (16 << 20),
        work: pixels,
    })
}

/// Decodes into `scratch.decoded`, as RGB or with alpha.
pub(super) fn decode(scratch: &mut Scratch, bytes: &[u8]) -> Result<Decoded, ImageError> {
    stay_on_this_thread();
    let picture = ::heic_decoder::decode(bytes).map_err(fault)?;
    let side =
        |side: usize| u32::try_from(side).map_err(|error| ImageError::damaged(Format::Heic, error));
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    let color = match picture.alpha {
        Some(_) => {
            let pixels = with_alpha(&picture)?;
            at_least(&mut scratch.decoded, pixels.len()).copy_from_slice(&pixels);
            ColorType::Rgba8
        }
        None => {
            let pixels = picture.to_rgb8().map_err(fault)?.data;
            at_least(&mut scratch.decoded, pixels.len()).copy_from_slice(&pixels);
            ColorType::Rgb8
        }
    };
    Ok(Decoded::whole(width, height, color))
}

/// RGBA, colours not multiplied by alpha.
fn with_alpha(picture: &DecodedImage) -> Result<Vec<u8>, ImageError> {
    let mut image = picture.to_rgba8().map_err(fault)?;
    if image.premultiplied {
        convert::divide_by_alpha(&mut image.data);
    }
    Ok(image.data)
}

/// The decoder spreads tiles over threads, which a decoder process may not start, and which would take from others.
fn stay_on_this_thread() {
    thread_local!(static STAYS: Cell<bool> = const { Cell::new(false) });
    if !STAYS.replace(true) {
        // A thread that is in a pool already stays in that one.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread();
        if let Err(error) = pool.build() {
            tracing::debug!(%error, "no pool of one thread");
        }
    }
}

fn fault(error: HeifError) -> ImageError {
    match error {
        HeifError::Unsupported(_) | HeifError::NotHeif(_) => {
            ImageError::unsupported(Format::Heic, error)
        }
        HeifError::LimitExceeded(_) => {
            ImageError::broken(Format::Heic, "it asks for more memory than is given to any")
        }
        HeifError::Truncated { .. } => {
            ImageError::broken(Format::Heic, "part of its data is missing")
        }
        error => ImageError::damaged(Format::Heic, error),
    }
}
