//! The pictures that sessions hold, and which is encoded next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use api::{Asker, PictureKey, Pixels, SessionId};
use model::prompt::Prompt;
use policy::FairQueue;

use super::prefix::Opening;

/// Pictures by key; of the openings that the cache lacks, a line, and the one that is being computed.
#[derive(Default)]
pub struct EncodeQueue {
    pictures: HashMap<PictureKey, Picture>,
    line: FairQueue<Wanted>,
    encoding: Option<Wanted>,
    /// What is in the line or being computed, each once.
    wanted: HashSet<Need>,
    changes: u64,
}

/// An opening, and the session that alone needs it, where it is behind a text of its own.
type Need = (Opening, Option<SessionId>);

fn need(asker: Asker, opening: Opening) -> Need {
    (opening, opening.behind.map(|_| asker.session))
}

/// An opening that the cache is to have.
struct Wanted {
    /// Who asked for that.
    asker: Asker,
    opening: Opening,
    /// The opening's entries, unless nothing stands before the picture.
    prompt: Option<Arc<Prompt>>,
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
    /// The entries up to the picture's end, unless nothing stands before it.
    pub prompt: Option<Arc<Prompt>>,
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
        self.changes += 1;
    }

    /// How often a picture came or went, or what is wanted of them changed.
    pub fn changes(&self) -> u64 {
        self.changes
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
            // What is only this session's is for nobody any more.
            self.retain(|asker, opening| {
                let is_own = asker.session == session && opening.behind.is_some();
                opening.picture != key || !is_own
            });
            return Some(false);
        }
        self.drop(key);
        Some(true)
    }

    /// Drops a picture; the sessions that held it.
    pub fn drop(&mut self, key: PictureKey) -> Vec<SessionId> {
        self.retain(|_, opening| opening.picture != key);
        self.changes += 1;
        let holders = self.pictures.remove(&key).map(|picture| picture.holders);
        let sessions = holders.into_iter().flatten().map(|holder| holder.session);
        sessions.collect()
    }

    /// Puts an opening in the line, once. `prompt` has its entries, unless nothing stands before the picture.
    pub fn enqueue(
        &mut self,
        asker: Asker,
        opening: Opening,
        prompt: impl FnOnce() -> Option<Prompt>,
    ) {
        if self.wanted.insert(need(asker, opening)) {
            self.changes += 1;
            let wanted = Wanted {
                asker,
                opening,
                prompt: prompt().map(Arc::new),
            };
            self.line.push(asker, wanted);
        }
    }

    /// Whether an opening is in the line for somebody, or being computed.
    pub fn is_wanted(&self, asker: Asker, opening: Opening) -> bool {
        self.wanted.contains(&need(asker, opening))
    }

    /// What is not `wanted` leaves the line, and is computed no longer.
    pub fn retain(&mut self, wanted: impl Fn(Asker, Opening) -> bool) {
        let gone = |it: &Wanted| !wanted(it.asker, it.opening);
        let mut left = self.line.take_where(gone);
        left.extend(self.encoding.take_if(|it| gone(it)));
        left.iter().for_each(|it| self.is_over(it));
    }

    pub fn is_idle(&self) -> bool {
        self.encoding.is_none() && self.line.is_empty()
    }

    /// The picture that is being encoded.
    pub fn encoding(&self) -> Option<PictureKey> {
        self.encoding.as_ref().map(|it| it.opening.picture)
    }

    /// What is being computed, and who asked for that.
    pub fn current(&self) -> Option<(Asker, Opening)> {
        self.encoding.as_ref().map(|it| (it.asker, it.opening))
    }

    /// The next to compute: of those that are `urgent`, else of those that are `wanted`, else of all.
    pub fn next(
        &mut self,
        urgent: impl Fn(Asker, Opening) -> bool,
        wanted: impl Fn(Asker, Opening) -> bool,
    ) -> Option<EncodeJob> {
        let line = &mut self.line;
        let next = line
            .pop(|it| urgent(it.asker, it.opening))
            .or_else(|| line.pop(|it| wanted(it.asker, it.opening)))
            .or_else(|| line.pop(|_| true))?;
        let Some(picture) = self.pictures.get(&next.opening.picture) else {
            self.is_over(&next);
            return None;
        };
        let job = EncodeJob {
            key: next.opening.picture,
            pixels: picture.pixels.clone(),
            prompt: next.prompt.clone(),
            since: picture.since,
        };
        self.encoding = Some(next);
        Some(job)
    }

    /// Marks the opening at hand as computed; returns who asked for it, what it is, and the sessions that wait to hear that the
    /// model has seen the picture.
    pub fn encoded(&mut self) -> Option<(Asker, Opening, Vec<SessionId>)> {
        let computed = self.encoding.take()?;
        self.is_over(&computed);
        let Wanted { asker, opening, .. } = computed;
        let holders = self.pictures.get_mut(&opening.picture);
        let holders = holders.map(|picture| &mut picture.holders);
        let waiting = holders.into_iter().flatten().filter(|h| h.waits);
        let sessions = waiting.map(|holder| {
            holder.waits = false;
            holder.session
        });
        Some((asker, opening, sessions.collect()))
    }

    /// The session needs not wait any more to hear that the model has seen a picture; whether it did.
    pub fn is_seen(&mut self, key: PictureKey, session: SessionId) -> bool {
        let holders = self.pictures.get_mut(&key).map(|p| &mut p.holders);
        let mut holders = holders.into_iter().flatten();
        let holder = holders.find(|holder| holder.session == session);
        holder.is_some_and(|holder| std::mem::take(&mut holder.waits))
    }

    /// What was being computed goes back into the line, before all others.
    pub fn requeue(&mut self) {
        if let Some(wanted) = self.encoding.take() {
            self.line.push_first(wanted.asker, wanted);
        }
    }

    /// This is neither in the line nor being computed any more.
    fn is_over(&mut self, it: &Wanted) {
        self.wanted.remove(&need(it.asker, it.opening));
        self.changes += 1;
    }
}
