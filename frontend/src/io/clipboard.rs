//! The clipboard.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Clipboard, HtmlTextAreaElement};

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
