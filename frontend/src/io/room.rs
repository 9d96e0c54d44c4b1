//! How much this browser lets the page keep, and for how long. Both can be asked with https only.

use js_sys::{Function, Promise, Reflect};
use leptos::prelude::window;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// What `navigator.storage` answers to this, where there is one.
async fn ask(what: &str) -> Option<JsValue> {
    let get = |of: &JsValue, name: &str| Reflect::get(of, &name.into()).ok();
    let storage = get(&window().navigator(), "storage").filter(JsValue::is_object)?;
    let ask: Function = get(&storage, what)?.dyn_into().ok()?;
    let answer: Promise = ask.call0(&storage).ok()?.dyn_into().ok()?;
    JsFuture::from(answer).await.ok()
}

/// Asks for what is kept to stay when the browser runs short of room.
pub async fn persist() {
    ask("persist").await;
}

/// How many bytes are used, and how many there may be.
pub async fn used() -> Option<(f64, f64)> {
    let estimate = ask("estimate").await?;
    let number = |name: &str| Reflect::get(&estimate, &name.into()).ok()?.as_f64();
    number("usage").zip(number("quota"))
}

/// Whether the browser can be asked for either.
pub fn can_ask() -> bool {
    window().is_secure_context()
}
