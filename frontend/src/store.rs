//! Conversations kept in this browser, with their pictures: in IndexedDB, bounded, and only while the user wants it.
//! Where the browser refuses storage, the page works without.

use js_sys::{Array, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, IdbDatabase, IdbObjectStoreParameters, IdbRequest, IdbTransactionMode};

use crate::dom;

const DATABASE: &str = "glimpse";
/// Everything but the pictures themselves, by `id`.
const CONVERSATIONS: &str = "conversations";
/// The pictures as they were given, by `id`.
const PICTURES: &str = "pictures";
/// No more conversations than this …
const MOST: usize = 50;
/// … and no more bytes of pictures.
const MOST_BYTES: f64 = 256e6;

/// A conversation as it lies in the store.
#[derive(Clone)]
pub struct Kept {
    pub id: String,
    /// When it last changed, milliseconds since 1970.
    pub at: f64,
    pub name: String,
    pub bytes: f64,
    pub turns: Vec<wire::Turn>,
    /// Questions that had no whole answer yet.
    pub asking: Vec<String>,
    pub preview: Option<Blob>,
}

type Outcome<T> = Result<T, JsValue>;

/// What `request` brings.
async fn outcome(request: &IdbRequest) -> Outcome<JsValue> {
    let promise = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    JsFuture::from(promise).await?;
    request.result()
}

async fn database() -> Outcome<IdbDatabase> {
    let factory = leptos::prelude::window()
        .indexed_db()?
        .ok_or(JsValue::NULL)?;
    let open = factory.open_with_u32(DATABASE, 1)?;
    let request = open.clone();
    let upgrade = wasm_bindgen::closure::Closure::once_into_js(move || {
        let made = || -> Outcome<()> {
            let database: IdbDatabase = request.result()?.dyn_into()?;
            let by_id = IdbObjectStoreParameters::new();
            by_id.set_key_path(&"id".into());
            for store in [CONVERSATIONS, PICTURES] {
                database.create_object_store_with_optional_parameters(store, &by_id)?;
            }
            Ok(())
        };
        if let Err(error) = made() {
            web_sys::console::warn_1(&error);
        }
    });
    open.set_onupgradeneeded(Some(upgrade.unchecked_ref()));
    outcome(&open).await?.dyn_into()
}

fn stores(
    database: &IdbDatabase,
    mode: IdbTransactionMode,
) -> Outcome<[web_sys::IdbObjectStore; 2]> {
    let names = Array::of2(&CONVERSATIONS.into(), &PICTURES.into());
    let transaction = database.transaction_with_str_sequence_and_mode(&names, mode)?;
    Ok([
        transaction.object_store(CONVERSATIONS)?,
        transaction.object_store(PICTURES)?,
    ])
}

/// Keeps a conversation; its picture only the first time, since that never changes.
pub async fn keep(kept: Kept, picture: Option<Blob>) -> Outcome<()> {
    let database = database().await?;
    let [conversations, pictures] = stores(&database, IdbTransactionMode::Readwrite)?;
    let record = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&record, &name.into(), value);
    set("id", &kept.id.as_str().into())?;
    set("at", &kept.at.into())?;
    set("name", &kept.name.as_str().into())?;
    set("bytes", &kept.bytes.into())?;
    let turns = serde_json::to_string(&kept.turns).unwrap_or_default();
    set("turns", &turns.into())?;
    let asking = serde_json::to_string(&kept.asking).unwrap_or_default();
    set("asking", &asking.into())?;
    if let Some(preview) = &kept.preview {
        set("preview", preview)?;
    }
    if let Some(picture) = picture {
        let record = Object::new();
        Reflect::set(&record, &"id".into(), &kept.id.as_str().into())?;
        Reflect::set(&record, &"blob".into(), &picture)?;
        outcome(&pictures.put(&record)?).await?;
    }
    outcome(&conversations.put(&record)?).await?;
    database.close();
    let all = list().await?;
    let mut bytes = 0.0;
    for (i, one) in all.iter().enumerate() {
        bytes += one.bytes;
        if i > 0 && (i >= MOST || bytes > MOST_BYTES) {
            remove(&one.id).await?;
        }
    }
    Ok(())
}

/// All conversations, the latest first.
pub async fn list() -> Outcome<Vec<Kept>> {
    let database = database().await?;
    let [conversations, _] = stores(&database, IdbTransactionMode::Readonly)?;
    let records: Array = outcome(&conversations.get_all()?).await?.dyn_into()?;
    database.close();
    let mut all: Vec<Kept> = records.iter().filter_map(|record| read(&record)).collect();
    all.sort_by(|a, b| b.at.total_cmp(&a.at));
    Ok(all)
}

fn read(record: &JsValue) -> Option<Kept> {
    let get = |name: &str| Reflect::get(record, &name.into()).ok();
    Some(Kept {
        id: get("id")?.as_string()?,
        at: get("at")?.as_f64()?,
        name: get("name")?.as_string()?,
        bytes: get("bytes")?.as_f64()?,
        turns: serde_json::from_str(&get("turns")?.as_string()?).ok()?,
        asking: serde_json::from_str(&get("asking")?.as_string()?).ok()?,
        preview: get("preview")?.dyn_into().ok(),
    })
}

/// The picture of a conversation.
pub async fn picture(id: &str) -> Outcome<Blob> {
    let database = database().await?;
    let [_, pictures] = stores(&database, IdbTransactionMode::Readonly)?;
    let record = outcome(&pictures.get(&id.into())?).await?;
    database.close();
    Reflect::get(&record, &"blob".into())?.dyn_into()
}

pub async fn remove(id: &str) -> Outcome<()> {
    let database = database().await?;
    for store in stores(&database, IdbTransactionMode::Readwrite)? {
        outcome(&store.delete(&id.into())?).await?;
    }
    database.close();
    Ok(())
}

pub async fn clear() -> Outcome<()> {
    let database = database().await?;
    for store in stores(&database, IdbTransactionMode::Readwrite)? {
        outcome(&store.clear()?).await?;
    }
    database.close();
    Ok(())
}

/// An id that no other conversation of this browser has.
pub fn new_id() -> String {
    format!("{:.0}-{:.0}", dom::wall(), js_sys::Math::random() * 1e9)
}
