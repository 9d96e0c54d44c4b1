//! Drops and pastes anywhere on the page.

use std::{cell::Cell, rc::Rc};

use leptos::prelude::window;
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, DragEvent, FileList};

use super::dom::Listener;

fn with_files(event: &DragEvent) -> bool {
    event
        .data_transfer()
        .is_some_and(|data| data.types().includes(&"Files".into(), 0))
}

/// Keeps watch as long as the page lives: `over` hears whether files are held over the page, `take` what files came, and when;
/// it says whether there were any.
pub fn watch(
    over: impl Fn(bool) + Copy + 'static,
    take: impl Fn(Option<FileList>, f64) -> bool + Copy + 'static,
) {
    let window = window();
    // Elements are entered before those around them are left.
    let inside = Rc::new(Cell::new(0));
    let moved = {
        let inside = inside.clone();
        move |by: i32| {
            inside.set(inside.get() + by);
            over(inside.get() > 0);
        }
    };
    for (name, by) in [("dragenter", 1), ("dragleave", -1)] {
        let moved = moved.clone();
        Listener::new(&window, name, move |event| {
            if with_files(&event.unchecked_into()) {
                moved(by);
            }
        })
        .forever();
    }
    Listener::new(&window, "dragover", move |event| {
        let event: DragEvent = event.unchecked_into();
        if with_files(&event) {
            event.prevent_default();
        }
    })
    .forever();
    Listener::new(&window, "drop", move |event| {
        let event: DragEvent = event.unchecked_into();
        inside.set(0);
        over(false);
        if with_files(&event) {
            event.prevent_default();
            let files = event.data_transfer().and_then(|data| data.files());
            take(files, event.time_stamp());
        }
    })
    .forever();
    Listener::new(&window, "paste", move |event| {
        let event: ClipboardEvent = event.unchecked_into();
        let files = event.clipboard_data().and_then(|data| data.files());
        if take(files, event.time_stamp()) {
            event.prevent_default();
        }
    })
    .forever();
}
