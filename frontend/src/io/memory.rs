//! Small things that the browser keeps: the person's choices, and what a tab is at.

use leptos::prelude::*;

use crate::{
    core::{handover::Handover, settings::Settings},
    i18n::Lang,
};

const SETTINGS: &str = "glimpse-settings";
const LANGUAGE: &str = "glimpse-lang";
/// Where the tab keeps the server's key.
const KEY: &str = "glimpse-key";
/// Where the tab keeps which conversation is open.
const OPEN: &str = "glimpse-open";
/// Where the tab keeps what its next page goes on with.
const HANDOVER: &str = "glimpse-handover";
/// Where the tab keeps what stands in the composer.
const DRAFT: &str = "glimpse-draft";

pub fn settings() -> Settings {
    local(SETTINGS)
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

pub fn keep_settings(settings: &Settings) {
    if let Ok(text) = serde_json::to_string(settings) {
        keep_local(SETTINGS, &text);
    }
}

/// The person's choice on this browser, or else the browser's own language.
pub fn language() -> Lang {
    let name = local(LANGUAGE).or_else(|| window().navigator().language());
    Lang::of(&name.unwrap_or_default())
}

pub fn keep_language(lang: Lang) {
    keep_local(LANGUAGE, lang.code());
}

pub fn key() -> Option<String> {
    tab(KEY)
}

pub fn keep_key(key: &str) {
    keep_tab(KEY, Some(key));
}

/// The kept conversation that is open in this tab.
pub fn open() -> Option<String> {
    tab(OPEN)
}

pub fn keep_open(id: Option<&str>) {
    keep_tab(OPEN, id);
}

pub fn handover() -> Option<Box<Handover>> {
    serde_json::from_str(&tab(HANDOVER)?).ok()
}

pub fn hand_over(handover: Option<&Handover>) {
    let text = handover.and_then(|handover| serde_json::to_string(handover).ok());
    keep_tab(HANDOVER, text.as_deref());
}

pub fn draft() -> String {
    tab(DRAFT).unwrap_or_default()
}

pub fn keep_draft(draft: &str) {
    keep_tab(DRAFT, Some(draft).filter(|draft| !draft.is_empty()));
}

/// A small thing kept in this browser; nothing where storage is refused.
fn local(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// Keeps a small thing in this browser, where it may.
fn keep_local(key: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = storage.set_item(key, value);
    }
}

/// A small thing kept in this tab, over a reload.
fn tab(key: &str) -> Option<String> {
    window().session_storage().ok()??.get_item(key).ok()?
}

/// Keeps a small thing in this tab, or lets it go.
fn keep_tab(key: &str, value: Option<&str>) {
    if let Ok(Some(storage)) = window().session_storage() {
        let _ = match value {
            Some(value) => storage.set_item(key, value),
            None => storage.remove_item(key),
        };
    }
}
