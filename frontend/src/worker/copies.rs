//! Copies of a picture: reduced for the page, smaller for the server. Every pixel stays in the worker.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, DedicatedWorkerGlobalScope, FileReaderSync, ImageBitmap, OffscreenCanvas,
    OffscreenCanvasRenderingContext2d,
};

use super::{bytes::piece, exif, heic, messages::Seen};

/// A region of at most so many pixels is cut out without loss, as a PNG.
const LOSSLESS: f64 = 2e6;
/// The longer side of the copy that shows where a region lies.
const MAP: f64 = 240.0;

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

/// The picture's pixels, upright.
async fn decoded(blob: &Blob) -> Result<ImageBitmap, JsValue> {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let bitmap = match JsFuture::from(scope.create_image_bitmap_with_blob(blob)?).await {
        Ok(bitmap) => bitmap,
        Err(_) => {
            let pixels = heic::decoded(blob).await?;
            JsFuture::from(scope.create_image_bitmap_with_image_data(&pixels)?).await?
        }
    };
    bitmap.dyn_into()
}

/// Width and height of a copy of the picture whose longer side is at most `limit`.
fn within(bitmap: &ImageBitmap, limit: f64) -> (u32, u32) {
    let (width, height) = (bitmap.width(), bitmap.height());
    let scale = (limit / f64::from(width.max(height).max(1))).min(1.0);
    let side = |n: u32| ((f64::from(n) * scale).round() as u32).max(1);
    (side(width), side(height))
}

/// An upright copy with a longer side of at most `limit`, and what was seen of the picture itself.
pub async fn reduced(blob: &Blob, limit: Option<u32>) -> Result<(Blob, Seen), JsValue> {
    let bitmap = decoded(blob).await?;
    let (width, height) = within(&bitmap, limit.map_or(f64::INFINITY, f64::from));
    let canvas = draw(&bitmap, width, height, None)?;
    let seen = Seen {
        width: bitmap.width(),
        height: bitmap.height(),
        transparent: blob.type_() != "image/jpeg" && canvas.is_transparent()?,
    };
    bitmap.close();
    let copy = canvas.encode("image/webp", 0.85).await?;
    Ok((copy, seen))
}

/// A region of the picture at full resolution (x, y, width and height in upright pixels), and a very small copy of the whole
/// as a `data:` address. A small region comes without loss, a large one as a JPEG over white.
pub async fn cropped(blob: &Blob, region: [f64; 4]) -> Result<(Blob, String), JsValue> {
    let bitmap = decoded(blob).await?;
    let [x, y, width, height] = region;
    let lossless = width * height <= LOSSLESS;
    let canvas = Canvas::new(width as u32, height as u32, (!lossless).then_some("white"))?;
    canvas
        .context
        .draw_image_with_image_bitmap_and_sw_and_sh_and_dx_and_dy_and_dw_and_dh(
            &bitmap, x, y, width, height, 0.0, 0.0, width, height,
        )?;
    let format = if lossless { "image/png" } else { "image/jpeg" };
    let part = canvas.encode(format, 0.95).await?;
    let (width, height) = within(&bitmap, MAP);
    let map = draw(&bitmap, width, height, None)?;
    bitmap.close();
    let map = map.encode("image/webp", 0.7).await?;
    Ok((part, FileReaderSync::new()?.read_as_data_url(&map)?))
}

/// All of the picture in a format that every server reads: without loss where it is small, else as a JPEG over white.
pub async fn readable(blob: &Blob) -> Result<Blob, JsValue> {
    let bitmap = decoded(blob).await?;
    let (width, height) = (bitmap.width(), bitmap.height());
    let lossless = f64::from(width) * f64::from(height) <= LOSSLESS;
    let canvas = draw(&bitmap, width, height, (!lossless).then_some("white"))?;
    bitmap.close();
    let format = if lossless { "image/png" } else { "image/jpeg" };
    canvas.encode(format, 0.95).await
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
    let Canvas { context, .. } = Canvas::new(16, 16, None)?;
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
    canvas: OffscreenCanvas,
    context: OffscreenCanvasRenderingContext2d,
}

/// Draws `bitmap` at this size, over `ground` where it is transparent.
fn draw(
    bitmap: &ImageBitmap,
    width: u32,
    height: u32,
    ground: Option<&str>,
) -> Result<Canvas, JsValue> {
    let canvas = Canvas::new(width, height, ground)?;
    let (w, h) = (f64::from(width), f64::from(height));
    let context = &canvas.context;
    context.set_image_smoothing_enabled(true);
    js_sys::Reflect::set(context, &"imageSmoothingQuality".into(), &"high".into())?;
    context.draw_image_with_image_bitmap_and_dw_and_dh(bitmap, 0.0, 0.0, w, h)?;
    Ok(canvas)
}

impl Canvas {
    /// One that is all `ground`, or else transparent.
    fn new(width: u32, height: u32, ground: Option<&str>) -> Result<Self, JsValue> {
        let canvas = OffscreenCanvas::new(width, height)?;
        let context: OffscreenCanvasRenderingContext2d =
            canvas.get_context("2d")?.ok_or(JsValue::NULL)?.dyn_into()?;
        if let Some(ground) = ground {
            context.set_fill_style_str(ground);
            context.fill_rect(0.0, 0.0, f64::from(width), f64::from(height));
        }
        Ok(Canvas { canvas, context })
    }

    /// Whether any of it can be seen through.
    fn is_transparent(&self) -> Result<bool, JsValue> {
        let (width, height) = (self.canvas.width(), self.canvas.height());
        let pixels = self
            .context
            .get_image_data(0.0, 0.0, f64::from(width), f64::from(height))?
            .data();
        Ok(pixels.chunks_exact(4).any(|pixel| pixel[3] < 250))
    }

    async fn encode(self, format: &str, quality: f64) -> Result<Blob, JsValue> {
        let options = web_sys::ImageEncodeOptions::new();
        options.set_type(format);
        options.set_quality(quality);
        JsFuture::from(self.canvas.convert_to_blob_with_options(&options)?)
            .await?
            .dyn_into()
    }
}
