//! Copies of a picture: reduced for the page, smaller for the server. Every pixel stays in the worker.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, DedicatedWorkerGlobalScope, ImageBitmap};

use super::{bytes::piece, exif};

/// The small copy that cameras put in front of a JPEG.
pub fn embedded(blob: &Blob) -> Result<Option<Blob>, JsValue> {
    let head = piece(blob, 0.0, (256.0 * 1024.0f64).min(blob.size()))?.to_vec();
    let Some(thumbnail) = exif::thumbnail(&head) else {
        return Ok(None);
    };
    let bytes = Uint8Array::from(&thumbnail[..]);
    let options = web_sys::BlobPropertyBag::new();
    options.set_type("image/jpeg");
    Blob::new_with_u8_array_sequence_and_options(&Array::of1(&bytes), &options).map(Some)
}

/// An upright copy with a longer side of at most `limit`, and the picture's own size. Every pixel stays in the worker.
pub async fn reduced(
    blob: &Blob,
    limit: Option<u32>,
) -> Result<(Blob, Option<(u32, u32)>), JsValue> {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let bitmap: ImageBitmap = JsFuture::from(scope.create_image_bitmap_with_blob(blob)?)
        .await?
        .dyn_into()?;
    let (width, height) = (bitmap.width(), bitmap.height());
    let longer = width.max(height).max(1);
    let scale = limit.map_or(1.0, |limit| (f64::from(limit) / f64::from(longer)).min(1.0));
    let side = |n: u32| ((f64::from(n) * scale).round() as u32).max(1);
    let copy = draw(&bitmap, side(width), side(height), None)?
        .encode("image/webp", 0.85)
        .await;
    bitmap.close();
    Ok((copy?, Some((width, height))))
}

/// The picture with its shorter side at `side`, as a JPEG over white, upright and in the canvas' colours. `None` where
/// nothing would be won, or where the browser scrambles what is read from a canvas.
pub async fn smaller(blob: &Blob, side: u32) -> Result<Option<Blob>, JsValue> {
    if !canvas_is_true()? {
        return Ok(None);
    }
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    // The pixels as they stand in the file: the server applies no colour profile either.
    let options = web_sys::ImageBitmapOptions::new();
    options.set_color_space_conversion(web_sys::ColorSpaceConversion::None);
    let bitmap: ImageBitmap = JsFuture::from(
        scope.create_image_bitmap_with_blob_and_image_bitmap_options(blob, &options)?,
    )
    .await?
    .dyn_into()?;
    let (width, height) = (bitmap.width(), bitmap.height());
    let shorter = width.min(height);
    if shorter <= side {
        return Ok(None);
    }
    let scale = f64::from(side) / f64::from(shorter);
    // Never below what the model's own transform needs.
    let fit = |n: u32| ((f64::from(n) * scale).ceil() as u32).max(side);
    let copy = draw(&bitmap, fit(width), fit(height), Some("white"))?;
    bitmap.close();
    let copy = copy.encode("image/jpeg", 0.95).await?;
    Ok((copy.size() < 0.8 * blob.size()).then_some(copy))
}

/// Whether a canvas gives back what was drawn: some browsers add noise against fingerprinting.
fn canvas_is_true() -> Result<bool, JsValue> {
    let canvas = web_sys::OffscreenCanvas::new(16, 16)?;
    let context: web_sys::OffscreenCanvasRenderingContext2d =
        canvas.get_context("2d")?.ok_or(JsValue::NULL)?.dyn_into()?;
    for x in 0..16 {
        context.set_fill_style_str(&format!("rgb({}, {}, {})", 16 * x, 255 - 16 * x, 128));
        context.fill_rect(f64::from(x), 0.0, 1.0, 16.0);
    }
    let pixels = context.get_image_data(0.0, 0.0, 16.0, 16.0)?.data();
    Ok(pixels.chunks_exact(4).enumerate().all(|(i, pixel)| {
        let x = (i % 16) as u8;
        pixel == [16 * x, 255 - 16 * x, 128, 255]
    }))
}

/// A canvas that belongs to no document.
struct Canvas {
    canvas: web_sys::OffscreenCanvas,
}

/// Draws `bitmap` at this size, over `ground` where it is transparent.
fn draw(
    bitmap: &ImageBitmap,
    width: u32,
    height: u32,
    ground: Option<&str>,
) -> Result<Canvas, JsValue> {
    let canvas = web_sys::OffscreenCanvas::new(width, height)?;
    let context: web_sys::OffscreenCanvasRenderingContext2d =
        canvas.get_context("2d")?.ok_or(JsValue::NULL)?.dyn_into()?;
    let (w, h) = (f64::from(width), f64::from(height));
    if let Some(ground) = ground {
        context.set_fill_style_str(ground);
        context.fill_rect(0.0, 0.0, w, h);
    }
    context.set_image_smoothing_enabled(true);
    js_sys::Reflect::set(&context, &"imageSmoothingQuality".into(), &"high".into())?;
    context.draw_image_with_image_bitmap_and_dw_and_dh(bitmap, 0.0, 0.0, w, h)?;
    Ok(Canvas { canvas })
}

impl Canvas {
    async fn encode(self, format: &str, quality: f64) -> Result<Blob, JsValue> {
        let options = web_sys::ImageEncodeOptions::new();
        options.set_type(format);
        options.set_quality(quality);
        JsFuture::from(self.canvas.convert_to_blob_with_options(&options)?)
            .await?
            .dyn_into()
    }
}
