//! The worker's pictures: who holds them, which is looked at next, and looking at it, slice by slice.

use std::time::Instant;

use api::{Asker, EncodeTimings, Event, Failure, PictureKey, Pixels, SessionId};
use candle_core::Tensor;

use super::{Worker, gone};
use crate::guard::{Fault, guarded, lost, panicked};
use crate::pace::Pace;
use crate::prefix::Cached;
use crate::sequence::Running;
use model::kernels::{Mark, Span};
use model::network::Network;

/// A picture that some session holds.
pub(super) struct Picture {
    pixels: Pixels,
    since: Instant,
    holders: Vec<Holder>,
}

/// A session that holds a picture.
struct Holder {
    session: SessionId,
    /// It waits to hear that the picture is encoded.
    waits: bool,
}

/// A picture being looked at.
pub(super) struct Looking<N: Network> {
    asker: Asker,
    key: PictureKey,
    started: Instant,
    vision_ms: f64,
    stage: Stage<N>,
}

enum Stage<N: Network> {
    Vision {
        look: N::Look,
        /// What a card was asked for before the last stage: it is never more than two behind, so that no question has to wait
        /// for the whole tower.
        behind: Option<Mark>,
    },
    /// The vectors of the whole opening, of which `cached` holds the first entries.
    Prefill {
        x: Tensor,
        cached: Cached,
        /// What is computed of them now, and how many entries that is.
        pass: Option<(N::Pass, usize)>,
    },
}

impl<N: Network> Worker<N> {
    pub(super) fn picture(&mut self, picture: api::Picture) {
        let api::Picture { asker, key, pixels } = picture;
        let picture = self.pictures.entry(key).or_insert_with(|| Picture {
            pixels,
            since: Instant::now(),
            holders: Vec::new(),
        });
        let encoded = self.cache.has_picture(key);
        let session = asker.session;
        picture.holders.retain(|holder| holder.session != session);
        picture.holders.push(Holder {
            session,
            waits: !encoded,
        });
        if encoded {
            let encoded = Event::Encoded {
                key,
                tokens: self.model.shape().picture_entries as u64,
                timings: EncodeTimings::default(),
                cached: true,
            };
            self.reports.tell(session, encoded);
            return;
        }
        if self.settings.eager_encode {
            self.look_at(asker, key);
        }
    }

    /// Puts a picture in the line, once.
    pub(super) fn look_at(&mut self, asker: Asker, key: PictureKey) {
        let looking = self.looking.as_ref().is_some_and(|l| l.key == key);
        if !looking && !self.line.iter().any(|(_, k)| *k == key) {
            self.line.push(asker, (asker, key));
        }
    }

    /// Pictures that are looked at for questions alone leave with the last that waited for them.
    pub(super) fn drop_unwanted(&mut self) {
        if self.settings.eager_encode {
            return;
        }
        let Worker { line, waiting, .. } = self;
        let unwanted = |key: &PictureKey| !waiting.iter().any(|s| s.picture == Some(*key));
        line.take_where(|(_, key)| unwanted(key));
        if self.looking.as_ref().is_some_and(|l| unwanted(&l.key)) {
            self.stop_looking();
        }
    }

    /// Drops a picture for one session; entirely, if no other holds it.
    pub(super) fn drop_picture(&mut self, key: PictureKey, session: SessionId) {
        let Some(picture) = self.pictures.get_mut(&key) else {
            return;
        };
        picture.holders.retain(|holder| holder.session != session);
        if picture.holders.is_empty() {
            self.pictures.remove(&key);
            self.line.take_where(|(_, k)| *k == key);
            if self.looking.as_ref().is_some_and(|l| l.key == key) {
                self.stop_looking();
            }
            self.cache.forget_picture(key);
        } else {
            self.cache.forget_talk(session, key);
        }
        self.fail_waiting(&gone(), |s| {
            s.asker.session == session && s.picture == Some(key)
        });
    }

    pub(super) fn stop_looking(&mut self) {
        if let Some(Looking {
            stage: Stage::Prefill { cached, .. },
            ..
        }) = self.looking.take()
        {
            self.cache.release(cached);
        }
    }

    /// A slice of looking at a picture: a good half of a decode step while others decode, else a whole stage.
    pub(super) fn look(&mut self) -> Result<(), Fault> {
        let decoding = self.slots.iter().any(Running::is_decoding);
        if self.looking.is_some() {
            return self.look_on(decoding);
        }
        // First those that a question waits for.
        let Worker { line, waiting, .. } = self;
        let wanted = |key: &PictureKey| waiting.iter().any(|s| s.picture == Some(*key));
        let next = line.pop(|(_, key)| wanted(key));
        match next.or_else(|| line.pop(|_| true)) {
            Some((asker, key)) => self.begin_looking(asker, key),
            None => Ok(()),
        }
    }

    fn begin_looking(&mut self, asker: Asker, key: PictureKey) -> Result<(), Fault> {
        let Some(picture) = self.pictures.get(&key) else {
            // Nobody holds it any more, so that nobody's question can wait for it.
            self.fail_waiting(&gone(), |s| s.picture == Some(key));
            return Ok(());
        };
        let started = Instant::now();
        let pixels = picture.pixels.clone();
        let model = &self.model;
        let begun = guarded(|| {
            #[cfg(test)]
            crate::faults::strike("picture", &[])?;
            model.look(&pixels)
        });
        match begun {
            Ok(look) => {
                self.looking = Some(Looking {
                    asker,
                    key,
                    started,
                    vision_ms: 0.0,
                    stage: Stage::Vision { look, behind: None },
                });
                Ok(())
            }
            Err(fault) => self.looking_failed(key, fault),
        }
    }

    fn look_on(&mut self, decoding: bool) -> Result<(), Fault> {
        let Some(mut looking) = self.looking.take() else {
            return Ok(());
        };
        let started = Instant::now();
        let key = looking.key;
        match &mut looking.stage {
            Stage::Vision { look, behind } => {
                let kind = self.model.look_kind(look);
                let most = match decoding {
                    true => self.pace.vision_rows(kind, self.model.look_rows(look)),
                    false => Pace::WHOLE,
                };
                let (model, opening) = (&self.model, &self.opening);
                let step = guarded(|| {
                    let step = model.look_on(look, most)?;
                    let here = Mark::set(model.device())?;
                    if decoding || step.vectors.is_some() {
                        here.wait()?;
                    } else if let Some(before) = behind.replace(here) {
                        before.wait()?;
                    }
                    let Some(vectors) = step.vectors else {
                        return Ok((step.rows, None));
                    };
                    Ok((step.rows, Some(model.embed(opening, Some(&vectors))?)))
                });
                let (rows, x) = match step {
                    Ok(done) => done,
                    Err(fault) => return self.looking_failed(key, fault),
                };
                if decoding {
                    self.pace.vision(kind, started.elapsed(), rows);
                }
                if let Some(x) = x {
                    looking.vision_ms = looking.started.elapsed().as_secs_f64() * 1e3;
                    looking.stage = Stage::Prefill {
                        x,
                        cached: Cached::default(),
                        pass: None,
                    };
                }
                self.looking = Some(looking);
            }
            Stage::Prefill { x, cached, pass } => {
                let entries = self.opening.entries();
                let start = cached.entries.len();
                let left = (entries.len() - start).min(Pace::PREFILL);
                let (model, arena) = (&self.model, &self.arena);
                let all = model.layers();
                let len = match &pass {
                    Some((_, len)) => *len,
                    None if decoding => self.pace.prefill_rows(left, all),
                    None => left,
                };
                let layers = match decoding {
                    true => self.pace.prefill_layers(len, all),
                    false => all,
                };
                let places = self.opening.positions(start..start + len);
                let grown = self.cache.grow(&mut cached.pages, start + len);
                let under_way = pass.take();
                let before = under_way
                    .as_ref()
                    .map_or(0, |(pass, _)| model.computed(pass));
                let done = grown.map_err(Fault::from).and_then(|()| {
                    guarded(|| {
                        #[cfg(test)]
                        crate::faults::strike("picture", &[])?;
                        let under_way = match under_way {
                            Some((under_way, _)) => under_way,
                            None => {
                                let span = Span {
                                    start,
                                    len,
                                    pages: cached.pages.clone(),
                                };
                                model.begin(
                                    x.narrow(0, start, len)?.contiguous()?,
                                    vec![span],
                                    places,
                                )?
                            }
                        };
                        let (under_way, done) = model.go_on(under_way, layers, arena)?;
                        model.device().synchronize()?;
                        Ok((!done).then_some(under_way))
                    })
                });
                let under_way = match done {
                    Ok(under_way) => under_way,
                    Err(fault) => {
                        self.cache.release(std::mem::take(cached));
                        return self.looking_failed(key, fault);
                    }
                };
                let computed = layers.min(all - before);
                self.pace.prefilled(started.elapsed(), len, computed, all);
                if let Some(under_way) = under_way {
                    *pass = Some((under_way, len));
                    self.looking = Some(looking);
                    return Ok(());
                }
                cached
                    .entries
                    .extend_from_slice(&entries[start..start + len]);
                if cached.entries.len() < entries.len() {
                    self.looking = Some(looking);
                    return Ok(());
                }
                let cached = std::mem::take(cached);
                self.looked(
                    looking.asker,
                    key,
                    cached,
                    (looking.started, looking.vision_ms),
                );
            }
        }
        Ok(())
    }

    fn looked(
        &mut self,
        asker: Asker,
        key: PictureKey,
        cached: Cached,
        (started, vision_ms): (Instant, f64),
    ) {
        self.cache.keep_picture(asker.client, key, cached);
        let Some(picture) = self.pictures.get_mut(&key) else {
            return;
        };
        let timings = EncodeTimings {
            queue_ms: (started - picture.since).as_secs_f64() * 1e3,
            vision_ms,
            prefill_ms: started.elapsed().as_secs_f64() * 1e3 - vision_ms,
        };
        let tokens = self.model.shape().picture_entries as u64;
        for holder in picture.holders.iter_mut().filter(|holder| holder.waits) {
            holder.waits = false;
            let encoded = Event::Encoded {
                key,
                tokens,
                timings,
                cached: false,
            };
            self.reports.tell(holder.session, encoded);
        }
        for sequence in self.waiting.in_order() {
            if sequence.picture == Some(key) {
                sequence.picture_ready();
            }
        }
    }

    /// Ends a picture's encoding and whoever waits for it; a panic in it costs the others their cache, no more.
    fn looking_failed(&mut self, key: PictureKey, fault: Fault) -> Result<(), Fault> {
        self.looking = None;
        let error = match fault {
            Fault::Job(error) => error,
            Fault::Lost(_) => return Err(fault),
            Fault::Panic(what) => {
                tracing::error!(panic = %what, "the worker panicked over a picture and starts its cache anew");
                for Running { sequence, .. } in std::mem::take(&mut self.slots) {
                    self.waiting.push(sequence.asker, sequence);
                }
                self.renew_cache().map_err(|e| Fault::Lost(e.to_string()))?;
                panicked()
            }
        };
        if let Some(picture) = self.pictures.remove(&key) {
            // Those too that heard of it long ago: it had left the cache and can't be had again.
            self.picture_failed(key, picture, &error);
        }
        self.fail_waiting(&error, |s| s.picture == Some(key));
        Ok(())
    }

    /// What was being looked at is looked at again, first.
    pub(super) fn look_anew(&mut self) {
        if let Some(looking) = self.looking.take() {
            self.line
                .push_first(looking.asker, (looking.asker, looking.key));
        }
    }

    /// Drops all pictures and tells whoever holds one: the device is lost.
    pub(super) fn lose_pictures(&mut self) {
        for (key, picture) in std::mem::take(&mut self.pictures) {
            self.picture_failed(key, picture, &lost());
        }
    }

    fn picture_failed(&self, key: PictureKey, picture: Picture, failure: &Failure) {
        for holder in picture.holders {
            let failed = Event::PictureFailed {
                key,
                failure: failure.clone(),
            };
            self.reports.tell(holder.session, failed);
        }
    }
}
