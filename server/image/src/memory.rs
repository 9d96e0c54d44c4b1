//! How much memory decoding a picture takes, told from its header: an upper bound that is near.

use super::Format;
use super::icc::{self, Found};

/// The largest side of a model's square that the account is made for.
const MAX_SIZE: u64 = 2048;
/// Tables, rows, and the buffers of whatever unpacks.
const BESIDE: u64 = 4 << 20;
/// The tables of a colour profile.
const PROFILE: u64 = 24 << 20;

/// The most that decoding a picture of `width` × `height` pixels takes until it is there as RGB, in bytes, beside the file.
/// Not for TIFF's strips and WebP's codes, which come on top, nor for JPEG, HEIC and AVIF, whose own headers tell.
pub(super) fn decoded(file: &[u8], format: Format, width: u32, height: u32) -> u64 {
    let pixels = u64::from(width) * u64::from(height);
    match format {
        Format::Tiff => 3 * pixels,
        Format::Bmp => 4 * pixels,
        // The screen, a frame, and what was there before it.
        Format::Gif => 12 * pixels,
        Format::Png => png(file, pixels) + file.len() as u64,
        Format::WebP => webp(file, pixels) + file.len() as u64,
        Format::Jpeg | Format::Heic | Format::Avif => 0,
    }
}

/// The most that the rest of the way takes for RGB of `width` × `height` pixels, in bytes: the resize and the colours.
pub(super) fn beside(file: &[u8], format: Format, width: u32, height: u32) -> u64 {
    let (width, height) = (u64::from(width), u64::from(height));
    // What lies between the two passes of the resize: the square at most, where one side grows.
    let between = (width * height)
        .min(MAX_SIZE * width.max(height))
        .max(MAX_SIZE * MAX_SIZE)
        * 3;
    // Its bytes, and its tables.
    let profile = match Found::find(file, format) {
        Some(_) => 2 * icc::MAX_BYTES as u64 + PROFILE,
        None => 0,
    };
    between + profile + BESIDE
}

fn png(file: &[u8], pixels: u64) -> u64 {
    let mut channels = 4;
    let mut bytes = 1;
    let (mut is_transparent, mut is_animated) = (false, false);
    for (name, data) in metadata::png_chunks(file) {
        match (&name, data) {
            (b"IHDR", [_, _, _, _, _, _, _, _, depth, color, ..]) => {
                // Gray may keep its 16 bits.
                bytes = if *color == 0 {
                    u64::from(*depth).div_ceil(8)
                } else {
                    1
                };
                channels = match color {
                    0 => 1,
                    4 => 2,
                    2 | 3 => 3,
                    _ => 4,
                };
            }
            (b"tRNS", _) => is_transparent = true,
            (b"acTL", _) => is_animated = true,
            (b"IDAT", _) => break,
            _ => {}
        }
    }
    if is_transparent && channels % 2 == 1 {
        channels += 1;
    }
    // What has fewer than three bytes becomes RGB beside itself, and a frame is put on a canvas.
    let pixel = channels * bytes;
    let again = if is_animated { pixel } else { 0 };
    (pixel + if pixel < 3 { 3 } else { again }) * pixels
}

fn webp(file: &[u8], pixels: u64) -> u64 {
    match file.get(12..16) {
        // Planes of brightness and colours, and RGB.
        Some(b"VP8 ") => 5 * pixels,
        // With alpha as decoded, and RGB.
        Some(b"VP8L") => 8 * pixels,
        // A canvas, a frame, its planes and its alpha.
        _ => 13 * pixels,
    }
}
