//! Pictures' pixels on their ways: straight to a worker, and into the store and out of it.

use std::time::Duration;

use api::{ErrorCode, Failure, PictureKey, Pixels, SessionId};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::object_store::{ObjectMetadata, ObjectStore};
use async_nats::{Client, HeaderMap};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE as URL_SAFE;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

use crate::nats::{BEAT, Nats, PICTURES, PICTURES_STREAM, PIECE, chain, reading};
use crate::seal::Key;

/// Headers of a piece of a picture: whose it is, and where it begins.
pub const OBJECT: &str = "Glimpse-Object";
pub const OFFSET: &str = "Glimpse-Offset";

/// What came of a picture's copy.
pub type Stored = (SessionId, PictureKey, Result<(), Failure>);

/// Something to be done with the store.
#[derive(Debug, PartialEq)]
pub enum Copying {
    Put {
        session: SessionId,
        key: PictureKey,
        object: String,
        pixels: Pixels,
        /// What they are sealed with in the store.
        secret: [u8; 32],
    },
    Delete {
        object: String,
    },
}

/// Sends pictures' pixels to a worker, piece by piece.
pub async fn send_straight(
    client: Client,
    subject: String,
    mut queue: UnboundedReceiver<(String, Pixels)>,
) {
    while let Some((object, pixels)) = queue.recv().await {
        for (at, piece) in pixels.rgb().chunks(PIECE).enumerate() {
            let mut headers = HeaderMap::new();
            headers.insert(OBJECT, object.as_str());
            headers.insert(OFFSET, (at * PIECE).to_string().as_str());
            let bytes = bytes::Bytes::copy_from_slice(piece);
            if client
                .publish_with_headers(subject.clone(), headers, bytes)
                .await
                .is_err()
            {
                break;
            }
        }
    }
}

/// Keeps pictures' copies in the store.
pub async fn copy(
    nats: Nats,
    store: ObjectStore,
    most: u64,
    mut queue: UnboundedReceiver<Copying>,
    stored: UnboundedSender<Stored>,
) {
    while let Some(copying) = queue.recv().await {
        match copying {
            Copying::Put {
                session,
                key,
                object,
                pixels,
                secret,
            } => {
                let result = put(&nats, &store, most, object, pixels, secret).await;
                if stored.send((session, key, result)).is_err() {
                    return;
                }
            }
            Copying::Delete { object } => delete(&nats, &store, &object).await,
        }
    }
}

/// Deletes a copy, and that there was one. One that never came to be is none.
///
/// Each message by its place, and not by their subject, as the store's own way is: servers before 2.10 count what is purged by
/// subject as taken until they are restarted, and take nothing more once that comes to all they may have.
pub async fn delete(nats: &Nats, store: &ObjectStore, object: &str) {
    let Ok(info) = store.info(object).await else {
        return;
    };
    // First what says that it is there.
    let about = format!("$O.{PICTURES}.M.{}", URL_SAFE.encode(object));
    let pieces = format!("$O.{PICTURES}.C.{}", info.nuid);
    for (subject, count) in [(about, 1), (pieces, info.chunks)] {
        if let Err(why) = delete_all(nats, subject, count).await {
            tracing::warn!(
                why,
                "a picture's copy can't be deleted: its room is not freed"
            );
        }
    }
}

/// Deletes all messages of a subject, of which there are so many.
async fn delete_all(nats: &Nats, subject: String, count: usize) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let stream = nats.js.get_stream(PICTURES_STREAM).await;
    let stream = stream.map_err(|it| chain(&it))?;
    let config = pull::Config {
        headers_only: true,
        ..reading(subject)
    };
    let consumer = stream.create_consumer(config).await;
    let consumer = consumer.map_err(|it| chain(&it))?;
    let batch = consumer.batch().max_messages(count).expires(PATIENCE);
    let mut messages = batch.messages().await.map_err(|it| chain(&it))?;
    let mut places = Vec::with_capacity(count);
    while places.len() < count
        && let Some(message) = messages.next().await
    {
        let message = message.map_err(|it| it.to_string())?;
        let info = message.info().map_err(|it| it.to_string())?;
        places.push(info.stream_sequence);
    }
    for place in places {
        // Written over it need not be: it is sealed, and the key is gone.
        let which = serde_json::json!({ "seq": place, "no_erase": true });
        let request = format!("STREAM.MSG.DELETE.{PICTURES_STREAM}");
        let deleted: Result<serde_json::Value, _> = nats.js.request(request, &which).await;
        deleted.map_err(|it| chain(&it))?;
    }
    let name = &consumer.cached_info().name;
    let _ = stream.delete_consumer(name).await;
    Ok(())
}

async fn put(
    nats: &Nats,
    store: &ObjectStore,
    most: u64,
    object: String,
    pixels: Pixels,
    secret: [u8; 32],
) -> Result<(), Failure> {
    /// What the stream adds to a picture's bytes, and to spare for those of other gateways.
    const BESIDE: u64 = 1 << 20;
    const ATTEMPTS: u32 = 20;
    let full = |detail: String| {
        let message = "The fleet has no room left for pictures: send it again in a few seconds.";
        Failure::new(ErrorCode::Busy, message)
            .retry_after(5000.0)
            .detail(detail)
    };
    let about = object.clone();
    // Some milliseconds, in which others' answers go on.
    let seal = move || Key::of(secret).seal(about.as_bytes(), pixels.rgb());
    let sealed = tokio::task::spawn_blocking(seal).await;
    let sealed = sealed.unwrap_or_else(|problem| Err(problem.to_string()));
    let sealed = sealed.map_err(&full)?;
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let stream = match nats.js.get_stream(PICTURES_STREAM).await {
            Ok(stream) => stream,
            Err(problem) => {
                why = chain(&problem);
                tokio::time::sleep(BEAT).await;
                continue;
            }
        };
        // Asked first: pieces of one that is broken off stay.
        let (used, limit) = (
            stream.cached_info().state.bytes,
            stream.cached_info().config.max_bytes,
        );
        let limit = u64::try_from(limit).unwrap_or(most);
        if used + sealed.len() as u64 + BESIDE > limit {
            return Err(full(format!(
                "{used} of {limit} bytes are taken; --nats-pictures says how many there are"
            )));
        }
        let meta = ObjectMetadata {
            name: object.clone(),
            chunk_size: Some(PIECE),
            ..ObjectMetadata::default()
        };
        match store.put(meta, &mut sealed.as_slice()).await {
            Ok(_) => return Ok(()),
            Err(problem) => why = chain(&problem),
        }
        tokio::time::sleep(BEAT).await;
    }
    Err(full(why))
}

/// A picture from the store, which it may be on its way to, and which is sealed with this there.
pub async fn fetch(nats: &Nats, object: &str, secret: [u8; 32]) -> Result<Vec<u8>, String> {
    const ATTEMPTS: u32 = 6;
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(BEAT).await;
        }
        match fetch_once(nats, object).await {
            Ok(sealed) => {
                let opened = Key::of(secret).open(object.as_bytes(), sealed);
                return opened.ok_or_else(|| "it is sealed with something else".into());
            }
            Err(problem) => why = problem,
        }
    }
    Err(why)
}

async fn fetch_once(nats: &Nats, object: &str) -> Result<Vec<u8>, String> {
    let store: ObjectStore = nats.pictures().await.map_err(|it| it.to_string())?;
    let mut found = store.get(object).await.map_err(|it| chain(&it))?;
    let mut came = Vec::with_capacity(found.info().size);
    found
        .read_to_end(&mut came)
        .await
        .map_err(|it| it.to_string())?;
    Ok(came)
}

/// Looks again and again what the store takes of what it may take, in bytes, until nobody asks any more.
pub async fn watch_store(nats: Nats, told: watch::Sender<Option<(u64, u64)>>) {
    const PAUSE: Duration = Duration::from_secs(5);
    while !told.is_closed() {
        // What isn't known is no more what it was.
        let stream = nats.js.get_stream(PICTURES_STREAM).await.ok();
        told.send_replace(stream.map(|stream| {
            let info = stream.cached_info();
            let size = u64::try_from(info.config.max_bytes).unwrap_or_default();
            (info.state.bytes, size)
        }));
        tokio::time::sleep(PAUSE).await;
    }
}
