//! The pictures that sessions hold, and which is encoded next.

use std::collections::HashMap;
use std::time::Instant;

use api::{Asker, PictureKey, Pixels, SessionId};
use policy::FairQueue;

/// Pictures by key; of those that the cache lacks, a line, and the one that is being encoded.
#[derive(Default)]
pub struct EncodeQueue {
    pictures: HashMap<PictureKey, Picture>,
    /// Each with who asked for that.
    line: FairQueue<(Asker, PictureKey)>,
    encoding: Option<(Asker, PictureKey)>,
}

/// A picture that some session holds.
struct Picture {
    pixels: Pixels,
    since: Instant,
    holders: Vec<PictureRef>,
}

struct PictureRef {
    session: SessionId,
    /// It waits to hear that the picture is encoded.
    waits: bool,
}

/// A picture to encode.
#[derive(Debug)]
pub struct EncodeJob {
    pub key: PictureKey,
    pub pixels: Pixels,
    /// When it came.
    pub since: Instant,
}

impl EncodeQueue {
    /// A session holds a picture from now on; `waits`: to hear of it.
    pub fn add_ref(&mut self, picture: api::Picture, waits: bool, now: Instant) {
        let api::Picture {
            asker, key, pixels, ..
        } = picture;
        let picture = self.pictures.entry(key).or_insert_with(|| Picture {
            pixels,
            since: now,
            holders: Vec::new(),
        });
        let session = asker.session;
        picture.holders.retain(|holder| holder.session != session);
        picture.holders.push(PictureRef { session, waits });
    }

    pub fn has(&self, key: PictureKey) -> bool {
        self.pictures.contains_key(&key)
    }

    pub fn keys(&self) -> Vec<PictureKey> {
        self.pictures.keys().copied().collect()
    }

    /// A session lets go of a picture, which is dropped with its last holder. Whether that was the last, or `None` if
    /// there is no such picture.
    pub fn release(&mut self, key: PictureKey, session: SessionId) -> Option<bool> {
        let picture = self.pictures.get_mut(&key)?;
        picture.holders.retain(|holder| holder.session != session);
        if !picture.holders.is_empty() {
            return Some(false);
        }
        self.drop(key);
        Some(true)
    }

    /// Drops a picture; the sessions that held it.
    pub fn drop(&mut self, key: PictureKey) -> Vec<SessionId> {
        self.line.take_where(|(_, k)| *k == key);
        self.encoding.take_if(|(_, k)| *k == key);
        let holders = self.pictures.remove(&key).map(|picture| picture.holders);
        let sessions = holders.into_iter().flatten().map(|holder| holder.session);
        sessions.collect()
    }

    /// Puts a picture in the line, once.
    pub fn enqueue(&mut self, asker: Asker, key: PictureKey) {
        if self.encoding() != Some(key) && !self.line.iter().any(|(_, k)| *k == key) {
            self.line.push(asker, (asker, key));
        }
    }

    /// What is not `wanted` leaves the line, and is encoded no longer.
    pub fn retain(&mut self, wanted: impl Fn(PictureKey) -> bool) {
        self.line.take_where(|(_, key)| !wanted(*key));
        self.encoding.take_if(|(_, key)| !wanted(*key));
    }

    pub fn is_idle(&self) -> bool {
        self.encoding.is_none() && self.line.is_empty()
    }

    /// What is being encoded.
    pub fn encoding(&self) -> Option<PictureKey> {
        self.encoding.map(|(_, key)| key)
    }

    /// The next to encode, those first that are `wanted`.
    pub fn next(&mut self, wanted: impl Fn(PictureKey) -> bool) -> Option<EncodeJob> {
        let next = self.line.pop(|(_, key)| wanted(*key));
        let (asker, key) = next.or_else(|| self.line.pop(|_| true))?;
        let picture = self.pictures.get(&key)?;
        self.encoding = Some((asker, key));
        Some(EncodeJob {
            key,
            pixels: picture.pixels.clone(),
            since: picture.since,
        })
    }

    /// Marks the picture being encoded as done; returns who asked for it, its key, and the sessions that wait to hear of it.
    pub fn encoded(&mut self) -> Option<(Asker, PictureKey, Vec<SessionId>)> {
        let (asker, key) = self.encoding.take()?;
        let holders = self.pictures.get_mut(&key).map(|p| &mut p.holders);
        let waiting = holders.into_iter().flatten().filter(|h| h.waits);
        let sessions = waiting.map(|holder| {
            holder.waits = false;
            holder.session
        });
        Some((asker, key, sessions.collect()))
    }

    /// What was being encoded goes back into the line, before all others.
    pub fn requeue(&mut self) {
        if let Some((asker, key)) = self.encoding.take() {
            self.line.push_first(asker, (asker, key));
        }
    }
}
