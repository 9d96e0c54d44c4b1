//! The engine: for each device one worker thread that owns it and its copy of the model; everyone else talks to them
//! through [`Engine`].
//!
//! A picture is encoded and the opening of its conversation computed into the cache before any question exists. Up to
//! `max_batch` questions are answered in one forward pass, and join and leave it between tokens.

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod faults;
mod guard;
mod pace;
mod pages;
mod prefix;
mod reading;
#[cfg(test)]
mod reading_tests;
mod sequence;
#[cfg(test)]
mod tests;
mod worker;
mod workers;
#[cfg(test)]
mod workers_tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use api::{
    AskJob, Asker, Compute, ErrorCode, Failure, Observer, PictureJob, PictureKey, State, Status,
};
use model::checkpoint::Checkpoint;
use model::device::{Target, tell_memory};
use model::kernels::PAGE;
use model::{LoadError, Quantize};
use parking_lot::Mutex;
use tokio::sync::watch;

use reading::{Language, Read, Reader, Text};
use workers::{Handle, Teller, Workers, once_all};

/// How each worker of the engine works. Each optimisation has a switch that turns it off, for measuring.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Questions answered in one forward pass.
    pub max_batch: usize,
    /// Questions that may wait beyond those.
    pub queue: usize,
    /// For the KV cache; by default what is sensible for the device's free memory.
    pub cache_bytes: Option<u64>,
    /// Look at a picture as soon as it is there, not at its first question.
    pub eager_encode: bool,
    /// Keep what was computed of a conversation for its next question.
    pub prefix_cache: bool,
    pub warmup: bool,
    /// As the checkpoint holds the weights where nothing is asked for.
    pub quantize: Option<Quantize>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_batch: 2,
            queue: 64,
            cache_bytes: None,
            eager_encode: true,
            prefix_cache: true,
            warmup: true,
            quantize: None,
        }
    }
}

/// A handle to the workers: cheap to clone, never blocks.
#[derive(Clone)]
pub struct Engine {
    workers: Arc<Workers>,
    /// Of all workers together.
    status: watch::Receiver<Status>,
    ids: Arc<AtomicU64>,
}

/// What the handle sends to a worker.
pub enum Command {
    Picture(PictureJob),
    Ask(AskJob),
    /// A question's text was read.
    Read {
        request: u64,
        read: Result<Box<Read>, Failure>,
    },
    /// There is a question too many, of somebody who has fewer than another: the newest of whoever has most ends with `busy`.
    GiveWay,
    /// Ends a request wherever it is; it answers with `Done { Cancelled }`.
    Cancel {
        request: u64,
    },
    /// Frees what the session has of the picture in the caches, and the picture itself once no session holds it;
    /// `done` is called when that is freed.
    Forget {
        session: u64,
        key: PictureKey,
        done: Box<dyn FnOnce() + Send>,
    },
    /// The same for a conversation: what of it still waits or runs is cancelled.
    ForgetConversation {
        conversation: u64,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Cancels everything of the session and frees its caches.
    EndSession {
        session: u64,
    },
    /// Ends the worker when everything accepted before is answered.
    Shutdown,
}

/// How many questions are open with a worker and whose they are, and how long one takes.
pub(crate) struct Load {
    open: Mutex<Open>,
    most: usize,
    slots: usize,
    /// Running mean of an answer's time in its slot, in microseconds.
    answer_us: AtomicU64,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// By client, and of each by session.
    clients: HashMap<u128, (usize, HashMap<u64, usize>)>,
}

impl Load {
    fn new(settings: &Settings) -> Self {
        Load {
            open: Mutex::default(),
            most: settings.queue + settings.max_batch,
            slots: settings.max_batch,
            answer_us: AtomicU64::new(1_000_000),
        }
    }

    fn open(&self) -> usize {
        self.open.lock().all
    }

    /// No question is one too many.
    pub(crate) fn has_room(&self) -> bool {
        self.open() <= self.most
    }

    /// A question of this one's; whether another has to give way to it, since the queue is full and another client has more
    /// in it than this one will, or another session of the client that will have most.
    fn enter(&self, asker: Asker) -> Result<bool, Failure> {
        let mut open = self.open.lock();
        let full = open.all >= self.most;
        if full {
            let most = open.clients.values().map(|(all, _)| *all).max();
            let (own, of_session, of_sessions) = match open.clients.get(&asker.client) {
                Some((all, sessions)) => (
                    *all,
                    sessions.get(&asker.session).copied().unwrap_or(0),
                    sessions.values().max().copied().unwrap_or(0),
                ),
                None => (0, 0, 0),
            };
            let most = most.unwrap_or(0);
            let another_client = most > own + 1;
            let another_session = own >= most && of_sessions > of_session + 1;
            if !another_client && !another_session {
                return Err(self.busy(open.all, "questions are waiting already"));
            }
        }
        open.all += 1;
        let (all, sessions) = open.clients.entry(asker.client).or_default();
        *all += 1;
        *sessions.entry(asker.session).or_default() += 1;
        Ok(full)
    }

    /// Why a question has no place among the `open` ones, and when it may.
    fn busy(&self, open: usize, what: &str) -> Failure {
        let ahead = (open / self.slots.max(1)).max(1) as f64;
        let wait = ahead * self.answer_us.load(Ordering::Relaxed) as f64 / 1e3;
        let seconds = (wait / 1e3).ceil();
        let message = format!("{open} {what}: ask again in {seconds:.0} s.");
        Failure::new(ErrorCode::Busy, message).retry_after(wait)
    }

    /// What a question is told that gives way.
    pub(crate) fn gave_way(&self) -> Failure {
        self.busy(
            self.open(),
            "questions are waiting, most of them this client's",
        )
    }

    pub(crate) fn leave(&self, asker: Asker) {
        let mut open = self.open.lock();
        // Never below none: a count gone wrong must not refuse everyone for ever.
        open.all = open.all.saturating_sub(1);
        let Entry::Occupied(mut own) = open.clients.entry(asker.client) else {
            return;
        };
        let (all, sessions) = own.get_mut();
        *all = all.saturating_sub(1);
        if let Entry::Occupied(mut of_session) = sessions.entry(asker.session) {
            *of_session.get_mut() -= 1;
            if *of_session.get() == 0 {
                of_session.remove();
            }
        }
        if *all == 0 {
            own.remove();
        }
    }

    /// An answer held its slot this long.
    pub(crate) fn answered(&self, took: Duration) {
        let old = self.answer_us.load(Ordering::Relaxed);
        self.answer_us
            .store((old * 7 + took.as_micros() as u64) / 8, Ordering::Relaxed);
    }
}

impl Engine {
    /// Starts a worker for each of `opens`, which loads the checkpoint onto its device, warms up, and then serves.
    /// `status` tells how far they are; a load that fails ends in [`State::Failed`] with the reason. `observe` makes each
    /// worker's observer, by the worker's number.
    pub fn start(
        settings: Settings,
        opens: Vec<impl FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError> + Send + 'static>,
        observe: impl Fn(usize) -> Box<dyn Observer>,
    ) -> std::io::Result<Self> {
        let (tellers, status) = Teller::several(opens.len());
        let mut workers = Vec::with_capacity(opens.len());
        for (number, (open, teller)) in opens.into_iter().zip(tellers).enumerate() {
            let (commands, inbox) = mpsc::channel();
            let (settings, load) = (settings.clone(), Arc::new(Load::new(&settings)));
            let language = Arc::new(OnceLock::new());
            let reader = Reader::start(number, language.clone(), commands.clone())?;
            workers.push(Handle::new(commands, load.clone(), Some(reader)));
            let observer = observe(number);
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(settings, load, open, observer, &language, &inbox, &teller))?;
        }
        Ok(Engine::of(workers, status))
    }

    fn of(workers: Vec<Handle>, status: watch::Receiver<Status>) -> Self {
        Engine {
            workers: Arc::new(Workers::new(workers)),
            status,
            ids: Arc::new(AtomicU64::new(1)),
        }
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Questions accepted and not yet answered.
    pub fn open_requests(&self) -> usize {
        self.workers.all().iter().map(|w| w.load.open()).sum()
    }

    /// Ends the workers once everything accepted before is answered.
    pub fn shutdown(&self) {
        for worker in self.workers.all() {
            worker.send(Command::Shutdown);
        }
    }
}

impl Compute for Engine {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn picture(&self, job: PictureJob) {
        if let Some(worker) = self.workers.home(job.asker.session) {
            worker.send(Command::Picture(job));
        }
    }

    fn ask(&self, mut job: AskJob) -> Result<(), Failure> {
        match self.status.borrow().state {
            State::Ready | State::Draining => {}
            State::Loading | State::Warming => {
                return Err(Failure::new(
                    ErrorCode::Loading,
                    "The model is still loading: ask again when the state is ready.",
                )
                .retry_after(1000.0));
            }
            State::Failed => return Err(not_running()),
        }
        let worker = self
            .workers
            .home(job.asker.session)
            .ok_or_else(not_running)?;
        let asker = job.asker;
        let full = worker.load.enter(asker)?;
        let reader = worker.reader.as_ref();
        let reading = reader.map(|reader| (reader, Text::of(&mut job)));
        worker.commands.send(Command::Ask(job)).map_err(|_| {
            worker.load.leave(asker);
            not_running()
        })?;
        if full {
            worker.send(Command::GiveWay);
        }
        // Behind the question, so that it is there when its text was read.
        if let Some((reader, text)) = reading {
            reader.read(text);
        }
        Ok(())
    }

    fn cancel(&self, request: u64) {
        for worker in self.workers.all() {
            worker.send(Command::Cancel { request });
        }
    }

    fn forget(&self, session: u64, key: PictureKey, done: Box<dyn FnOnce() + Send>) {
        // Called even where the worker is gone, and the command with it.
        let done = once_all(done).next();
        if let (Some(worker), Some(done)) = (self.workers.known(session), done) {
            worker.send(Command::Forget { session, key, done });
        }
    }

    fn forget_conversation(&self, conversation: u64, done: Box<dyn FnOnce() + Send>) {
        let workers = self.workers.all();
        for (worker, done) in workers.iter().zip(once_all(done)) {
            worker.send(Command::ForgetConversation { conversation, done });
        }
    }

    fn end_session(&self, session: u64) {
        if let Some(worker) = self.workers.leave(session) {
            worker.send(Command::EndSession { session });
        }
    }
}

/// A worker's thread, from loading on.
fn work(
    settings: Settings,
    load: Arc<Load>,
    open: impl FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError>,
    observer: Box<dyn Observer>,
    language: &OnceLock<Language>,
    inbox: &mpsc::Receiver<Command>,
    status: &Teller,
) {
    let failed = |error: String| {
        tracing::error!(%error, "the model could not be served");
        status.send_modify(|s| {
            s.state = State::Failed;
            s.error = Some(error);
        });
    };
    let prepared = guard::catch(|| prepare(settings, load, open, observer, language, status));
    let mut worker = match prepared {
        Ok(Ok(worker)) => worker,
        Ok(Err(error)) => return failed(error.0),
        Err(panic) => return failed(format!("loading the model panicked ({panic})")),
    };
    status.send_modify(|s| {
        s.state = State::Ready;
        s.progress = None;
    });
    if let Err(lost) = worker.run(inbox) {
        tracing::error!(error = %lost, "the device is lost");
        // First, so that nothing new comes while the rest is refused.
        status.send_modify(|s| {
            s.state = State::Failed;
            s.error = Some(lost);
            s.lost = true;
        });
        worker.refuse_all(inbox);
    }
}

fn not_running() -> Failure {
    Failure::new(
        ErrorCode::WorkerFailed,
        "The model is not running: the server's log says why.",
    )
}

fn prepare(
    settings: Settings,
    load: Arc<Load>,
    open: impl FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError>,
    mut observer: Box<dyn Observer>,
    language: &OnceLock<Language>,
    status: &Teller,
) -> Result<worker::Worker, LoadError> {
    let (checkpoint, target) = open()?;
    let config = &checkpoint.config;
    language.get_or_init(|| Language {
        tokenizer: checkpoint.tokenizer.clone(),
        config: config.clone(),
    });
    let described = api::Model {
        name: checkpoint.name.clone(),
        demo: checkpoint.demo,
        image_size: config.vision_config.image_size as u32,
        max_positions: config.seq_length as u32,
        device: target.device_name(),
        dtype: target.dtype_name(),
        quantization: checkpoint.quantize(settings.quantize)?.to_string(),
    };
    status.send_modify(|s| {
        s.model = described;
        s.sampling = checkpoint.sampling.clone();
    });
    let since = Instant::now();
    let model = checkpoint.load(&target, settings.quantize, &mut |done, total| {
        observer.loading(done, total);
        let progress = done as f64 / total.max(1) as f64;
        status.send_modify(|s| s.progress = Some(progress));
    })?;
    observer.loaded();
    tracing::info!(
        bytes = model.weight_bytes(),
        device = target.device_name(),
        "loaded {} in {:.1} s",
        checkpoint.name,
        since.elapsed().as_secs_f64()
    );
    tell_memory(&target.device, "with the weights");

    // Enough for every slot to run a conversation to the model's end beside a picture being looked at; by default four
    // times that, where it takes no more than a quarter of the free memory.
    let conversation = model.config.max_entries().div_ceil(PAGE) + 1;
    let least = settings.max_batch * conversation + model.config.image_tokens().div_ceil(PAGE) + 2;
    let page_bytes = model.page_bytes() as u64;
    let pages = match settings.cache_bytes {
        Some(bytes) => {
            let pages = usize::try_from(bytes / page_bytes).unwrap_or(usize::MAX);
            if pages < least {
                tracing::warn!(
                    asked = bytes,
                    taken = least as u64 * page_bytes,
                    "--cache-bytes is too little for --max-batch conversations beside a picture: the least is taken"
                );
            }
            pages.max(least)
        }
        None => ((target.free_memory() / 4 / page_bytes) as usize).clamp(least, 4 * least),
    };
    tracing::info!(
        pages,
        bytes = pages as u64 * page_bytes,
        whole_conversations = pages / conversation,
        "memory for the KV cache"
    );
    let on_device = |e: candle_core::Error| {
        LoadError(format!(
            "the KV cache of {pages} pages does not fit on the device ({e}): lower --cache-bytes or --max-batch"
        ))
    };
    let warmup = settings.warmup;
    let mut worker = worker::Worker::new(
        model,
        checkpoint.tokenizer.clone(),
        settings,
        load,
        pages,
        observer,
    )
    .map_err(on_device)?;
    if warmup {
        status.send_modify(|s| {
            s.state = State::Warming;
            s.progress = None;
        });
        worker
            .warm_up()
            .map_err(|e| LoadError(format!("the model does not run on this device ({e})")))?;
    }
    worker.settle().map_err(on_device)?;
    Ok(worker)
}
