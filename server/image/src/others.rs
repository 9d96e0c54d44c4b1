//! BMP, TIFF and, for the portable decoder, JPEG through the `image` crate: Rust only.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use ::image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::scratch::Scratch;
use super::slack::at_least;
use super::{Format, ImageError, MAX_SIDE, Stop};

/// What lies in `scratch.decoded`.
pub(super) struct Decoded {
    pub width: u32,
    pub height: u32,
    /// How much of width and height the picture covers: less than all where scaled decoding rounded up.
    pub extent: (f64, f64),
    pub color: ColorType,
    /// The frame of an animation, from 0.
    pub frame: u32,
}

impl Decoded {
    /// All of a picture that is no animation.
    pub fn whole(width: u32, height: u32, color: ColorType) -> Self {
        Self {
            width,
            height,
            extent: (width.into(), height.into()),
            color,
            frame: 0,
        }
    }
}

/// Width and height, from the header.
pub(super) fn dimensions(bytes: &[u8], format: Format) -> Result<(u32, u32), ImageError> {
    reader(Input::new(bytes, &Stop::default()), format)
        .into_dimensions()
        .map_err(|error| ImageError::from_decoder(format, error))
}

/// Decodes into `scratch.decoded`, in the decoder's own channels and depth.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    format: Format,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let fault = |error| ImageError::from_decoder(format, error);
    let mut decoder = reader(Input::new(bytes, stop), format)
        .into_decoder()
        .map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let size = decoder.total_bytes();
    let mut limits = Limits::no_limits();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    // The picture itself, the same again for a decoder's own purposes, and small change.
    limits.max_alloc = Some(size.saturating_mul(3).saturating_add(16 << 20));
    decoder.set_limits(limits).map_err(fault)?;
    let decoded = Decoded::whole(width, height, decoder.color_type());
    let size = usize::try_from(size).map_err(|error| ImageError::damaged(format, error))?;
    let buffer = at_least(&mut scratch.decoded, size);
    // Some formats can skip pixels: what shows there must not be another user's picture.
    buffer.fill(0);
    decoder.read_image(buffer).map_err(fault)?;
    Ok(decoded)
}

/// A file in memory that can't be read any more once its end was asked for.
pub(super) struct Input<'a> {
    bytes: Cursor<&'a [u8]>,
    stop: &'a Stop,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8], stop: &'a Stop) -> Self {
        Input {
            bytes: Cursor::new(bytes),
            stop,
        }
    }

    fn go_on(&self) -> io::Result<()> {
        match self.stop.is_asked() {
            // Not `Interrupted`, after which it would be tried again.
            true => Err(io::Error::other("it took too long")),
            false => Ok(()),
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        self.bytes.read(to)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.go_on()?;
        self.bytes.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.bytes.consume(amount);
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.go_on()?;
        self.bytes.seek(to)
    }
}

fn reader(input: Input<'_>, format: Format) -> ImageReader<Input<'_>> {
    let format = match format {
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
        // The others have decoders of their own.
        _ => ImageFormat::Jpeg,
    };
    ImageReader::with_format(input, format)
}
