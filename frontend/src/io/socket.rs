//! The WebSocket.

use std::cell::RefCell;

use js_sys::ArrayBuffer;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{CloseEvent, MessageEvent, RequestInit, Response, WebSocket};
use wire::{ClientMessage, ServerEnvelope};

use super::{
    browser,
    dom::{self, Listener},
};
use crate::core::Socket as Said;

/// Where the socket is, beside the page.
const PATH: &str = "ws";
/// The code that a socket is closed with whose session goes on: 1000 would end that.
const ANOTHER: u16 = 3000;
const OVER: u16 = 1000;

#[derive(Default)]
pub struct Socket {
    open: RefCell<Option<Open>>,
}

/// A socket, and what listens to it.
struct Open {
    socket: WebSocket,
    _listeners: [Listener; 3],
}

impl Socket {
    /// Opens a new one in the place of the one before; `tell` hears what becomes of it.
    pub fn open(&self, generation: u64, tell: impl Fn(Said) + Copy + 'static) {
        self.close(ANOTHER);
        // http becomes ws, and https wss.
        let url = dom::beside(PATH)
            .unwrap_or_default()
            .replacen("http", "ws", 1);
        let Ok(socket) = WebSocket::new_with_str(&url, wire::PROTOCOL) else {
            return tell(Said::Closed {
                generation,
                code: None,
            });
        };
        socket.set_binary_type(web_sys::BinaryType::Arraybuffer);
        let _listeners = [
            Listener::new(&socket, "open", move |_| {
                // A server that was away may have come back as another.
                browser::check_page();
                tell(Said::Opened { generation });
            }),
            Listener::new(&socket, "message", move |event| {
                let event: MessageEvent = event.unchecked_into();
                let Some(text) = event.data().as_string() else {
                    return;
                };
                let when = event.time_stamp();
                match ServerEnvelope::read(&text) {
                    Ok(envelope) => tell(Said::Said {
                        generation,
                        envelope: Box::new(envelope),
                        when,
                    }),
                    Err(_) => web_sys::console::warn_1(
                        &"glimpse: a message this page does not know".into(),
                    ),
                }
            }),
            Listener::new(&socket, "close", move |event| {
                let event: CloseEvent = event.unchecked_into();
                tell(Said::Closed {
                    generation,
                    code: Some(event.code()),
                });
            }),
        ];
        *self.open.borrow_mut() = Some(Open { socket, _listeners });
    }

    /// Ends the session at once, unless it goes on with another page.
    pub fn leave(&self, goes_on: bool) {
        self.close(if goes_on { ANOTHER } else { OVER });
    }

    fn close(&self, code: u16) {
        if let Some(open) = self.open.take() {
            let _ = open.socket.close_with_code(code);
        }
    }

    /// Bytes that the browser holds back.
    pub fn buffered(&self) -> u32 {
        let open = self.open.borrow();
        open.as_ref()
            .map_or(0, |open| open.socket.buffered_amount())
    }

    /// What can't be sent is sent again on the next connection: its loss is told.
    pub fn send(&self, message: &ClientMessage) {
        if let (Some(open), Ok(text)) = (&*self.open.borrow(), serde_json::to_string(message)) {
            let _ = open.socket.send_with_str(&text);
        }
    }

    pub fn send_frame(&self, frame: &ArrayBuffer) {
        if let Some(open) = &*self.open.borrow() {
            let _ = open.socket.send_with_array_buffer(frame);
        }
    }
}

/// What a plain request is answered with in the socket's place: its status, and with 403 its words. `None` if the server is
/// not there at all.
pub async fn ask_why() -> Option<(u16, Option<String>)> {
    let options = RequestInit::new();
    options.set_method("POST");
    let url = dom::beside(PATH)?;
    let answer = window().fetch_with_str_and_init(&url, &options);
    let answer: Response = JsFuture::from(answer).await.ok()?.dyn_into().ok()?;
    let status = answer.status();
    if status != 403 {
        return Some((status, None));
    }
    let words = JsFuture::from(answer.text().ok()?).await.ok()?;
    Some((status, words.as_string()))
}
