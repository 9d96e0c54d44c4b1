//! Conversations as files: given to the person, and taken from files that were chosen.

use js_sys::{Array, Promise, Uint8Array};
use leptos::prelude::document;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, FileReader, HtmlElement};

use super::{app::App, drops, files, store};
use crate::{
    core::{self, Input, Person, exchange},
    i18n::T,
};

/// As what a conversation is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A zip of Markdown and the picture as it was given.
    Markdown,
    /// One file that another browser can take in again.
    Json,
}

impl App {
    /// Gives a kept conversation as a file; says so if that is not possible.
    pub async fn export(self, id: String, format: Format) {
        if self.write_file(&id, format).await.is_err() {
            self.person(Person::BringsNothing(T::NotExported));
        }
    }

    async fn write_file(self, id: &str, format: Format) -> Result<(), JsValue> {
        let (stored, picture) = store::load(id).await?;
        let kept = stored.kept;
        let name = file_name(kept.title());
        match format {
            Format::Json => {
                let text = exchange::json(kept, data_address(&picture).await?);
                let parts = Array::of1(&text.into());
                let blob = Blob::new_with_str_sequence(&parts)?;
                save(&blob, &format!("{name}.json"))
            }
            Format::Markdown => {
                let text = exchange::markdown(&kept, &kept.name);
                let bytes = JsFuture::from(picture.array_buffer()).await?;
                let bytes = Uint8Array::new(&bytes);
                let zip = self.extras.archive(&text, &kept.name, &bytes).await?;
                let blob = Blob::new_with_u8_array_sequence(&Array::of1(&zip))?;
                save(&blob, &format!("{name}.zip"))
            }
        }
    }

    /// Takes in a conversation from a file, beside those that are there; says so if it is none.
    pub async fn import(self, file: File) {
        let taken = async {
            if file.size() > exchange::LARGEST as f64 {
                return None;
            }
            let text = JsFuture::from(file.text()).await.ok()?.as_string()?;
            let (kept, picture) = exchange::read(&text)?;
            let (blob, _) = drops::decoded(&picture)?;
            store::import(kept, blob).await.ok()
        };
        match taken.await {
            Some(()) => self.take(Input::Store(core::Store::Changed)),
            None => self.person(Person::BringsNothing(T::NotAConversation)),
        }
    }
}

/// A file's name made of words.
fn file_name(words: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || "-_ ".contains(c) {
            c
        } else {
            ' '
        }
    };
    let name: String = words.chars().take(60).map(plain).collect();
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        "glimpse".to_owned()
    } else {
        name
    }
}

async fn data_address(blob: &Blob) -> Result<String, JsValue> {
    let reader = FileReader::new()?;
    let read = Promise::new(&mut |resolve, reject| {
        reader.set_onload(Some(&resolve));
        reader.set_onerror(Some(&reject));
    });
    reader.read_as_data_url(blob)?;
    JsFuture::from(read).await?;
    reader.result()?.as_string().ok_or(JsValue::NULL)
}

/// Has the browser save a file under this name.
fn save(blob: &Blob, name: &str) -> Result<(), JsValue> {
    let url = files::address(blob).ok_or(JsValue::NULL)?;
    let link: HtmlElement = document().create_element("a")?.dyn_into()?;
    link.set_attribute("href", &url)?;
    link.set_attribute("download", name)?;
    link.click();
    files::revoke(url);
    Ok(())
}
