//! Colours of a wide profile, as the numbers that a screen of sRGB has for them: what the server does with a picture, too.

use moxcms::{CmsError, ColorProfile, DataColorSpace, Layout, ParsingOptions, TransformOptions};

/// Larger profiles are not read.
const MAX_BYTES: usize = 4 << 20;
/// Numbers in the tables of a profile.
const MAX_TABLE: usize = 1_000_000;

/// The profile of primaries that are told by their number, where they are wider than sRGB's, with sRGB's own curve.
pub fn wide(primaries: u16, transfer: u16) -> Option<ColorProfile> {
    const P3: u16 = 12;
    const BT2020: u16 = 9;
    // sRGB's, those of television, which are shown as it, and one that isn't told.
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

/// The profile that a file carries.
pub fn read(bytes: &[u8]) -> Option<ColorProfile> {
    let limits = ParsingOptions {
        max_profile_size: MAX_BYTES + 1,
        max_allowed_clut_size: MAX_TABLE,
        ..ParsingOptions::default()
    };
    ColorProfile::new_from_slice_with_options(bytes, limits).ok()
}

/// Makes sRGB of RGBA pixels, in place; leaves them as they are where the profile is of other colours.
pub fn to_srgb(profile: &ColorProfile, rgba: &mut [u8]) -> Result<(), CmsError> {
    if profile.color_space != DataColorSpace::Rgb {
        return Ok(());
    }
    let transform = profile.create_transform_8bit(
        Layout::Rgba,
        &ColorProfile::new_srgb(),
        Layout::Rgba,
        TransformOptions::default(),
    )?;
    let mut row = Vec::new();
    for piece in rgba.chunks_mut(4 << 10) {
        row.clear();
        row.extend_from_slice(piece);
        transform.transform(&row, piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_greenest_in_p3_is_out_of_srgb_and_gray_stays_gray() {
        let mut rgba = [[128, 128, 128, 7], [120, 200, 90, 255]].concat();
        to_srgb(&wide(12, 13).unwrap(), &mut rgba).unwrap();
        assert!(rgba[..3].iter().all(|value| value.abs_diff(128) <= 1));
        assert_eq!((rgba[3], rgba[7]), (7, 255));
        // Less red and less blue, for the same green on a screen whose own is less green.
        assert!(
            rgba[4] < 110 && rgba[5].abs_diff(201) <= 3 && rgba[6] < 85,
            "{rgba:?}"
        );
    }

    #[test]
    fn srgb_has_no_other_profile_and_what_is_no_profile_is_none() {
        assert!(wide(1, 13).is_none() && wide(12, 16).is_none());
        assert!(read(b"no profile").is_none());
    }
}
