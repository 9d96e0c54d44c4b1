//! The page's address, which names the conversation that is open: `#/c/…`. So the browser's Back and Forward move between
//! conversations, and each has an address of its own.

use std::{cell::RefCell, rc::Rc};

use leptos::prelude::{queue_microtask, window};
use wasm_bindgen::JsValue;

use super::dom::Listener;

const PREFIX: &str = "#/c/";

/// What the address is to say.
#[derive(Default)]
pub struct Address {
    wanted: Rc<RefCell<Wanted>>,
}

#[derive(Default)]
struct Wanted {
    id: Option<String>,
    due: bool,
    /// What it names is shown: from then on each change is a step that Back goes back.
    said: bool,
}

impl Address {
    /// Names this conversation, or none; what changes twice at once is one step. It is named before anything else can happen:
    /// a reload goes by it.
    pub fn show(&self, id: Option<String>) {
        let mut wanted = self.wanted.borrow_mut();
        wanted.id = id;
        if std::mem::replace(&mut wanted.due, true) {
            return;
        }
        let wanted = self.wanted.clone();
        queue_microtask(move || wanted.borrow_mut().write());
    }

    /// Hears, as long as the page lives, what the address names after each Back, Forward or edit.
    pub fn watch(&self, moved: impl Fn(Option<String>) + 'static) {
        let wanted = self.wanted.clone();
        Listener::new(&window(), "popstate", move |_| {
            let to = named();
            // If it can't be shown, Back must not lead to it again.
            let mut known = wanted.borrow_mut();
            known.said = to == known.id;
            drop(known);
            moved(to);
        })
        .forever();
    }
}

impl Wanted {
    fn write(&mut self) {
        self.due = false;
        let named = named();
        if named == self.id {
            self.said |= self.id.is_some();
            return;
        }
        // From a page without a conversation to its first one is no step: Back would find nothing there.
        let step = std::mem::replace(&mut self.said, true) && named.is_some();
        let address = match &self.id {
            Some(id) => format!("{PREFIX}{id}"),
            None => window().location().pathname().unwrap_or_default(),
        };
        if let Ok(history) = window().history() {
            let _ = if step {
                history.push_state_with_url(&JsValue::NULL, "", Some(&address))
            } else {
                history.replace_state_with_url(&JsValue::NULL, "", Some(&address))
            };
        }
    }
}

/// The conversation that the address names.
pub fn named() -> Option<String> {
    let hash = window().location().hash().ok()?;
    let id = hash.strip_prefix(PREFIX)?;
    (!id.is_empty()).then(|| id.to_owned())
}
