//! The worker's side: reads pieces of a picture, makes its preview, hashes it. It keeps no state: every command carries
//! what it needs.

use js_sys::{Array, ArrayBuffer, Uint8Array};
use sha2::{Digest, Sha256};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, DedicatedWorkerGlobalScope, FileReaderSync, ImageBitmap, MessageEvent};
use wire::frame;

use crate::{dom::Listener, exif};

/// The longer side of a preview, in pixels.
const PREVIEW: u32 = 1280;
/// How much is hashed at a time.
const HASH_PIECE: f64 = 1024.0 * 1024.0;

/// What the page asks of the worker.
pub enum Command {
    /// Bytes `begin..end` as a frame of the wire.
    Read {
        generation: u32,
        upload: u32,
        blob: Blob,
        begin: u64,
        end: u64,
    },
    /// A reduced copy of the picture, by its id on the page.
    Preview(u64, Blob),
    /// The whole picture's SHA-256.
    Hash(u64, Blob),
    /// The picture with its shorter side at this many pixels.
    Scale(u64, Blob, u32),
}

impl Command {
    pub fn write(self) -> JsValue {
        let array = match self {
            Command::Read {
                generation,
                upload,
                blob,
                begin,
                end,
            } => {
                let array = Array::of3(&"read".into(), &blob, &generation.into());
                for number in [f64::from(upload), begin as f64, end as f64] {
                    array.push(&number.into());
                }
                array
            }
            Command::Preview(id, blob) => Array::of3(&"preview".into(), &blob, &(id as f64).into()),
            Command::Hash(id, blob) => Array::of3(&"hash".into(), &blob, &(id as f64).into()),
            Command::Scale(id, blob, side) => {
                Array::of4(&"scale".into(), &blob, &(id as f64).into(), &side.into())
            }
        };
        array.into()
    }

    fn read(value: &JsValue) -> Option<Command> {
        let array = value.dyn_ref::<Array>()?;
        let number = |i| array.get(i).as_f64();
        let blob: Blob = array.get(1).dyn_into().ok()?;
        Some(match array.get(0).as_string()?.as_str() {
            "read" => Command::Read {
                generation: number(2)? as u32,
                upload: number(3)? as u32,
                blob,
                begin: number(4)? as u64,
                end: number(5)? as u64,
            },
            "preview" => Command::Preview(number(2)? as u64, blob),
            "hash" => Command::Hash(number(2)? as u64, blob),
            "scale" => Command::Scale(number(2)? as u64, blob, number(3)? as u32),
            _ => return None,
        })
    }
}

/// What the worker answers.
pub enum Reply {
    Frame(u32, ArrayBuffer),
    /// The file cannot be read any more.
    Unreadable(u32),
    /// A reduced copy and the picture's own width and height, where the browser told.
    Preview(u64, Blob, Option<(u32, u32)>),
    /// The browser cannot decode it.
    Unseen(u64),
    Hashed(u64, String),
    /// A smaller picture, or nothing where the original should go.
    Scaled(u64, Option<Blob>),
}

impl Reply {
    fn post(self) {
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        let sent = match self {
            Reply::Frame(generation, bytes) => scope.post_message_with_transfer(
                &Array::of3(&"frame".into(), &generation.into(), &bytes),
                &Array::of1(&bytes),
            ),
            Reply::Unreadable(generation) => {
                scope.post_message(&Array::of2(&"unreadable".into(), &generation.into()))
            }
            Reply::Preview(id, blob, size) => {
                let array = Array::of3(&"preview".into(), &(id as f64).into(), &blob);
                if let Some((width, height)) = size {
                    array.push(&width.into());
                    array.push(&height.into());
                }
                scope.post_message(&array)
            }
            Reply::Unseen(id) => {
                scope.post_message(&Array::of2(&"unseen".into(), &(id as f64).into()))
            }
            Reply::Hashed(id, hash) => scope.post_message(&Array::of3(
                &"hashed".into(),
                &(id as f64).into(),
                &hash.into(),
            )),
            Reply::Scaled(id, blob) => scope.post_message(&Array::of3(
                &"scaled".into(),
                &(id as f64).into(),
                &blob.map_or(JsValue::NULL, JsValue::from),
            )),
        };
        if let Err(error) = sent {
            web_sys::console::error_1(&error);
        }
    }

    pub fn read(value: &JsValue) -> Option<Reply> {
        let array = value.dyn_ref::<Array>()?;
        let number = |i| array.get(i).as_f64();
        Some(match array.get(0).as_string()?.as_str() {
            "frame" => Reply::Frame(number(1)? as u32, array.get(2).dyn_into().ok()?),
            "unreadable" => Reply::Unreadable(number(1)? as u32),
            "preview" => Reply::Preview(
                number(1)? as u64,
                array.get(2).dyn_into().ok()?,
                number(3).zip(number(4)).map(|(w, h)| (w as u32, h as u32)),
            ),
            "unseen" => Reply::Unseen(number(1)? as u64),
            "hashed" => Reply::Hashed(number(1)? as u64, array.get(2).as_string()?),
            "scaled" => Reply::Scaled(number(1)? as u64, array.get(2).dyn_into().ok()),
            _ => return None,
        })
    }
}

/// Listens for commands.
pub fn run() {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    Listener::new(&scope, "message", |event| {
        let event: MessageEvent = event.unchecked_into();
        let Some(command) = Command::read(&event.data()) else {
            return;
        };
        match command {
            Command::Read {
                generation,
                upload,
                blob,
                begin,
                end,
            } => match read(upload, &blob, begin, end) {
                Ok(bytes) => Reply::Frame(generation, bytes).post(),
                Err(_) => Reply::Unreadable(generation).post(),
            },
            Command::Preview(id, blob) => spawn_local(async move {
                if let Ok(Some(thumbnail)) = embedded(&blob)
                    && let Ok((copy, _)) = reduced(&thumbnail, None).await
                {
                    Reply::Preview(id, copy, None).post();
                }
                match reduced(&blob, Some(PREVIEW)).await {
                    Ok((copy, size)) => Reply::Preview(id, copy, size).post(),
                    Err(_) => Reply::Unseen(id).post(),
                }
            }),
            Command::Scale(id, blob, side) => spawn_local(async move {
                let scaled = smaller(&blob, side).await.unwrap_or(None);
                Reply::Scaled(id, scaled).post();
            }),
            Command::Hash(id, blob) => {
                if let Ok(hash) = hash(&blob) {
                    Reply::Hashed(id, hash).post();
                }
            }
        }
    })
    .forever();
}

fn piece(blob: &Blob, begin: f64, end: f64) -> Result<Uint8Array, JsValue> {
    let slice = blob.slice_with_f64_and_f64(begin, end)?;
    Ok(Uint8Array::new(
        &FileReaderSync::new()?.read_as_array_buffer(&slice)?.into(),
    ))
}

fn read(upload: u32, blob: &Blob, begin: u64, end: u64) -> Result<ArrayBuffer, JsValue> {
    let bytes = piece(blob, begin as f64, end as f64)?;
    if u64::from(bytes.length()) != end - begin {
        return Err(JsValue::NULL);
    }
    let framed = Uint8Array::new_with_length(bytes.length() + frame::HEADER as u32);
    framed.set(&Uint8Array::from(&upload.to_be_bytes()[..]), 0);
    framed.set(&bytes, frame::HEADER as u32);
    Ok(framed.buffer())
}

fn hash(blob: &Blob) -> Result<String, JsValue> {
    let mut hasher = Sha256::new();
    let mut begin = 0.0;
    while begin < blob.size() {
        let end = (begin + HASH_PIECE).min(blob.size());
        hasher.update(piece(blob, begin, end)?.to_vec());
        begin = end;
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The small copy that cameras put in front of a JPEG.
fn embedded(blob: &Blob) -> Result<Option<Blob>, JsValue> {
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
async fn reduced(blob: &Blob, limit: Option<u32>) -> Result<(Blob, Option<(u32, u32)>), JsValue> {
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
async fn smaller(blob: &Blob, side: u32) -> Result<Option<Blob>, JsValue> {
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
