//! WebP: the chunks that pixels need, however the others are; of an animation the first frame with anything on it.

use ::image::ColorType;
use ::image_webp::{DecodingError, WebPDecoder};

use super::animation::{self, most_frames};
use super::others::{Decoded, Input};
use super::scratch::Scratch;
use super::slack::at_least;
use super::{Format, ImageError, Stop};

mod codes;
#[cfg(test)]
mod tests;

/// VP8X's flags.
const ANIMATION: u8 = 0x02;
const ALPHA: u8 = 0x10;

/// Width and height, from the header, and the memory for the codes of what is lossless in it: for pictures of at most
/// `max_pixels`, since more are not decoded.
pub(super) fn probe(bytes: &[u8], max_pixels: u64) -> Result<((u32, u32), u64), ImageError> {
    let file = well_formed(bytes)?;
    let stop = Stop::default();
    let (width, height) = open(Input::new(&file, &stop)).map(|decoder| decoder.dimensions())?;
    let codes = match u64::from(width) * u64::from(height) <= max_pixels {
        true => codes_of_all(&file, (width, height)),
        false => 0,
    };
    Ok(((width, height), codes))
}

/// The memory for the codes of a picture or, since these are decoded one after the other, of the worst of its frames.
fn codes_of_all(file: &[u8], size: (u32, u32)) -> u64 {
    let of_chunk = |chunk: &Chunk<'_>, size| match (&chunk.kind, chunk.data) {
        // Behind a byte and the picture's size, which a decoder finds to be the same.
        (b"VP8L", [_, _, _, _, _, stream @ ..]) => codes::memory(stream, size),
        // Compressed, not as it is.
        (b"ALPH", [flags, stream @ ..]) if flags & 3 == 1 => codes::memory(stream, size),
        _ => 0,
    };
    let of_frame = |frame: &Chunk<'_>| {
        let side = |at: usize| {
            let bytes = frame.data.get(at..at + 3)?;
            Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1)
        };
        let (Some(width), Some(height)) = (side(6), side(9)) else {
            return 0;
        };
        // Larger ones are refused.
        let own = (width.min(size.0), height.min(size.1));
        let parts = chunks(frame.data, 16);
        parts.map(|chunk| of_chunk(&chunk, own)).max().unwrap_or(0)
    };
    let still = chunks(file, 12).map(|chunk| of_chunk(&chunk, size));
    let frames = chunks(file, 12)
        .filter(|chunk| chunk.kind == *b"ANMF")
        .take(most_frames(size) as usize)
        .map(|frame| of_frame(&frame));
    still.chain(frames).max().unwrap_or(0)
}

/// Decodes into `scratch.decoded`, as RGB or with alpha. With `raw` an animation's first frame is taken, whatever is on
/// it.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    raw: bool,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let file = well_formed(bytes)?;
    let mut decoder = open(Input::new(&file, stop))?;
    let (width, height) = decoder.dimensions();
    let color = match decoder.has_alpha() {
        true => ColorType::Rgba8,
        false => ColorType::Rgb8,
    };
    let len = width as usize * height as usize * usize::from(color.bytes_per_pixel());
    decoder.set_memory_limit(2 * len + (16 << 20));
    let pixels = at_least(&mut scratch.decoded, len);
    let most = match decoder.is_animated() && !raw && color == ColorType::Rgba8 {
        true => most_frames((width, height)),
        false => 0,
    };
    let shown = animation::first_shown(most, |_| {
        decoder.read_frame(pixels)?;
        Ok(Some(!animation::is_empty(pixels.as_chunks().0)))
    });
    let shown = shown.map_err(fault)?;
    if shown.is_none() {
        decoder.read_image(pixels).map_err(fault)?;
    }
    Ok(Decoded {
        frame: shown.unwrap_or(0),
        ..Decoded::whole(width, height, color)
    })
}

fn open(input: Input<'_>) -> Result<WebPDecoder<Input<'_>>, ImageError> {
    WebPDecoder::new(input).map_err(fault)
}

fn fault(error: DecodingError) -> ImageError {
    match error {
        DecodingError::MemoryLimitExceeded => {
            broken("it asks for more memory than its size explains")
        }
        DecodingError::UnsupportedFeature(_) | DecodingError::VersionNumberInvalid(_) => {
            ImageError::unsupported(Format::WebP, error)
        }
        error => ImageError::damaged(Format::WebP, error),
    }
}

/// The file with the chunks that pixels need and a header that promises no others.
fn well_formed(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut extended = None;
    let mut kept = Vec::new();
    for chunk in chunks(bytes, 12) {
        match &chunk.kind {
            b"VP8X" if extended.is_none() => extended = chunk.data.first_chunk::<10>().copied(),
            b"VP8 " | b"VP8L" | b"ALPH" | b"ANIM" | b"ANMF" => kept.push(chunk),
            _ => {}
        }
    }
    let first = |kind: &[u8; 4]| kept.iter().find(|chunk| chunk.kind == *kind);
    // Its parts, their padding, and a header that may be new.
    let mut file = Vec::with_capacity(bytes.len() + 64);
    file.extend(b"RIFF\0\0\0\0WEBP");
    let frame = first(b"ANMF");
    let (lossy, lossless) = (first(b"VP8 "), first(b"VP8L"));
    match (extended, frame, lossy, lossless) {
        (Some(mut header), Some(_), _, _) => {
            header[0] = ANIMATION | header[0] & ALPHA;
            write(&mut file, b"VP8X", &header);
            // The colour behind it, and how often it is shown.
            let whole = first(b"ANIM")
                .map(|chunk| chunk.data)
                .filter(|data| data.len() >= 6);
            write(&mut file, b"ANIM", whole.map_or(&[0; 6], |data| &data[..6]));
            for chunk in kept.iter().filter(|chunk| chunk.kind == *b"ANMF") {
                write(&mut file, b"ANMF", chunk.data);
            }
        }
        (_, None, _, Some(image)) => write(&mut file, b"VP8L", image.data),
        (Some(mut header), None, Some(image), _) => {
            let alpha = first(b"ALPH");
            header[0] = if alpha.is_some() { ALPHA } else { 0 };
            write(&mut file, b"VP8X", &header);
            if let Some(alpha) = alpha {
                write(&mut file, b"ALPH", alpha.data);
            }
            write(&mut file, b"VP8 ", image.data);
        }
        (None, _, Some(image), _) => write(&mut file, b"VP8 ", image.data),
        _ => return Err(broken("it has no pixels")),
    }
    let size = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    Ok(file)
}

fn chunks(bytes: &[u8], mut at: usize) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || Chunk::read(bytes, &mut at))
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The chunk at `at`, which moves on; of one that is cut off what there is.
    fn read(bytes: &'a [u8], at: &mut usize) -> Option<Self> {
        let &[k0, k1, k2, k3, l0, l1, l2, l3] = bytes.get(*at..)?.first_chunk()?;
        let start = *at + 8;
        let end = start.saturating_add(u32::from_le_bytes([l0, l1, l2, l3]) as usize);
        // Behind an odd number of bytes comes one that some writers leave out.
        let is_name = |at: usize| {
            bytes
                .get(at..at.saturating_add(4))
                .is_some_and(|name| name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b' '))
        };
        let padded = end.saturating_add(end.wrapping_sub(start) & 1);
        *at = if is_name(end) && !is_name(padded) {
            end
        } else {
            padded
        };
        Some(Chunk {
            kind: [k0, k1, k2, k3],
            data: &bytes[start..end.min(bytes.len())],
        })
    }
}

fn write(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(kind);
    // As long as it was read from a chunk, whose length has 32 bits.
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    if data.len() % 2 == 1 {
        file.push(0);
    }
}

fn broken(what: &str) -> ImageError {
    ImageError::broken(Format::WebP, what)
}
