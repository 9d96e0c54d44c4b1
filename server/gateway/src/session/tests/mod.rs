//! Sessions with an engine that the test itself plays.

mod asking;
mod connections;
mod events;
mod kept;
mod pictures;
mod shares;
mod turns;

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use wire::{ErrorCode, FinishReason, Limits, Reason, frame};

use super::*;
use crate::doors::ws::codec;
use crate::intake::Client;
use crate::stand_in::{self, Player, stand_in};
use api::{
    Ask, Command, Compute, Event, Failure, Freed, Picture, PictureKey, RequestId, Shown, Status,
};

const UPLOAD_MEMORY: u64 = 1 << 22;
/// Of three pictures of 8 × 8 pixels.
const PICTURE_MEMORY: u64 = 3 * 8 * 8 * 3;

struct Rig {
    hub: Arc<Hub>,
    player: Player,
    connection: Connection,
    // Dropped, nothing could change any more.
    _status: watch::Sender<Status>,
}

/// A picture file of its own for each `shade`.
fn picture(shade: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    ::image::RgbImage::from_pixel(6, 4, ::image::Rgb([shade, 0, 0]))
        .write_to(&mut Cursor::new(&mut bytes), ::image::ImageFormat::Png)
        .unwrap();
    bytes
}

fn rig_with(change: impl FnOnce(&mut Limits)) -> Rig {
    rig_of(change, |_| {})
}

fn rig_of(change: impl FnOnce(&mut Limits), changed: impl FnOnce(&mut Options)) -> Rig {
    rig_on(|engine| engine, change, changed)
}

/// With an engine that `wrap` makes of the usual one.
fn rig_on(
    wrap: impl FnOnce(Arc<dyn Compute>) -> Arc<dyn Compute>,
    change: impl FnOnce(&mut Limits),
    changed: impl FnOnce(&mut Options),
) -> Rig {
    let (engine, reports, player) = stand_in();
    let engine = wrap(engine);
    let (status, watch) = watch::channel(stand_in::ready());
    let mut limits = stand_in::limits();
    change(&mut limits);
    let mut options = Options {
        upload_memory: UPLOAD_MEMORY,
        picture_memory: PICTURE_MEMORY,
        max_sessions: 3,
        ..stand_in::options()
    };
    changed(&mut options);
    let shared = Shared::new(engine, None, watch, reports, limits, options);
    rig_from(shared.unwrap(), player, status)
}

/// With one session, which has heard its welcome.
fn rig_from(shared: Shared, player: Player, status: watch::Sender<Status>) -> Rig {
    let hub = Arc::new(Hub::new(shared));
    let connection = hub.open(None, local(), None).unwrap();
    hub.keep(&connection);
    let rig = Rig {
        hub,
        player,
        connection,
        _status: status,
    };
    assert_eq!(rig.kinds(), ["welcome"]);
    rig
}

/// This machine's client.
fn local() -> Client {
    Client::at(std::net::Ipv4Addr::LOCALHOST.into())
}

/// Somebody else.
fn stranger() -> Client {
    Client::at([192, 0, 2, 1].into())
}

fn rig() -> Rig {
    rig_with(|_| {})
}

fn send(connection: &Connection, message: Value) {
    connection.text(codec::decode(&message.to_string()), || Ok(()));
}

/// So many bytes of an upload that was announced.
fn send_bytes(connection: &Connection, upload: u32, bytes: usize) {
    for piece in vec![0; bytes].chunks(frame::MAX_PAYLOAD) {
        connection.binary(&frame::encode(upload, piece));
    }
}

impl Rig {
    /// One more session, which stays.
    fn open(&self, key: Option<crate::intake::KeyId>, client: Client) -> Connection {
        let connection = self.hub.open(key, client, None).unwrap();
        self.hub.keep(&connection);
        connection
    }

    fn send(&self, message: Value) {
        self.connection
            .text(codec::decode(&message.to_string()), || Ok(()));
    }

    /// All that is there to be sent.
    fn take(&self) -> Vec<Value> {
        take(&self.connection)
    }

    /// So many messages, for which other threads may have to do something; fewer after a minute.
    fn take_so_many(&self, count: usize) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut messages = vec![];
        while messages.len() < count && Instant::now() < end {
            messages.extend(self.take());
        }
        messages
    }

    fn kinds(&self) -> Vec<String> {
        self.take().iter().map(kind).collect()
    }

    fn only(&self) -> Value {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// The one message is an error with this code.
    fn refused(&self, code: ErrorCode) -> Value {
        let message = self.only();
        assert_eq!(message["code"], code.as_str(), "{message}");
        message
    }

    /// The next command, but for those that only tell how fast to go on.
    fn command(&self) -> Command {
        loop {
            let commands = &self.player.commands;
            let next = commands.recv_timeout(Duration::from_secs(10));
            let next = next.expect("the engine hears nothing");
            if !is_pace(&next) {
                return next;
            }
        }
    }

    fn no_command(&self) {
        let other: Vec<_> = self
            .commands()
            .into_iter()
            .filter(|it| !is_pace(it))
            .collect();
        assert_eq!(other, []);
    }

    /// All commands that are there.
    fn commands(&self) -> Vec<Command> {
        self.player.commands.try_iter().collect()
    }

    fn asked(&self) -> Ask {
        match self.command() {
            Command::Ask(ask) => *ask,
            other => panic!("no question was given, but {other:?}"),
        }
    }

    fn looked(&self) -> Picture {
        match self.command() {
            Command::Picture(picture) => picture,
            other => panic!("no picture was given, but {other:?}"),
        }
    }

    /// The picture that the engine is to forget.
    fn forgotten(&self) -> PictureKey {
        match self.command() {
            Command::Forget { picture, .. } => picture,
            other => panic!("no picture is forgotten, but {other:?}"),
        }
    }

    /// The question that the engine is to end.
    fn cancelled(&self) -> RequestId {
        match self.command() {
            Command::Cancel { request, .. } => request,
            other => panic!("no question is cancelled, but {other:?}"),
        }
    }

    /// As the engine, of a question.
    fn queued(&self, ask: &Ask, position: Option<u64>) {
        self.tell(
            ask,
            Event::Queued {
                request: ask.request,
                attempt: ask.attempt,
                position,
            },
        );
    }

    fn started(&self, ask: &Ask) {
        self.tell(
            ask,
            Event::Started {
                request: ask.request,
                attempt: ask.attempt,
            },
        );
    }

    /// The answer goes on behind its first so many tokens.
    fn tokens(&self, ask: &Ask, first: u64, ids: &[u32], text: &str) {
        self.tell(
            ask,
            Event::Tokens {
                request: ask.request,
                attempt: ask.attempt,
                first,
                ids: ids.into(),
                text: text.into(),
                logprobs: Vec::new(),
            },
        );
    }

    fn done(&self, ask: &Ask, finish_reason: FinishReason) {
        self.tell(
            ask,
            Event::Done {
                request: ask.request,
                attempt: ask.attempt,
                finish_reason,
                usage: wire::Usage::default(),
                timings: wire::AnswerTimings::default(),
            },
        );
    }

    fn answer(&self, ask: &Ask, finish_reason: FinishReason) {
        self.queued(ask, Some(0));
        self.started(ask);
        self.tokens(ask, 0, &[7], "An ");
        self.tokens(ask, 1, &[8], "answer");
        self.done(ask, finish_reason);
    }

    fn failed(&self, ask: &Ask, failure: Failure) {
        self.tell(
            ask,
            Event::Failed {
                request: ask.request,
                attempt: ask.attempt,
                failure,
            },
        );
    }

    fn broken(&self, ask: &Ask) {
        self.failed(ask, Failure::new(ErrorCode::WorkerFailed, "broken"));
    }

    fn tell(&self, ask: &Ask, event: Event) {
        self.player.tell(ask.asker.session, event);
    }

    fn freed(&self, session: SessionId, freed: Freed) {
        self.player.tell(session, Event::Freed(freed));
    }

    /// Of the first connection's session.
    fn session(&self) -> SessionId {
        self.connection.session.asker().session
    }

    fn upload(&self, number: u32, bytes: &[u8]) {
        self.send(json!({"type": "upload", "upload": number, "bytes": bytes.len()}));
        self.connection.binary(&frame::encode(number, bytes));
    }

    /// A picture that is there; its id.
    fn image(&self, number: u32) -> String {
        self.upload(number, &picture(number as u8));
        self.looked();
        let messages = self.take();
        assert_eq!(
            messages.iter().map(kind).collect::<Vec<_>>(),
            ["upload_accepted", "upload_received", "image_ready"]
        );
        messages[2]["image"].as_str().unwrap().to_owned()
    }

    fn image_again(&self, number: u32, shade: u8) -> String {
        self.upload(number, &picture(shade));
        self.looked();
        self.take()[1]["image"].as_str().unwrap().to_owned()
    }

    fn ask(&self, request: &str, more: Value) {
        let mut ask = json!({"type": "ask", "request": request, "text": format!("{request}?")});
        ask.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.send(ask);
    }

    /// Asks, and answers as the engine; the conversation's id.
    fn answered(&self, request: &str, more: Value) -> String {
        self.ask(request, more);
        self.answer(&self.asked(), FinishReason::Stop);
        let messages = self.take();
        let done = messages.last().unwrap();
        assert_eq!(done["type"], "done", "{messages:?}");
        done["conversation"].as_str().unwrap().to_owned()
    }

    fn resume(&self, last_event: u64) -> Resumed {
        let resume = wire::Resume {
            session: self.connection.id().into(),
            last_event,
        };
        self.hub.resume(&resume, None)
    }
}

/// Uploads the picture of `shade`, of which the engine then has the pixels.
fn upload(connection: &Connection, shade: u8) {
    let (file, number) = (picture(shade), u32::from(shade));
    let announce = json!({"type": "upload", "upload": number, "bytes": file.len()});
    connection.text(codec::decode(&announce.to_string()), || Ok(()));
    connection.binary(&frame::encode(number, &file));
}

fn take(connection: &Connection) -> Vec<Value> {
    std::iter::from_fn(|| match connection.next() {
        Outgoing::Text(text) => Some(serde_json::from_str(&text).unwrap()),
        _ => None,
    })
    .collect()
}

fn kind(message: &Value) -> String {
    message["type"].as_str().unwrap().to_owned()
}

/// How often the engine was told, since the last look at its commands, that it may tell more of an answer.
fn granted(rig: &Rig, ask: &Ask) -> u32 {
    let commands = rig.commands().into_iter();
    let credit = commands.filter_map(|command| match command {
        Command::Credit {
            request, events, ..
        } if request == ask.request => Some(events),
        _ => None,
    });
    credit.sum()
}

/// What the engine is told of the first session's client.
fn presence(rig: &Rig, presence: Presence) -> Command {
    let session = rig.session();
    Command::Presence { session, presence }
}

/// Whether a command only tells how fast to go on.
fn is_pace(command: &Command) -> bool {
    matches!(command, Command::Credit { .. } | Command::Presence { .. })
}
