//! Any channels and depth to 8-bit RGB.

use ::image::ColorType;

use super::others::Decoded;
use super::scratch::Scratch;
use super::slack::at_least;
use super::{Format, ImageError};

/// Makes `scratch.decoded` RGB. Transparency goes on white; with `raw` it is dropped as Pillow drops it.
pub(super) fn to_rgb(
    scratch: &mut Scratch,
    picture: &Decoded,
    format: Format,
    file: &[u8],
    raw: bool,
) -> Result<(), ImageError> {
    if picture.color == ColorType::Rgb8 {
        return Ok(());
    }
    let pixels = picture.width as usize * picture.height as usize;
    // Gray that still has 16 bits, in this machine's order, is what Pillow clips.
    let clipped = |bytes: [u8; 2]| u16::from_ne_bytes(bytes).min(255) as u8;
    let behind = if raw { None } else { Some(255) };
    let outside = match format {
        // Pillow paints what the first frame leaves bare.
        Format::Gif if raw => gif_backdrop(file),
        _ => None,
    };
    let buffer = &mut scratch.decoded;
    match picture.color {
        ColorType::Rgba8 => match outside {
            Some(color) => in_place(buffer, pixels, |[r, g, b, a]| {
                if [r, g, b, a] == [0; 4] {
                    color
                } else {
                    [r, g, b]
                }
            }),
            None => in_place(buffer, pixels, |[r, g, b, a]| over([r, g, b], a, behind)),
        },
        ColorType::La16 => in_place(buffer, pixels, |[first, second, ..]: [u8; 4]| {
            [clipped([first, second]); 3]
        }),
        color @ (ColorType::L8 | ColorType::La8 | ColorType::L16) => {
            let from = &buffer[..pixels * usize::from(color.bytes_per_pixel())];
            let to = at_least(&mut scratch.between, pixels * 3);
            let to = to.as_chunks_mut::<3>().0;
            match color {
                ColorType::L8 => each(from, to, |[v]| [v; 3]),
                ColorType::La8 => each(from, to, |[v, a]| over([v; 3], a, behind)),
                _ => each(from, to, |bytes| [clipped(bytes); 3]),
            }
            std::mem::swap(&mut scratch.decoded, &mut scratch.between);
        }
        color => {
            return Err(ImageError::unsupported(format, format!("{color:?}")));
        }
    }
    Ok(())
}

fn each<const N: usize>(from: &[u8], to: &mut [[u8; 3]], pixel: impl Fn([u8; N]) -> [u8; 3]) {
    for (from, to) in from.as_chunks::<N>().0.iter().zip(to) {
        *to = pixel(*from);
    }
}

/// Of pixels that have at least three bytes: where they lie, so that it takes no memory. Piece by piece through a small
/// copy, which the compiler can make fast.
fn in_place<const N: usize>(buffer: &mut [u8], pixels: usize, pixel: impl Fn([u8; N]) -> [u8; 3]) {
    const PIECE: usize = 512;
    const { assert!(N >= 3) };
    let mut piece = [[0; N]; PIECE];
    for start in (0..pixels).step_by(PIECE) {
        let from = &mut piece[..PIECE.min(pixels - start)];
        let bytes = &buffer[start * N..][..from.len() * N];
        from.as_flattened_mut().copy_from_slice(bytes);
        let to = &mut buffer[start * 3..][..from.len() * 3];
        for (from, to) in from.iter().zip(to.as_chunks_mut::<3>().0) {
            *to = pixel(*from);
        }
    }
}

/// A pixel over a gray, rounded; with none behind, the colour as it stands.
pub(super) fn over(color: [u8; 3], alpha: u8, behind: Option<u8>) -> [u8; 3] {
    match behind {
        None => color,
        Some(behind) => color.map(|c| {
            let sum = u32::from(c) * u32::from(alpha) + u32::from(behind) * u32::from(255 - alpha);
            ((sum + 127) / 255) as u8
        }),
    }
}

/// Cyan, magenta, yellow and black, 255 all of it, by Pillow's arithmetic.
pub(super) fn inks_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = 255 - k;
    [c, m, y].map(|ink| {
        let product = u32::from(ink) * u32::from(white) + 128;
        white.saturating_sub((((product >> 8) + product) >> 8) as u8)
    })
}

/// The colour that Pillow puts where a GIF's first frame has no pixel: the transparent entry of its palette, else the
/// first.
fn gif_backdrop(file: &[u8]) -> Option<[u8; 3]> {
    let table = |at: usize, flags: u8| {
        let len = 3 << ((flags & 7) + 1);
        (flags & 0x80 != 0)
            .then(|| file.get(at..at + len))
            .flatten()
    };
    let flags = *file.get(10)?;
    let mut palette = table(13, flags);
    let mut at = 13 + palette.map_or(0, <[u8]>::len);
    let mut transparent = 0;
    loop {
        match *file.get(at)? {
            0x21 => {
                if let Some(&[0xf9, 4, flags, _, _, index]) = file.get(at + 1..at + 7)
                    && flags & 1 != 0
                {
                    transparent = usize::from(index);
                }
                at += 2;
                while let Some(&length @ 1..) = file.get(at) {
                    at += 1 + usize::from(length);
                }
                at += 1;
            }
            0x2c => {
                let flags = *file.get(at + 9)?;
                palette = table(at + 10, flags).or(palette);
                return palette?.as_chunks::<3>().0.get(transparent).copied();
            }
            _ => return None,
        }
    }
}

/// Undoes that the colours of RGBA were multiplied by alpha.
pub(super) fn divide_by_alpha(rgba: &mut [u8]) {
    for [r, g, b, alpha] in rgba.as_chunks_mut::<4>().0 {
        let whole = u32::from(*alpha).max(1);
        for color in [r, g, b] {
            *color = ((u32::from(*color) * 255 + whole / 2) / whole).min(255) as u8;
        }
    }
}
