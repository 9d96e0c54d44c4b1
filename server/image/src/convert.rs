//! Any channels and depth to 8-bit RGB.

use ::image::ColorType;

use super::others::Decoded;
use super::scratch::{Scratch, at_least};
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
    let from = &scratch.decoded[..pixels * usize::from(picture.color.bytes_per_pixel())];
    let to = at_least(&mut scratch.between, pixels * 3)
        .as_chunks_mut::<3>()
        .0;
    // Of 16 bits the upper 8 are taken, as Pillow does; but it clips gray ones.
    let gray16 = |v: u16| {
        if raw && picture.is_gray16 {
            v.min(255) as u8
        } else {
            (v >> 8) as u8
        }
    };
    let high = |v: u16| (v >> 8) as u8;
    let behind = if raw { None } else { Some(255) };
    let outside = match format {
        // Pillow paints what the first frame leaves bare.
        Format::Gif if raw => gif_backdrop(file),
        _ => None,
    };
    match picture.color {
        ColorType::L8 => each(from, to, |[v]| [v; 3]),
        ColorType::La8 => each(from, to, |[v, a]| over([v; 3], a, behind)),
        ColorType::Rgba8 => match outside {
            Some(color) => each(from, to, |[r, g, b, a]| {
                if [r, g, b, a] == [0; 4] {
                    color
                } else {
                    [r, g, b]
                }
            }),
            None => each(from, to, |[r, g, b, a]| over([r, g, b], a, behind)),
        },
        ColorType::L16 => each16(from, to, |[v]| [gray16(v); 3]),
        ColorType::La16 => each16(from, to, |[v, a]| over([gray16(v); 3], high(a), behind)),
        ColorType::Rgb16 => each16(from, to, |rgb: [u16; 3]| rgb.map(high)),
        ColorType::Rgba16 => each16(from, to, |[r, g, b, a]| {
            over([r, g, b].map(high), high(a), behind)
        }),
        color => {
            return Err(ImageError::unsupported(format, format!("{color:?}")));
        }
    }
    std::mem::swap(&mut scratch.decoded, &mut scratch.between);
    Ok(())
}

fn each<const N: usize>(from: &[u8], to: &mut [[u8; 3]], pixel: impl Fn([u8; N]) -> [u8; 3]) {
    for (from, to) in from.as_chunks::<N>().0.iter().zip(to) {
        *to = pixel(*from);
    }
}

/// 16-bit channels, in this machine's byte order as the decoders leave them.
fn each16<const N: usize>(from: &[u8], to: &mut [[u8; 3]], pixel: impl Fn([u16; N]) -> [u8; 3]) {
    for (from, to) in from.chunks_exact(2 * N).zip(to) {
        let from = from.as_chunks::<2>().0;
        *to = pixel(std::array::from_fn(|i| u16::from_ne_bytes(from[i])));
    }
}

/// A pixel over a gray, rounded; with none behind, the colour as it stands.
fn over(color: [u8; 3], alpha: u8, behind: Option<u8>) -> [u8; 3] {
    match behind {
        None => color,
        Some(behind) => color.map(|c| {
            let sum = u32::from(c) * u32::from(alpha) + u32::from(behind) * u32::from(255 - alpha);
            ((sum + 127) / 255) as u8
        }),
    }
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
