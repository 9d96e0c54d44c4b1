//! Pictures to try, which lie beside the page.

use leptos::prelude::window;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Response};

use crate::i18n::Lang;

#[derive(Clone, serde::Deserialize)]
pub struct Sample {
    pub file: String,
    pub alt: Words,
    pub questions: Vec<Words>,
}

/// A sentence in both languages.
#[derive(Clone, serde::Deserialize)]
pub struct Words {
    en: String,
    zh: String,
}

impl Words {
    pub fn of(&self, lang: Lang) -> String {
        match lang {
            Lang::En => self.en.clone(),
            Lang::Zh => self.zh.clone(),
        }
    }
}

impl Sample {
    /// Where its picture lies.
    pub fn path(&self) -> String {
        format!("samples/{}", self.file)
    }
}

async fn fetch(path: &str) -> Result<Response, JsValue> {
    let response: Response = JsFuture::from(window().fetch_with_str(path))
        .await?
        .dyn_into()?;
    if response.ok() {
        Ok(response)
    } else {
        Err(JsValue::NULL)
    }
}

pub async fn list() -> Result<Vec<Sample>, JsValue> {
    let text = JsFuture::from(fetch("samples/samples.json").await?.text()?).await?;
    serde_json::from_str(&text.as_string().unwrap_or_default()).map_err(|e| e.to_string().into())
}

/// The one whose picture this file is.
pub async fn named(file: &str) -> Result<Sample, JsValue> {
    let all = list().await?;
    let found = all.into_iter().find(|sample| sample.file == file);
    found.ok_or(JsValue::NULL)
}

/// A sample's picture.
pub async fn picture(sample: &Sample) -> Result<Blob, JsValue> {
    JsFuture::from(fetch(&sample.path()).await?.blob()?)
        .await?
        .dyn_into()
}
