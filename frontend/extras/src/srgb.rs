//! Pixels in the colours that a screen of sRGB has for them: what the server does with a picture, too.

use moxcms::{CmsError, ColorProfile, DataColorSpace, Layout, TransformOptions};

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
    color::convert(&*transform, rgba, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_greenest_in_p3_is_out_of_srgb_and_gray_stays_gray() {
        let mut rgba = [[128, 128, 128, 7], [120, 200, 90, 255]].concat();
        to_srgb(&color::wide(12, 13).unwrap(), &mut rgba).unwrap();
        assert!(rgba[..3].iter().all(|value| value.abs_diff(128) <= 1));
        assert_eq!((rgba[3], rgba[7]), (7, 255));
        // Less red and less blue, for the same green on a screen whose own is less green.
        assert!(
            rgba[4] < 110 && rgba[5].abs_diff(201) <= 3 && rgba[6] < 85,
            "{rgba:?}"
        );
    }
}
