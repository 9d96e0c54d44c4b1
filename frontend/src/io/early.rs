//! What was dropped, pasted or typed before the page ran: a script in `frontend/index.html` holds it.

use js_sys::Array;
use wasm_bindgen::prelude::*;
use web_sys::File;

#[wasm_bindgen]
extern "C" {
    type Early;

    #[wasm_bindgen(thread_local_v2, js_name = early)]
    static EARLY: Option<Early>;

    /// From now on nothing is held.
    #[wasm_bindgen(method)]
    fn take(this: &Early);

    #[wasm_bindgen(method, getter)]
    fn files(this: &Early) -> Array;

    #[wasm_bindgen(method, getter)]
    fn text(this: &Early) -> String;

    #[wasm_bindgen(method, getter)]
    fn when(this: &Early) -> f64;
}

/// The files with the moment at which they came, and what was typed.
pub fn take() -> (Vec<File>, f64, String) {
    EARLY.with(|early| match early {
        Some(early) => {
            early.take();
            let files = early.files();
            let files = files.iter().filter_map(|file| file.dyn_into().ok());
            (files.collect(), early.when(), early.text())
        }
        None => Default::default(),
    })
}
