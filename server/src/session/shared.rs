//! What all sessions share.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use wire::{ErrorCode, Limits, State as ServerState};

use super::Session;
use super::decode::DecodePool;
use super::room::{Hold, Room};
use super::upload::{Budget, File};
use crate::engine::{Engine, JobError, Status};
use crate::metrics::{METRICS, RECEIVED};
use crate::text::Defaults;
use glimpse_image::{self as image, ImageError};

/// What a client is told to wait while the model loads.
const LOADING_RETRY_MS: f64 = 1000.0;
/// And while the server shuts down: the next one may be up by then.
pub(super) const DRAINING_RETRY_MS: f64 = 3000.0;
/// How long a decoded picture may wait for another's memory, and what its client is told to wait after that.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
const ROOM_RETRY_MS: f64 = 2000.0;

/// How sessions behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the same picture of two sessions is looked at once (and so told apart by time).
    pub share_pictures: bool,
    pub image: image::Options,
    /// Threads that decode pictures.
    pub decode_threads: usize,
    /// The most memory that decoding takes at once, in bytes.
    pub decode_memory: u64,
    /// The most memory that all files on their way take, in bytes.
    pub upload_memory: u64,
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
    pub engine: Engine,
    pub limits: Arc<Limits>,
    pub options: Options,
    pub budget: Arc<Budget>,
    pub room: Arc<Room>,
    pool: DecodePool,
    phase: watch::Sender<Phase>,
}

impl Shared {
    /// # Errors
    /// If the threads for decoding can't be had.
    pub fn new(engine: Engine, limits: Limits, options: Options) -> std::io::Result<Self> {
        Ok(Shared {
            engine,
            limits: Arc::new(limits),
            budget: Budget::new(options.upload_memory),
            room: Room::new(options.picture_memory, options.share_pictures),
            pool: DecodePool::new(options.decode_threads, options.decode_memory)?,
            options,
            phase: watch::Sender::new(Phase::Serving),
        })
    }

    /// The engine's status, or `draining`.
    pub fn status(&self) -> Status {
        let mut status = self.engine.status().borrow().clone();
        if self.phase() != Phase::Serving && status.state != ServerState::Failed {
            status.state = ServerState::Draining;
            status.progress = None;
        }
        status
    }

    /// Tells when the status may have changed.
    pub fn watch(&self) -> StatusWatch {
        let mut engine = self.engine.status();
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
    pub fn terms(&self) -> Result<Defaults, JobError> {
        let status = self.status();
        match status.state {
            ServerState::Draining => Err(JobError::new(
                ErrorCode::Draining,
                "The server is shutting down: ask again when it is back.",
            )
            .retry_after(DRAINING_RETRY_MS)),
            ServerState::Loading => Err(JobError::new(
                ErrorCode::Loading,
                "The model is still loading: ask again in a moment.",
            )
            .retry_after(LOADING_RETRY_MS)),
            ServerState::Failed if status.lost => Err(JobError::new(
                ErrorCode::WorkerFailed,
                "The device failed and the server has to start anew: ask again when it is back.",
            )
            .retry_after(DRAINING_RETRY_MS)),
            ServerState::Failed => Err(JobError::new(
                ErrorCode::WorkerFailed,
                format!(
                    "The model is not running ({}): whoever runs the server has to look at its log.",
                    status.error.as_deref().unwrap_or("no reason given")
                ),
            )),
            ServerState::Warming | ServerState::Ready => Ok(status.sampling),
        }
    }

    /// Decodes a file on the threads for that and tells the session.
    pub(super) fn decode(&self, session: &Arc<Session>, image: String, file: File) {
        let options = self.options.image;
        let memory = image::probe(file.bytes(), &options).map_or(0, |header| header.memory);
        let session = Arc::downgrade(session);
        let (status, room) = (self.engine.status(), self.room.clone());
        self.pool.submit(memory, move || {
            // A session that ended in the meantime costs nothing more.
            if session.strong_count() == 0 {
                METRICS.upload_ended(RECEIVED);
                return;
            }
            let result = load(&file, &status, &options);
            drop(file);
            let result = result
                .map_err(|failure| JobError::new(failure.code(), failure.to_string()))
                .and_then(|picture| keep(picture, &room));
            METRICS.upload_ended(match &result {
                Ok(_) => RECEIVED,
                Err(failure) => failure.code.as_str(),
            });
            if let Some(session) = session.upgrade() {
                session.with(|state| state.decoded(&image, result));
            }
        });
    }
}

/// Waits for the model's picture size if need be: it is known as soon as the configuration is read.
fn load(
    file: &File,
    status: &watch::Receiver<Status>,
    options: &image::Options,
) -> Result<image::Picture, ImageError> {
    image::probe(file.bytes(), options)?;
    let size = loop {
        let status = status.borrow();
        if status.model.image_size > 0 || status.state == ServerState::Failed {
            break status.model.image_size.max(1);
        }
        drop(status);
        thread::sleep(Duration::from_millis(20));
    };
    image::load(file.bytes(), size, options)
}

/// Finds memory for a decoded picture, or refuses it for now.
fn keep(mut picture: image::Picture, room: &Arc<Room>) -> Result<(image::Picture, Hold), JobError> {
    let bytes = picture.pixels.rgb().len() as u64;
    let Some(place) = room.take(bytes, ROOM_PATIENCE) else {
        let message = "The server has no memory left for pictures, and all it keeps are asked about: send it again in a moment.";
        return Err(JobError::new(ErrorCode::Busy, message).retry_after(ROOM_RETRY_MS));
    };
    picture.pixels = picture.pixels.counted(place.clone());
    Ok((picture, Hold::new(place)))
}

/// See [`Shared::watch`].
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
