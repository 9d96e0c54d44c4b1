//! Pictures that most browsers can't decode: HEIC, by the decoder that the server has too.

use heic_decoder::{HeifError, decode, probe};
use wasm_bindgen::{Clamped, prelude::*};

use super::srgb::to_srgb;

/// More pixels than these are not decoded here: they would take more memory than a browser gives a page.
const MOST_PIXELS: usize = 64 << 20;

/// A picture's pixels.
#[wasm_bindgen]
pub struct Pixels {
    pub width: u32,
    pub height: u32,
    rgba: Vec<u8>,
}

#[wasm_bindgen]
impl Pixels {
    /// Red, green, blue and alpha of each pixel, row by row.
    pub fn rgba(self) -> Clamped<Vec<u8>> {
        Clamped(self.rgba)
    }
}

/// The pixels of a HEIC file, upright, in the colours of sRGB.
#[wasm_bindgen]
pub fn heic(bytes: &[u8]) -> Result<Pixels, JsError> {
    Ok(pixels(bytes)?)
}

fn pixels(bytes: &[u8]) -> Result<Pixels, HeifError> {
    let info = probe(bytes)?;
    if info.coded_width.saturating_mul(info.coded_height) > MOST_PIXELS {
        return Err(HeifError::LimitExceeded("more pixels than a page can hold"));
    }
    let picture = decode(bytes)?;
    let mut image = picture.to_rgba8()?;
    // A profile says more than numbers do, where there are both.
    let told = picture.metadata.color_info.or(picture.color_info);
    let profile = match &picture.metadata.icc_profile {
        Some(profile) => color::read(profile).ok(),
        None => told.and_then(|c| color::wide(c.color_primaries, c.transfer_characteristics)),
    };
    if let Some(profile) = profile {
        // One that can't be used is as none: so do browsers take it.
        let _ = to_srgb(&profile, &mut image.data);
    }
    Ok(Pixels {
        width: image.width as u32,
        height: image.height as u32,
        rgba: image.data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/pixels/heif/");
        std::fs::read(format!("{folder}{name}.heic")).unwrap()
    }

    #[test]
    fn a_picture_is_decoded_upright_and_turned_once() {
        let plain = pixels(&file("grid")).unwrap();
        let turned = pixels(&file("grid-irot")).unwrap();
        assert_eq!(plain.rgba.len(), (4 * plain.width * plain.height) as usize);
        assert_eq!((turned.width, turned.height), (plain.height, plain.width));
    }

    /// The same numbers with and without a profile that says that they are P3's.
    #[test]
    fn wide_colours_become_those_of_srgb() {
        for (wide, plain) in [("p3", "plain"), ("grid-p3", "grid")] {
            let wide = pixels(&file(wide)).unwrap();
            let mut plain = pixels(&file(plain)).unwrap();
            assert_ne!(wide.rgba, plain.rgba);
            to_srgb(&color::wide(12, 13).unwrap(), &mut plain.rgba).unwrap();
            let differ = wide
                .rgba
                .iter()
                .zip(&plain.rgba)
                .map(|(a, b)| f64::from(a.abs_diff(*b)));
            // The file's own curve is a simpler one.
            assert!(differ.sum::<f64>() / (wide.rgba.len() as f64) < 3.0);
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let whole = file("grid");
        assert!(pixels(b"").is_err());
        assert!(pixels(&whole[..whole.len() / 2]).is_err());
    }
}
