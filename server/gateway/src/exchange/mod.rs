//! One request, one answer: for doors whose clients bring the whole conversation each time and keep no connection.
//!
//! An [`Exchange`] is a client of a session as any other, with its limits, shares, metrics and spans. When it is over, its
//! session waits in the [`Pool`] as it would wait for a client that lost its connection, and the next request that brings the
//! same conversation goes on with it: what the model has seen and said is not computed again.

mod dialogue;
mod known;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::{
    Ask, Cancel, ClientMessage, Done, ErrorCode, FinishReason, Forget, ImageReady, Resume,
    Sampling, ServerEnvelope, ServerMessage, Token,
};

use crate::access::Guest;
use crate::intake::{Eviction, KeyId, retry};
use crate::session::{CompleteFile, Connection, Hub, Outgoing, seconds};
use api::{AnswerFormat, Failure, SessionId};
use dialogue::Fingerprints;
use known::{Digest, KnownTexts};
use pool::{Conversation, Held, Pool};

pub use dialogue::{Dialogue, Picture, Source};
pub use pool::Namespace;

/// Answers requests with the sessions of a hub.
pub struct Exchanges {
    pub hub: Arc<Hub>,
    pool: Mutex<Pool>,
    texts: Mutex<KnownTexts>,
    fingerprints: Fingerprints,
    /// Makes names of namespaces that nobody can guess.
    names: RandomState,
}

/// Who asks.
pub struct Asker {
    pub guest: Guest,
    pub owner: Option<KeyId>,
    pub namespace: Namespace,
}

/// How a question is to be answered.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub sampling: Sampling,
    /// How many answers, at least 1.
    pub choices: usize,
    pub format: Option<AnswerFormat>,
    /// Tells how probable each token was, beside so many others in its place.
    pub logprobs: Option<u32>,
    pub traceparent: Option<String>,
}

/// What an exchange has come to. `choice` counts the answers from 0.
#[derive(Debug)]
pub enum Event {
    Started { choice: usize },
    Token { choice: usize, token: Token },
    Done { choice: usize, done: Box<Done> },
}

/// A request on its way to its answers. Dropped, what is not answered yet is cancelled.
pub struct Exchange {
    exchanges: Arc<Exchanges>,
    asker: Asker,
    connection: Connection,
    held: Held,
    choices: Vec<Choice>,
    upload: Option<u32>,
    /// The picture, once it is decoded.
    pub picture: Option<ImageReady>,
    /// [`Fingerprints`] of the turns before the question.
    turns: Vec<u64>,
    /// That of all of them, or of what stands before the first.
    before: u64,
    events: VecDeque<Event>,
    last_event: u64,
    eviction: Arc<Eviction>,
    keys: watch::Receiver<u64>,
    /// The session is over, for whatever reason: nobody can go on with it.
    lost: bool,
}

/// One answer.
struct Choice {
    ask: Ask,
    conversation: Option<String>,
    answer: String,
    over: bool,
}

impl Exchanges {
    pub fn new(hub: Arc<Hub>) -> Arc<Self> {
        let patience = seconds(hub.shared.limits.resume_seconds);
        Arc::new(Exchanges {
            hub,
            pool: Mutex::new(Pool::new(patience, Instant::now())),
            texts: Mutex::default(),
            fingerprints: Fingerprints::default(),
            names: RandomState::new(),
        })
    }

    /// The namespace of this client's requests ([`Client::number`](crate::intake::Client::number)); `user` is what it tells its own
    /// users apart by, if it does.
    pub fn namespace(&self, client: u128, user: Option<&str>) -> Namespace {
        Namespace {
            client,
            user: user.map_or(0, |user| self.names.hash_one(user)),
        }
    }

    /// What a picture's text in a request of this namespace was found to be the last time, its file's SHA-256, if a session
    /// that has it waits for the next request.
    pub fn recall(&self, namespace: Namespace, text: &Digest) -> Option<[u8; 32]> {
        let sha256 = self.texts.lock().get(namespace, text)?;
        self.pool.lock().holds(namespace, sha256).then_some(sha256)
    }

    /// Remembers what a picture's text in a request was found to be.
    pub fn remember(&self, namespace: Namespace, text: Digest, sha256: [u8; 32]) {
        self.texts.lock().put(namespace, text, sha256);
    }

    /// What the sessions of a namespace share pictures by.
    fn scope(&self, namespace: Namespace) -> SessionId {
        let half = |salt: u8| u128::from(self.names.hash_one((namespace, salt)));
        SessionId::new(half(0) << 64 | half(1))
    }

    /// Asks. `eviction` is asked where the picture's memory is to be given back before it is decoded.
    ///
    /// # Errors
    /// `internal`, if the system has no randomness for a session; whatever else is wrong is told by [`Exchange::next`].
    pub fn ask(
        self: &Arc<Self>,
        asker: Asker,
        dialogue: Dialogue,
        settings: &Settings,
        eviction: Arc<Eviction>,
    ) -> Result<Exchange, Failure> {
        let Dialogue {
            system,
            history,
            question,
            picture,
        } = dialogue;
        let turns = self.fingerprints.of(&system, &history);
        let beginning = self.fingerprints.beginning(&system);
        let sha256 = picture.as_ref().map(Picture::identity);
        let picture_turn = picture.as_ref().and_then(|it| u32::try_from(it.turn).ok());
        let (connection, mut held, last_event) = self.session(&asker, sha256, &turns)?;
        let upload = picture.map(|picture| {
            held.uploads += 1;
            give(&connection, held.uploads, picture, &system).map(|()| held.uploads)
        });
        let upload = upload.transpose().inspect_err(|_| connection.detach())?;
        let mut known = held.take_conversation(&turns);
        let keys = asker.guest.guests().watch();
        let mut exchange = Exchange {
            exchanges: self.clone(),
            asker,
            connection,
            held,
            choices: Vec::new(),
            upload,
            picture: None,
            before: turns.last().copied().unwrap_or(beginning),
            turns,
            events: VecDeque::new(),
            last_event,
            eviction,
            keys,
            lost: false,
        };
        let ask = Ask {
            text: question,
            upload,
            history: Some(history),
            system: Some(system),
            picture_turn,
            format: settings.format.clone(),
            logprobs: settings.logprobs,
            sampling: Some(settings.sampling.clone()),
            traceparent: settings.traceparent.clone(),
            ..Ask::default()
        };
        for _ in 0..settings.choices.max(1) {
            let conversation = known.take().map(|conversation| conversation.id);
            exchange.ask_one(Ask {
                conversation,
                ..ask.clone()
            });
        }
        Ok(exchange)
    }

    /// A session to ask in, what it holds, and the last event of it that was read.
    fn session(
        &self,
        asker: &Asker,
        picture: Option<[u8; 32]>,
        turns: &[u64],
    ) -> Result<(Connection, Held, u64), Failure> {
        let Asker {
            guest,
            owner,
            namespace,
        } = asker;
        let take = || self.pool.lock().take(*namespace, *owner, picture, turns);
        while let Some((resume, held)) = take() {
            // It may be over by now.
            if let Ok(connection) = self.hub.resume(&resume, *owner) {
                return Ok((connection, held, resume.last_event));
            }
        }
        let scope = self.scope(*namespace);
        let connection = self.hub.open(*owner, guest.client(), Some(scope));
        let connection = connection.map_err(|problem| {
            tracing::error!(%problem, "no randomness for a session id");
            let message = "The server could not make a session: try again.";
            Failure::new(ErrorCode::Internal, message)
        })?;
        self.hub.keep(&connection);
        let held = Held {
            owner: *owner,
            picture,
            ..Held::default()
        };
        Ok((connection, held, 0))
    }
}

/// Gives a session its picture.
///
/// # Errors
/// Why it can't be read.
fn give(
    connection: &Connection,
    upload: u32,
    picture: Picture,
    system: &str,
) -> Result<(), Failure> {
    let sha256 = picture.identity();
    let file = match picture.source {
        Source::File(file) => file,
        Source::Known(_) if connection.give_again(upload, &sha256, system) => return Ok(()),
        // It was evicted since it was recalled.
        Source::Known(read) => read()?,
    };
    let file = CompleteFile {
        file,
        sha256,
        region: picture.region,
        system: system.to_owned(),
        upload_ms: picture.upload_ms,
    };
    connection.give(upload, file);
    Ok(())
}

impl Exchange {
    fn ask_one(&mut self, mut ask: Ask) {
        ask.request = self.next_request();
        self.send(ask.clone());
        self.choices.push(Choice {
            conversation: ask.conversation.clone(),
            ask,
            answer: String::new(),
            over: false,
        });
    }

    /// An id that no question of the session has had.
    fn next_request(&mut self) -> String {
        self.held.questions += 1;
        format!("request_{}", self.held.questions)
    }

    fn send(&self, ask: Ask) {
        let message = Ok(ClientMessage::Ask(Box::new(ask)));
        self.connection.text(message, || self.asker.guest.ask());
    }

    /// How many of the answers are over.
    fn over(&self) -> usize {
        self.choices.iter().filter(|choice| choice.over).count()
    }

    /// Waits until there is something to tell of an answer, at most so long.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn begun(&mut self, patience: Duration) -> Result<(), Failure> {
        let first = async {
            while self.events.is_empty() && self.over() < self.choices.len() {
                self.more().await?;
            }
            Ok(())
        };
        timeout(patience, first).await.unwrap_or(Ok(()))
    }

    /// The next event; `None` once all answers are over. It may be dropped unfinished and called again.
    ///
    /// # Errors
    /// Why there is no answer: then the exchange is over.
    pub async fn next(&mut self) -> Option<Result<Event, Failure>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.over() == self.choices.len() {
                return None;
            }
            if let Err(failure) = self.more().await {
                return Some(Err(failure));
            }
        }
    }

    /// Waits for a message of the session, and takes it in.
    async fn more(&mut self) -> Result<(), Failure> {
        match self.connection.next() {
            Outgoing::Text(text) => return self.read(&text),
            Outgoing::Empty | Outgoing::Withheld => {}
            Outgoing::TooSlow | Outgoing::TakenOver | Outgoing::Evicted | Outgoing::Ended => {
                self.lost = true;
                return Err(evicted());
            }
        }
        tokio::select! {
            () = self.connection.changed() => Ok(()),
            () = self.eviction.asked() => Err(evicted()),
            () = self.asker.guest.gone() => {
                let message = "The connection was closed before the answer was there.";
                Err(Failure::new(ErrorCode::BadMessage, message))
            }
            Ok(()) = self.keys.changed() => match self.asker.owner {
                Some(owner) if !self.asker.guest.guests().has(owner) => {
                    Err(crate::access::unauthorized())
                }
                _ => Ok(()),
            },
        }
    }

    fn read(&mut self, text: &str) -> Result<(), Failure> {
        let envelope = ServerEnvelope::read(text).map_err(|problem| {
            let message = "The server did not understand itself: ask again.";
            Failure::new(ErrorCode::Internal, message).detail(problem.to_string())
        })?;
        self.last_event = envelope.event.unwrap_or(self.last_event);
        match envelope.message {
            ServerMessage::ImageReady(info) => self.picture = Some(info),
            ServerMessage::Queued(queued) => {
                if let Some(choice) = self.choice(&queued.request) {
                    self.choices[choice].conversation = Some(queued.conversation);
                }
            }
            ServerMessage::Started(started) => {
                if let Some(choice) = self.choice(&started.request) {
                    self.events.push_back(Event::Started { choice });
                }
            }
            ServerMessage::Token(token) => {
                if let Some(choice) = self.choice(&token.request) {
                    self.choices[choice].answer.push_str(&token.text);
                    self.events.push_back(Event::Token { choice, token });
                }
            }
            ServerMessage::Done(done) => {
                if let Some(choice) = self.choice(&done.request) {
                    self.choices[choice].over = true;
                    self.choices[choice].conversation = Some(done.conversation.clone());
                    if done.finish_reason == FinishReason::Cancelled {
                        // Not by this exchange, which goes on as long as it lives.
                        return Err(draining());
                    }
                    self.events.push_back(Event::Done { choice, done });
                }
            }
            ServerMessage::Error(error) => return self.refused(error),
            _ => {}
        }
        Ok(())
    }

    fn choice(&self, request: &str) -> Option<usize> {
        let mut asks = self.choices.iter();
        asks.position(|choice| choice.ask.request == request && !choice.over)
    }

    fn refused(&mut self, error: wire::Error) -> Result<(), Failure> {
        let asked = error.request.as_deref().and_then(|it| self.choice(it));
        let ours = error.upload.is_some() && error.upload == self.upload;
        let Some(choice) = asked else {
            // A picture that can't be used: its questions say so too, but not why.
            let about_picture = ours || error.image.is_some();
            return if about_picture {
                Err(error.failure)
            } else {
                Ok(())
            };
        };
        let asked = &self.choices[choice].ask;
        if error.failure.code == ErrorCode::UnknownConversation && asked.conversation.is_some() {
            // It went for want of memory. All of it is in the history.
            let request = self.next_request();
            let ask = &mut self.choices[choice].ask;
            (ask.request, ask.conversation) = (request, None);
            self.send(self.choices[choice].ask.clone());
            return Ok(());
        }
        self.choices[choice].over = true;
        Err(error.failure)
    }

    /// What the session holds once this exchange is over.
    fn conversations(&mut self) {
        for choice in &self.choices {
            let Some(id) = choice.conversation.clone() else {
                continue;
            };
            let mut turns = self.turns.clone();
            if choice.over {
                let fingerprints = &self.exchanges.fingerprints;
                let (question, answer) = (&choice.ask.text, &choice.answer);
                turns.push(fingerprints.after(self.before, question, answer));
            }
            if let Some(gone) = self.held.put_conversation(Conversation { id, turns }) {
                let forget = Forget {
                    conversation: Some(gone.id),
                    image: None,
                };
                self.connection
                    .text(Ok(ClientMessage::Forget(forget)), || Ok(()));
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        for choice in self.choices.iter().filter(|choice| !choice.over) {
            let cancel = Cancel {
                request: Some(choice.ask.request.clone()),
                upload: None,
            };
            self.connection
                .text(Ok(ClientMessage::Cancel(cancel)), || Ok(()));
        }
        self.conversations();
        let ack = wire::Ack {
            event: self.last_event,
        };
        self.connection.text(Ok(ClientMessage::Ack(ack)), || Ok(()));
        self.connection.detach();
        if self.lost || !self.connection.is_current() {
            return;
        }
        let resume = Resume {
            session: self.connection.id().to_owned(),
            last_event: self.last_event,
        };
        let held = std::mem::take(&mut self.held);
        let mut pool = self.exchanges.pool.lock();
        pool.park(self.asker.namespace, resume, held, Instant::now());
    }
}

fn draining() -> Failure {
    let message = "The server is shutting down: ask again when it is back.";
    Failure::new(ErrorCode::Draining, message).retry_after(retry::DRAINING)
}

fn evicted() -> Failure {
    let message = "The server has no memory left, and this client takes the most of it: ask again in a moment, and have less on its way at once.";
    Failure::new(ErrorCode::Busy, message).retry_after(retry::EVICTED)
}
