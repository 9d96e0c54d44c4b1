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

/// Asks for what is kept to stay when the browser runs short of room; whether it will.
pub async fn persist() -> bool {
    ask("persist").await.is_some_and(|stays| stays.is_truthy())
}

/// Whether what is kept stays when the browser runs short of room, where it tells.
pub async fn persistent() -> Option<bool> {
    Some(ask("persisted").await?.is_truthy())
}

/// Whether the browser would have the person decide about that, in a prompt of its own: Firefox does, and others decide alone.
pub fn prompts() -> bool {
    let name = window().navigator().user_agent();
    name.is_ok_and(|name| name.contains("Firefox/"))
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
