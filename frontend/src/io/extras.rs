//! The module that the page loads when it is needed: `frontend/extras`, from its own WASM.

use js_sys::{Promise, Uint8Array};
use leptos::prelude::*;
use wasm_bindgen::{JsCast, prelude::*};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, Element};

#[wasm_bindgen]
extern "C" {
    /// Loads it; `frontend/index.html` has this, since only there is its name known.
    #[wasm_bindgen(catch, js_name = loadExtras)]
    fn load_extras() -> Result<Promise, JsValue>;

    /// Where it lies.
    #[wasm_bindgen(thread_local_v2, js_name = extrasAddress)]
    static ADDRESS: String;

    /// What it exports.
    #[derive(Clone)]
    type Module;

    #[wasm_bindgen(method)]
    fn drawing(this: &Module, place: &Element) -> Drawing;

    #[wasm_bindgen(method, catch)]
    fn archive(
        this: &Module,
        text: &str,
        name: &str,
        picture: &Uint8Array,
    ) -> Result<Uint8Array, JsValue>;

    #[wasm_bindgen(method)]
    fn rasterised(this: &Module, file: &Blob) -> Promise;

    type Drawing;

    #[wasm_bindgen(method)]
    fn draw(this: &Drawing, text: &str, whole: bool, copy: &str);

    #[wasm_bindgen(method)]
    fn free(this: &Drawing);
}

/// Where the module lies.
pub fn address() -> String {
    ADDRESS.with(String::clone)
}

/// An answer in its place on the page, drawn as Markdown.
pub struct AnswerDrawing(Drawing);

impl AnswerDrawing {
    /// Draws the text as far as it has come; `whole` when the answer has ended by itself. `copy` names the buttons that copy
    /// a piece of code.
    pub fn draw(&self, text: &str, whole: bool, copy: &str) {
        self.0.draw(text, whole, copy);
    }
}

impl Drop for AnswerDrawing {
    /// Gives back what the module has of it.
    fn drop(&mut self) {
        self.0.free();
    }
}

/// The module, once it is there.
#[derive(Clone, Copy)]
pub struct Extras {
    module: RwSignal<Option<Module>, LocalStorage>,
    loading: StoredValue<bool>,
}

impl Extras {
    pub fn new() -> Self {
        Extras {
            module: RwSignal::new_local(None),
            loading: StoredValue::new(false),
        }
    }

    /// Has it loaded, unless it is there or on its way. What could not be had is asked for again the next time.
    pub fn load(self) {
        if self.loading.get_value() {
            return;
        }
        self.loading.set_value(true);
        spawn_local(async move {
            let loaded = async { JsFuture::from(load_extras()?).await };
            match loaded.await {
                Ok(module) => self.module.set(Some(module.unchecked_into())),
                Err(error) => {
                    web_sys::console::warn_1(&error);
                    self.loading.set_value(false);
                }
            }
        });
    }

    /// A zip of a conversation's Markdown and its picture, which is called `name`.
    pub async fn archive(
        self,
        text: &str,
        name: &str,
        picture: &Uint8Array,
    ) -> Result<Uint8Array, JsValue> {
        let module: Module = JsFuture::from(load_extras()?).await?.unchecked_into();
        module.archive(text, name, picture)
    }

    /// A drawing's pixels, as a PNG.
    pub async fn rasterised(self, file: &Blob) -> Result<Blob, JsValue> {
        let module: Module = JsFuture::from(load_extras()?).await?.unchecked_into();
        JsFuture::from(module.rasterised(file)).await?.dyn_into()
    }

    /// Something that draws an answer into `place`, once the module is there; tracked.
    pub fn drawing(self, place: &Element) -> Option<AnswerDrawing> {
        self.module
            .with(|module| Some(AnswerDrawing(module.as_ref()?.drawing(place))))
    }
}
