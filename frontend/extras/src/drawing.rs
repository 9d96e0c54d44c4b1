//! An answer on the page, drawn again as it grows.

use wasm_bindgen::prelude::*;
use web_sys::{Element, console};

use super::{markdown::Document, patch::patch};

/// An answer in its place on the page.
#[wasm_bindgen]
pub struct Drawing {
    place: Element,
    document: Document,
    /// How much of the text is drawn, in bytes; none as long as what stands there is somebody else's.
    drawn: Option<usize>,
}

/// What draws an answer into `place`. What stands there stays until the first drawing.
#[wasm_bindgen]
pub fn drawing(place: Element) -> Drawing {
    Drawing {
        place,
        document: Document::default(),
        drawn: None,
    }
}

#[wasm_bindgen]
impl Drawing {
    /// Draws the text as far as it has come; `whole` when the answer has ended by itself. Buttons that copy a piece of code
    /// are called `copy`.
    pub fn draw(&mut self, text: &str, whole: bool, copy: &str) {
        // Else it is the same answer, longer.
        if self.drawn.is_none_or(|drawn| text.len() < drawn) {
            self.document = Document::default();
            self.place.set_text_content(None);
        }
        self.drawn = Some(text.len());
        let change = self.document.update(text, whole);
        patch(&self.place, &change.old, &change.new, change.from as u32);
        change.keep();
        if let Err(error) = name_buttons(&self.place, copy) {
            console::error_1(&error);
        }
    }
}

/// Gives the buttons that have no name yet theirs.
fn name_buttons(place: &Element, name: &str) -> Result<(), JsValue> {
    let unnamed = place.query_selector_all("button:not([aria-label])")?;
    for i in 0..unnamed.length() {
        if let Some(button) = unnamed
            .item(i)
            .and_then(|node| node.dyn_into::<Element>().ok())
        {
            button.set_attribute("aria-label", name)?;
            button.set_attribute("title", name)?;
        }
    }
    Ok(())
}
