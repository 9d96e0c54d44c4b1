//! The other pages of this browser, which hear each other also where there is no https.

use std::cell::RefCell;

use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BroadcastChannel, MessageEvent};

use super::dom::Listener;
use crate::core::history::TabMessage;

const CHANNEL: &str = "glimpse";

const NAMES: [(TabMessage, &str); 4] = [
    (TabMessage::Opened, "opened"),
    (TabMessage::Here, "here"),
    (TabMessage::Kept, "kept"),
    (TabMessage::Left, "left"),
];

#[derive(Default)]
pub struct Tabs {
    channel: RefCell<Option<BroadcastChannel>>,
}

impl Tabs {
    /// Listens as long as the page lives; a browser without such a channel has no other pages to tell of.
    pub fn listen(&self, hear: impl Fn(TabMessage, String) + 'static) {
        let Ok(channel) = BroadcastChannel::new(CHANNEL) else {
            return;
        };
        Listener::new(&channel, "message", move |event| {
            let event: MessageEvent = event.unchecked_into();
            if let Some((told, id)) = read(&event.data()) {
                hear(told, id);
            }
        })
        .forever();
        self.channel.replace(Some(channel));
    }

    pub fn tell(&self, told: TabMessage, id: &str) {
        let name = NAMES.iter().find(|(one, _)| *one == told);
        if let (Some(channel), Some((_, name))) = (&*self.channel.borrow(), name) {
            let message = Array::of2(&JsValue::from(*name), &id.into());
            let _ = channel.post_message(&message);
        }
    }
}

fn read(message: &JsValue) -> Option<(TabMessage, String)> {
    let message = message.dyn_ref::<Array>()?;
    let name = message.get(0).as_string()?;
    let (told, _) = NAMES.iter().find(|(_, one)| *one == name)?;
    Some((*told, message.get(1).as_string()?))
}
