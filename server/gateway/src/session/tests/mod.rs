//! Sessions with an engine that the test itself plays.

mod asking;
mod connections;
mod pictures;
mod shares;

use std::io::Cursor;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use wire::{ErrorCode, FinishReason, Limits, Reason, frame};

use super::*;
use crate::intake::{Client, decode};
use crate::stand_in::{self, Command, stand_in};
use api::{AskJob, Failure, PictureJob, Status};

const UPLOAD_MEMORY: u64 = 1 << 22;
/// Of three pictures of 8 × 8 pixels.
const PICTURE_MEMORY: u64 = 3 * 8 * 8 * 3;

struct Rig {
    hub: Arc<Hub>,
    commands: Receiver<Command>,
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
    let (engine, commands) = stand_in();
    let (status, watch) = watch::channel(Status {
        state: wire::State::Ready,
        model: wire::Model {
            image_size: 8,
            ..wire::Model::default()
        },
        ..Status::default()
    });
    let mut limits = stand_in::limits();
    change(&mut limits);
    let mut options = Options {
        share_pictures: false,
        decode: decode::Settings {
            image: glimpse_image::Options::default(),
            in_process: false,
            decoders: 1,
            memory: 1 << 30,
            time: Duration::from_secs(60),
            warm_up: false,
        },
        upload_memory: UPLOAD_MEMORY,
        picture_memory: PICTURE_MEMORY,
        session_memory: 1 << 30,
        message_memory: 1 << 30,
        max_sessions: 3,
    };
    changed(&mut options);
    let hub = Arc::new(Hub::new(
        Shared::new(engine, watch, limits, options).unwrap(),
    ));
    let connection = hub.open(None, local()).unwrap();
    hub.keep(&connection);
    let rig = Rig {
        hub,
        commands,
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
        let connection = self.hub.open(key, client).unwrap();
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

    fn command(&self) -> Command {
        self.commands
            .recv_timeout(Duration::from_secs(10))
            .expect("the engine hears nothing")
    }

    fn no_command(&self) {
        assert!(self.commands.try_recv().is_err());
    }

    fn asked(&self) -> AskJob {
        match self.command() {
            Command::Ask(job) => job,
            _ => panic!("no question was given"),
        }
    }

    fn looked(&self) -> PictureJob {
        match self.command() {
            Command::Picture(job) => job,
            _ => panic!("no picture was given"),
        }
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
        let job = self.asked();
        answer(&job, FinishReason::Stop);
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

fn answer(job: &AskJob, finish_reason: FinishReason) {
    let request = job.request;
    let events = &job.events;
    events.event(Event::Queued {
        request,
        position: Some(0),
    });
    events.event(Event::Started { request });
    for text in ["An ", "answer"] {
        let text = text.to_owned();
        events.event(Event::Token { request, text });
    }
    events.event(Event::Done {
        request,
        finish_reason,
        usage: wire::Usage::default(),
        timings: wire::AnswerTimings::default(),
        answer_ids: vec![7, 8],
    });
}

fn failed(job: &AskJob) {
    job.events.event(Event::Failed {
        request: job.request,
        error: Failure::new(ErrorCode::WorkerFailed, "broken"),
    });
}
