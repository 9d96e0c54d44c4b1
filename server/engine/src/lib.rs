//! The engine: for each device one worker thread that owns it and its copy of the model; everyone else talks to them
//! through [`Engine`].
//!
//! A picture is encoded and the opening of its conversation computed into the cache before any question exists. Up to
//! `max_batch` questions are answered in one forward pass, and join and leave it between tokens.

mod command;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod faults;
mod guard;
mod load;
mod pace;
mod pages;
mod prefix;
mod reading;
#[cfg(test)]
mod reading_tests;
mod sequence;
mod settings;
mod start;
#[cfg(test)]
mod tests;
mod worker;
mod workers;
#[cfg(test)]
mod workers_tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use api::{AskJob, Compute, ErrorCode, Failure, Observer, PictureJob, PictureKey, State, Status};
use model::LoadError;
use model::checkpoint::Checkpoint;
use model::device::Target;
use tokio::sync::watch;

pub use settings::Settings;

use command::Command;
use load::{Load, not_running};
use reading::{Reader, Text};
use start::work;
use workers::{Handle, Teller, Workers, once_all};

/// A handle to the workers: cheap to clone, never blocks.
#[derive(Clone)]
pub struct Engine {
    workers: Arc<Workers>,
    /// Of all workers together.
    status: watch::Receiver<Status>,
    ids: Arc<AtomicU64>,
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
