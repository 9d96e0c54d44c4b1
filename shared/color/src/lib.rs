//! Colour profiles, which strangers' files bring along: read within bounds, made of the numbers that stand in their place, and
//! applied to pixels where they lie.

use moxcms::{CmsError, ColorProfile, ParsingOptions, TransformExecutor};

/// Larger profiles are not read.
pub const MAX_BYTES: usize = 4 << 20;
/// Numbers in the tables of a profile: four inks have some 250,000.
const MAX_TABLE: usize = 1_000_000;
/// Pixels that are converted at once.
const PIECE: usize = 1 << 10;

/// The profile that a file carries.
///
/// # Errors
/// It is none, or larger than any that is used.
pub fn read(bytes: &[u8]) -> Result<ColorProfile, CmsError> {
    let limits = ParsingOptions {
        max_profile_size: MAX_BYTES + 1,
        max_allowed_clut_size: MAX_TABLE,
        ..ParsingOptions::default()
    };
    ColorProfile::new_from_slice_with_options(bytes, limits)
}

/// The profile of primaries that are told by their number (ITU-T H.273), where they are wider than sRGB's, with sRGB's own curve.
/// Not where white is brighter than a screen's, nor for curves that pictures don't have.
pub fn wide(primaries: u16, transfer: u16) -> Option<ColorProfile> {
    const P3: u16 = 12;
    const BT2020: u16 = 9;
    // That of sRGB, those of television, which are shown as it, and one that isn't told.
    const CURVES: [u16; 6] = [1, 2, 6, 13, 14, 15];
    let mut profile = match primaries {
        P3 => ColorProfile::new_display_p3(),
        BT2020 => ColorProfile::new_bt2020(),
        _ => return None,
    };
    let curve = ColorProfile::new_srgb().red_trc;
    profile.red_trc.clone_from(&curve);
    profile.green_trc.clone_from(&curve);
    profile.blue_trc = curve;
    CURVES.contains(&transfer).then_some(profile)
}

/// Converts pixels of so many bytes each, in place.
///
/// # Errors
/// The transform is for pixels of another size.
pub fn convert(
    transform: &(impl TransformExecutor<u8> + ?Sized),
    pixels: &mut [u8],
    pixel_bytes: usize,
) -> Result<(), CmsError> {
    let mut before = Vec::new();
    for piece in pixels.chunks_mut(pixel_bytes * PIECE) {
        before.clear();
        before.extend_from_slice(piece);
        transform.transform(&before, piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srgb_has_no_other_profile_and_what_is_no_profile_is_none() {
        assert!(wide(1, 13).is_none() && wide(12, 16).is_none());
        assert!(read(b"no profile").is_err());
    }
}
