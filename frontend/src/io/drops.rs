//! Drops and pastes anywhere on the page, and the drags that begin on it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{Array, Uint8Array};
use leptos::prelude::{document, window};
use wasm_bindgen::JsCast;
use web_sys::{Blob, ClipboardEvent, DataTransfer, DragEvent, Element, Event, File, HtmlElement};

use super::dom::Listener;
use crate::{
    core::brought::{self, Carried, Taken},
    i18n::T,
};

/// The attribute of what may be dragged onto the page although it stands on it; its value is the sample's file.
const SAMPLE: &str = "data-sample";

/// What came, and is the page's.
pub enum Came {
    /// A picture; `more`: it was not the only file.
    Picture {
        blob: Blob,
        name: String,
        more: bool,
    },
    /// A picture to try.
    Sample(String),
    /// Nothing that could be taken, for this reason.
    Not(T),
}

/// Where a drag that began on this page began.
enum Began {
    Sample(String),
    Other,
}

/// Keeps watch as long as the page lives: `over` hears whether a picture is held over the page, `take` what came, and when.
pub fn watch(over: impl Fn(bool) + Copy + 'static, take: impl Fn(Came, f64) + Copy + 'static) {
    let window = window();
    let own = Rc::new(RefCell::new(None::<Began>));
    // Elements are entered before those around them are left.
    let inside = Rc::new(Cell::new(0));
    let listen = |name, hear: Box<dyn Fn(DragEvent)>| {
        Listener::new(&window, name, move |event| hear(event.unchecked_into())).forever();
    };
    let begun = own.clone();
    listen(
        "dragstart",
        Box::new(move |event| {
            let sample = event
                .target()
                .and_then(|target| target.dyn_into::<Element>().ok())
                .and_then(|element| element.closest(&format!("[{SAMPLE}]")).ok()?)
                .and_then(|element| element.get_attribute(SAMPLE));
            *begun.borrow_mut() = Some(sample.map_or(Began::Other, Began::Sample));
        }),
    );
    let ended = own.clone();
    listen("dragend", Box::new(move |_| *ended.borrow_mut() = None));
    for (name, by) in [("dragenter", 1), ("dragleave", -1)] {
        let (own, inside) = (own.clone(), inside.clone());
        listen(
            name,
            Box::new(move |event| {
                // Where it is let go before it has moved on, some browsers take what entering said for the answer.
                if by > 0 && ours(&event) {
                    event.prevent_default();
                }
                if welcome(&event, own.borrow().as_ref()) {
                    inside.set((inside.get() + by).max(0));
                    over(inside.get() > 0);
                }
            }),
        );
    }
    let dragged = own.clone();
    listen(
        "dragover",
        Box::new(move |event| {
            if !ours(&event) {
                return;
            }
            event.prevent_default();
            if matches!(*dragged.borrow(), Some(Began::Other))
                && let Some(data) = event.data_transfer()
            {
                data.set_drop_effect("none");
            }
        }),
    );
    listen(
        "drop",
        Box::new(move |event| {
            inside.set(0);
            over(false);
            let began = own.borrow_mut().take();
            if !ours(&event) {
                return;
            }
            event.prevent_default();
            let came = match began {
                Some(Began::Sample(file)) => Some(Came::Sample(file)),
                Some(Began::Other) => None,
                None => event.data_transfer().and_then(|data| {
                    let (carried, files) = read(&data, true);
                    came(brought::dropped(&carried)?, files)
                }),
            };
            if let Some(came) = came {
                take(came, event.time_stamp());
            }
        }),
    );
    Listener::new(&window, "paste", move |event| {
        let event: ClipboardEvent = event.unchecked_into();
        let came = event.clipboard_data().and_then(|data| {
            let (carried, files) = read(&data, false);
            came(brought::pasted(&carried, at_cursor(&event))?, files)
        });
        if let Some(came) = came {
            event.prevent_default();
            take(came, event.time_stamp());
        }
    })
    .forever();
}

/// What is taken of files that were chosen.
pub fn chosen(files: Vec<File>) -> Option<Came> {
    let carried = Carried {
        files: files.iter().map(told).collect(),
        ..Carried::default()
    };
    came(brought::dropped(&carried)?, files)
}

fn has(data: &DataTransfer, kind: &str) -> bool {
    data.types().includes(&kind.into(), 0)
}

fn with_files(event: &DragEvent) -> bool {
    event
        .data_transfer()
        .is_some_and(|data| has(&data, "Files"))
}

/// Whether the page would take a picture from this drag.
fn welcome(event: &DragEvent, own: Option<&Began>) -> bool {
    match own {
        Some(Began::Sample(_)) => true,
        Some(Began::Other) => false,
        None => with_files(event),
    }
}

fn ours(event: &DragEvent) -> bool {
    brought::ours(
        target(event).is_some_and(|e| is_field(&e)),
        with_files(event),
    )
}

fn target(event: &Event) -> Option<HtmlElement> {
    event.target()?.dyn_into().ok()
}

/// Whether words can be typed into it.
fn is_field(element: &HtmlElement) -> bool {
    let fields = "textarea, input:not([type=radio], [type=checkbox], [type=file])";
    element.is_content_editable() || element.matches(fields).unwrap_or(false)
}

/// Whether the cursor is where a paste would put words. Some browsers tell the body of it.
fn at_cursor(event: &Event) -> bool {
    let focused = || document().active_element()?.dyn_into().ok();
    let element = target(event).filter(|element| element.node_name() != "BODY");
    element.or_else(focused).is_some_and(|e| is_field(&e))
}

fn told(file: &File) -> brought::File {
    brought::File {
        kind: file.type_(),
        bytes: file.size() as u64,
        folder: false,
    }
}

/// What `data` carries, with its files.
fn read(data: &DataTransfer, links: bool) -> (Carried, Vec<File>) {
    let files: Vec<File> = data
        .files()
        .iter()
        .flat_map(|files| (0..files.length()).filter_map(|i| files.get(i)))
        .collect();
    // A folder looks like a file there; only here it does not.
    let items = data.items();
    let items = (0..items.length()).filter_map(|i| items.get(i));
    let folders: Vec<bool> = items
        .filter(|item| item.kind() == "file")
        .map(|item| matches!(item.webkit_get_as_entry(), Ok(Some(entry)) if entry.is_directory()))
        .collect();
    let files_told = files.iter().enumerate().map(|(i, file)| brought::File {
        folder: folders.get(i).copied().unwrap_or(false),
        ..told(file)
    });
    let text = |kind| data.get_data(kind).unwrap_or_default();
    let listed = text(if links { "text/uri-list" } else { "" });
    let html = text("text/html");
    let carried = Carried {
        files: files_told.collect(),
        text: has(data, "text/plain"),
        addresses: brought::listed(&listed)
            .chain(brought::drawn(&html))
            .collect(),
    };
    (carried, files)
}

fn came(taken: Taken, files: Vec<File>) -> Option<Came> {
    Some(match taken {
        Taken::File(at) => {
            let file = files.get(at)?;
            Came::Picture {
                name: file.name(),
                blob: file.clone().into(),
                more: files.len() > 1,
            }
        }
        Taken::Data(address) => match decoded(&address) {
            Some((blob, name)) => Came::Picture {
                blob,
                name,
                more: false,
            },
            None => Came::Not(T::NotAPicture),
        },
        Taken::Not(why) => Came::Not(why),
    })
}

/// The picture that a `data:` address is. The policy lets nothing fetch it, and it needs no fetching.
pub fn decoded(address: &str) -> Option<(Blob, String)> {
    let (kind, body) = brought::split(address)?;
    let bytes = window().atob(body).ok()?;
    // Each of its characters stands for a byte.
    let bytes: Vec<u8> = bytes.chars().map(|c| c as u8).collect();
    let options = web_sys::BlobPropertyBag::new();
    options.set_type(kind);
    let parts = Array::of1(&Uint8Array::from(&bytes[..]));
    let blob = Blob::new_with_u8_array_sequence_and_options(&parts, &options).ok()?;
    Some((blob, kind.replace('/', ".")))
}
