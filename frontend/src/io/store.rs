//! Conversations kept in this browser, with their pictures, in IndexedDB; what is kept, and when it goes, is not decided here.
//!
//! A record is written by whoever has last read or written it: `rev` counts how often it was, and `page` is who did. An older
//! page of this browser may still be at work on the same two stores: it finds what it knows in each record, and what it writes
//! has neither.

use std::cell::Cell;

use js_sys::{Array, ArrayBuffer, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, IdbDatabase, IdbObjectStore, IdbObjectStoreParameters, IdbRequest, IdbTransactionMode,
};

use crate::core::{history::StoreProblem, kept::Kept};

const DATABASE: &str = "glimpse";
/// Everything but the pictures themselves, by `id`.
const CONVERSATIONS: &str = "conversations";
/// The pictures as they were given, by their SHA-256 as `id`, with how many conversations are about each.
const PICTURES: &str = "pictures";
/// How a record is written: a tree of turns. Without a number it is one of the first pages', which wrote a list.
const SCHEMA: f64 = 2.0;

thread_local! {
    /// This browser stores bytes and no Blobs (Safari in a private window).
    static BYTES_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// A conversation as it lies in the store, with its picture's reduced copy.
#[derive(Clone)]
pub struct Stored {
    pub kept: Kept,
    pub preview: Option<Blob>,
    /// When the record was marked as deleted, in milliseconds; `None` if it was not.
    pub deleted: Option<f64>,
}

/// What is to be written of a conversation.
#[derive(Clone)]
pub struct Writing {
    pub kept: Box<Kept>,
    pub page: String,
    /// The store does not have this record yet.
    pub fresh: bool,
    pub preview: Option<Blob>,
    /// The picture as it was given.
    pub picture: Option<Blob>,
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

/// Both stores, in one transaction.
struct Stores {
    conversations: IdbObjectStore,
    pictures: IdbObjectStore,
}

/// Does all of `work` or nothing of it.
async fn within<R>(
    mode: IdbTransactionMode,
    work: impl AsyncFnOnce(&Stores) -> Outcome<R>,
) -> Outcome<R> {
    let database = database().await?;
    let names = Array::of2(&CONVERSATIONS.into(), &PICTURES.into());
    let transaction = database.transaction_with_str_sequence_and_mode(&names, mode)?;
    let over = Promise::new(&mut |resolve, _| {
        transaction.set_oncomplete(Some(&resolve));
        transaction.set_onabort(Some(&resolve));
    });
    let stores = Stores {
        conversations: transaction.object_store(CONVERSATIONS)?,
        pictures: transaction.object_store(PICTURES)?,
    };
    let result = work(&stores).await;
    if result.is_err() {
        let _ = transaction.abort();
    }
    let _ = JsFuture::from(over).await;
    database.close();
    match transaction.error() {
        Some(error) => Err(error.into()),
        None => result,
    }
}

fn get(record: &JsValue, name: &str) -> JsValue {
    Reflect::get(record, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

fn set(record: &JsValue, name: &str, value: impl Into<JsValue>) -> Outcome<()> {
    Reflect::set(record, &name.into(), &value.into()).map(|_| ())
}

/// A Blob as this browser can store it.
async fn storable(blob: Option<Blob>) -> Outcome<JsValue> {
    let Some(blob) = blob else {
        return Ok(JsValue::UNDEFINED);
    };
    if !BYTES_ONLY.get() {
        return Ok(blob.into());
    }
    let bytes = JsFuture::from(blob.array_buffer()).await?;
    let record = Object::new();
    set(&record, "bytes", bytes)?;
    set(&record, "kind", blob.type_())?;
    Ok(record.into())
}

/// The Blob that was stored.
fn stored(value: JsValue) -> Option<Blob> {
    let value = match value.dyn_into::<Blob>() {
        Ok(blob) => return Some(blob),
        Err(value) => value,
    };
    let bytes: ArrayBuffer = get(&value, "bytes").dyn_into().ok()?;
    let options = web_sys::BlobPropertyBag::new();
    options.set_type(&get(&value, "kind").as_string()?);
    Blob::new_with_buffer_source_sequence_and_options(&Array::of1(&bytes), &options).ok()
}

impl Stores {
    async fn all(&self) -> Outcome<Array> {
        outcome(&self.conversations.get_all()?).await?.dyn_into()
    }

    /// One more conversation is about this picture.
    async fn use_picture(&self, key: &str, picture: &JsValue) -> Outcome<()> {
        let record = outcome(&self.pictures.get(&key.into())?).await?;
        if record.is_undefined() {
            let record = Object::new();
            set(&record, "id", key)?;
            set(&record, "blob", picture)?;
            set(&record, "count", 1.0)?;
            outcome(&self.pictures.put(&record)?).await?;
        } else {
            set(&record, "count", 1.0 + users(&record))?;
            outcome(&self.pictures.put(&record)?).await?;
        }
        Ok(())
    }

    /// A conversation goes, and its picture with the last one that is about it.
    async fn remove(&self, record: &JsValue) -> Outcome<()> {
        let key = picture_of(record);
        let picture = outcome(&self.pictures.get(&key)?).await?;
        if !picture.is_undefined() && users(&picture) > 1.0 {
            set(&picture, "count", users(&picture) - 1.0)?;
            outcome(&self.pictures.put(&picture)?).await?;
        } else {
            outcome(&self.pictures.delete(&key)?).await?;
        }
        outcome(&self.conversations.delete(&get(record, "id"))?).await?;
        Ok(())
    }
}

fn users(picture: &JsValue) -> f64 {
    get(picture, "count").as_f64().unwrap_or(1.0)
}

/// By which the picture of a conversation lies in the store: the first pages took the conversation's own id.
fn picture_of(record: &JsValue) -> JsValue {
    match get(record, "picture") {
        key if key.is_undefined() => get(record, "id"),
        key => key,
    }
}

fn rev(record: &JsValue) -> f64 {
    get(record, "rev").as_f64().unwrap_or(0.0)
}

fn mark(record: &JsValue) -> Option<f64> {
    get(record, "deleted").as_f64()
}

/// Keeps a conversation, unless another page has changed it.
pub async fn keep(writing: &Writing) -> Result<(), StoreProblem> {
    let mut written = write(writing).await;
    if written.is_err() && !full(&written) && !BYTES_ONLY.replace(true) {
        written = write(writing).await;
        // It refuses bytes too: that was not the matter.
        BYTES_ONLY.set(written.is_ok());
    }
    if full(&written) {
        return Err(StoreProblem::Full);
    }
    written.unwrap_or(Err(StoreProblem::Refused))
}

fn full<T>(outcome: &Outcome<T>) -> bool {
    let name = |error| get(error, "name").as_string();
    outcome.as_ref().err().and_then(name).as_deref() == Some("QuotaExceededError")
}

async fn write(writing: &Writing) -> Outcome<Result<(), StoreProblem>> {
    let kept = &writing.kept;
    let new = Object::new();
    set(&new, "schema", SCHEMA)?;
    set(&new, "id", kept.id.as_str())?;
    set(&new, "page", writing.page.as_str())?;
    set(&new, "at", kept.at)?;
    set(&new, "name", kept.name.as_str())?;
    set(&new, "bytes", kept.bytes as f64)?;
    set(&new, "picture", kept.picture.as_str())?;
    let turns = serde_json::to_string(&kept.turns).unwrap_or_default();
    set(&new, "turns", turns)?;
    // The first pages want to read this.
    set(&new, "asking", "[]")?;
    if let Some(leaf) = kept.leaf {
        set(&new, "leaf", leaf as f64)?;
    }
    if let Some(crop) = &kept.crop {
        set(
            &new,
            "crop",
            serde_json::to_string(crop).unwrap_or_default(),
        )?;
    }
    set(&new, "preview", storable(writing.preview.clone()).await?)?;
    let picture = storable(writing.picture.clone().filter(|_| writing.fresh)).await?;
    within(IdbTransactionMode::Readwrite, async |stores: &Stores| {
        let id = kept.id.as_str().into();
        let old = outcome(&stores.conversations.get(&id)?).await?;
        if old.is_undefined() {
            if !writing.fresh {
                return Ok(Err(StoreProblem::Gone));
            }
            stores.use_picture(&kept.picture, &picture).await?;
        } else if mark(&old).is_some() {
            return Ok(Err(StoreProblem::Gone));
        } else {
            let mine = get(&old, "page").as_string().as_deref() == Some(&writing.page);
            if !mine && rev(&old) != kept.rev as f64 {
                return Ok(Err(StoreProblem::Changed));
            }
        }
        set(&new, "rev", rev(&old) + 1.0)?;
        set(&new, "title", get(&old, "title"))?;
        outcome(&stores.conversations.put(&new)?).await?;
        Ok(Ok(()))
    })
    .await
}

/// Takes in a conversation that was kept elsewhere, beside all that are there: one whose name is taken gets another, unless it
/// is the very same.
pub async fn import(kept: Kept, picture: Blob) -> Outcome<()> {
    let mut kept = Box::new(kept);
    let found = within(IdbTransactionMode::Readonly, async |stores: &Stores| {
        let id = kept.id.as_str().into();
        outcome(&stores.conversations.get(&id)?).await
    });
    let unique = format!(
        "{:.0}-{:.0}",
        js_sys::Date::now(),
        js_sys::Math::random() * 1e9
    );
    if let Some(there) = read(&found.await?) {
        if there.kept.turns == kept.turns {
            return Ok(());
        }
        kept.id.clone_from(&unique);
    }
    // By a key of its own: that it is the picture of that hash is no more than the file's word.
    kept.picture = format!("imported-{unique}");
    kept.bytes = picture.size() as u64;
    let title = kept.title.clone();
    let id = kept.id.clone();
    let writing = Writing {
        kept,
        page: String::new(),
        fresh: true,
        preview: None,
        picture: Some(picture),
    };
    keep(&writing).await.map_err(|_| JsValue::NULL)?;
    change(&Change::Name(id, title)).await
}

/// All conversations, the latest first; those that are marked as deleted among them.
pub async fn list() -> Outcome<Vec<Stored>> {
    let records = within(IdbTransactionMode::Readonly, async |stores: &Stores| {
        stores.all().await
    });
    let records = records.await?;
    let mut all = Vec::<Stored>::new();
    for stored in records.iter().filter_map(|record| read(&record)) {
        let place = all.partition_point(|other| other.kept.at > stored.kept.at);
        all.insert(place, stored);
    }
    Ok(all)
}

fn read(record: &JsValue) -> Option<Stored> {
    let text = |name| get(record, name).as_string();
    let number = |name| get(record, name).as_f64();
    let kept = Kept {
        id: text("id")?,
        rev: rev(record) as u64,
        at: number("at")?,
        name: text("name")?,
        bytes: number("bytes")? as u64,
        ..Kept::default()
    };
    let (turns, asking) = (text("turns")?, text("asking")?);
    let kept = if number("schema") == Some(SCHEMA) {
        Kept {
            picture: text("picture")?,
            turns: serde_json::from_str(&turns).ok()?,
            leaf: number("leaf").map(|leaf| leaf as u64),
            title: text("title"),
            crop: text("crop").and_then(|crop| serde_json::from_str(&crop).ok()),
            ..kept
        }
    } else {
        let answered = serde_json::from_str(&turns).ok()?;
        kept.first_schema(answered, serde_json::from_str::<Vec<String>>(&asking).ok()?)
    };
    Some(Stored {
        kept,
        preview: stored(get(record, "preview")),
        deleted: mark(record),
    })
}

/// A conversation and its picture.
pub async fn load(id: &str) -> Outcome<(Stored, Blob)> {
    let found = within(IdbTransactionMode::Readonly, async |stores: &Stores| {
        let record = outcome(&stores.conversations.get(&id.into())?).await?;
        let picture = outcome(&stores.pictures.get(&picture_of(&record))?).await?;
        Ok((record, picture))
    });
    let (record, picture) = found.await?;
    let conversation = read(&record).filter(|stored| stored.deleted.is_none());
    let picture = stored(get(&picture, "blob"));
    conversation.zip(picture).ok_or(JsValue::NULL)
}

/// What is done to conversations that are there.
#[derive(Clone)]
pub enum Change {
    /// This one, or all, is marked as deleted with this.
    Mark(Option<String>, f64),
    /// What was marked with this is not deleted.
    Unmark(f64),
    /// What was marked with this goes for good.
    Purge(f64),
    /// So does what was marked before this.
    PurgeBefore(f64),
    /// This one goes at once.
    Remove(String),
    /// This one is called this.
    Name(String, Option<String>),
}

/// What becomes of a conversation by a change.
enum Becomes {
    Same,
    Gone,
    /// Marked with this, or not any more.
    Marked(Option<f64>),
    /// Called this, or nothing of its own any more.
    Named(Option<String>),
}

impl Change {
    fn of(&self, record: &JsValue) -> Becomes {
        let is = |one: &String| get(record, "id").as_string().as_ref() == Some(one);
        match (self, mark(record)) {
            (Change::Mark(id, stamp), None) if id.as_ref().is_none_or(is) => {
                Becomes::Marked(Some(*stamp))
            }
            (Change::Unmark(stamp), Some(with)) if with == *stamp => Becomes::Marked(None),
            (Change::Purge(stamp), Some(with)) if with == *stamp => Becomes::Gone,
            (Change::PurgeBefore(moment), Some(with)) if with < *moment => Becomes::Gone,
            (Change::Remove(id), _) if is(id) => Becomes::Gone,
            (Change::Name(id, title), _) if is(id) => Becomes::Named(title.clone()),
            _ => Becomes::Same,
        }
    }
}

pub async fn change(change: &Change) -> Outcome<()> {
    within(IdbTransactionMode::Readwrite, async |stores: &Stores| {
        for record in stores.all().await? {
            match change.of(&record) {
                Becomes::Same => {}
                Becomes::Gone => stores.remove(&record).await?,
                Becomes::Marked(stamp) => {
                    set(&record, "deleted", JsValue::from(stamp))?;
                    outcome(&stores.conversations.put(&record)?).await?;
                }
                Becomes::Named(title) => {
                    set(&record, "title", JsValue::from(title))?;
                    outcome(&stores.conversations.put(&record)?).await?;
                }
            }
        }
        Ok(())
    })
    .await
}
