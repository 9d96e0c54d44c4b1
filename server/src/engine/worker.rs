//! The worker: one thread that owns the model and decides, between tokens, what the device does next.
//!
//! Each turn of its loop: read commands, fill the slots from the queue, run one forward pass for all slots, then, while
//! a picture waits, a slice of looking at it. With nobody decoding the slices follow each other without a break.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use wire::{EncodeTimings, ErrorCode, FinishReason};

use super::pace::Pace;
use super::prefix::{Cached, PrefixCache};
use super::queue::FairQueue;
use super::sequence::{Next, Running, Sequence};
use super::types::{AskJob, Event, EventSink, JobError, PictureJob, PictureKey};
use super::{Command, Load, Settings};
use crate::device::device_memory;
use crate::glm4v::{Encoding, Entry, IMAGE, Model, expand, positions};
use crate::image::Pixels;
use crate::kernels::{Arena, Span};
use crate::metrics::METRICS;
use crate::text::{AnswerStream, Sampler, Tokenizer, prompt};

pub struct Worker {
    model: Model,
    tokenizer: Arc<Tokenizer>,
    settings: Settings,
    load: Arc<Load>,
    arena: Arena,
    cache: PrefixCache,
    waiting: FairQueue<Sequence>,
    slots: Vec<Running>,
    pictures: HashMap<PictureKey, Picture>,
    /// Pictures to look at, in order of arrival.
    line: VecDeque<PictureKey>,
    looking: Option<Looking>,
    /// The ids before a picture's vectors, as every conversation about one begins.
    opening: Vec<u32>,
    pace: Pace,
    draining: bool,
    /// When the device was last asked for its memory.
    memory_told: Option<Instant>,
}

/// A picture that some session holds.
struct Picture {
    pixels: Arc<Pixels>,
    since: Instant,
    /// Who wants to hear that it is encoded: session, and its events.
    told: Vec<(u64, Arc<dyn EventSink>)>,
    holders: Vec<u64>,
}

/// A picture being looked at.
struct Looking {
    key: PictureKey,
    started: Instant,
    vision_ms: f64,
    stage: Stage,
}

enum Stage {
    Vision(Encoding),
    /// The vectors of the whole opening, of which `cached` holds the first entries.
    Prefill {
        x: Tensor,
        entries: Vec<Entry>,
        cached: Cached,
    },
}

impl Worker {
    pub fn new(
        model: Model,
        tokenizer: Arc<Tokenizer>,
        settings: Settings,
        load: Arc<Load>,
        pages: usize,
    ) -> candle_core::Result<Self> {
        let ids = prompt(&tokenizer, &[], "", true).map_err(candle_core::Error::msg)?;
        let at = ids.iter().position(|id| *id == model.config.eoi_token_id);
        let opening = ids[..at.map_or(0, |at| at + 1)].to_vec();
        Ok(Worker {
            arena: model.arena(pages)?,
            cache: PrefixCache::new(pages, settings.prefix_cache),
            pace: Pace::default(),
            waiting: FairQueue::default(),
            slots: Vec::new(),
            pictures: HashMap::new(),
            line: VecDeque::new(),
            looking: None,
            opening,
            model,
            tokenizer,
            settings,
            load,
            draining: false,
            memory_told: None,
        })
    }

    /// Serves commands until every handle is gone or the engine shuts down.
    pub fn run(mut self, commands: &Receiver<Command>) {
        /// How often paused answers are looked at again when nothing else happens.
        const PAUSED: Duration = Duration::from_millis(20);
        loop {
            let busy =
                !self.slots.is_empty() || self.looking.is_some() || self.next_picture().is_some();
            let command = if busy {
                commands.try_recv().ok()
            } else if self.waiting.is_empty() {
                match commands.recv() {
                    Ok(command) => Some(command),
                    Err(_) => return,
                }
            } else {
                match commands.recv_timeout(PAUSED) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            if let Some(command) = command {
                self.command(command);
                while let Ok(command) = commands.try_recv() {
                    self.command(command);
                }
            }
            self.turn();
            if self.draining && self.slots.is_empty() && self.waiting.is_empty() {
                return;
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Picture(job) => self.picture(job),
            Command::Ask(job) => self.ask(job),
            Command::Cancel { request } => {
                self.end_where(FinishReason::Cancelled, |s| s.request == request)
            }
            Command::Forget { key, done } => {
                self.drop_picture(key, None);
                done();
            }
            Command::EndSession { session } => {
                self.end_where(FinishReason::Cancelled, |s| s.session == session);
                let keys: Vec<_> = self.pictures.keys().copied().collect();
                for key in keys {
                    self.drop_picture(key, Some(session));
                }
                self.cache.forget_session(session);
            }
            Command::Shutdown => self.draining = true,
        }
    }

    fn picture(&mut self, job: PictureJob) {
        let PictureJob {
            session,
            key,
            pixels,
            events,
        } = job;
        let picture = self.pictures.entry(key).or_insert_with(|| Picture {
            pixels,
            since: Instant::now(),
            told: Vec::new(),
            holders: Vec::new(),
        });
        if !picture.holders.contains(&session) {
            picture.holders.push(session);
        }
        if self.cache.has_picture(key) {
            let tokens = self.model.config.image_tokens();
            events.event(Event::Encoded {
                key,
                tokens,
                timings: EncodeTimings::default(),
                cached: true,
            });
            return;
        }
        picture.told.push((session, events));
        if self.settings.eager_encode {
            self.look_at(key);
        }
    }

    /// Puts a picture in the line, once.
    fn look_at(&mut self, key: PictureKey) {
        let looking = self.looking.as_ref().is_some_and(|l| l.key == key);
        if !looking && !self.line.contains(&key) {
            self.line.push_back(key);
        }
    }

    /// Drops a picture for one session, or for all.
    fn drop_picture(&mut self, key: PictureKey, session: Option<u64>) {
        let Some(picture) = self.pictures.get_mut(&key) else {
            return;
        };
        if let Some(session) = session {
            picture.holders.retain(|s| *s != session);
            picture.told.retain(|(s, _)| *s != session);
            if !picture.holders.is_empty() {
                return;
            }
        }
        self.pictures.remove(&key);
        self.line.retain(|k| *k != key);
        if self.looking.as_ref().is_some_and(|l| l.key == key) {
            self.stop_looking();
        }
        self.cache.forget_picture(key);
        for sequence in self.waiting.take_where(|s| s.picture == Some(key)) {
            self.fail(sequence, gone());
        }
    }

    fn stop_looking(&mut self) {
        if let Some(Looking {
            stage: Stage::Prefill { cached, .. },
            ..
        }) = self.looking.take()
        {
            self.cache.release(cached);
        }
    }

    fn ask(&mut self, job: AskJob) {
        let c = &self.model.config;
        let (request, events, picture) = (job.request, job.events.clone(), job.picture);
        let refuse = |error| {
            self.load.leave();
            events.event(Event::Failed { request, error })
        };
        let ids = match prompt(
            &self.tokenizer,
            &job.history,
            &job.question,
            picture.is_some(),
        ) {
            Ok(ids) => ids,
            Err(e) => return refuse(JobError::new(ErrorCode::Internal, e.to_string())),
        };
        let sampler = Sampler::new(&job.sampling, &ids);
        let prompt = expand(ids, c);
        let used = positions(&prompt.entries, prompt.entries.len() - 1)[0] as usize + 1;
        if used >= c.seq_length {
            return refuse(JobError::new(
                ErrorCode::ContextFull,
                format!(
                    "The conversation takes {used} of the model's {} positions, so there is no room for an answer: start a new \
                     conversation, or send a shorter history.",
                    c.seq_length
                ),
            ));
        }
        if picture.is_some_and(|key| !self.pictures.contains_key(&key)) {
            return refuse(gone());
        }
        let most = usize::try_from(job.sampling.max_new_tokens)
            .unwrap_or(usize::MAX)
            .min(c.seq_length - used);
        let stream = AnswerStream::new(self.tokenizer.clone(), job.sampling.stop.clone());
        let mut sequence = Sequence::new(job, prompt, most, sampler, stream);
        match picture {
            Some(key) if !self.cache.has_picture(key) => {
                sequence.tell_position(None);
                self.look_at(key);
            }
            _ => sequence.picture_was_ready(),
        }
        self.waiting.push(sequence.session, sequence);
        self.tell_positions();
    }

    fn turn(&mut self) {
        let now = Instant::now();
        if self
            .waiting
            .iter()
            .chain(self.slots.iter().map(|r| &r.sequence))
            .any(|s| s.deadline <= now)
        {
            self.end_where(FinishReason::Timeout, |s| s.deadline <= now);
        }
        self.yield_slots();
        self.fill_slots();
        self.tell_positions();
        if !self.slots.is_empty() {
            self.forward();
        }
        self.look();
        self.gauge();
    }

    /// Tells the metrics how it stands.
    fn gauge(&mut self) {
        /// How often the driver is asked, which takes longer than everything else here.
        const PAUSE: Duration = Duration::from_secs(1);
        let page = self.model.page_bytes() as u64;
        let (used, size) = (self.cache.used_pages(), self.arena.pages());
        METRICS.stands(
            self.waiting.iter().count(),
            self.slots.len(),
            used as u64 * page,
            size as u64 * page,
        );
        if self.memory_told.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.memory_told = Some(Instant::now());
            if let Some((free, size)) = device_memory(self.model.device()) {
                METRICS.device_memory_used_bytes.set(size - free);
                METRICS.device_memory_size_bytes.set(size);
            }
        }
    }

    /// Ends requests wherever they are, keeping what was computed.
    fn end_where(&mut self, reason: FinishReason, chosen: impl Fn(&Sequence) -> bool) {
        for sequence in self.waiting.take_where(&chosen) {
            self.load.leave();
            sequence.finish(reason);
        }
        for i in (0..self.slots.len()).rev() {
            if chosen(&self.slots[i].sequence) {
                let running = self.slots.remove(i);
                self.finish(running, reason);
            }
        }
    }

    fn finish(&mut self, running: Running, reason: FinishReason) {
        self.cache
            .keep(running.sequence.namespace(), running.cached);
        self.load.leave();
        if let Some(took) = running.sequence.running_for() {
            self.load.answered(took);
        }
        running.sequence.finish(reason);
    }

    fn fail(&mut self, sequence: Sequence, error: JobError) {
        self.load.leave();
        sequence.fail(error);
    }

    /// Answers that nobody reads leave their slot: at once if the reader is too slow, for others if it is away.
    fn yield_slots(&mut self) {
        let wanted = self
            .waiting
            .iter()
            .any(|s| self.is_ready(s) && !s.events.away());
        for i in (0..self.slots.len()).rev() {
            let events = &self.slots[i].sequence.events;
            if events.stalled()
                || (wanted && self.slots.len() == self.settings.max_batch && events.away())
            {
                let Running { sequence, cached } = self.slots.remove(i);
                self.cache.keep(sequence.namespace(), cached);
                self.waiting.push(sequence.session, sequence);
            }
        }
    }

    fn is_ready(&self, sequence: &Sequence) -> bool {
        !sequence.events.stalled()
            && sequence
                .picture
                .is_none_or(|key| self.cache.has_picture(key))
    }

    fn fill_slots(&mut self) {
        while self.slots.len() < self.settings.max_batch {
            let mut waiting = std::mem::take(&mut self.waiting);
            let next = waiting
                .pop(|s| self.is_ready(s) && !s.events.away())
                .or_else(|| waiting.pop(|s| self.is_ready(s)));
            self.waiting = waiting;
            let Some(mut sequence) = next else { break };
            sequence.picture_ready();
            if let Some(key) = sequence.picture {
                self.cache.touch_picture(key);
            }
            match self
                .cache
                .begin(sequence.namespace(), &sequence.entries, &self.arena)
            {
                Ok(cached) => {
                    sequence.start(cached.entries.len());
                    self.slots.push(Running { sequence, cached });
                }
                Err(e) => self.fail(sequence, job_error(&e)),
            }
        }
        if self.slots.len() == self.settings.max_batch {
            return;
        }
        // A picture whose encoding was dropped to make room is looked at again.
        let missing: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|s| s.picture)
            .filter(|key| !self.cache.has_picture(*key))
            .collect();
        missing.into_iter().for_each(|key| self.look_at(key));
    }

    fn tell_positions(&mut self) {
        let Worker { waiting, cache, .. } = self;
        for (ahead, sequence) in waiting.in_order().into_iter().enumerate() {
            let ready = sequence.picture.is_none_or(|key| cache.has_picture(key));
            sequence.tell_position(ready.then_some(ahead));
        }
    }

    /// One forward pass for every slot: a token for those that decode, a piece of the prompt for the others.
    fn forward(&mut self) {
        let decoding = self.slots.iter().any(Running::is_decoding);
        let piece = if decoding {
            self.pace.prefill_rows()
        } else {
            Pace::WHOLE
        };
        let all: Vec<usize> = (0..self.slots.len()).collect();
        let result = match self.pass(&all, piece) {
            // One of several failed: each alone, so that the fault stays with its own.
            Err(_) if self.slots.len() > 1 => all
                .iter()
                .map(|i| self.pass(&[*i], piece).map(|mut logits| logits.remove(0)))
                .collect(),
            Err(error) => vec![Err(error)],
            Ok(logits) => logits.into_iter().map(Ok).collect::<Vec<_>>(),
        };
        for (i, result) in result.into_iter().enumerate().rev() {
            let eos = self.model.config.eos_token_id.as_slice();
            let next = match result {
                Ok(None) => continue,
                Ok(Some(mut logits)) => self.slots[i].sequence.accept(&mut logits, eos),
                Err(error) => Err(error),
            };
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::Finished(reason)) => {
                    let running = self.slots.remove(i);
                    self.finish(running, reason);
                }
                Err(error) => {
                    let Running { sequence, cached } = self.slots.remove(i);
                    self.cache.release(cached);
                    self.fail(sequence, error);
                }
            }
        }
    }

    /// Computes the next entries of some slots, at most `piece` each. For each slot, the scores of its next token once
    /// all its entries are computed.
    fn pass(&mut self, slots: &[usize], piece: usize) -> Result<Vec<Option<Vec<f32>>>, JobError> {
        let started = Instant::now();
        let mut ids = Vec::new();
        let mut spans = Vec::new();
        let mut places = Vec::new();
        for i in slots {
            let Running { sequence, cached } = &mut self.slots[*i];
            let start = cached.entries.len();
            let len = piece.min(sequence.entries.len() - start);
            let new = &sequence.entries[start..start + len];
            if new.contains(&IMAGE) {
                return Err(JobError::new(
                    ErrorCode::Internal,
                    "The picture left the cache while it was needed: ask again.",
                )
                .retry_after(0.0));
            }
            ids.extend_from_slice(new);
            places.extend_from_slice(&positions(&sequence.entries[..start + len], start));
            self.cache
                .grow(&mut cached.pages, start + len)
                .map_err(|e| job_error(&e))?;
            spans.push(Span {
                start,
                len,
                pages: cached.pages.clone(),
            });
        }
        let last: Vec<usize> = slots
            .iter()
            .zip(&spans)
            .enumerate()
            .filter(|(_, (i, span))| {
                span.start + span.len == self.slots[**i].sequence.entries.len()
            })
            .map(|(row, _)| row)
            .collect();
        let lens: Vec<usize> = spans.iter().map(|s| s.len).collect();
        let (model, arena) = (&self.model, &self.arena);
        let logits = guarded(|| {
            let hidden = model.forward(model.decoder.embed(&ids)?, spans, &places, arena)?;
            if last.is_empty() {
                model.device().synchronize().map(|()| vec![])
            } else {
                model.logits(&hidden, &last)
            }
        });
        let logits = match logits {
            Ok(logits) => logits,
            Err(Fault::Error(e)) => return Err(job_error(&e)),
            Err(Fault::Panic(what)) => {
                self.recover()?;
                return Err(panicked(&what));
            }
        };
        for (i, len) in slots.iter().zip(&lens) {
            let Running { sequence, cached } = &mut self.slots[*i];
            let start = cached.entries.len();
            cached
                .entries
                .extend_from_slice(&sequence.entries[start..start + len]);
        }
        let (took, decode) = (started.elapsed(), lens.iter().all(|len| *len == 1));
        self.pace.forward(took, ids.len(), decode);
        METRICS.forward(took, slots.len(), decode);
        let mut results = vec![None; slots.len()];
        for (row, logits) in last.into_iter().zip(logits) {
            results[row] = Some(logits);
        }
        Ok(results)
    }

    /// After a panic nothing in the cache is trusted: it starts anew, and running answers are computed again.
    fn recover(&mut self) -> Result<(), JobError> {
        self.looking = None;
        let pages = self.arena.pages();
        self.cache = PrefixCache::new(pages, self.settings.prefix_cache);
        self.arena = self.model.arena(pages).map_err(|e| job_error(&e))?;
        for running in &mut self.slots {
            running.cached = Cached::default();
        }
        Ok(())
    }

    /// The next picture to look at: first those that a question waits for.
    fn next_picture(&self) -> Option<PictureKey> {
        let wanted = |key: &&PictureKey| self.waiting.iter().any(|s| s.picture == Some(**key));
        self.line.iter().find(wanted).or(self.line.front()).copied()
    }

    /// A slice of looking at a picture: about as long as a decode step while others decode, else a whole stage.
    fn look(&mut self) {
        let decoding = self.slots.iter().any(Running::is_decoding);
        if self.looking.is_some() {
            self.look_on(decoding);
        } else if let Some(key) = self.next_picture() {
            self.line.retain(|k| *k != key);
            self.begin_looking(key);
        }
    }

    fn begin_looking(&mut self, key: PictureKey) {
        let Some(picture) = self.pictures.get(&key) else {
            return;
        };
        let started = Instant::now();
        let pixels = picture.pixels.clone();
        let vision = &self.model.vision;
        match guarded(|| vision.start(&pixels.to_f32_chw())) {
            Ok(encoding) => {
                self.looking = Some(Looking {
                    key,
                    started,
                    vision_ms: 0.0,
                    stage: Stage::Vision(encoding),
                })
            }
            Err(fault) => self.looking_failed(key, fault),
        }
    }

    fn look_on(&mut self, decoding: bool) {
        let Some(mut looking) = self.looking.take() else {
            return;
        };
        let started = Instant::now();
        let key = looking.key;
        match &mut looking.stage {
            Stage::Vision(encoding) => {
                let kind = encoding.kind();
                let most = if decoding {
                    self.pace.vision_rows(kind)
                } else {
                    Pace::WHOLE
                };
                let (model, opening) = (&self.model, &self.opening);
                let step = guarded(|| {
                    let step = model.vision.step(encoding, most)?;
                    if decoding || step.vectors.is_some() {
                        model.device().synchronize()?;
                    }
                    let Some(vectors) = step.vectors else {
                        return Ok((step.rows, None));
                    };
                    // The tokens before the picture, then its vectors with begin and end.
                    let before = model.decoder.embed(&opening[..opening.len() - 3])?;
                    Ok((step.rows, Some(Tensor::cat(&[&before, &vectors], 0)?)))
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
                        entries: expand(self.opening.clone(), &self.model.config).entries,
                        cached: Cached::default(),
                    };
                }
                self.looking = Some(looking);
            }
            Stage::Prefill { x, entries, cached } => {
                let piece = if decoding {
                    self.pace.prefill_rows()
                } else {
                    Pace::WHOLE
                };
                let start = cached.entries.len();
                let len = piece.min(entries.len() - start);
                let places = positions(&entries[..start + len], start);
                let grown = self.cache.grow(&mut cached.pages, start + len);
                let (model, arena) = (&self.model, &self.arena);
                let done = grown.map_err(Fault::Error).and_then(|()| {
                    guarded(|| {
                        let span = Span {
                            start,
                            len,
                            pages: cached.pages.clone(),
                        };
                        model.forward(
                            x.narrow(0, start, len)?.contiguous()?,
                            vec![span],
                            &places,
                            arena,
                        )?;
                        model.device().synchronize()
                    })
                });
                if let Err(fault) = done {
                    self.cache.release(std::mem::take(cached));
                    return self.looking_failed(key, fault);
                }
                self.pace.forward(started.elapsed(), len, false);
                cached
                    .entries
                    .extend_from_slice(&entries[start..start + len]);
                if cached.entries.len() < entries.len() {
                    self.looking = Some(looking);
                    return;
                }
                let cached = std::mem::take(cached);
                self.looked(key, cached, looking.started, looking.vision_ms);
            }
        }
    }

    fn looked(&mut self, key: PictureKey, cached: Cached, started: Instant, vision_ms: f64) {
        self.cache.keep_picture(key, cached);
        let Some(picture) = self.pictures.get_mut(&key) else {
            return;
        };
        let timings = EncodeTimings {
            queue_ms: (started - picture.since).as_secs_f64() * 1e3,
            vision_ms,
            prefill_ms: started.elapsed().as_secs_f64() * 1e3 - vision_ms,
        };
        let tokens = self.model.config.image_tokens();
        for (_, events) in picture.told.drain(..) {
            events.event(Event::Encoded {
                key,
                tokens,
                timings,
                cached: false,
            });
        }
        for sequence in self.waiting.in_order() {
            if sequence.picture == Some(key) {
                sequence.picture_ready();
            }
        }
    }

    fn looking_failed(&mut self, key: PictureKey, fault: Fault) {
        self.looking = None;
        let error = match fault {
            Fault::Error(e) => job_error(&e),
            Fault::Panic(what) => self.recover().err().unwrap_or_else(|| panicked(&what)),
        };
        if let Some(picture) = self.pictures.remove(&key) {
            for (_, events) in picture.told {
                events.event(Event::PictureFailed {
                    key,
                    error: error.clone(),
                });
            }
        }
        for sequence in self.waiting.take_where(|s| s.picture == Some(key)) {
            self.fail(sequence, error.clone());
        }
    }

    /// Runs everything once that will be served, so that the first user is as fast as the tenth.
    pub fn warm_up(&mut self) -> candle_core::Result<()> {
        let c = &self.model.config;
        let size = c.vision_config.image_size;
        let vectors = self.model.vision.encode(&vec![0.5; 3 * size * size])?;
        let rows = vectors.dim(0)?;
        let mut pages = Vec::new();
        for _ in 0..self.settings.max_batch {
            let mut own = Vec::new();
            self.cache.grow(&mut own, rows + 8)?;
            pages.push(own);
        }
        let span = |start, len, slot: usize| Span {
            start,
            len,
            pages: pages[slot].clone(),
        };
        let places: Vec<u32> = (0..rows as u32).collect();
        self.model
            .forward(vectors, vec![span(0, rows, 0)], &places, &self.arena)?;
        for batch in 1..=self.settings.max_batch {
            for len in [4, 1] {
                for turn in 0..3 {
                    let started = Instant::now();
                    let ids = vec![0; batch * len];
                    let places: Vec<u32> = (0..batch).flat_map(|_| 0..len as u32).collect();
                    let spans = (0..batch).map(|slot| span(0, len, slot)).collect();
                    let hidden = self.model.forward(
                        self.model.decoder.embed(&ids)?,
                        spans,
                        &places,
                        &self.arena,
                    )?;
                    let all: Vec<usize> = (0..batch).collect();
                    self.model.logits(&hidden, &all)?;
                    if (batch, len, turn) == (1, 1, 2) {
                        // Slices of other work are cut by this from the first one on.
                        self.pace.forward(started.elapsed(), 1, true);
                    }
                }
            }
        }
        for pages in pages {
            self.cache.release(Cached {
                entries: vec![],
                pages,
            });
        }
        Ok(())
    }
}

enum Fault {
    Error(candle_core::Error),
    Panic(String),
}

/// Runs a piece of work on the model so that a panic in it stays with its job.
fn guarded<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Fault::Error),
        Err(panic) => {
            let what = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
                .unwrap_or_else(|| "unknown".into());
            Err(Fault::Panic(what))
        }
    }
}

fn job_error(e: &candle_core::Error) -> JobError {
    let what = e.to_string();
    let lower = what.to_lowercase();
    if lower.contains("out of memory") || lower.contains("out_of_memory") {
        let message = "The device has no memory left for this: try again when others are done, or serve with a smaller --cache-bytes.";
        return JobError::new(ErrorCode::OutOfMemory, message)
            .retry_after(1000.0)
            .detail(what);
    }
    JobError::new(
        ErrorCode::WorkerFailed,
        "The worker failed in the middle of this; it goes on with the next. Try again.",
    )
    .retry_after(0.0)
    .detail(what)
}

fn panicked(what: &str) -> JobError {
    JobError::new(
        ErrorCode::WorkerFailed,
        "The worker failed in the middle of this and has recovered. Try again.",
    )
    .retry_after(0.0)
    .detail(format!("panicked: {what}"))
}

fn gone() -> JobError {
    JobError::new(
        ErrorCode::ImageGone,
        "The picture was forgotten before the answer: send it again.",
    )
}
