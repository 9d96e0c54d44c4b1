//! From the bytes of a picture to the pixels that enter the vision tower.
//!
//! [`load`] reads the header (and enforces the limits there, before anything is allocated), decodes to RGB, resizes to
//! the model's square and turns it upright. Everything is done in 8 bits, as the original does with Pillow; the step to
//! normalised floats is [`Pixels::to_f32_chw`], so that a GPU can be sent a quarter of the bytes.
//!
//! By default three kindnesses that the original lacks: EXIF orientation is applied, transparency goes on white and
//! colours of other profiles become sRGB (and 16-bit grays keep their tones, which Pillow clips to white). [`Options::raw`] is the original to the letter.

mod animation;
mod bmp;
mod buffer;
mod camera;
mod convert;
mod error;
mod gif;
mod heic;
mod icc;
mod jpeg;
mod memory;
mod orient;
mod others;
mod pixels;
mod png;
#[cfg(target_os = "linux")]
pub mod process;
mod resize;
mod scratch;
#[cfg(test)]
mod tests;
mod tiff;
mod warm;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use buffer::FileBuffer;
pub use error::ImageError;
pub use jpeg::to_jpeg;
pub use pixels::{MEAN, Pixels, STD};
pub use warm::common_picture;

use orient::Orientation;
use scratch::Scratch;
use serde::{Deserialize, Serialize};

/// What decodes JPEG (`--image-decoder`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decoder {
    /// libjpeg-turbo: Pillow's own decoder, bit for bit, and the fastest.
    #[default]
    TurboJpeg,
    /// Rust only; may differ from the other by a few steps where chroma is subsampled.
    Portable,
}

/// How to read a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    pub decoder: Decoder,
    /// `--raw-pixels`: what Pillow's `.convert("RGB")` gives: no EXIF orientation (but TIFF's own), no colour profile,
    /// alpha dropped, 16-bit gray clipped; and no scaled decoding of very large JPEGs.
    pub raw: bool,
    /// The most pixels, width × height, that are decoded.
    pub max_pixels: u64,
    /// The most memory that decoding one picture may take, in bytes.
    pub max_memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            decoder: Decoder::TurboJpeg,
            raw: false,
            max_pixels: 100_000_000,
            max_memory: 1 << 30,
        }
    }
}

/// The longest side of a picture: JPEG's own limit. It bounds the memory that a picture one pixel wide can ask for.
pub const MAX_SIDE: u32 = 65_535;

/// Samples that may be passed over for each pixel that is allowed: what a photo of so many pixels takes in ten passes of
/// three colours' full size, three times what progressive photos have.
const PASSES: u64 = 30;

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
    Heic,
}

impl Format {
    /// All that are read.
    pub const ALL: [Format; 7] = [
        Format::Jpeg,
        Format::Png,
        Format::WebP,
        Format::Gif,
        Format::Bmp,
        Format::Tiff,
        Format::Heic,
    ];

    /// The name on the wire: `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`, `heic`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::WebP => "webp",
            Format::Gif => "gif",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
            Format::Heic => "heic",
        }
    }

    /// By the first bytes; the file's name and the client's word are not asked.
    fn of(bytes: &[u8]) -> Result<Self, ImageError> {
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
}

/// The brands of a file made of boxes, as films and HEIC are: its own first, then those that it is compatible with.
fn brands(bytes: &[u8]) -> &[[u8; 4]] {
    let Some(&[l0, l1, l2, l3, b'f', b't', b'y', b'p']) = bytes.first_chunk() else {
        return &[];
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    // Between the two stands a version.
    let end = length.min(bytes.len()).min(256);
    bytes.get(8..end).unwrap_or_default().as_chunks().0
}

/// A picture, ready for the model; or with `()` for its pixels what is to be told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Picture<P = Pixels> {
    /// In pixels, of the original, upright.
    pub width: u32,
    pub height: u32,
    pub format: Format,
    /// Which frame of an animation it is, from 0: the first with anything on it.
    pub frame: u32,
    pub pixels: P,
    /// From bytes to RGB at (about) full size.
    pub decode_ms: f64,
    /// Everything after: conversion to RGB on white, resize, orientation.
    pub preprocess_ms: f64,
}

/// What a file's header says, and what decoding it will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// In pixels, as stored: not upright.
    pub width: u32,
    pub height: u32,
    pub format: Format,
    /// The most memory that [`load`] takes for it, in bytes, beside the file itself and what it returns.
    pub memory: u64,
    /// Samples that decoding passes over: pixels, as many times as the file goes over them.
    pub work: u64,
}

/// Ends a decode from outside: shared with whoever may want it to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on whatever decodes with this gives up as soon as it reads on.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads the header alone and judges it, before anything is decoded.
/// Takes a few MiB at most.
///
/// # Errors
/// [`ImageError::Unsupported`] for what is no picture, [`ImageError::Broken`] for a header that can't be read,
/// [`ImageError::TooLarge`] for more pixels than allowed.
pub fn probe(bytes: &[u8], options: &Options) -> Result<Header, ImageError> {
    let format = Format::of(bytes)?;
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

impl Picture<()> {
    /// With its pixels.
    pub fn with(self, pixels: Pixels) -> Picture {
        let Self {
            width,
            height,
            format,
            frame,
            pixels: (),
            decode_ms,
            preprocess_ms,
        } = self;
        Picture {
            width,
            height,
            format,
            frame,
            pixels,
            decode_ms,
            preprocess_ms,
        }
    }
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
    let decoded = match format {
        Format::Jpeg => jpeg::decode(scratch, bytes, size, options, stop)?,
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
        Format::WebP => webp::decode(scratch, bytes, options.raw, stop)?,
    };
    let decode_ms = milliseconds(start);

    let start = Instant::now();
    let orientation = match (options.raw, format) {
        // Turned by what its container says.
        (_, Format::Heic) => Orientation::UPRIGHT,
        // Pillow itself turns a TIFF upright while loading it.
        (true, Format::Tiff) => Orientation::of_first(bytes),
        (false, _) => Orientation::read(bytes),
        (true, _) => Orientation::UPRIGHT,
    };
    convert::to_rgb(scratch, &decoded, format, bytes, options.raw)?;
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
