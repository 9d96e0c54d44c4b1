//! Small helpers around the browser.

use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Clipboard, Event, EventTarget, HtmlTextAreaElement};

/// The page's monotonic clock, in milliseconds; `Event::time_stamp` is on the same.
pub fn now() -> f64 {
    window().performance().map_or(0.0, |p| p.now())
}

/// Milliseconds since 1970.
pub fn wall() -> f64 {
    js_sys::Date::now()
}

/// A listener that goes when it is dropped.
pub struct Listener {
    target: EventTarget,
    name: &'static str,
    closure: Closure<dyn FnMut(Event)>,
}

impl Listener {
    pub fn new(target: &EventTarget, name: &'static str, f: impl FnMut(Event) + 'static) -> Self {
        let closure = Closure::<dyn FnMut(Event)>::new(f);
        let _ = target.add_event_listener_with_callback(name, closure.as_ref().unchecked_ref());
        Listener {
            target: target.clone(),
            name,
            closure,
        }
    }

    /// Listens as long as the page lives.
    pub fn forever(self) {
        std::mem::forget(self);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self
            .target
            .remove_event_listener_with_callback(self.name, self.closure.as_ref().unchecked_ref());
    }
}

/// Puts `text` on the clipboard and tells whether that worked; by the old way where the page is not a secure context,
/// or where the browser refuses the new one.
pub fn copy(text: String, told: impl FnOnce(bool) + 'static) {
    let clipboard = js_sys::Reflect::get(&window().navigator(), &"clipboard".into());
    let Some(clipboard) = clipboard.ok().and_then(|c| c.dyn_into::<Clipboard>().ok()) else {
        return told(copy_selected(&text));
    };
    let written = clipboard.write_text(&text);
    wasm_bindgen_futures::spawn_local(async move {
        let written = wasm_bindgen_futures::JsFuture::from(written).await.is_ok();
        told(written || copy_selected(&text));
    });
}

/// The old way to copy: what is selected.
fn copy_selected(text: &str) -> bool {
    let copied = || -> Option<bool> {
        let document = document();
        let area: HtmlTextAreaElement =
            document.create_element("textarea").ok()?.dyn_into().ok()?;
        area.set_value(text);
        area.set_class_name("offscreen");
        // Inside an open dialog only what is in it can be selected.
        let home = document
            .query_selector("dialog[open]")
            .ok()
            .flatten()
            .or_else(|| document.body().map(Into::into))?;
        home.append_child(&area).ok()?;
        let focused = document.active_element();
        area.select();
        let done = document
            .unchecked_into::<web_sys::HtmlDocument>()
            .exec_command("copy")
            .ok();
        area.remove();
        if let Some(element) = focused.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
            let _ = element.focus();
        }
        done
    };
    copied().unwrap_or(false)
}

#[wasm_bindgen]
extern "C" {
    /// Where the generated script of this very module lies.
    #[wasm_bindgen(thread_local_v2, js_namespace = ["import", "meta"], js_name = url)]
    pub static MODULE_URL: String;
}

/// What lies at `path` beside the page, wherever a proxy has put that.
pub fn beside(path: &str) -> Option<String> {
    let base = document().base_uri().ok()??;
    web_sys::Url::new_with_base(path, &base)
        .ok()
        .map(|url| url.href())
}

/// A small thing kept in this browser; nothing where storage is refused.
pub fn local(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// Keeps a small thing in this browser, where it may.
pub fn keep_local(key: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = storage.set_item(key, value);
    }
}

/// A small thing kept in this tab, over a reload.
pub fn tab(key: &str) -> Option<String> {
    window().session_storage().ok()??.get_item(key).ok()?
}

/// Keeps a small thing in this tab, or lets it go.
pub fn keep_tab(key: &str, value: Option<&str>) {
    if let Ok(Some(storage)) = window().session_storage() {
        let _ = match value {
            Some(value) => storage.set_item(key, value),
            None => storage.remove_item(key),
        };
    }
}

/// `bytes` for people: `2.4 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Milliseconds for people: `84 ms`, `2.4 s`.
pub fn duration(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_well() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(20_400_000), "20.4 MB");
        assert_eq!(duration(4.21), "4.2 ms");
        assert_eq!(duration(84.4), "84 ms");
        assert_eq!(duration(999.7), "1.0 s");
    }
}
