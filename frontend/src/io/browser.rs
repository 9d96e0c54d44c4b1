//! What the browser tells of the page and the network.

use std::time::Duration;

use leptos::prelude::*;
use wasm_bindgen::{JsCast, prelude::*};
use web_sys::PageTransitionEvent;

use super::dom::Listener;
use crate::core::Browser;

/// Keeps watch as long as the page lives.
pub fn watch(tell: impl Fn(Browser) + Copy + 'static) {
    let window = window();
    Listener::new(&window, "online", move |_| tell(Browser::Awake)).forever();
    Listener::new(&window, "offline", move |_| tell(Browser::Offline)).forever();
    Listener::new(&document(), "visibilitychange", move |_| {
        if !document().hidden() {
            tell(Browser::Awake);
        }
    })
    .forever();
    // Back from the browser's cache of pages: what was closed on leaving is opened again.
    Listener::new(&window, "pageshow", move |event| {
        let event: PageTransitionEvent = event.unchecked_into();
        if event.persisted() {
            tell(Browser::Restored);
        }
    })
    .forever();
    Listener::new(&window, "pagehide", move |_| tell(Browser::Left)).forever();
}

#[wasm_bindgen]
extern "C" {
    /// Has a newer build of the page take over, which loads the page again; `frontend/index.html` has this.
    #[wasm_bindgen(js_name = updatePage)]
    pub fn update_page();

    /// Looks whether the server has a newer build; so has it this.
    #[wasm_bindgen(js_name = checkPage)]
    pub fn check_page();
}

/// Calls back when a newer build of the page is there, as long as the page lives.
pub fn updated(then: impl Fn() + 'static) {
    Listener::new(&window(), "updated", move |_| then()).forever();
}

/// Calls back when what was changed now stands on the screen: the frame's callback runs before the paint, the next message
/// of the loop after it.
pub fn drawn(then: impl FnOnce() + 'static) {
    request_animation_frame(move || set_timeout(then, Duration::ZERO));
}
