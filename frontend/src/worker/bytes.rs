//! A picture's bytes.

use js_sys::{ArrayBuffer, Uint8Array};
use sha2::{Digest, Sha256};
use wasm_bindgen::JsValue;
use web_sys::{Blob, FileReaderSync};
use wire::frame;

/// How much is hashed at a time.
const HASH_PIECE: f64 = 1024.0 * 1024.0;

/// Bytes `begin..end`.
pub fn piece(blob: &Blob, begin: f64, end: f64) -> Result<Uint8Array, JsValue> {
    let slice = blob.slice_with_f64_and_f64(begin, end)?;
    Ok(Uint8Array::new(
        &FileReaderSync::new()?.read_as_array_buffer(&slice)?.into(),
    ))
}

/// Bytes `begin..end` as a frame of the wire.
pub fn frame(upload: u32, blob: &Blob, begin: u64, end: u64) -> Result<ArrayBuffer, JsValue> {
    let bytes = piece(blob, begin as f64, end as f64)?;
    if u64::from(bytes.length()) != end - begin {
        return Err(JsValue::NULL);
    }
    let framed = Uint8Array::new_with_length(bytes.length() + frame::HEADER as u32);
    framed.set(&Uint8Array::from(&upload.to_be_bytes()[..]), 0);
    framed.set(&bytes, frame::HEADER as u32);
    Ok(framed.buffer())
}

/// The whole SHA-256.
pub fn hash(blob: &Blob) -> Result<String, JsValue> {
    let mut hasher = Sha256::new();
    let mut begin = 0.0;
    while begin < blob.size() {
        let end = (begin + HASH_PIECE).min(blob.size());
        hasher.update(piece(blob, begin, end)?.to_vec());
        begin = end;
    }
    Ok(wire::to_hex(&hasher.finalize()))
}
