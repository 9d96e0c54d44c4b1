//! AVIF, in Rust but for the decoder's innermost loops. Its own turns are applied, as an orientation; the one in its EXIF
//! block is a copy of them.

use ::image::ColorType;
use re_rav1d::dav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings};

use super::convert;
use super::heif::{Fault, Heif, Property};
use super::orient::Orientation;
use super::others::Decoded;
use super::scratch::Scratch;
use super::slack::at_least;
use super::{Format, Header, ImageError, MAX_SIDE};

mod colors;
mod sequence;
#[cfg(test)]
mod tests;

use colors::Canvas;
use sequence::{Chroma, Sequence};

/// Bytes that the decoder notes on each pixel, beside the samples; and its tables.
const NOTES: u64 = 1;
const TABLES: u64 = 8 << 20;
/// It works in squares of so many pixels.
const SQUARE: u64 = 128;
/// How often it may want to go on before there is a picture.
const MAX_STEPS: usize = 64;

/// Whether a file's brands say so: the first one or one that it is compatible with.
pub(super) fn is_of(bytes: &[u8]) -> bool {
    let brands = super::brands(bytes);
    brands
        .iter()
        .any(|brand| matches!(brand, b"avif" | b"avis"))
}

/// Size and memory, from the container and the streams' heads. What is coded may be more than what is shown: the limit on
/// pixels is on both.
pub(super) fn probe(bytes: &[u8], max_pixels: u64) -> Result<Header, ImageError> {
    let still = Still::read(bytes).map_err(fault)?;
    let area = |(width, height)| u64::from(width) * u64::from(height);
    let coded = |part: &Part| area(part.tile) * part.tiles.len() as u64;
    let parts = || {
        [Some(&still.color), still.alpha.as_ref()]
            .into_iter()
            .flatten()
    };
    for part in parts() {
        for side @ (width, height) in [part.tile, (part.width, part.height)] {
            if area(side) > max_pixels || width.max(height) > MAX_SIDE {
                return Err(ImageError::TooLarge {
                    width,
                    height,
                    max_pixels,
                });
            }
        }
    }
    let [_, _, width, height] = still.window;
    let channels = if still.alpha.is_some() { 4 } else { 3 };
    // One part after the other.
    let once = parts().map(Part::memory).max().unwrap_or(0);
    Ok(Header {
        width,
        height,
        format: Format::Avif,
        memory: once
            + channels * u64::from(width) * u64::from(height)
            + bytes.len() as u64
            + TABLES,
        work: parts().map(coded).sum(),
    })
}

/// How what is decoded has to be turned.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    Heif::read(bytes)
        .and_then(|heif| heif.shape(heif.primary))
        .map_or(Orientation::UPRIGHT, |(orientation, _)| orientation)
}

/// Decodes into `scratch.decoded`, as RGB or with alpha, as stored: not upright.
pub(super) fn decode(scratch: &mut Scratch, bytes: &[u8]) -> Result<Decoded, ImageError> {
    let still = Still::read(bytes).map_err(fault)?;
    let [_, _, width, height] = still.window;
    let window = still.window.map(|side| side as usize);
    let (color, channels) = match still.alpha {
        Some(_) => (ColorType::Rgba8, 4),
        None => (ColorType::Rgb8, 3),
    };
    let canvas = still.color.decode(&still.heif, &mut scratch.between)?;
    let pixels = at_least(
        &mut scratch.decoded,
        width as usize * height as usize * channels,
    );
    canvas
        .to_rgb(still.colors, window, pixels, channels)
        .map_err(fault)?;
    if let Some(alpha) = &still.alpha {
        let canvas = alpha.decode(&still.heif, &mut scratch.between)?;
        let whole = (still.color.width as usize, still.color.height as usize);
        canvas.to_alpha(whole, window, pixels);
        if still.is_multiplied {
            convert::divide_by_alpha(pixels);
        }
    }
    Ok(Decoded {
        width,
        height,
        extent: (width.into(), height.into()),
        color,
        frame: 0,
    })
}

/// The picture that a file shows.
struct Still<'a> {
    heif: Heif<'a>,
    color: Part,
    alpha: Option<Part>,
    /// The colours are multiplied by it.
    is_multiplied: bool,
    colors: super::heif::Colors,
    /// What is shown of it: left, top, width and height.
    window: [u32; 4],
}

impl<'a> Still<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let heif = Heif::read(bytes)?;
        let color = Part::read(&heif, heif.primary)?;
        let alpha = heif.alpha(heif.primary);
        let is_multiplied = alpha.is_some_and(|(_, is_multiplied)| is_multiplied);
        let alpha = alpha.map(|(item, _)| Part::read(&heif, item)).transpose()?;
        let said = heif.colors().find_map(|property| match property {
            Property::Colors(colors) => Some(colors),
            _ => None,
        });
        let (_, crop) = heif.shape(heif.primary)?;
        let window = match crop {
            Some(crop) => crop.within(color.width, color.height)?,
            None => [0, 0, color.width, color.height],
        };
        Ok(Still {
            colors: said.unwrap_or(color.sequence.colors),
            heif,
            color,
            alpha,
            is_multiplied,
            window,
        })
    }
}

/// One coded picture or a grid of them: a still's colours, or its alpha.
struct Part {
    width: u32,
    height: u32,
    columns: u32,
    /// Items, row by row, each of this size.
    tiles: Vec<u32>,
    tile: (u32, u32),
    sequence: Sequence,
    /// The most frames of a tile: the decoder may keep them all.
    frames: u64,
}

impl Part {
    fn read(heif: &Heif, item: u32) -> Result<Self, Fault> {
        let (width, height, columns, tile, tiles) = match &heif.kind(item)? {
            b"av01" => {
                let tile @ (width, height) = heif.size(item)?;
                (width, height, 1, tile, vec![item])
            }
            b"grid" => {
                let grid = heif.grid(item)?;
                let first = *grid.tiles.first().ok_or(Fault::Damaged("no tiles"))?;
                let tile = heif.size(first)?;
                // Every tile has something of the picture, and the picture nothing but them.
                let is_covered = |side: u32, tile: u32, count: u32| {
                    let [side, tile, count] = [side, tile, count].map(u64::from);
                    (count - 1) * tile < side && side <= count * tile
                };
                if !is_covered(grid.width, tile.0, grid.columns)
                    || !is_covered(grid.height, tile.1, grid.rows)
                {
                    return Err(Fault::Damaged("a grid that its tiles don't fill"));
                }
                (grid.width, grid.height, grid.columns, tile, grid.tiles)
            }
            _ => return Err(Fault::Unsupported("another kind of picture")),
        };
        let (mut found, mut frames, mut left) = (None, 1, heif.len());
        for &one in &tiles {
            if heif.kind(one)? != *b"av01" || heif.size(one)? != tile {
                return Err(Fault::Unsupported("tiles of different kinds"));
            }
            let data = heif.data(one)?;
            let shared = Fault::Unsupported("tiles that share their data");
            left = left.checked_sub(data.len()).ok_or(shared)?;
            let (sequence, count) = Sequence::find(&data)?;
            if *found.get_or_insert(sequence) != sequence {
                return Err(Fault::Unsupported("tiles of different kinds"));
            }
            frames = count.max(frames);
        }
        let part = Part {
            width,
            height,
            columns,
            tiles,
            tile,
            sequence: found.ok_or(Fault::Damaged("no tiles"))?,
            frames,
        };
        let (across, down) = part.sequence.chroma.shifts();
        let is_odd = |side: u32, shift: u32| !side.is_multiple_of(1 << shift);
        if part.tiles.len() > 1 && (is_odd(part.tile.0, across) || is_odd(part.tile.1, down)) {
            return Err(Fault::Unsupported("tiles that share their colours"));
        }
        Ok(part)
    }

    /// The most that decoding takes, in bytes: a tile as the decoder has it, its notes, and the whole.
    fn memory(&self) -> u64 {
        let Sequence {
            chroma,
            depth,
            has_grain,
            ..
        } = self.sequence;
        let samples = |width: u64, height: u64| {
            let colors = match chroma {
                Chroma::None => 0,
                Chroma::Each => 2 * width * height,
                Chroma::Half => 2 * width.div_ceil(2) * height,
                Chroma::Quarter => 2 * width.div_ceil(2) * height.div_ceil(2),
            };
            (width * height + colors) * if depth > 8 { 2 } else { 1 }
        };
        let [width, height] =
            [self.tile.0, self.tile.1].map(|side| u64::from(side).next_multiple_of(SQUARE));
        let pictures = self.frames + u64::from(has_grain);
        samples(width, height) * pictures
            + width * height * NOTES
            + samples(self.width.into(), self.height.into())
    }

    /// All tiles, side by side in `buffer`.
    fn decode<'b>(&self, heif: &Heif, buffer: &'b mut Vec<u8>) -> Result<Canvas<'b>, ImageError> {
        let Sequence { chroma, depth, .. } = self.sequence;
        let (width, height) = (self.width as usize, self.height as usize);
        let mut canvas = Canvas {
            width,
            height,
            chroma,
            depth,
            bytes: at_least(buffer, Canvas::size(width, height, chroma, depth)),
        };
        for (index, &tile) in (0..).zip(&self.tiles) {
            let picture = self.picture(heif.data(tile).map_err(fault)?.into_owned())?;
            let corner = (
                (index % self.columns * self.tile.0) as usize,
                (index / self.columns * self.tile.1) as usize,
            );
            for plane in 0..chroma.planes() {
                let component = PlanarImageComponent::from(plane);
                let stride = picture.stride(component) as usize;
                canvas.put(plane, &picture.plane(component), stride, corner);
            }
        }
        Ok(canvas)
    }

    /// Decodes one tile.
    fn picture(&self, data: Vec<u8>) -> Result<Picture, ImageError> {
        let (width, height) = self.tile;
        let mut settings = Settings::new();
        // Nobody else's thread, and none that a decoder's process may not start.
        settings.set_n_threads(1);
        settings.set_max_frame_delay(1);
        // Of layers the last.
        settings.set_all_layers(false);
        settings.set_frame_size_limit(width.saturating_mul(height));
        let mut decoder = Decoder::with_settings(&settings).map_err(refusal)?;
        let mut sent = decoder.send_data(data, None, None, None);
        for _ in 0..MAX_STEPS {
            match decoder.get_picture() {
                Err(Error::Again) => {}
                Err(error) => return Err(refusal(error)),
                Ok(picture) if !self.is_as_said(&picture) => {
                    return Err(fault(Fault::Damaged("other than its head says")));
                }
                Ok(picture) => return Ok(picture),
            }
            match sent {
                Ok(()) => break,
                Err(Error::Again) => sent = decoder.send_pending_data(),
                Err(error) => return Err(refusal(error)),
            }
        }
        Err(fault(Fault::Cut))
    }

    fn is_as_said(&self, picture: &Picture) -> bool {
        let chroma = match picture.pixel_layout() {
            PixelLayout::I400 => Chroma::None,
            PixelLayout::I420 => Chroma::Quarter,
            PixelLayout::I422 => Chroma::Half,
            PixelLayout::I444 => Chroma::Each,
        };
        (picture.width(), picture.height()) == self.tile
            && picture.bit_depth() == self.sequence.depth as usize
            && chroma == self.sequence.chroma
    }
}

fn refusal(error: Error) -> ImageError {
    match error {
        Error::UnsupportedBitstream => ImageError::unsupported(Format::Avif, error),
        Error::NotEnoughMemory => {
            ImageError::broken(Format::Avif, "it asks for more memory than is given to any")
        }
        error => ImageError::damaged(Format::Avif, error),
    }
}

fn fault(fault: Fault) -> ImageError {
    match fault {
        Fault::Cut => ImageError::broken(Format::Avif, "part of its data is missing"),
        Fault::Damaged(what) => ImageError::damaged(Format::Avif, what),
        Fault::Unsupported(what) => ImageError::unsupported(Format::Avif, what),
    }
}
