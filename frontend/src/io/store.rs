//! Conversations kept in this browser, with their pictures: in IndexedDB, bounded, and only while the user wants it.
//! Where the browser refuses storage, the page works without.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use js_sys::{Array, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, IdbDatabase, IdbObjectStoreParameters, IdbRequest, IdbTransactionMode};

use crate::core::kept::Kept;

const DATABASE: &str = "glimpse";
/// Everything but the pictures themselves, by `id`.
const CONVERSATIONS: &str = "conversations";
/// The pictures as they were given, by `id`.
const PICTURES: &str = "pictures";
/// No more conversations than this …
const MOST: usize = 50;
/// … and no more bytes of pictures.
const MOST_BYTES: f64 = 256e6;

/// A conversation as it lies in the store, with its picture's reduced copy.
#[derive(Clone)]
pub struct Stored {
    pub kept: Kept,
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
    // It holds the request, as the request holds it: one of them has to let go.
    let upgrade = Closure::<dyn Fn()>::new(move || {
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
    open.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
    let opened = outcome(&open).await;
    open.set_onupgradeneeded(None);
    opened?.dyn_into()
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

/// What is still to be kept, with its picture where that is not in the store yet.
type Queue = VecDeque<(Stored, Option<Blob>)>;

/// Keeps one conversation after the other, so that what is older never overwrites what is newer.
#[derive(Clone, Default)]
pub struct Keeper {
    queue: Rc<RefCell<Queue>>,
}

impl Keeper {
    pub fn keep(&self, stored: Stored, picture: Option<Blob>) {
        self.queue.borrow_mut().push_back((stored, picture));
        if self.queue.borrow().len() > 1 {
            return;
        }
        let queue = self.queue.clone();
        spawn_local(async move {
            let next = || queue.borrow().front().cloned();
            while let Some((stored, picture)) = next() {
                // A browser that refuses storage has said so to its user; the page works without.
                let _ = keep(stored, picture).await;
                queue.borrow_mut().pop_front();
            }
        });
    }
}

/// Keeps a conversation; its picture only the first time, since that never changes.
async fn keep(stored: Stored, picture: Option<Blob>) -> Outcome<()> {
    let Stored { kept, preview } = stored;
    let database = database().await?;
    let [conversations, pictures] = stores(&database, IdbTransactionMode::Readwrite)?;
    let record = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&record, &name.into(), value);
    set("id", &kept.id.as_str().into())?;
    set("at", &kept.at.into())?;
    set("name", &kept.name.as_str().into())?;
    set("bytes", &(kept.bytes as f64).into())?;
    let turns = serde_json::to_string(&kept.turns).unwrap_or_default();
    set("turns", &turns.into())?;
    let asking = serde_json::to_string(&kept.asking).unwrap_or_default();
    set("asking", &asking.into())?;
    if let Some(preview) = &preview {
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
        bytes += one.kept.bytes as f64;
        if i > 0 && (i >= MOST || bytes > MOST_BYTES) {
            remove(&one.kept.id).await?;
        }
    }
    Ok(())
}

/// All conversations, the latest first.
pub async fn list() -> Outcome<Vec<Stored>> {
    let database = database().await?;
    let [conversations, _] = stores(&database, IdbTransactionMode::Readonly)?;
    let records: Array = outcome(&conversations.get_all()?).await?.dyn_into()?;
    database.close();
    let mut all: Vec<Stored> = records.iter().filter_map(|record| read(&record)).collect();
    all.sort_by(|a, b| b.kept.at.total_cmp(&a.kept.at));
    Ok(all)
}

fn read(record: &JsValue) -> Option<Stored> {
    let get = |name: &str| Reflect::get(record, &name.into()).ok();
    Some(Stored {
        kept: Kept {
            id: get("id")?.as_string()?,
            at: get("at")?.as_f64()?,
            name: get("name")?.as_string()?,
            bytes: get("bytes")?.as_f64()? as u64,
            turns: serde_json::from_str(&get("turns")?.as_string()?).ok()?,
            asking: serde_json::from_str(&get("asking")?.as_string()?).ok()?,
        },
        preview: get("preview")?.dyn_into().ok(),
    })
}

/// A conversation and its picture.
pub async fn load(id: &str) -> Outcome<(Stored, Blob)> {
    let all = list().await?;
    let stored = all.into_iter().find(|stored| stored.kept.id == id);
    Ok((stored.ok_or(JsValue::NULL)?, picture(id).await?))
}

async fn picture(id: &str) -> Outcome<Blob> {
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
