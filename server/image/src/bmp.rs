//! BMP: headers as OS/2 writes them are made into those that everybody reads.

use std::borrow::Cow;

use ::image::ColorType;

use super::others::Decoded;
use super::{Format, ImageError};

#[cfg(test)]
mod tests;

/// The file's own header, before the picture's.
const FILE: usize = 14;
/// Of the usual picture's header.
const USUAL: usize = 40;

/// The file with the usual header in place of one of OS/2's second version, which has 16 to 64 bytes.
pub(super) fn with_usual_header(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ImageError> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_le_bytes(*four) as usize)
    };
    let (Some(pixels), Some(length)) = (number(10), number(FILE)) else {
        return Err(ImageError::broken(Format::Bmp, "its header is missing"));
    };
    // 12 is OS/2's first version; 40, 52 and 56 are Windows', and 108 and 124 the later ones.
    if !(16..=64).contains(&length) || [40, 52, 56].contains(&length) {
        return Ok(Cow::Borrowed(bytes));
    }
    let Some(header) = bytes.get(FILE..FILE + length) else {
        return Err(ImageError::broken(Format::Bmp, "its header is too short"));
    };
    // 3 and 4 are other methods there than in Windows' headers.
    if header.get(16..20).is_some_and(|method| method[0] > 2) {
        return Err(ImageError::unsupported(
            Format::Bmp,
            "compressed as OS/2 alone does",
        ));
    }
    let mut file = Vec::with_capacity(bytes.len() + USUAL);
    file.extend(&bytes[..FILE]);
    let pixels = (pixels + USUAL).saturating_sub(length);
    file[10..14].copy_from_slice(&u32::try_from(pixels).unwrap_or(u32::MAX).to_le_bytes());
    let mut usual = [0; USUAL];
    let shared = length.min(USUAL);
    usual[..shared].copy_from_slice(&header[..shared]);
    usual[..4].copy_from_slice(&(USUAL as u32).to_le_bytes());
    file.extend(usual);
    file.extend(&bytes[FILE + length..]);
    Ok(Cow::Owned(file))
}

/// Makes RGBA pixels opaque that have no alpha at all: most writers leave the fourth byte 0.
pub(super) fn opaque_if_blank(pixels: &mut [u8], picture: &Decoded) {
    if picture.color != ColorType::Rgba8 {
        return;
    }
    let count = picture.width as usize * picture.height as usize;
    let pixels = pixels[..4 * count].as_chunks_mut::<4>().0;
    if pixels.iter().all(|pixel| pixel[3] == 0) {
        pixels.iter_mut().for_each(|pixel| pixel[3] = 255);
    }
}
