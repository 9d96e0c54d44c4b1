//! GIF, as browsers show it: the canvas grows to the first frame, and what is shown is the first frame with anything on it.

use std::num::NonZeroU64;

use ::gif::{ColorOutput, DecodeOptions, DisposalMethod, Frame, MemoryLimit};
use ::image::ColorType;

use super::animation::{self, Canvas, most_frames};
use super::others::{Decoded, Input};
use super::scratch::Scratch;
use super::{Format, ImageError, Stop};

#[cfg(test)]
mod tests;

type Decoder<'a> = ::gif::Decoder<Input<'a>>;

/// Width and height of the canvas: the screen's, or more if the first frame reaches beyond it.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let stop = Stop::default();
    let mut decoder = open(bytes, (0, 0), &stop)?;
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(fault)?;
    let frame = frame.ok_or_else(|| ImageError::broken(Format::Gif, "it has no pixels"))?;
    Ok(grown(screen, frame))
}

/// Decodes into `scratch.decoded`, with alpha. With `raw` the first frame is taken, whatever is on it.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    raw: bool,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let (width, height) = dimensions(bytes)?;
    let mut decoded = Decoded::whole(width, height, ColorType::Rgba8);
    let size = (width, height);
    let most = if raw { 1 } else { most_frames(size) };
    if let Some(frame) = compose(scratch, bytes, stop, size, most)? {
        decoded.frame = frame;
    } else if most > 1 {
        // Nothing on any of them.
        compose(scratch, bytes, stop, size, 1)?;
    }
    Ok(decoded)
}

/// The first of at most `most` frames with anything on it, on what those before it left; none if there is none.
fn compose(
    scratch: &mut Scratch,
    bytes: &[u8],
    stop: &Stop,
    size: (u32, u32),
    most: u32,
) -> Result<Option<u32>, ImageError> {
    let mut decoder = open(bytes, size, stop)?;
    let mut canvas = Canvas::new(&mut scratch.decoded, size);
    animation::first_shown(most, |index| {
        let Some(frame) = decoder.read_next_frame()? else {
            return Ok(None);
        };
        let place = [frame.left, frame.top, frame.width, frame.height].map(u32::from);
        canvas.draw(place, frame.buffer.as_chunks().0, index == 0);
        if !canvas.is_empty() {
            return Ok(Some(true));
        }
        match frame.dispose {
            DisposalMethod::Background => canvas.clear(place),
            DisposalMethod::Previous => canvas.take_back(place),
            DisposalMethod::Any | DisposalMethod::Keep => canvas.keep(),
        }
        Ok(Some(false))
    })
    .map_err(fault)
}

/// A decoder of frames that are no larger than the canvas, if one is given.
fn open<'a>(
    bytes: &'a [u8],
    (width, height): (u32, u32),
    stop: &'a Stop,
) -> Result<Decoder<'a>, ImageError> {
    let mut decoder = DecodeOptions::new();
    decoder.set_color_output(ColorOutput::RGBA);
    // What isn't a frame is kept too, and is no longer than the file.
    let most = 4 * u64::from(width) * u64::from(height) + bytes.len() as u64;
    if let Some(most) = NonZeroU64::new(most) {
        decoder.set_memory_limit(MemoryLimit::Bytes(most));
    }
    decoder.read_info(Input::new(bytes, stop)).map_err(fault)
}

fn grown((width, height): (u16, u16), frame: &Frame<'_>) -> (u32, u32) {
    let end = |at: u16, side: u16| u32::from(at) + u32::from(side);
    (
        u32::from(width).max(end(frame.left, frame.width)),
        u32::from(height).max(end(frame.top, frame.height)),
    )
}

fn fault(error: ::gif::DecodingError) -> ImageError {
    ImageError::damaged(Format::Gif, error)
}
