//! What all sessions share.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use wire::{ErrorCode, Limits, Sampling, State as ServerState};

use super::pictures::{Budget, File, Sender};
use super::registry::Registry;
use super::reports;
use super::{MemoryOwner, Session};
use crate::intake::decode::{self, Decoders, Job, JobId};
use crate::intake::{self, EvictionCandidate, Messages, PictureMemory, Retained, retry};
use crate::telemetry::metrics::{METRICS, RECEIVED};
use api::{Asker, Compute, Defaults, Failure, Loaded, Log, Report, Status};
use glimpse_image as image;

/// How long one waits for another who asks clients to give way.
const RECLAIM_PATIENCE: Duration = Duration::from_millis(100);
/// How long a decoded picture may wait for another's memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);

/// How sessions behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the same picture of two sessions is looked at once (and so told apart by time).
    pub share_pictures: bool,
    pub decode: decode::Settings,
    /// The most memory that all files on their way take, in bytes.
    pub upload_memory: u64,
    /// The most memory that all sessions take for histories, open questions, replay and unsent messages, in bytes.
    pub session_memory: u64,
    /// The most memory that all messages on their way take, in bytes.
    pub message_memory: u64,
    /// The most memory that all kept pictures' pixels take, in bytes.
    pub picture_memory: u64,
    /// Sessions, connected or not: beyond, the one left alone longest goes.
    pub max_sessions: usize,
}

/// How far the server's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Running answers finish; no new ones are taken.
    Draining,
    /// Connections close.
    Closing,
}

/// What all sessions share.
pub struct Shared {
    pub engine: Arc<dyn Compute>,
    /// Who keeps sessions, so that another process can go on with them, if anybody does.
    pub log: Option<Arc<dyn Log>>,
    /// How the engine stands.
    pub engine_status: watch::Receiver<Status>,
    pub limits: Arc<Limits>,
    pub options: Options,
    /// Memory for files on their way.
    pub budget: Arc<Budget>,
    /// Memory for histories, open questions, replay and unsent messages.
    pub(super) memory: Arc<intake::Budget<MemoryOwner>>,
    /// Memory for messages on their way.
    pub messages: Arc<Messages>,
    /// Someone is asking others to give way.
    reclaiming: Mutex<()>,
    /// Memory for the pictures that sessions keep.
    pub pictures: Arc<PictureMemory>,
    pub(super) registry: Arc<Registry>,
    /// Counts uses of what may have to go, so that what sessions have can be compared.
    pub(super) uses: Arc<AtomicU64>,
    pub(super) decoders: Decoders,
    phase: watch::Sender<Phase>,
}

impl Shared {
    /// `reports` are the engine's.
    ///
    /// # Errors
    /// If a thread or the processes for decoding can't be had.
    pub fn new(
        engine: Arc<dyn Compute>,
        log: Option<Arc<dyn Log>>,
        engine_status: watch::Receiver<Status>,
        reports: Receiver<Report>,
        limits: Limits,
        options: Options,
    ) -> std::io::Result<Self> {
        let status = engine_status.clone();
        let size = move || {
            let status = status.borrow();
            let size = status.model.image_size;
            (size > 0 || status.state == ServerState::Failed).then(|| size.max(1))
        };
        let decoders = Decoders::start(options.decode.clone(), Box::new(size))?;
        let registry = Arc::new(Registry::default());
        let (most, shared) = (options.picture_memory, options.share_pictures);
        let pictures = PictureMemory::new(most, shared);
        // It keeps nobody: the engine ends with what is shared, and this then.
        let known = registry.clone();
        thread::Builder::new()
            .name("events".into())
            .spawn(move || reports::dispatch(&reports, &known))?;
        Ok(Shared {
            decoders,
            engine,
            log,
            engine_status,
            limits: Arc::new(limits),
            budget: Budget::new(options.upload_memory),
            memory: intake::Budget::new(options.session_memory),
            messages: intake::Budget::new(options.message_memory),
            reclaiming: Mutex::new(()),
            pictures,
            registry,
            uses: Arc::default(),
            options,
            phase: watch::Sender::new(Phase::Serving),
        })
    }

    /// Bytes that histories, open questions, replay and unsent messages take.
    pub fn session_memory(&self) -> u64 {
        self.memory.used()
    }

    /// Bytes that messages on their way take.
    pub fn message_memory(&self) -> u64 {
        self.messages.used()
    }

    /// Has whoever holds most give way where memory is short: memory for sessions, and memory for uploads if `upload` bytes
    /// more are to come.
    ///
    /// Call it without any session's lock.
    pub fn reclaim_memory(&self, upload: u64) {
        // One after the other, since who comes second may find enough; but nobody waits long for that.
        let _relieving = self.reclaiming.try_lock_for(RECLAIM_PATIENCE);
        let stalest = self.budget.pick_victims(upload, |place| place.touched);
        for sender in stalest {
            match sender {
                Sender::Upload { session, upload } => {
                    if let Some(session) = self.registry.get(session) {
                        session.evict_upload(upload);
                    }
                }
                Sender::Request(eviction) => eviction.ask(),
            }
        }
        let away_first = |place: EvictionCandidate<'_, MemoryOwner>| {
            let away = place.holder.away.load(Ordering::Relaxed);
            (!away, Reverse(place.bytes))
        };
        for keeper in self.memory.pick_victims(0, away_first) {
            if let Some(session) = self.registry.get(keeper.session) {
                session.evict();
            }
        }
    }

    /// The engine's status, or `draining`.
    pub fn status(&self) -> Status {
        let mut status = self.engine_status.borrow().clone();
        if self.phase() != Phase::Serving && status.state != ServerState::Failed {
            status.state = ServerState::Draining;
            (status.loaded, status.download) = (None, None);
        }
        status
    }

    /// The status as all sessions are told it.
    pub fn told_status(&self) -> wire::Status {
        let status = self.status();
        let sampling = self.own_sampling(&status);
        wire::Status {
            state: status.state,
            progress: status.loaded.map(Loaded::progress),
            download: status.download,
            model: sampling.is_some().then_some(status.model),
            sampling,
            moving: Vec::new(),
        }
    }

    /// The checkpoint's own sampling settings, once it is loaded.
    pub fn own_sampling(&self, status: &Status) -> Option<Sampling> {
        let most = self.limits.max_new_tokens;
        match status.state {
            ServerState::Warming | ServerState::Ready => Some(status.sampling.told(most)),
            ServerState::Loading | ServerState::Draining | ServerState::Failed => None,
        }
    }

    /// The engine's own.
    pub fn engine_status(&self) -> watch::Receiver<Status> {
        self.engine_status.clone()
    }

    /// Tells when the status may have changed.
    pub fn watch(&self) -> StatusWatch {
        let mut engine = self.engine_status.clone();
        engine.mark_unchanged();
        StatusWatch {
            engine,
            phase: self.phase.subscribe(),
        }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// The checkpoint's sampling settings, or why no question can be taken now.
    pub fn terms(&self) -> Result<Defaults, Failure> {
        let status = self.status();
        match status.state {
            ServerState::Draining => Err(Failure::new(
                ErrorCode::Draining,
                "The server is shutting down: ask again when it is back.",
            )
            .retry_after(retry::DRAINING)),
            ServerState::Loading => Err(Failure::new(
                ErrorCode::Loading,
                "The model is still loading: ask again in a moment.",
            )
            .retry_after(retry::LOADING)),
            ServerState::Failed if status.lost => Err(Failure::new(
                ErrorCode::WorkerFailed,
                "The device failed and the server has to start anew: ask again when it is back.",
            )
            .retry_after(retry::DRAINING)),
            ServerState::Failed => Err(Failure::new(
                ErrorCode::WorkerFailed,
                format!(
                    "The model is not running ({}): whoever runs the server has to look at its log.",
                    status.error.as_deref().unwrap_or("no reason given")
                ),
            )),
            ServerState::Warming | ServerState::Ready => Ok(status.sampling),
        }
    }

    /// Has a file decoded, or a region of its picture, and tells the session.
    pub(super) fn decode(
        &self,
        session: &Arc<Session>,
        image: String,
        file: File,
        region: Option<image::Region>,
    ) {
        let asker = session.asker();
        let name = JobId {
            asker,
            image: image.clone(),
        };
        let session = Arc::downgrade(session);
        let (memory, registry) = (self.pictures.clone(), self.registry.clone());
        let done = move |decoded: Result<image::Picture, Failure>| {
            if let Err(Failure {
                code,
                detail: Some(detail),
                ..
            }) = &decoded
            {
                tracing::warn!(%code, detail, "a picture could not be decoded");
            }
            // A session that ended in the meantime costs nothing more.
            let Some(session) = session.upgrade().filter(|session| !session.is_over()) else {
                METRICS.upload_ended(RECEIVED);
                return;
            };
            let result = decoded.and_then(|picture| keep(picture, asker, &memory, &registry));
            METRICS.upload_ended(match &result {
                Ok(_) => RECEIVED,
                Err(failure) => failure.code.as_str(),
            });
            session.with(|state| state.decoded(&image, result));
        };
        let job = Job {
            file: Box::new(file),
            region,
            done: Box::new(done),
        };
        self.decoders.submit(name, job);
    }

    /// How many pictures wait to be decoded, how many are, and the memory that these may take, in bytes.
    pub fn decoding(&self) -> (usize, usize, u64) {
        self.decoders.load()
    }

    /// Has a file not decoded after all.
    pub(super) fn cancel_decode(&self, session: &Session, image: String) {
        let asker = session.asker();
        self.decoders.cancel(&JobId { asker, image });
    }
}

/// Finds memory for a decoded picture, or refuses it for now. Call it without any session's lock.
fn keep(
    mut picture: image::Picture,
    asker: Asker,
    memory: &Arc<PictureMemory>,
    registry: &Registry,
) -> Result<(image::Picture, Retained), Failure> {
    let bytes = picture.pixels.rgb().len() as u64;
    let evict = |kept: &HashMap<u128, u64>| evict_one(registry, asker.client, kept);
    let Some(place) = memory.reserve(bytes, asker.client, MEMORY_PATIENCE, evict) else {
        let message = "The server has no memory left for pictures, and all that could go for this one are asked about: send it again in a moment.";
        return Err(Failure::new(ErrorCode::Busy, message).retry_after(retry::PICTURE_MEMORY));
    };
    picture.pixels = picture.pixels.counted(place.clone());
    Ok((picture, Retained::new(place)))
}

/// Lets a picture go for one of this client's; false if there is none to spare. Those of clients that would keep less than this
/// one stay; of the others, the client's that keeps most goes, of sessions without a connection first, then of those that
/// keep most, and there the one used longest ago.
fn evict_one(registry: &Registry, client: u128, kept: &HashMap<u128, u64>) -> bool {
    let keeps = |client| kept.get(&client).copied().unwrap_or(0);
    let sessions = registry.all();
    let spare = sessions.iter().filter_map(|session| {
        let owner = session.asker().client;
        let missed = session.eviction_candidate()?;
        let order = (Reverse(keeps(owner)), owner == client, missed);
        (keeps(owner) >= keeps(client)).then_some((order, session))
    });
    let first = spare.min_by_key(|(order, _)| *order);
    first.is_some_and(|(_, session)| session.evict_picture())
}

/// Waits for changes of the engine's status and of the server's phase: [`Shared::watch`].
pub struct StatusWatch {
    engine: watch::Receiver<Status>,
    phase: watch::Receiver<Phase>,
}

impl StatusWatch {
    /// Returns after the next change; never, if there can be none any more.
    pub async fn changed(&mut self) {
        // An engine that is gone changes no more; the server's own end is still to come.
        let changed = tokio::select! {
            Ok(()) = self.engine.changed() => Ok(()),
            changed = self.phase.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending().await
        }
    }
}
