//! The worker, from the page's side.

use std::{cell::RefCell, collections::VecDeque};

use js_sys::{Array, ArrayBuffer};
use wasm_bindgen::JsCast;
use web_sys::{MessageEvent, WorkerOptions, WorkerType};

use super::dom::{self, Listener};
use crate::worker::messages::{Command, Reply};

#[derive(Default)]
pub struct Worker {
    worker: RefCell<Option<web_sys::Worker>>,
    /// What was read and not sent, by the generation of the upload.
    frames: RefCell<VecDeque<(u32, ArrayBuffer)>>,
}

impl Worker {
    /// Starts it, so that it is there before the first picture; `false` where the browser can't.
    pub fn start(&self, tell: impl Fn(Reply) + 'static) -> bool {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let Ok(worker) = web_sys::Worker::new_with_options("worker.js", &options) else {
            return false;
        };
        Listener::new(&worker, "message", move |event| {
            let event: MessageEvent = event.unchecked_into();
            if let Some(reply) = Reply::read(&event.data()) {
                tell(reply);
            }
        })
        .forever();
        let module = wasm_bindgen::module();
        let url = dom::MODULE_URL.with(|url| url.clone());
        let extras = super::extras::address();
        let _ = worker.post_message(&Array::of3(&url.into(), &module, &extras.into()));
        self.worker.replace(Some(worker));
        true
    }

    pub fn post(&self, command: Command) {
        if let Some(worker) = &*self.worker.borrow() {
            let _ = worker.post_message(&command.write());
        }
    }

    /// Keeps what was read, to be sent later.
    pub fn keep(&self, generation: u32, frame: ArrayBuffer) {
        self.frames.borrow_mut().push_back((generation, frame));
    }

    /// The first piece of this generation; those of an older one go.
    pub fn next(&self, generation: u32) -> Option<ArrayBuffer> {
        let mut frames = self.frames.borrow_mut();
        while let Some((of, frame)) = frames.pop_front() {
            if of == generation {
                return Some(frame);
            }
        }
        None
    }

    pub fn discard(&self) {
        self.frames.borrow_mut().clear();
    }
}
