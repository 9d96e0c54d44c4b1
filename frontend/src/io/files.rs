//! The bytes of pictures, by the pictures' numbers.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Duration,
};

use leptos::prelude::set_timeout;
use web_sys::{Blob, Url};

use crate::core::picture::NewPicture;

/// An element may still be drawing a reduced copy that was replaced.
const DRAWING: Duration = Duration::from_secs(2);

struct File {
    name: String,
    /// What the person gave.
    source: Blob,
    /// What is sent: that, or the smaller copy.
    body: Blob,
    smaller: Option<Blob>,
    /// The reduced copy that the page shows.
    preview: Option<Blob>,
}

#[derive(Default)]
pub struct Files {
    count: Cell<u64>,
    files: RefCell<HashMap<u64, File>>,
}

impl Files {
    /// Takes a picture, with its reduced copy where there is one already.
    pub fn take(&self, blob: Blob, name: String, preview: Option<Blob>) -> NewPicture {
        let id = self.count.get() + 1;
        self.count.set(id);
        let new = NewPicture {
            id,
            name,
            kind: blob.type_(),
            bytes: blob.size() as u64,
            preview: preview.as_ref().and_then(address),
            crop: None,
        };
        let file = File {
            name: new.name.clone(),
            source: blob.clone(),
            body: blob,
            smaller: None,
            preview,
        };
        self.files.borrow_mut().insert(id, file);
        new
    }

    pub fn release(&self, id: u64) {
        self.files.borrow_mut().remove(&id);
    }

    /// What a part of a picture is called.
    pub fn name_of_part(&self, of: u64) -> String {
        let name = self.of(of, |file| file.name.clone()).unwrap_or_default();
        let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
        format!("{stem}-part.png")
    }

    /// What was given.
    pub fn source(&self, id: u64) -> Option<Blob> {
        self.of(id, |file| file.source.clone())
    }

    pub fn body(&self, id: u64) -> Option<Blob> {
        self.of(id, |file| file.body.clone())
    }

    pub fn preview(&self, id: u64) -> Option<Blob> {
        self.of(id, |file| file.preview.clone()).flatten()
    }

    /// There is a smaller copy.
    pub fn scaled(&self, id: u64, copy: Blob) {
        self.of(id, |file| file.smaller = Some(copy));
    }

    /// The smaller copy is sent.
    pub fn send_smaller(&self, id: u64) {
        self.of(id, |file| {
            if let Some(copy) = file.smaller.take() {
                file.body = copy;
            }
        });
    }

    /// There is a reduced copy; its address.
    pub fn previewed(&self, id: u64, preview: Blob) -> Option<String> {
        let url = address(&preview);
        self.of(id, |file| file.preview = Some(preview));
        url
    }

    fn of<R>(&self, id: u64, f: impl FnOnce(&mut File) -> R) -> Option<R> {
        self.files.borrow_mut().get_mut(&id).map(f)
    }
}

/// Whether it is a drawing, which has no pixels of its own.
pub fn is_drawing(blob: &Blob, name: &str) -> bool {
    blob.type_().starts_with("image/svg") || blob.type_().is_empty() && name.ends_with(".svg")
}

/// An address for an element to draw a picture from.
pub fn address(blob: &Blob) -> Option<String> {
    Url::create_object_url_with_blob(blob).ok()
}

/// Lets go of an address, once nothing draws it any more.
pub fn revoke(url: String) {
    set_timeout(
        move || {
            let _ = Url::revoke_object_url(&url);
        },
        DRAWING,
    );
}
