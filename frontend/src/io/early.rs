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
    fn typing(this: &Early) -> bool;

    #[wasm_bindgen(method, getter)]
    fn when(this: &Early) -> f64;
}

/// What was held.
#[derive(Default)]
pub struct Held {
    pub files: Vec<File>,
    /// The moment at which they came.
    pub when: f64,
    pub text: String,
    /// The cursor was in the question.
    pub typing: bool,
}

/// Takes it, as long as the page's first face still stands.
pub fn take() -> Held {
    EARLY.with(|early| match early {
        Some(early) => {
            early.take();
            let files = early.files();
            let files = files.iter().filter_map(|file| file.dyn_into().ok());
            Held {
                files: files.collect(),
                when: early.when(),
                text: early.text(),
                typing: early.typing(),
            }
        }
        None => Held::default(),
    })
}
