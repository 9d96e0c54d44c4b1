//! What page and worker say to each other. Every command carries what it needs.

use js_sys::{Array, ArrayBuffer};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, DedicatedWorkerGlobalScope};

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
    /// The picture with its shorter side at this many pixels; or as large as it is, in a format that every server reads.
    Scale(u64, Blob, Option<u32>),
    /// A region of the picture, upright: x, y, width and height in pixels.
    Crop(u64, Blob, [f64; 4]),
}

impl Command {
    /// From the page to the worker.
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
                let side = side.map_or(JsValue::NULL, JsValue::from);
                Array::of4(&"scale".into(), &blob, &(id as f64).into(), &side)
            }
            Command::Crop(id, blob, region) => {
                let array = Array::of3(&"crop".into(), &blob, &(id as f64).into());
                for number in region {
                    array.push(&number.into());
                }
                array
            }
        };
        array.into()
    }

    pub fn read(value: &JsValue) -> Option<Command> {
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
            "scale" => Command::Scale(number(2)? as u64, blob, number(3).map(|side| side as u32)),
            "crop" => {
                let region = [number(3)?, number(4)?, number(5)?, number(6)?];
                Command::Crop(number(2)? as u64, blob, region)
            }
            _ => return None,
        })
    }
}

/// What the browser's decoder tells of a picture.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Upright.
    pub width: u32,
    pub height: u32,
    /// Some of it is.
    pub transparent: bool,
}

/// What the worker answers.
pub enum Reply {
    Frame(u32, ArrayBuffer),
    /// The file cannot be read any more.
    Unreadable(u32),
    /// A reduced copy, and what the browser told of the picture itself.
    Preview(u64, Blob, Option<Seen>),
    /// The browser cannot decode it.
    Unseen(u64),
    /// The whole picture's SHA-256; nothing where it can't be read.
    Hashed(u64, Option<String>),
    /// A smaller picture, or nothing where the original should go.
    Scaled(u64, Option<Blob>),
    /// The region of a picture, and a very small copy of all of it as a `data:` address.
    Cropped(u64, Blob, String),
    NotCropped(u64),
}

impl Reply {
    /// From the worker to the page.
    pub fn post(self) {
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        let sent = match self {
            Reply::Frame(generation, bytes) => scope.post_message_with_transfer(
                &Array::of3(&"frame".into(), &generation.into(), &bytes),
                &Array::of1(&bytes),
            ),
            Reply::Unreadable(generation) => {
                scope.post_message(&Array::of2(&"unreadable".into(), &generation.into()))
            }
            Reply::Preview(id, blob, seen) => {
                let array = Array::of3(&"preview".into(), &(id as f64).into(), &blob);
                if let Some(seen) = seen {
                    array.push(&seen.width.into());
                    array.push(&seen.height.into());
                    array.push(&seen.transparent.into());
                }
                scope.post_message(&array)
            }
            Reply::Unseen(id) => {
                scope.post_message(&Array::of2(&"unseen".into(), &(id as f64).into()))
            }
            Reply::Hashed(id, hash) => scope.post_message(&Array::of3(
                &"hashed".into(),
                &(id as f64).into(),
                &hash.map_or(JsValue::NULL, JsValue::from),
            )),
            Reply::Cropped(id, blob, map) => scope.post_message(&Array::of4(
                &"cropped".into(),
                &(id as f64).into(),
                &blob,
                &map.into(),
            )),
            Reply::NotCropped(id) => {
                scope.post_message(&Array::of2(&"not cropped".into(), &(id as f64).into()))
            }
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
                number(3).zip(number(4)).map(|(width, height)| Seen {
                    width: width as u32,
                    height: height as u32,
                    transparent: array.get(5).is_truthy(),
                }),
            ),
            "unseen" => Reply::Unseen(number(1)? as u64),
            "hashed" => Reply::Hashed(number(1)? as u64, array.get(2).as_string()),
            "cropped" => Reply::Cropped(
                number(1)? as u64,
                array.get(2).dyn_into().ok()?,
                array.get(3).as_string()?,
            ),
            "not cropped" => Reply::NotCropped(number(1)? as u64),
            "scaled" => Reply::Scaled(number(1)? as u64, array.get(2).dyn_into().ok()),
            _ => return None,
        })
    }
}
