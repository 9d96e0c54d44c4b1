//! A drawing as pixels. The browser draws it as an image, in which no script runs and for which nothing is loaded; the page's own
//! document never holds a part of it.

use js_sys::Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, HtmlImageElement, ImageEncodeOptions, OffscreenCanvas,
    OffscreenCanvasRenderingContext2d, Url,
};

/// Larger files are not drawn.
const MOST_BYTES: f64 = 16e6;
/// The longer side in pixels, at least and at most: what has no pixels of its own may as well have enough of them.
const SIDE: (f64, f64) = (2048.0, 4096.0);

/// An address of a blob, for as long as it lives.
struct Address(String);

impl Drop for Address {
    fn drop(&mut self) {
        let _ = Url::revoke_object_url(&self.0);
    }
}

/// Draws an SVG file; a PNG of what is seen of it.
#[wasm_bindgen]
pub async fn rasterised(file: Blob) -> Result<Blob, JsValue> {
    if file.size() > MOST_BYTES {
        return Err(JsError::new("more than is drawn").into());
    }
    // Whatever the file's own kind is, the browser takes it for nothing else.
    let options = BlobPropertyBag::new();
    options.set_type("image/svg+xml");
    let file = Blob::new_with_blob_sequence_and_options(&Array::of1(&file), &options)?;
    let address = Address(Url::create_object_url_with_blob(&file)?);
    let image = HtmlImageElement::new()?;
    image.set_src(&address.0);
    JsFuture::from(image.decode()).await?;
    let (width, height) = size(image.natural_width(), image.natural_height());
    let canvas = OffscreenCanvas::new(width, height)?;
    let context: OffscreenCanvasRenderingContext2d =
        canvas.get_context("2d")?.ok_or(JsValue::NULL)?.dyn_into()?;
    context.draw_image_with_html_image_element_and_dw_and_dh(
        &image,
        0.0,
        0.0,
        f64::from(width),
        f64::from(height),
    )?;
    let options = ImageEncodeOptions::new();
    options.set_type("image/png");
    JsFuture::from(canvas.convert_to_blob_with_options(&options)?)
        .await?
        .dyn_into()
}

/// In how many pixels it is drawn: a square, if it says nothing of that.
fn size(width: u32, height: u32) -> (u32, u32) {
    let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
    let longer = width.max(height);
    let scale = longer.clamp(SIDE.0, SIDE.1) / longer;
    let side = |n: f64| ((n * scale).round() as u32).max(1);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_drawing_has_enough_pixels_and_a_vast_one_not_too_many() {
        assert_eq!(size(0, 0), (2048, 2048));
        assert_eq!(size(100, 50), (2048, 1024));
        assert_eq!(size(3000, 1500), (3000, 1500));
        assert_eq!(size(1, 1_000_000), (1, 4096));
    }
}
