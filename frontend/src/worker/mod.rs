//! The worker's side: reads pieces of a picture, makes its copies, hashes it. It keeps no state.

mod bytes;
mod copies;
mod exif;
mod heic;
pub mod messages;

use js_sys::global;
use wasm_bindgen::{JsCast, closure::Closure};
use wasm_bindgen_futures::spawn_local;
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use messages::{Command, Reply};

/// The longer side of a preview, in pixels.
const PREVIEW: u32 = 1280;

/// Listens for commands.
pub fn run() {
    let scope: DedicatedWorkerGlobalScope = global().unchecked_into();
    let heard = Closure::<dyn Fn(MessageEvent)>::new(|event: MessageEvent| {
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
            } => match bytes::frame(upload, &blob, begin, end) {
                Ok(bytes) => Reply::Frame(generation, bytes).post(),
                Err(_) => Reply::Unreadable(generation).post(),
            },
            Command::Preview(id, blob) => spawn_local(async move {
                if let Ok(Some(thumbnail)) = copies::embedded(&blob)
                    && let Ok((copy, _)) = copies::reduced(&thumbnail, None).await
                {
                    Reply::Preview(id, copy, None).post();
                }
                match copies::reduced(&blob, Some(PREVIEW)).await {
                    Ok((copy, seen)) => Reply::Preview(id, copy, Some(seen)).post(),
                    Err(_) => Reply::Unseen(id).post(),
                }
            }),
            Command::Scale(id, blob, side) => spawn_local(async move {
                let scaled = match side {
                    Some(side) => copies::smaller(&blob, side).await.unwrap_or(None),
                    None => copies::readable(&blob).await.ok(),
                };
                Reply::Scaled(id, scaled).post();
            }),
            Command::Crop(id, blob, region) => spawn_local(async move {
                match copies::cropped(&blob, region).await {
                    Ok((part, map)) => Reply::Cropped(id, part, map).post(),
                    Err(_) => Reply::NotCropped(id).post(),
                }
            }),
            Command::Hash(id, blob) => Reply::Hashed(id, bytes::hash(&blob).ok()).post(),
        }
    });
    scope.set_onmessage(Some(heard.as_ref().unchecked_ref()));
    // It listens as long as the worker lives.
    heard.forget();
}
