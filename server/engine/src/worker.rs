//! The worker: one thread that owns the model and decides, between tokens, what the device does next.
//!
//! Each turn of its loop: read commands, fill the slots from the queue, run one forward pass for all slots, then, while
//! a picture waits, a slice of looking at it. With nobody decoding the slices follow each other without a break.

mod looking;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use api::{
    Asker, ErrorCode, Failure, FairQueue, FinishReason, Gauges, Observer, PictureKey, Pixels,
    Presence, RequestId, SessionId,
};
use candle_core::Tensor;

use looking::{Looking, Picture};

use super::command::{Command, Question};
use super::guard::{Fault, catch, guarded, lost, panicked};
use super::load::Load;
use super::pace::Pace;
use super::prefix::{Cached, PrefixCache};
use super::reading::Read;
use super::reports::Reports;
use super::sequence::{Running, Sequence};
use super::settings::Settings;
use super::workers::Teller;
use model::device::{device_memory, tell_memory};
use model::kernels::{Arena, Span};
use model::network::Network;
use model::prompt::{Prompt, tokens};

pub struct Worker<N: Network> {
    model: N,
    settings: Settings,
    load: Arc<Load>,
    reports: Reports,
    arena: Arena,
    cache: PrefixCache,
    waiting: FairQueue<Sequence>,
    slots: Vec<Running>,
    /// Questions so far, for their order.
    arrivals: u64,
    /// Sessions of which nobody is connected.
    away: HashSet<SessionId>,
    pictures: HashMap<PictureKey, Picture>,
    /// Pictures to look at, each with who asked for that.
    line: FairQueue<(Asker, PictureKey)>,
    looking: Option<Looking<N>>,
    /// As every conversation about a picture begins.
    opening: Prompt,
    pace: Pace,
    draining: bool,
    /// Panics since the last turn that came to its end.
    panics: usize,
    /// Turns of the loop so far.
    turns: u64,
    /// When health is told next, and the device asked for its memory.
    due: Instant,
    gauges: Gauges,
    observer: Box<dyn Observer>,
}

impl<N: Network> Worker<N> {
    pub fn new(
        model: N,
        opening: Prompt,
        settings: Settings,
        load: Arc<Load>,
        reports: Reports,
        pages: usize,
        observer: Box<dyn Observer>,
    ) -> candle_core::Result<Self> {
        Ok(Worker {
            arena: model.arena(pages)?,
            cache: PrefixCache::new(pages, settings.prefix_cache),
            pace: Pace::new(N::LOOK_KINDS),
            waiting: FairQueue::default(),
            slots: Vec::new(),
            arrivals: 0,
            away: HashSet::new(),
            pictures: HashMap::new(),
            line: FairQueue::default(),
            looking: None,
            opening,
            model,
            settings,
            load,
            reports,
            draining: false,
            panics: 0,
            turns: 0,
            due: Instant::now(),
            gauges: Gauges::default(),
            observer,
        })
    }

    /// Serves commands until every handle is gone or the engine shuts down.
    ///
    /// # Errors
    /// If the device is lost, what it said: nothing more can be computed, and what is open has to be refused.
    pub fn run(&mut self, commands: &Receiver<Command>, status: &Teller) -> Result<(), String> {
        loop {
            let busy = !self.slots.is_empty()
                || self.looking.is_some()
                || !self.line.is_empty()
                || self.waiting.iter().any(|s| self.is_ready(s));
            let command = match busy {
                true => commands.try_recv().ok(),
                false => match commands.recv_timeout(self.rest()) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                },
            };
            if let Some(command) = command {
                self.take(command);
                while let Ok(command) = commands.try_recv() {
                    self.take(command);
                }
            }
            self.turns += 1;
            let fault = match catch(|| self.turn()) {
                Ok(Ok(())) => None,
                Ok(Err(fault)) => Some(fault),
                // Not in work on the model, which is guarded for itself.
                Err(what) => Some(Fault::Panic(what)),
            };
            match fault {
                None => self.panics = 0,
                Some(Fault::Job(_)) => {}
                Some(Fault::Lost(what)) => return Err(what),
                Some(Fault::Panic(what)) => self.recover(&what)?,
            }
            if self.due <= Instant::now() {
                self.report(status);
            }
            if self.draining && self.slots.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// How long nothing has to be done, as long as no command comes.
    fn rest(&self) -> Duration {
        let deadlines = self.waiting.iter().map(|s| s.deadline);
        let next = deadlines.chain([self.due]).min().unwrap_or(self.due);
        next.saturating_duration_since(Instant::now())
    }

    /// Tells how it stands, each second.
    fn report(&mut self, status: &Teller) {
        const PAUSE: Duration = Duration::from_secs(1);
        self.due = Instant::now() + PAUSE;
        // The driver takes longer to tell than everything else here.
        if let Some((free, size)) = device_memory(self.model.device()) {
            self.gauges.memory_used = size - free;
            self.gauges.memory_size = size;
        }
        self.gauge();
        status.health(|health| {
            health.open = self.load.open() as u64;
            health.pages = self.arena.pages() as u64;
            health.used_pages = self.cache.used_pages() as u64;
            health.turn = self.turns;
            health.token_ms = self.pace.token_ms();
        });
    }

    /// A command, whose panic ends it alone: what it was about ends with it.
    fn take(&mut self, command: Command) {
        if let Err(what) = catch(|| self.command(command)) {
            tracing::error!(panic = %what, "the worker panicked over a command");
        }
    }

    /// Refuses all that is open: the device is lost.
    pub fn refuse_all(&mut self) {
        self.fail_all(&lost());
        self.lose_pictures();
    }

    fn fail_all(&mut self, error: &Failure) {
        for Running { sequence, .. } in std::mem::take(&mut self.slots) {
            sequence.fail(error.clone());
        }
        self.fail_waiting(error, |_| true);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Picture(picture) => self.picture(picture),
            Command::Ask(question) => self.ask(*question),
            Command::Read {
                request,
                attempt,
                read,
            } => self.read(read, |s| (s.request, s.attempt) == (request, attempt)),
            Command::GiveWay => self.give_way(),
            Command::Credit { request, events } => {
                let Worker { waiting, slots, .. } = self;
                let running = slots.iter_mut().map(|running| &mut running.sequence);
                let all = waiting.in_order().into_iter().chain(running);
                for sequence in all.filter(|s| s.request == request) {
                    sequence.grant(events);
                }
            }
            Command::Presence { session, presence } => {
                match presence {
                    Presence::Here => self.away.remove(&session),
                    Presence::Away => self.away.insert(session),
                };
            }
            Command::Cancel { request } => {
                self.end_where(FinishReason::Cancelled, |s| s.request == request)
            }
            Command::Forget { key, freeing } => self.drop_picture(key, freeing.session),
            Command::ForgetConversation {
                conversation,
                freeing,
            } => {
                self.end_where(FinishReason::Cancelled, |s| s.conversation == conversation);
                self.cache.forget_conversation(conversation);
                drop(freeing);
            }
            Command::EndSession { session, freeing } => {
                self.end_where(FinishReason::Cancelled, |s| s.asker.session == session);
                let keys: Vec<_> = self.pictures.keys().copied().collect();
                for key in keys {
                    self.drop_picture(key, session);
                }
                self.cache.forget_session(session);
                self.away.remove(&session);
                drop(freeing);
            }
            Command::Shutdown => self.draining = true,
        }
    }

    /// A question whose text is being read: it has its place in the line already.
    fn ask(&mut self, question: Question) {
        self.drop_earlier(question.ask.request);
        self.arrivals += 1;
        let mut sequence = Sequence::new(question, self.arrivals);
        let picture = sequence.picture;
        if picture.is_some_and(|key| !self.pictures.contains_key(&key)) {
            return sequence.fail(gone());
        }
        match picture {
            Some(key) if !self.cache.has_picture(key) => {
                sequence.tell_position(None);
                self.look_at(sequence.asker, key);
            }
            _ => sequence.picture_was_ready(),
        }
        self.waiting.push(sequence.asker, sequence);
    }

    /// Ends an earlier attempt without a word.
    fn drop_earlier(&mut self, request: RequestId) {
        for sequence in self.waiting.take_where(|s| s.request == request) {
            sequence.replaced();
        }
        let at = self
            .slots
            .iter()
            .position(|r| r.sequence.request == request);
        if let Some(running) = at.map(|at| self.slots.remove(at)) {
            self.keep(running).replaced();
        }
    }

    /// Its text was read, unless it has ended meanwhile.
    fn read(&mut self, read: Result<Box<Read>, Failure>, chosen: impl Fn(&Sequence) -> bool) {
        let read = match read {
            Ok(read) => read,
            Err(error) => return self.fail_waiting(&error, chosen),
        };
        let mut line = self.waiting.in_order().into_iter();
        let sequence = line.find(|s| chosen(s));
        if let Some(end) = sequence.and_then(|sequence| sequence.read(*read)) {
            self.end_where(end, chosen);
        }
        self.tell_positions();
    }

    fn turn(&mut self) -> Result<(), Fault> {
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
        self.fill_slots()?;
        self.tell_positions();
        if !self.slots.is_empty() {
            self.forward()?;
        }
        self.look()?;
        self.gauge();
        Ok(())
    }

    /// Tells the metrics how it stands.
    fn gauge(&mut self) {
        let page = self.model.page_bytes() as u64;
        let now = &mut self.gauges;
        now.waiting = self.waiting.len() as u64;
        now.running = self.slots.len() as u64;
        now.cache_used = self.cache.used_pages() as u64 * page;
        now.cache_size = self.arena.pages() as u64 * page;
        self.observer.gauges(*now);
    }

    /// Ends requests wherever they are, keeping what was computed.
    fn end_where(&mut self, reason: FinishReason, chosen: impl Fn(&Sequence) -> bool) {
        for sequence in self.waiting.take_where(&chosen) {
            sequence.finish(reason);
        }
        for i in (0..self.slots.len()).rev() {
            if chosen(&self.slots[i].sequence) {
                let running = self.slots.remove(i);
                self.finish(running, reason);
            }
        }
        self.drop_unwanted();
    }

    /// Of the client that has most questions open, and of its session that has, the newest that waits ends; if it can be,
    /// one that has said nothing yet. None does if enough were answered meanwhile.
    fn give_way(&mut self) {
        if self.load.has_room() {
            return;
        }
        let (mut clients, mut sessions) = (HashMap::new(), HashMap::new());
        let running = self.slots.iter().map(|running| &running.sequence);
        for sequence in self.waiting.iter().chain(running) {
            *clients.entry(sequence.asker.client).or_insert(0) += 1;
            *sessions.entry(sequence.asker.session).or_insert(0) += 1;
        }
        let newest = self.waiting.iter().max_by_key(|s| {
            let of_client = clients.get(&s.asker.client);
            let of_session = sessions.get(&s.asker.session);
            (of_client, of_session, !s.has_started(), s.order)
        });
        if let Some(order) = newest.map(|s| s.order) {
            let error = self.load.gave_way();
            self.fail_waiting(&error, |s| s.order == order);
            self.drop_unwanted();
        }
    }

    fn finish(&mut self, running: Running, reason: FinishReason) {
        let sequence = self.keep(running);
        if let Some(took) = sequence.running_for() {
            self.load.answered(took);
        }
        sequence.finish(reason);
    }

    /// What leaves its slot, with what was computed of it kept for whoever goes on.
    fn keep(&mut self, running: Running) -> Sequence {
        let Running { sequence, cached } = running;
        self.cache.keep(
            sequence.asker.client,
            sequence.namespace(),
            sequence.conversation,
            cached,
        );
        sequence
    }

    /// Fails requests that wait.
    fn fail_waiting(&mut self, error: &Failure, chosen: impl Fn(&Sequence) -> bool) {
        for sequence in self.waiting.take_where(chosen) {
            sequence.fail(error.clone());
        }
    }

    /// Answers that nobody reads leave their slot: at once if the reader is too slow, for others if it is away.
    fn yield_slots(&mut self) {
        let here = |s: &Sequence| !self.away.contains(&s.asker.session);
        let wanted = self.waiting.iter().any(|s| self.is_ready(s) && here(s));
        let give_way = wanted && self.slots.len() == self.settings.max_batch;
        let leaves = |s: &Sequence| s.is_paused() || (give_way && !here(s));
        let leave: Vec<usize> = (0..self.slots.len())
            .filter(|i| leaves(&self.slots[*i].sequence))
            .collect();
        for i in leave.into_iter().rev() {
            let running = self.slots.remove(i);
            let sequence = self.keep(running);
            self.waiting.push(sequence.asker, sequence);
        }
    }

    fn is_ready(&self, sequence: &Sequence) -> bool {
        is_ready(&self.cache, sequence)
    }

    /// The next that may have a slot. While a suspect waits it is next, and alone.
    fn next_sequence(&mut self) -> Option<Sequence> {
        if self.slots.iter().any(|r| r.sequence.suspect) {
            return None;
        }
        let suspects = self
            .waiting
            .iter()
            .any(|s| s.suspect && is_ready(&self.cache, s));
        if suspects && !self.slots.is_empty() {
            return None;
        }
        let Worker {
            waiting,
            cache,
            away,
            ..
        } = self;
        let ready = |s: &Sequence| s.suspect == suspects && is_ready(cache, s);
        waiting
            .pop(|s| ready(s) && !away.contains(&s.asker.session))
            .or_else(|| waiting.pop(ready))
    }

    fn fill_slots(&mut self) -> Result<(), Fault> {
        while self.slots.len() < self.settings.max_batch {
            let Some(mut sequence) = self.next_sequence() else {
                break;
            };
            sequence.picture_ready();
            if let Some(key) = sequence.picture {
                self.cache.touch_picture(key);
            }
            let (cache, arena) = (&mut self.cache, &self.arena);
            let begun = catch(|| cache.begin(sequence.namespace(), sequence.entries(), arena));
            match begun.unwrap_or_else(|what| Err(Fault::Panic(what))) {
                Ok(cached) => {
                    sequence.start(cached.entries.len());
                    self.slots.push(Running { sequence, cached });
                }
                Err(Fault::Job(error)) => sequence.fail(error),
                Err(Fault::Panic(what)) => {
                    sequence.fail(panicked());
                    return Err(Fault::Panic(what));
                }
                // Back to the others, who are all refused.
                Err(fault) => {
                    self.waiting.push(sequence.asker, sequence);
                    return Err(fault);
                }
            }
        }
        if self.slots.len() == self.settings.max_batch {
            return Ok(());
        }
        // A picture whose encoding was dropped to make room is looked at again.
        let missing: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|s| Some((s.asker, s.picture?)))
            .filter(|(_, key)| !self.cache.has_picture(*key))
            .collect();
        for (asker, key) in missing {
            self.look_at(asker, key);
        }
        Ok(())
    }

    /// Tells each question how it stands.
    fn tell_positions(&mut self) {
        let Worker { waiting, cache, .. } = self;
        for (ahead, sequence) in waiting.in_order().into_iter().enumerate() {
            let ready = sequence.picture.is_none_or(|key| cache.has_picture(key));
            sequence.tell_position(ready.then_some(ahead as u64));
        }
    }

    /// One forward pass for every slot: a token for those that decode, a piece of the prompt for the others.
    fn forward(&mut self) -> Result<(), Fault> {
        let decoding = self.slots.iter().any(Running::is_decoding);
        let piece = if decoding {
            self.pace.prompt_rows()
        } else {
            (Pace::PREFILL / self.slots.len()).max(1)
        };
        let all: Vec<usize> = (0..self.slots.len()).collect();
        let mut results = Vec::with_capacity(all.len());
        match self.pass(&all, piece) {
            Ok(logits) => results.extend(logits.into_iter().map(Ok)),
            // One of several failed: each alone, so that the fault stays with its own.
            Err(Fault::Job(_)) if all.len() > 1 => {
                for i in all {
                    match self.pass(&[i], piece) {
                        Ok(mut logits) => results.push(Ok(logits.remove(0))),
                        Err(Fault::Job(error)) => results.push(Err(error)),
                        Err(fault) => return Err(fault),
                    }
                }
            }
            Err(Fault::Job(error)) => results.push(Err(error)),
            Err(fault) => return Err(fault),
        }
        for (i, result) in results.into_iter().enumerate().rev() {
            let sequence = &mut self.slots[i].sequence;
            sequence.suspect = false;
            let next = match result {
                Ok(None) => continue,
                Ok(Some(mut logits)) => {
                    catch(|| sequence.accept(&mut logits)).unwrap_or_else(|what| {
                        tracing::error!(panic = %what, "the worker panicked over a token");
                        Err(panicked())
                    })
                }
                Err(error) => Err(error),
            };
            match next {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    let running = self.slots.remove(i);
                    self.finish(running, reason);
                }
                Err(error) => {
                    let Running { sequence, cached } = self.slots.remove(i);
                    self.cache.release(cached);
                    sequence.fail(error);
                }
            }
        }
        Ok(())
    }

    /// Computes the next entries of some slots, at most `piece` each. For each slot, the scores of its next token once
    /// all its entries are computed.
    fn pass(&mut self, slots: &[usize], piece: usize) -> Result<Vec<Option<Vec<f32>>>, Fault> {
        let started = Instant::now();
        let mut ids = Vec::new();
        let mut spans = Vec::new();
        let mut places = Vec::new();
        for i in slots {
            let Running { sequence, cached } = &mut self.slots[*i];
            let start = cached.entries.len();
            let len = piece.min(sequence.entries().len() - start);
            let Some(new) = tokens(&sequence.entries()[start..start + len]) else {
                let message = "The picture left the cache while it was needed: ask again.";
                return Err(Fault::Job(
                    Failure::new(ErrorCode::Internal, message).retry_after(0.0),
                ));
            };
            ids.extend(new);
            places.extend_from_slice(sequence.positions(start..start + len));
            self.cache.grow(&mut cached.pages, start + len)?;
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
                span.start + span.len == self.slots[**i].sequence.entries().len()
            })
            .map(|(row, _)| row)
            .collect();
        let lens: Vec<usize> = spans.iter().map(|s| s.len).collect();
        let (model, arena) = (&self.model, &self.arena);
        let logits = guarded(|| {
            #[cfg(test)]
            super::faults::strike("answer", &ids)?;
            model.next(&ids, spans, &places, arena, &last)
        })?;
        for (i, len) in slots.iter().zip(&lens) {
            let Running { sequence, cached } = &mut self.slots[*i];
            let start = cached.entries.len();
            cached
                .entries
                .extend_from_slice(&sequence.entries()[start..start + len]);
        }
        let (took, decode) = (started.elapsed(), lens.iter().all(|len| *len == 1));
        self.pace.forward(took, ids.len(), decode);
        self.observer.forward(took, slots.len(), decode);
        let mut results = vec![None; slots.len()];
        for (row, logits) in last.into_iter().zip(logits) {
            results[row] = Some(logits);
        }
        Ok(results)
    }

    /// After a panic nothing in the cache is trusted: it starts anew, and what ran is computed again. What ran alone is
    /// the cause and fails; of several, each runs alone next, so that the cause is found.
    ///
    /// # Errors
    /// If that can't be done: the device's memory is not to be had.
    fn recover(&mut self, what: &str) -> Result<(), String> {
        /// Panics in a row that no single job can be blamed for, before everything open is given up.
        const MOST: usize = 8;
        tracing::error!(panic = %what, "the worker panicked and starts its cache anew");
        self.panics += 1;
        if self.panics > MOST {
            self.fail_all(&panicked());
            self.panics = 0;
        }
        let running = std::mem::take(&mut self.slots);
        let alone = running.len() == 1;
        for mut sequence in running.into_iter().map(|running| running.sequence) {
            if alone {
                sequence.fail(panicked());
            } else {
                sequence.suspect = true;
                self.waiting.push(sequence.asker, sequence);
            }
        }
        // A device that is lost says so now, whatever the panic was about.
        let device = self.model.device().synchronize();
        device
            .and_then(|()| self.renew_cache())
            .map_err(|e| e.to_string())
    }

    /// An empty cache. Encoded pictures are looked at again when they are needed, one being looked at at once.
    fn renew_cache(&mut self) -> candle_core::Result<()> {
        self.look_anew();
        let pages = self.arena.pages();
        self.cache = PrefixCache::new(pages, self.settings.prefix_cache);
        // The old memory goes before the new is taken: the device has no room for both.
        self.arena = self.model.arena(1)?;
        self.arena = self.model.arena(pages)?;
        Ok(())
    }

    /// Runs everything once that will be served, so that the first user is as fast as the tenth.
    pub fn warm_up(&mut self) -> candle_core::Result<()> {
        let size = self.model.shape().picture_side;
        let device = self.model.device();
        self.model.reserve_memory()?;
        tell_memory(device, "with the KV cache, and reserved");
        let pixels = Pixels::new(size, vec![128; Pixels::bytes(size)]);
        if device.is_cuda() {
            // It measures its products at first.
            look_at(&self.model, &pixels, &mut Pace::new(N::LOOK_KINDS), false)?;
        }
        let vectors = look_at(&self.model, &pixels, &mut self.pace, false)?;
        tell_memory(device, "after a picture");
        let rows = vectors.dim(0)?;
        let mut pages = Vec::new();
        for _ in 0..self.settings.max_batch {
            let mut own = Vec::new();
            let room = self.cache.grow(&mut own, rows + 8);
            room.map_err(candle_core::Error::msg)?;
            pages.push(own);
        }
        let span = |start, len, slot: usize| Span {
            start,
            len,
            pages: pages[slot].clone(),
        };
        let mut places = Prompt::new(self.opening.axes());
        places.extend(std::iter::repeat_n(0, rows));
        // Slices of other work are cut by what is measured here from the first one on; a card measures its products at first.
        for _ in 0..if device.is_cuda() { 2 } else { 1 } {
            device.synchronize()?;
            let started = Instant::now();
            let (spans, layers) = (vec![span(0, rows, 0)], self.model.layers());
            let places = places.positions(0..rows);
            let pass = self.model.begin(vectors.clone(), spans, places)?;
            self.model.go_on(pass, layers, &self.arena)?;
            device.synchronize()?;
            self.pace.prefilled(started.elapsed(), rows, layers, layers);
        }
        tell_memory(device, "after its prefill");
        // A card's products are measured for each size of question.
        let lens: &[usize] = match device.is_cuda() {
            true => &[128, 64, 32, 16, 4, 1],
            false => &[4, 1],
        };
        for batch in 1..=self.settings.max_batch {
            for &len in lens.iter().filter(|len| **len <= rows) {
                for turn in 0..3 {
                    let started = Instant::now();
                    let ids = vec![0; batch * len];
                    let places = places.positions(0..len).repeat(batch);
                    let spans = (0..batch).map(|slot| span(0, len, slot)).collect();
                    let all: Vec<usize> = (0..batch).collect();
                    self.model.next(&ids, spans, &places, &self.arena, &all)?;
                    if (batch, len, turn) == (1, 1, 2) {
                        self.pace.forward(started.elapsed(), 1, true);
                    }
                }
                tell_memory(device, &format!("after {batch} × {len} tokens"));
            }
        }
        for pages in pages {
            self.cache.release(Cached {
                entries: vec![],
                pages,
            });
        }
        if device.is_cuda() {
            // The sizes of products beside somebody who decodes.
            look_at(&self.model, &pixels, &mut self.pace, true)?;
        }
        Ok(())
    }

    /// From now on nobody waits for anything to be measured.
    pub fn settle(&self) -> candle_core::Result<()> {
        self.model.settle()
    }
}

/// Sends a picture through the vision tower, whole stages or `sliced` as beside somebody who decodes, and tells `pace` what each
/// took.
fn look_at<N: Network>(
    model: &N,
    pixels: &Pixels,
    pace: &mut Pace,
    sliced: bool,
) -> candle_core::Result<Tensor> {
    let mut look = model.look(pixels)?;
    loop {
        let (started, kind) = (Instant::now(), model.look_kind(&look));
        let most = match sliced {
            true => pace.vision_rows(kind, model.look_rows(&look)),
            false => Pace::WHOLE,
        };
        let step = model.look_on(&mut look, most)?;
        model.device().synchronize()?;
        pace.vision(kind, started.elapsed(), step.rows);
        if let Some(vectors) = step.vectors {
            return Ok(vectors);
        }
    }
}

/// Whether nothing but a slot is missing.
fn is_ready(cache: &PrefixCache, sequence: &Sequence) -> bool {
    sequence.is_read()
        && !sequence.is_paused()
        && sequence.picture.is_none_or(|key| cache.has_picture(key))
}

fn gone() -> Failure {
    Failure::new(
        ErrorCode::ImageGone,
        "The picture was forgotten before the answer: send it again.",
    )
}
