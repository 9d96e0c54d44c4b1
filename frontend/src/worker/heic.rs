//! HEIC where the browser has no decoder for it: the module that is loaded when it is needed has one.

use js_sys::{Promise, Uint8Array, Uint8ClampedArray};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, ImageData};

use super::bytes::piece;

/// What a HEIC file may name itself.
const BRANDS: [&[u8]; 6] = [b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"];

#[wasm_bindgen]
extern "C" {
    /// Loads the module; `public/worker.js` has this.
    #[wasm_bindgen(catch, js_name = loadExtras)]
    fn load_extras() -> Result<Promise, JsValue>;

    type Module;

    #[wasm_bindgen(method, catch)]
    fn heic(this: &Module, bytes: &Uint8Array) -> Result<Pixels, JsValue>;

    type Pixels;

    #[wasm_bindgen(method, getter)]
    fn width(this: &Pixels) -> u32;

    #[wasm_bindgen(method, getter)]
    fn height(this: &Pixels) -> u32;

    /// Gives the pixels away, and everything else back.
    #[wasm_bindgen(method)]
    fn rgba(this: &Pixels) -> Uint8ClampedArray;
}

/// The picture's pixels, upright; an error for whatever is no HEIC.
pub async fn decoded(blob: &Blob) -> Result<ImageData, JsValue> {
    let head = piece(blob, 0.0, blob.size().min(12.0))?.to_vec();
    if !is_heic(&head) {
        return Err(JsValue::NULL);
    }
    let module: Module = JsFuture::from(load_extras()?).await?.unchecked_into();
    let pixels = module.heic(&piece(blob, 0.0, blob.size())?)?;
    let (width, height) = (pixels.width(), pixels.height());
    ImageData::new_with_js_u8_clamped_array_and_sh(&pixels.rgba(), width, height)
}

fn is_heic(head: &[u8]) -> bool {
    let brand = head.get(8..12);
    head.get(4..8) == Some(b"ftyp") && brand.is_some_and(|brand| BRANDS.contains(&brand))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heic_file_is_known_by_its_first_bytes() {
        assert!(is_heic(b"\0\0\0\x18ftypheic"));
        assert!(!is_heic(b"\0\0\0\x18ftypavif") && !is_heic(b"\x89PNG\r\n\x1a\n\0\0\0\r"));
        assert!(!is_heic(b"\0\0\0\x18ftyp"));
    }
}
