//! From the bytes of a picture to the pixels that enter the vision tower.
//!
//! [`load`] reads the header (and enforces the limits there, before anything is allocated), decodes to RGB, resizes to
//! the model's square and turns it upright. Everything is done in 8 bits, as the original does with Pillow; the step to
//! normalised floats is the model's own, so that a GPU can be sent a quarter of the bytes.
//!
//! By default three kindnesses that the original lacks: EXIF orientation is applied, transparency goes on white and
//! colours of other profiles become sRGB (and 16-bit grays keep their tones, which Pillow clips to white). [`Options::raw`] is the original to the letter.

mod animation;
mod avif;
mod bmp;
mod buffer;
mod camera;
mod convert;
mod error;
mod format;
mod gif;
mod header;
mod heic;
mod heif;
mod icc;
mod jpeg;
mod memory;
mod options;
mod orient;
mod others;
mod part;
mod png;
#[cfg(target_os = "linux")]
pub mod process;
mod resize;
mod scratch;
mod slack;
#[cfg(test)]
mod tests;
mod tiff;
mod warm;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

pub use api::Pixels;
pub use buffer::FileBuffer;
pub use error::ImageError;
pub use format::Format;
pub use header::{Header, Picture};
pub use jpeg::to_jpeg;
pub use metadata::Region;
pub use options::{Decoder, MAX_SIDE, Options, Stop};
pub use warm::common_picture;

use format::brands;
use orient::Orientation;
use part::Part;
use scratch::Scratch;

/// Samples that may be passed over for each pixel that is allowed: what a photo of so many pixels takes in ten passes of
/// three colours' full size, three times what progressive photos have.
const PASSES: u64 = 30;

/// The format by the file's first bytes; its name and the client's word are not asked.
fn format_of(bytes: &[u8]) -> Result<Format, ImageError> {
    // Nothing else begins so; the marker that follows may have stray bytes before it.
    if bytes.starts_with(&[0xff, 0xd8]) {
        return Ok(Format::Jpeg);
    }
    if camera::is_raw(bytes) {
        return Err(ImageError::raw());
    }
    if heic::is_of(bytes) {
        return Ok(Format::Heic);
    }
    if avif::is_of(bytes) {
        return Ok(Format::Avif);
    }
    use ::image::ImageFormat as F;
    if let [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] = bytes {
        return Ok(Format::Tiff);
    }
    match ::image::guess_format(bytes) {
        Ok(F::Png) => Ok(Format::Png),
        Ok(F::WebP) => Ok(Format::WebP),
        Ok(F::Gif) => Ok(Format::Gif),
        Ok(F::Bmp) => Ok(Format::Bmp),
        _ => Err(ImageError::unknown(bytes)),
    }
}

/// Reads the header alone and judges it, before anything is decoded.
/// Takes a few MiB at most.
///
/// # Errors
/// [`ImageError::Unsupported`] for what is no picture, [`ImageError::Broken`] for a header that can't be read,
/// [`ImageError::TooLarge`] for more pixels than allowed.
pub fn probe(bytes: &[u8], options: &Options) -> Result<Header, ImageError> {
    let format = format_of(bytes)?;
    let (mut header, has_passes) = guarded(format, || {
        let once = |(width, height), beside| Header {
            width,
            height,
            format,
            memory: memory::decoded(bytes, format, width, height) + beside,
            work: u64::from(width) * u64::from(height),
        };
        let header = match format {
            Format::Jpeg => return jpeg::probe(bytes, options),
            Format::Heic => heic::probe(bytes)?,
            Format::Avif => avif::probe(bytes, options.max_pixels)?,
            Format::Png => once(png::dimensions(bytes)?, 0),
            Format::Gif => once(gif::dimensions(bytes)?, 0),
            Format::WebP => {
                let (size, codes) = webp::probe(bytes, options.max_pixels)?;
                once(size, codes)
            }
            Format::Bmp => {
                let file = bmp::with_usual_header(bytes)?;
                once(others::dimensions(&file, format)?, bytes.len() as u64)
            }
            Format::Tiff => {
                let header = tiff::probe(bytes, options.raw)?;
                once((header.width, header.height), header.memory)
            }
        };
        Ok((header, false))
    })?;
    let Header { width, height, .. } = header;
    // JPEG's limit is on what is decoded, which may be less, and so is its memory.
    if format != Format::Jpeg {
        if width == 0 || height == 0 {
            return Err(ImageError::broken(format, "it has no pixels"));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > options.max_pixels || width.max(height) > MAX_SIDE {
            return Err(ImageError::TooLarge {
                width,
                height,
                max_pixels: options.max_pixels,
            });
        }
        header.memory += memory::beside(bytes, format, width, height);
    }
    let is_dear = header.work > PASSES.saturating_mul(options.max_pixels);
    if is_dear || header.memory > options.max_memory {
        let (kind, remedy) = match (format, has_passes) {
            (Format::Jpeg, true) => (
                "progressive JPEG",
                "Save it as a JPEG that isn't progressive, or make it smaller",
            ),
            (Format::Jpeg, false) => ("JPEG", "Make it smaller"),
            _ => ("picture", "Make it smaller"),
        };
        return Err(ImageError::TooDear {
            what: format!("This {kind} of {width} × {height} pixels"),
            remedy: remedy.into(),
        });
    }
    Ok(header)
}

/// Decodes `bytes` and resizes to `size` × `size` with Pillow's antialiased bicubic; the aspect ratio is not kept.
///
/// Single-threaded; its large buffers come from a pool and go back to it.
///
/// # Errors
/// [`ImageError`]; one bad picture has no effect on any other.
pub fn load(bytes: &[u8], size: u32, options: &Options) -> Result<Picture, ImageError> {
    let header = probe(bytes, options)?;
    decode(bytes, header, size, options, &Stop::default())
}

/// [`load`] after its [`probe`], until `stop` is asked for.
///
/// # Errors
/// [`ImageError`]; one bad picture has no effect on any other.
pub fn decode(
    bytes: &[u8],
    header: Header,
    size: u32,
    options: &Options,
    stop: &Stop,
) -> Result<Picture, ImageError> {
    let mut pixels = vec![0; Pixels::bytes(size)];
    let picture = decode_into(&mut pixels, bytes, header, size, options, stop)?;
    Ok(picture.with(Pixels::new(size, pixels)))
}

/// [`decode`], with the pixels going into `pixels`: `size` × `size` × 3 bytes.
///
/// # Errors
/// [`ImageError`]; what is in `pixels` is then left over from the attempt.
pub fn decode_into(
    pixels: &mut [u8],
    bytes: &[u8],
    header: Header,
    size: u32,
    options: &Options,
    stop: &Stop,
) -> Result<Picture<()>, ImageError> {
    assert_eq!(pixels.len(), Pixels::bytes(size));
    guarded(header.format, || {
        let mut scratch = Scratch::take();
        let picture = load_in(pixels, &mut scratch, bytes, header, size, options, stop);
        scratch.give_back();
        picture
    })
}

fn load_in(
    pixels: &mut [u8],
    scratch: &mut Scratch,
    bytes: &[u8],
    header: Header,
    size: u32,
    options: &Options,
    stop: &Stop,
) -> Result<Picture<()>, ImageError> {
    let Header {
        width,
        height,
        format,
        ..
    } = header;
    let start = Instant::now();
    let orientation = match (options.raw, format) {
        // Turned by what its container says.
        (_, Format::Heic) => Orientation::UPRIGHT,
        (false, Format::Avif) => avif::orientation(bytes),
        // Pillow itself turns a TIFF upright while loading it.
        (true, Format::Tiff) => Orientation::of_first(bytes),
        (false, _) => Orientation::read(bytes),
        (true, _) => Orientation::UPRIGHT,
    };
    let part = options
        .region
        .map(|region| Part::of(region, orientation, (width, height)))
        .transpose()?;
    let whole_size = part.map_or(size, |part| part.size_of_whole(size));
    let mut decoded = match format {
        Format::Jpeg => jpeg::decode(scratch, bytes, whole_size, options, stop)?,
        Format::Png => png::decode(scratch, bytes, options.raw, stop)?,
        Format::Gif => gif::decode(scratch, bytes, options.raw, stop)?,
        Format::Bmp => {
            let file = bmp::with_usual_header(bytes)?;
            let decoded = others::decode(scratch, &file, format, stop)?;
            bmp::opaque_if_blank(&mut scratch.decoded, &decoded);
            decoded
        }
        Format::Tiff => tiff::decode(scratch, bytes, options.decoder, options.raw, stop)?,
        Format::Heic => heic::decode(scratch, bytes)?,
        Format::Avif => avif::decode(scratch, bytes)?,
        Format::WebP => webp::decode(scratch, bytes, options.raw, stop)?,
    };
    let decode_ms = milliseconds(start);

    let start = Instant::now();
    convert::to_rgb(scratch, &decoded, format, bytes, options.raw)?;
    if let Some(part) = part {
        part.cut(&mut scratch.decoded, &mut decoded);
    }
    // What is vertical once upright may be horizontal now.
    let (upright_width, upright_height) = orientation.upright(decoded.width, decoded.height);
    let vertical_first = resize::is_vertical_first(upright_width, upright_height, size)
        != orientation.is_transposed();
    resize::resize(scratch, &decoded, pixels, size, vertical_first)
        .map_err(|error| ImageError::damaged(format, error))?;
    if !options.raw {
        icc::to_srgb(bytes, format, pixels);
    }
    orientation.apply(pixels, size as usize);
    let preprocess_ms = milliseconds(start);

    let (width, height) = orientation.upright(width, height);
    Ok(Picture {
        width,
        height,
        format,
        frame: decoded.frame,
        pixels: (),
        decode_ms,
        preprocess_ms,
    })
}

/// Runs a decoder so that its panic, should a file ever find one, is that file's error and nobody else's.
fn guarded<T>(
    format: Format,
    work: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(ImageError::broken(
            format,
            "its decoder gave up in the middle",
        ))
    })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
