//! JPEG through libjpeg-turbo, straight to RGB.

use turbojpeg::{
    Colorspace, DecompressHeader, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp,
};

use super::others::{self, Decoded};
use super::scratch::{Scratch, at_least};
use super::{Format, ImageError, Stop};

/// A progressive JPEG has some ten scans; a malicious one thousands, each as dear as the first.
const MAX_SCANS: u32 = 100;

/// Faults that lose no pixel. Everything else that libjpeg-turbo warns of means that part of the picture is missing.
const HARMLESS: [&str; 4] = [
    "extraneous bytes before marker",
    "unknown JFIF revision",
    "Unknown Adobe color transform",
    "Invalid SOS parameters for sequential JPEG",
];

/// Width and height, from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let mut scratch = Scratch::take();
    let header = read_header(&mut scratch, bytes);
    scratch.give_back();
    match header {
        Ok(header) => Ok((header.width as u32, header.height as u32)),
        // The other decoder knows a few kinds more; what it refuses too is broken.
        Err(_) => others::dimensions(bytes, Format::Jpeg),
    }
}

/// Decodes into `scratch.decoded` as RGB; where the picture is very large for a model that sees `size` × `size`, and
/// `raw` does not forbid it, at a half, a quarter or an eighth.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    size: u32,
    raw: bool,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let Ok(header) = read_header(scratch, bytes) else {
        return others::decode(scratch, bytes, Format::Jpeg, stop);
    };
    let scale = if raw || header.is_lossless {
        ScalingFactor::ONE
    } else {
        scale(&header, size as usize)
    };
    let is_cmyk = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let format = if is_cmyk {
        PixelFormat::CMYK
    } else {
        PixelFormat::RGB
    };
    let scaled = header.scaled(scale);
    let (width, height) = (scaled.width, scaled.height);
    let pitch = width * format.size();
    let pixels = at_least(&mut scratch.decoded, pitch * height);
    let image = Image {
        pixels,
        width,
        pitch,
        height,
        format,
    };
    let result = with_decompressor(&mut scratch.jpeg, |jpeg| {
        jpeg.set_scaling_factor(scale)?;
        jpeg.decompress(bytes, image)
    });
    if let Err(error) = result {
        let what = error.to_string();
        // Only the first warning is told: after a harmless one, see to it that the end is there.
        if !HARMLESS.iter().any(|harmless| what.contains(harmless)) || !has_end(bytes) {
            let what = what.trim_start_matches("TurboJPEG error: ");
            return Err(ImageError::broken(Format::Jpeg, what));
        }
    }
    if is_cmyk {
        cmyk_to_rgb(&mut scratch.decoded[..pitch * height]);
    }
    // 1203 pixels at 1/8 are 151, of which the last is only three eighths picture.
    let extent = |pixels: usize| pixels as f64 * scale.num() as f64 / scale.denom() as f64;
    Ok(Decoded::rgb(
        width as u32,
        height as u32,
        (extent(header.width), extent(header.height)),
    ))
}

/// A JPEG with halved colour, of RGB pixels without gaps between rows: what this program measures and warms itself with.
///
/// # Errors
/// libjpeg-turbo's, of sizes and qualities that there are none of.
pub fn to_jpeg(
    rgb: &[u8],
    width: usize,
    height: usize,
    quality: i32,
) -> turbojpeg::Result<Vec<u8>> {
    let image = Image {
        pixels: rgb,
        width,
        pitch: width * 3,
        height,
        format: PixelFormat::RGB,
    };
    turbojpeg::compress(image, quality, Subsamp::Sub2x2).map(|file| file.to_vec())
}

fn read_header(scratch: &mut Scratch, bytes: &[u8]) -> turbojpeg::Result<DecompressHeader> {
    with_decompressor(&mut scratch.jpeg, |jpeg| jpeg.read_header(bytes))
}

/// Runs `work` with the kept decompressor, or a new one. It is kept only if nothing went wrong: after a fault
/// libjpeg-turbo's state is that of a header half read, which would spoil the next picture.
fn with_decompressor<T>(
    kept: &mut Option<Decompressor>,
    work: impl FnOnce(&mut Decompressor) -> turbojpeg::Result<T>,
) -> turbojpeg::Result<T> {
    let mut jpeg = match kept.take() {
        Some(jpeg) => jpeg,
        None => {
            let mut jpeg = Decompressor::new()?;
            jpeg.set_scan_limit(MAX_SCANS)?;
            jpeg
        }
    };
    let result = work(&mut jpeg)?;
    *kept = Some(jpeg);
    Ok(result)
}

/// The smallest of 1/8, 1/4, 1/2 (those with SIMD) that leaves at least twice the model's size on either side.
fn scale(header: &DecompressHeader, size: usize) -> ScalingFactor {
    [
        ScalingFactor::ONE_EIGHTH,
        ScalingFactor::ONE_QUARTER,
        ScalingFactor::ONE_HALF,
    ]
    .into_iter()
    .find(|&factor| {
        let scaled = header.scaled(factor);
        scaled.width >= 2 * size && scaled.height >= 2 * size
    })
    .unwrap_or(ScalingFactor::ONE)
}

/// In place, 4 bytes a pixel to 3, by Pillow's arithmetic. Like Pillow we take every such file for Adobe's, which
/// stores inverted inks: 255 is none.
fn cmyk_to_rgb(pixels: &mut [u8]) {
    for pixel in 0..pixels.len() / 4 {
        let [c, m, y, k]: [u8; 4] = std::array::from_fn(|i| pixels[pixel * 4 + i]);
        let shade = |ink: u8| {
            let product = u32::from(255 - ink) * u32::from(k) + 128;
            k.saturating_sub((((product >> 8) + product) >> 8) as u8)
        };
        pixels[pixel * 3..][..3].copy_from_slice(&[shade(c), shade(m), shade(y)]);
    }
}

/// Whether an end-of-image marker follows the first scan's header (an embedded thumbnail's lies before it).
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2) {
        if marker == 0xda {
            return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        // 0xff may be repeated as a filler.
        at += match bytes.get(at + 2..at + 4) {
            Some(&[high, low]) if marker != 0xff => {
                2 + usize::from(u16::from_be_bytes([high, low]))
            }
            _ => 1,
        };
    }
    false
}
