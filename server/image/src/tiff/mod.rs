//! TIFF: the first picture of a file that is no smaller copy of another, strip by strip and row by row to RGB.
//!
//! The container is read here, the packings by crates, because what a file of strips may cost has to be known from
//! its directory: each strip or tile gives as many rows as the picture needs of it and no more, none of its bytes are
//! looked at beyond what those can need, and a JPEG is judged by its own header. Memory is the picture as RGB, a few
//! rows, and one strip or tile if it is a JPEG.

mod directory;
mod fax;
mod jpeg;
mod layout;
mod samples;
#[cfg(test)]
mod tests;
mod unpack;

use std::io;

use ::image::ColorType;

use crate::others::Decoded;
use crate::scratch::Scratch;
use crate::slack::at_least;
use crate::{Decoder, ImageError, Stop};
use jpeg::Jpeg;
use layout::{Color, Layout, Packing, broken};
use samples::Depth;
use unpack::{Rows, Stream};

/// What a directory says before anything is decoded.
pub(super) struct Header {
    /// Width in pixels, as stored.
    pub width: u32,
    pub height: u32,
    /// What decoding takes beside three bytes a pixel, in bytes.
    pub memory: u64,
}

/// # Errors
/// [`ImageError`] for directories that contradict themselves and for kinds that are not read.
pub(super) fn probe(bytes: &[u8], raw: bool) -> Result<Header, ImageError> {
    let layout = Layout::read(bytes, raw)?;
    let (width, height) = (layout.width, layout.height);
    let memory = if width > 0 && height > 0 {
        memory(&layout)
    } else {
        0
    };
    Ok(Header {
        width,
        height,
        memory,
    })
}

/// Rows as they are stored and as bytes; of JPEG a strip or tile, its file, and its coefficients; of others a copy with
/// the bits turned round, and the windows of what unpacks.
fn memory(layout: &Layout<'_>) -> u64 {
    let planes = layout.planes_read().count() as u64;
    let rows = layout.row_bytes() as u64 * (planes + 1)
        + u64::from(layout.chunk_width) * (layout.samples as u64 + 1);
    let chunk = u64::from(layout.chunk_width) * u64::from(layout.chunk_height);
    let rows_read = layout.chunk_height.min(layout.height);
    let packed = layout.most_packed(layout.row_bytes() * rows_read as usize) as u64;
    let packed = packed.min(layout.file_length());
    let unpacking = match layout.packing {
        Packing::Jpeg | Packing::OldJpeg => {
            // Progressive ones, whose coefficients have 16 bits, can't be told from others by the directory.
            let pixels = chunk * layout.chunk_samples() as u64;
            planes * pixels + 2 * pixels + 2 * packed
        }
        packing => {
            let turned = if layout.is_bit_reversed { packed } else { 0 };
            let window = if packing == Packing::Zstd {
                24 << 20
            } else {
                1 << 18
            };
            planes * (turned + window)
        }
    };
    rows + unpacking
}

/// Decodes into `scratch.decoded` as RGB, with transparency on white; with `raw` as Pillow does it.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    decoder: Decoder,
    raw: bool,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let layout = Layout::read(bytes, raw)?;
    let (width, height) = (layout.width, layout.height);
    let mut depth = Depth::new(&layout, raw, 255.0);
    let count = layout.chunk_samples();
    if Depth::must_measure(&layout) {
        let mut largest = 0.0_f64;
        each_row(&layout, decoder, stop, |place, planes| {
            for row in planes {
                largest = largest.max(depth.largest(row, place.width as usize * count));
            }
        })?;
        depth = Depth::new(&layout, raw, largest);
    }
    // JPEG makes RGB of it by itself.
    let color = match (layout.color, layout.packing) {
        (Color::YCbCr, Packing::Jpeg | Packing::OldJpeg) if !layout.is_planar => Color::Rgb,
        (color, _) => color,
    };
    let planes = layout.planes_read().count();
    let (stride, alpha) = match layout.is_planar {
        true => (planes, layout.alpha.map(|_| planes - 1)),
        false => (count, layout.alpha.map(|alpha| alpha.sample)),
    };
    let out = at_least(&mut scratch.decoded, width as usize * height as usize * 3);
    let (mut plane, mut samples) = (Vec::new(), Vec::new());
    each_row(&layout, decoder, stop, |place, rows| {
        let pixels = place.width as usize;
        samples.clear();
        match rows {
            [row] => depth.to_bytes(row, pixels * count, &mut samples),
            rows => {
                samples.resize(pixels * stride, 0);
                for (index, row) in rows.iter().enumerate() {
                    plane.clear();
                    depth.to_bytes(row, pixels, &mut plane);
                    let places = samples[index..].iter_mut().step_by(stride);
                    places.zip(&plane).for_each(|(to, from)| *to = *from);
                }
            }
        }
        let at = (place.y as usize * width as usize + place.x as usize) * 3;
        let to = &mut out[at..][..pixels * 3];
        samples::to_rgb(&layout, color, (&samples, stride), alpha, raw, to);
    })?;
    Ok(Decoded::whole(width, height, ColorType::Rgb8))
}

/// A row of a strip or tile, as far as it is in the picture.
struct Place {
    x: u32,
    y: u32,
    width: u32,
}

/// Calls `each` with every row of every strip or tile: one row of bytes, or one for each plane that is read.
fn each_row(
    layout: &Layout<'_>,
    decoder: Decoder,
    stop: &Stop,
    mut each: impl FnMut(Place, &[Vec<u8>]),
) -> Result<(), ImageError> {
    let mut jpeg = Jpeg::new(layout, decoder);
    let is_jpeg = matches!(layout.packing, Packing::Jpeg | Packing::OldJpeg);
    let mut buffers: Vec<Vec<u8>> = layout
        .planes_read()
        .map(|_| vec![0; layout.row_bytes()])
        .collect();
    for down in 0..layout.down() {
        let y = down * layout.chunk_height;
        let rows = layout.chunk_height.min(layout.height - y);
        for across in 0..layout.across() {
            let x = across * layout.chunk_width;
            let width = layout.chunk_width.min(layout.width - x);
            let mut sources: Vec<Box<dyn Rows + '_>> = Vec::with_capacity(buffers.len());
            for plane in layout.planes_read() {
                if stop.is_asked() {
                    return Err(broken("it took too long"));
                }
                let bytes = layout.chunk(plane, down, across, rows)?;
                sources.push(match is_jpeg {
                    true => Box::new(Stream(io::Cursor::new(jpeg.decode(layout, bytes, rows)?))),
                    false => unpack::rows(layout, bytes)?,
                });
            }
            for row in 0..rows {
                if stop.is_asked() {
                    return Err(broken("it took too long"));
                }
                for (source, buffer) in sources.iter_mut().zip(&mut buffers) {
                    source.read_row(buffer).map_err(broken)?;
                }
                let y = y + row;
                each(Place { x, y, width }, &buffers);
            }
        }
    }
    Ok(())
}
