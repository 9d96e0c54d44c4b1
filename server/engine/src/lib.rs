//! The engine: for each device one worker thread that owns it and its copy of the model; everyone else talks to them
//! through [`Engine`].
//!
//! A picture is encoded and the opening of its conversation computed into the cache before any question exists. Up to
//! `max_batch` questions are answered in one forward pass, and join and leave it between tokens; where the cache has too few pages
//! for all of them, the newest make room for the oldest.

mod admission;
mod command;
mod encoder;
mod executor;
mod failures;
#[cfg(test)]
mod faults;
mod guard;
mod recovery;
mod reply;
mod reports;
pub mod scheduler;
mod settings;
mod start;
pub mod step_timings;
#[cfg(test)]
mod tests;
mod tokenization;
mod tokens;
mod warmup;
mod worker;
mod workers;

use std::sync::{Arc, OnceLock, mpsc};

use api::{
    Ask, Compute, Download, ErrorCode, Event, Failure, Freed, Picture, SessionId, State, Status,
};
use model::LoadError;
use model::checkpoint::Checkpoint;
use model::device::Target;
use tokio::sync::watch;

pub use reports::Reports;
pub use settings::Settings;

use admission::{Admission, Admitted, not_running};
use command::{Command, Question};
use executor::{Identity, Layer};
use model::network::Language;
use reports::{FreedNotice, Permit};
use start::{Preparation, work};
use tokenization::{Text, Tokenization};
use workers::{Handle, StatusPublisher, Statuses, Workers};

/// Where a worker puts its model's language once it is loaded.
type LanguageSlot = OnceLock<Arc<dyn Language>>;

/// A handle to the workers: cheap to clone, never blocks.
#[derive(Clone)]
pub struct Engine {
    workers: Arc<Workers>,
    /// Of all workers together.
    statuses: Arc<Statuses>,
    reports: Reports,
    /// Each worker's, once it is loaded. All have the same.
    languages: Arc<[Arc<LanguageSlot>]>,
}

impl Engine {
    /// Starts a worker for each of `opens`, which loads the checkpoint onto its device, warms up, and then serves.
    /// `status` tells how far they are; a load that fails ends in [`State::Failed`] with the reason. What comes of commands
    /// goes to `reports`.
    pub fn start(
        settings: Settings,
        opens: Vec<impl FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError> + Send + 'static>,
        reports: impl Into<Reports>,
    ) -> std::io::Result<Self> {
        let opens = opens.into_iter().map(|open| (open, Identity)).collect();
        Engine::start_wrapped(settings, opens, reports)
    }

    /// Starts the workers ([`Engine::start`]), each executor wrapped by its layer.
    fn start_wrapped(
        settings: Settings,
        opens: Vec<(
            impl FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError> + Send + 'static,
            impl Layer + Send + 'static,
        )>,
        reports: impl Into<Reports>,
    ) -> std::io::Result<Self> {
        let reports = reports.into();
        let (publishers, statuses) = StatusPublisher::all(opens.len(), &reports);
        let mut workers = Vec::with_capacity(opens.len());
        let mut languages = Vec::with_capacity(opens.len());
        for (number, ((open, wrap), publisher)) in opens.into_iter().zip(publishers).enumerate() {
            let (commands, inbox) = mpsc::channel();
            let (settings, admission) = (settings.clone(), Arc::new(Admission::new(&settings)));
            let language: Arc<LanguageSlot> = Arc::default();
            languages.push(language.clone());
            let tokenization = Tokenization::start(number, language.clone(), commands.clone())?;
            workers.push(Handle::new(commands, admission.clone(), Some(tokenization)));
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let prepared = Preparation {
                        settings,
                        admission,
                        language: &language,
                        status: &publisher,
                    };
                    work(prepared, open, wrap, &inbox);
                })?;
        }
        let languages = languages.into();
        Ok(Engine {
            languages,
            ..Engine::of(workers, statuses, reports)
        })
    }

    fn of(workers: Vec<Handle>, statuses: Arc<Statuses>, reports: Reports) -> Self {
        Engine {
            workers: Arc::new(Workers::new(workers)),
            statuses,
            reports,
            languages: Arc::new([]),
        }
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.statuses.subscribe()
    }

    /// Tells how much of the model has come that the workers load; none once all of it has.
    pub fn tell_download(&self, download: Option<Download>) {
        self.statuses.tell_download(download);
    }

    /// Questions accepted and not yet answered.
    pub fn open_requests(&self) -> usize {
        self.workers.all().iter().map(|w| w.admission.open()).sum()
    }

    /// Ends the workers once everything accepted before is answered.
    pub fn shutdown(&self) {
        for worker in self.workers.all() {
            worker.send(Command::Shutdown);
        }
    }

    fn ask(&self, ask: Ask) {
        let (session, request, attempt) = (ask.asker.session, ask.request, ask.attempt);
        if let Err(failure) = self.try_ask(ask) {
            let failed = Event::Failed {
                request,
                attempt,
                failure,
            };
            self.reports.tell(session, failed);
        }
    }

    fn try_ask(&self, ask: Ask) -> Result<(), Failure> {
        match self.statuses.state() {
            State::Ready | State::Draining => {}
            State::Loading | State::Warming => return Err(loading()),
            State::Failed => return Err(not_running()),
        }
        if ask.pictures.len() > 1 {
            return Err(too_many_pictures());
        }
        let home = self.workers.home(ask.asker.session);
        let worker = home.ok_or_else(not_running)?;
        let entered = worker.admission.enter(&ask)?;
        if entered == Admitted::Duplicate {
            return Ok(());
        }
        if let Some(traceparent) = &ask.traceparent {
            let request = ask.request;
            tracing::debug!(traceparent, %request, "a traced question is taken");
        }
        let ticket = Permit::new(self.reports.clone(), worker.admission.clone(), &ask);
        let mut question = Box::new(Question::new(ask, ticket));
        let tokenization = worker.tokenization.as_ref();
        let reading = tokenization.map(|tokenization| (tokenization, Text::of(&mut question)));
        worker.send(Command::Ask(question));
        if entered == Admitted::ByEviction {
            worker.send(Command::GiveWay);
        }
        // Behind the question, so that it is there when its text was read.
        if let Some((tokenization, text)) = reading {
            tokenization.read(text);
        }
        Ok(())
    }

    fn picture(&self, mut picture: Picture) {
        let Some(worker) = self.workers.home(picture.asker.session) else {
            return;
        };
        let reading = worker.tokenization.as_ref();
        let reading = reading.filter(|_| !picture.system.is_empty());
        let system = match reading {
            Some(_) => picture.system.clone(),
            // Nothing reads it: the model looks ahead without.
            None => std::mem::take(&mut picture.system),
        };
        let (asker, key) = (picture.asker, picture.key);
        worker.send(Command::Picture(picture));
        // Behind the picture, so that it is there when the text was read.
        if let Some(tokenization) = reading {
            tokenization.read_system(asker, key, system);
        }
    }

    /// Tells a session what is freed, once this is dropped.
    fn freeing(&self, session: SessionId, freed: Freed) -> FreedNotice {
        FreedNotice {
            reports: self.reports.clone(),
            session,
            freed,
        }
    }
}

impl Compute for Engine {
    fn command(&self, command: api::Command) {
        use api::Command as C;
        let session = command.session();
        let (worker, command) = match command {
            C::Ask(ask) => return self.ask(*ask),
            C::Picture(picture) => return self.picture(picture),
            // Any worker may be the session's home later.
            C::Presence { presence, .. } => {
                for worker in self.workers.all() {
                    worker.send(Command::Presence { session, presence });
                }
                return;
            }
            C::Credit {
                request, events, ..
            } => {
                let credit = Command::Credit { request, events };
                (self.workers.known(session), credit)
            }
            C::Cancel { request, .. } => (self.workers.known(session), Command::Cancel { request }),
            C::Forget { picture: key, .. } => {
                let freeing = self.freeing(session, Freed::Picture(key));
                let forget = Command::Forget { key, freeing };
                (self.workers.known(session), forget)
            }
            C::ForgetConversation { conversation, .. } => {
                let forget = Command::ForgetConversation {
                    conversation,
                    freeing: self.freeing(session, Freed::Conversation(conversation)),
                };
                (self.workers.known(session), forget)
            }
            // Each has heard whether it is here. It is told once all have let it go.
            C::EndSession { .. } => {
                self.workers.leave(session);
                let freeing = Arc::new(self.freeing(session, Freed::Session));
                for worker in self.workers.all() {
                    let freeing = freeing.clone();
                    worker.send(Command::EndSession { session, freeing });
                }
                return;
            }
        };
        // A session that no worker knows has nothing there: what would be freed is.
        if let Some(worker) = worker {
            worker.send(command);
        }
    }
}

fn loading() -> Failure {
    let message = "The model is still loading: ask again when the state is ready.";
    Failure::new(ErrorCode::Loading, message).retry_after(1000.0)
}

fn too_many_pictures() -> Failure {
    let message =
        "This model looks at one picture in a conversation: ask about each in one of its own.";
    Failure::new(ErrorCode::BadMessage, message)
}
