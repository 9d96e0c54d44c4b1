//! Pictures that most browsers can't decode: HEIC, by the decoder that the server has too.

use heic_decoder::{HeifError, decode, probe};
use wasm_bindgen::{Clamped, prelude::*};

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

/// The pixels of a HEIC file, upright.
#[wasm_bindgen]
pub fn heic(bytes: &[u8]) -> Result<Pixels, JsError> {
    Ok(pixels(bytes)?)
}

fn pixels(bytes: &[u8]) -> Result<Pixels, HeifError> {
    let info = probe(bytes)?;
    if info.coded_width.saturating_mul(info.coded_height) > MOST_PIXELS {
        return Err(HeifError::LimitExceeded("more pixels than a page can hold"));
    }
    let image = decode(bytes)?.to_rgba8()?;
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

    #[test]
    fn what_is_no_picture_is_refused() {
        let whole = file("grid");
        assert!(pixels(b"").is_err());
        assert!(pixels(&whole[..whole.len() / 2]).is_err());
    }
}
