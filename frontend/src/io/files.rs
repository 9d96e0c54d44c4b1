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
    /// What is sent: that, or a smaller copy.
    body: Blob,
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
            bytes: blob.size() as u64,
            preview: preview.as_ref().and_then(address),
            crop: None,
        };
        let file = File {
            name: new.name.clone(),
            source: blob.clone(),
            body: blob,
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

    /// A smaller copy is sent.
    pub fn scaled(&self, id: u64, body: Blob) {
        self.of(id, |file| file.body = body);
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
