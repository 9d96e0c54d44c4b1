//! JPEG through libjpeg-turbo, straight to RGB.

mod entropy;
mod markers;
#[cfg(test)]
mod tests;

use ::image::ColorType;
use turbojpeg::{
    Colorspace, DecompressHeader, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp,
};

use super::memory;
use super::others::{self, Decoded};
use super::scratch::Scratch;
use super::slack::at_least;
use super::{Decoder, Format, Header, ImageError, Options, Stop};
use markers::{MAX_SCANS, Markers};

/// Of memory for a pixel: as decoded, with four inks at most; and by the portable decoder, which keeps planes beside.
const BYTES_PER_PIXEL: u64 = 4;
const PORTABLE_BYTES_PER_PIXEL: u64 = 7;

/// Powers of two by which libjpeg-turbo makes a picture smaller while it decodes: those with SIMD.
const SHIFTS: [u32; 4] = [3, 2, 1, 0];

/// Size, memory and work, by the markers, and whether the picture comes in several passes; the pixel limit is on what is
/// decoded, which may be an eighth of the sides.
pub(super) fn probe(bytes: &[u8], options: &Options) -> Result<(Header, bool), ImageError> {
    let markers = Markers::read(bytes)?;
    let (width, height) = (markers.width, markers.height);
    if options.decoder == Decoder::Portable && !is_portable(&markers) {
        return Err(ImageError::unsupported(
            Format::Jpeg,
            "beyond the portable decoder",
        ));
    }
    let Some(shift) = least_shift(&markers, options) else {
        return Err(ImageError::TooLarge {
            width,
            height,
            max_pixels: options.max_pixels,
        });
    };
    let coefficients = if markers.has_scans {
        2 * markers.samples()
    } else {
        0
    };
    let bytes_per_pixel = match options.decoder {
        Decoder::TurboJpeg => BYTES_PER_PIXEL,
        Decoder::Portable => PORTABLE_BYTES_PER_PIXEL,
    };
    let (scaled_width, scaled_height) = (scaled(width, shift), scaled(height, shift));
    let header = Header {
        width,
        height,
        format: Format::Jpeg,
        memory: scaled_width * scaled_height * bytes_per_pixel
            + coefficients
            + bytes.len() as u64
            + memory::beside(
                bytes,
                Format::Jpeg,
                scaled_width as u32,
                scaled_height as u32,
            ),
        work: markers.samples_read + u64::from(width) * u64::from(height),
    };
    Ok((header, markers.has_scans))
}

/// Whether Rust's decoder gets it right. It makes garbage of chroma finer than luma, and of a sequential picture whose
/// components come in a scan each.
fn is_portable(markers: &Markers) -> bool {
    !markers.is_first_coarser()
        && !markers.is_arithmetic
        && (markers.is_progressive || !markers.has_scans)
}

/// Whether a file within another is one that Rust's decoder gets right, with all of its data: what is missing it leaves gray
/// without a word.
pub(super) fn is_whole_and_portable(file: &[u8]) -> bool {
    Markers::read(file).is_ok_and(|markers| {
        let size = (markers.width, markers.height);
        is_portable(&markers) && entropy::is_whole(&markers.file(file), &markers.components, size)
    })
}

/// The least power of two by which the picture has to be made smaller for the pixel limit.
fn least_shift(markers: &Markers, options: &Options) -> Option<u32> {
    let is_whole = options.raw || options.decoder == Decoder::Portable || markers.is_lossless;
    SHIFTS
        .into_iter()
        .rev()
        .filter(|&shift| shift == 0 || !is_whole)
        .find(|&shift| {
            scaled(markers.width, shift) * scaled(markers.height, shift) <= options.max_pixels
        })
}

fn scaled(side: u32, shift: u32) -> u64 {
    u64::from(side.div_ceil(1 << shift))
}

/// Decodes into `scratch.decoded` as RGB; where the picture is very large for a model that sees `size` × `size`, or for
/// the pixel limit, and `options.raw` does not forbid it, at a half, a quarter or an eighth.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    size: u32,
    options: &Options,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let markers = Markers::read(bytes)?;
    let file = markers.file(bytes);
    if options.decoder == Decoder::Portable {
        let bare = markers.without_zeros(bytes);
        let judged = bare.as_deref().unwrap_or(&file);
        if !entropy::is_whole(judged, &markers.components, (markers.width, markers.height)) {
            return Err(ImageError::broken(
                Format::Jpeg,
                "part of its data is missing",
            ));
        }
        return others::decode(scratch, &file, Format::Jpeg, stop);
    }
    let fault = |error: turbojpeg::Error| ImageError::damaged(Format::Jpeg, error);
    let header =
        with_decompressor(&mut scratch.jpeg, |jpeg| jpeg.read_header(&file)).map_err(fault)?;
    let least = least_shift(&markers, options).unwrap_or(0);
    let shift = if options.raw || markers.is_lossless {
        0
    } else {
        least.max(shift(&markers, size))
    };
    match decompress(scratch, &file, &header, shift) {
        Ok(()) => {}
        // Found behind the last pixel's data, with nothing wrong before it; or between parts of which all are there.
        Err(error) if is_extraneous(&error, markers.has_end) => {
            // Zeros decode to something. If they are what is too much, the picture must be whole without them.
            if let Some(file) = markers.without_zeros(bytes)
                && let Err(error) = decompress(scratch, &file, &header, shift)
                && !is_extraneous(&error, false)
            {
                return Err(fault(error));
            }
        }
        Err(error) => return Err(fault(error)),
    }
    // 1203 pixels at 1/8 are 151, of which the last is only three eighths picture.
    let extent = |pixels: u32| f64::from(pixels) / f64::from(1 << shift);
    let side = |pixels: u32| scaled(pixels, shift) as u32;
    Ok(Decoded {
        extent: (extent(markers.width), extent(markers.height)),
        ..Decoded::whole(side(markers.width), side(markers.height), ColorType::Rgb8)
    })
}

/// The only warning that doesn't mean that part of the picture is missing: bytes too many before a marker.
fn is_extraneous(error: &turbojpeg::Error, has_end: bool) -> bool {
    let what = error.to_string();
    what.contains("extraneous bytes before marker") && (has_end || what.contains("marker 0xd9"))
}

/// At a power of two's fraction of the sides, as RGB, into `scratch.decoded`.
fn decompress(
    scratch: &mut Scratch,
    file: &[u8],
    header: &DecompressHeader,
    shift: u32,
) -> turbojpeg::Result<()> {
    let is_cmyk = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let format = if is_cmyk {
        PixelFormat::CMYK
    } else {
        PixelFormat::RGB
    };
    let scale = ScalingFactor::new(1, 1 << shift);
    let (width, height) = (scale.scale(header.width), scale.scale(header.height));
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
        jpeg.decompress(file, image)
    });
    if is_cmyk {
        cmyk_to_rgb(&mut scratch.decoded[..pitch * height]);
    }
    result
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
            jpeg.set_scan_limit(MAX_SCANS as u32)?;
            jpeg
        }
    };
    let result = work(&mut jpeg)?;
    *kept = Some(jpeg);
    Ok(result)
}

/// The largest power of two that leaves at least twice the model's size on either side.
fn shift(markers: &Markers, size: u32) -> u32 {
    let least = u64::from(size) * 2;
    SHIFTS
        .into_iter()
        .find(|&shift| {
            scaled(markers.width, shift) >= least && scaled(markers.height, shift) >= least
        })
        .unwrap_or(0)
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
