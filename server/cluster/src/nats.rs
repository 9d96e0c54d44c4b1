//! The connection, and what things are called there.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use api::{LogName, encoding};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::object_store::{self, ObjectStore};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Message, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;

/// How NATS is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// URLs of one server, or of several of a cluster.
    pub servers: Vec<String>,
    /// A file of credentials, as `nsc` writes them, or of an nkey's seed.
    pub credentials: Option<PathBuf>,
    /// A file of certificates in PEM, by one of which the servers' own are signed; the system's if there is none.
    pub authorities: Option<PathBuf>,
    /// Copies of what JetStream keeps.
    pub replicas: usize,
    /// The most bytes of the pictures' copies.
    pub pictures: u64,
}

/// The stream of what workers are asked.
pub const COMMANDS: &str = "glimpse-commands";
/// The stream of what they tell.
pub const EVENTS: &str = "glimpse-events";
/// The bucket of the pictures' copies, and the stream that it is kept in.
pub const PICTURES: &str = "glimpse-pictures";
pub const PICTURES_STREAM: &str = "OBJ_glimpse-pictures";
/// The stream of sessions' records, and the one of the keys that they are sealed with: no disk has either.
const SESSIONS: &str = "glimpse-sessions";
const KEYS: &str = "glimpse-keys";
/// How long both stay without anybody who has the session.
pub const LIFE: Duration = Duration::from_secs(3600);
/// The bucket of who is there.
const REGISTRY: &str = "glimpse";

/// How often everybody says that they are alive.
pub const BEAT: Duration = Duration::from_millis(500);

/// Bytes of what is sent in one message: below what every server takes.
pub const PIECE: usize = 512 * 1024;

/// The connection.
#[derive(Clone)]
pub struct Nats {
    pub client: Client,
    pub js: Context,
    /// A connection of their own for heartbeats: a server whose disk is slow reads nothing more of a connection meanwhile.
    pub pulse: Client,
    settings: Settings,
}

pub fn command_subject(worker: &str, gateway: &str) -> String {
    format!("glimpse.command.{worker}.{gateway}")
}

pub fn event_subject(gateway: &str, worker: &str) -> String {
    format!("glimpse.event.{gateway}.{worker}")
}

pub fn pixels_subject(worker: &str) -> String {
    format!("glimpse.pixels.{worker}")
}

pub const WORKER_BEATS: &str = "glimpse.beat.worker";
pub const GATEWAY_BEATS: &str = "glimpse.beat.gateway";
pub const TOKENS: &str = "glimpse.tokens";

pub fn session_subject(name: &LogName) -> String {
    format!("glimpse.session.{}", hex(name))
}

/// Where a gateway hears that another one has taken a session from it.
pub fn taken_subject(gateway: &str) -> String {
    format!("glimpse.taken.{gateway}")
}

pub fn key_subject(name: &LogName) -> String {
    format!("glimpse.key.{}", hex(name))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes that were written as hexadecimal digits.
pub fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

pub fn drain_subject(name: &str) -> String {
    format!("glimpse.drain.{name}")
}

pub fn worker_key(name: &str) -> String {
    format!("worker.{name}")
}

pub fn gateway_key(id: &str) -> String {
    format!("gateway.{id}")
}

/// Whether it can be part of a subject and of a key.
pub fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= 64 && name.chars().all(good)
}

/// A message's bytes. What can't be written is nothing that anybody would understand.
pub fn written<T: Serialize>(message: &T) -> Bytes {
    match encoding::encode(message) {
        Ok(bytes) => bytes.into(),
        Err(problem) => {
            tracing::error!(problem, "a message can't be written");
            Bytes::new()
        }
    }
}

fn failed(what: &str, problem: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {problem}"))
}

/// An error with the errors that it came of.
pub fn chain(problem: &dyn std::error::Error) -> String {
    let mut said = problem.to_string();
    let mut next = problem.source();
    while let Some(cause) = next {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        next = cause.source();
    }
    said
}

impl Nats {
    /// Connects, and makes what is not there.
    ///
    /// # Errors
    /// If no server can be reached, or one has no JetStream or no room in it.
    pub async fn connect(settings: Settings, name: &str) -> io::Result<Self> {
        let client = connect(&settings, name).await?;
        let pulse = connect(&settings, &format!("{name}: pulse")).await?;
        let nats = Nats {
            js: jet_stream(&client),
            client,
            pulse,
            settings,
        };
        nats.wait_for_streams().await?;
        Ok(nats)
    }

    /// The same over a connection of its own, behind which nothing else waits: a server does one thing after the other for each.
    ///
    /// # Errors
    /// If no server can be reached.
    pub async fn beside(&self, name: &str) -> io::Result<Self> {
        let client = connect(&self.settings, name).await?;
        Ok(Nats {
            js: jet_stream(&client),
            client,
            ..self.clone()
        })
    }

    /// Copies of what JetStream keeps.
    pub fn replicas(&self) -> usize {
        self.settings.replicas
    }

    /// Makes the streams. What starts together with a cluster of servers comes before these have agreed on a leader.
    async fn wait_for_streams(&self) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let start = Instant::now();
        let mut told = false;
        loop {
            match self.make_streams().await {
                Err(problem) if start.elapsed() < PATIENCE => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%problem, "JetStream is not ready: it has 30 s to become so");
                    }
                    tokio::time::sleep(BEAT).await;
                }
                made => return made,
            }
        }
    }

    async fn make_streams(&self) -> io::Result<()> {
        for (name, subjects, minutes) in [
            (COMMANDS, "glimpse.command.*.*", 60),
            (EVENTS, "glimpse.event.*.*", 10),
        ] {
            let config = stream::Config {
                name: name.into(),
                subjects: vec![subjects.into()],
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                max_bytes: 256 << 20,
                max_age: Duration::from_secs(60 * minutes),
                num_replicas: self.settings.replicas,
                ..stream::Config::default()
            };
            self.js
                .get_or_create_stream(config)
                .await
                .map_err(|problem| no_stream(name, &problem))?;
        }
        Ok(())
    }

    /// The streams of sessions' records and of their keys, both in the servers' memory: what whoever has a session puts there anew
    /// where a server lost it. (On a disk, servers before 2.10 count what a roll-up or a purge by subject deleted as taken until
    /// they are restarted, and take nothing more once that comes to all they may have.)
    ///
    /// # Errors
    /// If one can neither be found nor made.
    pub async fn sessions(&self) -> io::Result<(Stream, Stream)> {
        let records = stream::Config {
            name: SESSIONS.into(),
            subjects: vec!["glimpse.session.*".into()],
            storage: StorageType::Memory,
            // A session without room here goes on; what is lost is that another gateway could.
            discard: DiscardPolicy::Old,
            max_bytes: 1 << 30,
            max_age: LIFE,
            allow_rollup: true,
            allow_direct: true,
            num_replicas: self.settings.replicas,
            ..stream::Config::default()
        };
        let keys = stream::Config {
            name: KEYS.into(),
            subjects: vec!["glimpse.key.*".into()],
            storage: StorageType::Memory,
            max_messages_per_subject: 1,
            max_age: LIFE,
            allow_direct: true,
            num_replicas: self.settings.replicas,
            ..stream::Config::default()
        };
        let made = async |config: stream::Config| {
            let name = config.name.clone();
            let made = self.js.get_or_create_stream(config).await;
            made.map_err(|problem| no_stream(&name, &problem))
        };
        Ok((made(records).await?, made(keys).await?))
    }

    /// Who is there.
    ///
    /// # Errors
    /// If it can neither be found nor made.
    pub async fn registry(&self) -> io::Result<Store> {
        if let Ok(store) = self.js.get_key_value(REGISTRY).await {
            return Ok(store);
        }
        // As the client makes one, which asks servers before 2.10 for what they can't tell.
        let config = stream::Config {
            name: format!("KV_{REGISTRY}"),
            subjects: vec![format!("$KV.{REGISTRY}.>")],
            max_messages_per_subject: 1,
            max_bytes: -1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_direct: true,
            deny_delete: true,
            num_replicas: self.settings.replicas,
            ..stream::Config::default()
        };
        let made = self.js.create_stream(config).await;
        made.map_err(|problem| no_stream(REGISTRY, &problem))?;
        let found = self.js.get_key_value(REGISTRY).await;
        found.map_err(|problem| no_stream(REGISTRY, &problem))
    }

    /// The pictures' copies.
    ///
    /// # Errors
    /// If it can neither be found nor made.
    pub async fn pictures(&self) -> io::Result<ObjectStore> {
        if let Ok(store) = self.js.get_object_store(PICTURES).await {
            return Ok(store);
        }
        let config = object_store::Config {
            bucket: PICTURES.into(),
            max_bytes: i64::try_from(self.settings.pictures).unwrap_or(i64::MAX),
            num_replicas: self.settings.replicas,
            ..object_store::Config::default()
        };
        let made = self.js.create_object_store(config).await;
        made.map_err(|problem| no_stream(PICTURES, &problem))
    }
}

fn jet_stream(client: &Client) -> Context {
    let mut js = jetstream::new(client.clone());
    js.set_timeout(Duration::from_secs(2));
    js
}

/// Reads once what a stream has of a subject, from the first on.
pub fn reading(subject: String) -> pull::Config {
    pull::Config {
        filter_subject: subject,
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: Duration::from_secs(10),
        ..pull::Config::default()
    }
}

/// Hands on what is sent to a subject, until nobody takes it: `hand_on` is false then.
pub async fn listen(client: Client, subject: String, mut hand_on: impl FnMut(Message) -> bool) {
    loop {
        match client.subscribe(subject.clone()).await {
            Ok(mut messages) => {
                while let Some(message) = messages.next().await {
                    if !hand_on(message) {
                        return;
                    }
                }
            }
            Err(problem) => tracing::debug!(subject, %problem, "a subject can't be listened to"),
        }
        tokio::time::sleep(BEAT).await;
    }
}

async fn connect(settings: &Settings, name: &str) -> io::Result<Client> {
    let urls = settings.servers.join(",");
    let parsed: Result<Vec<ServerAddr>, _> = settings.servers.iter().map(|it| it.parse()).collect();
    let servers =
        parsed.map_err(|problem| failed(&format!("--nats {urls} makes no sense"), problem))?;
    let mut options = ConnectOptions::new()
        .name(name)
        .ping_interval(Duration::from_secs(1))
        .connection_timeout(Duration::from_secs(5))
        .subscription_capacity(1 << 16)
        .reconnect_delay_callback(|attempts| Duration::from_millis(50 * (attempts as u64).min(20)))
        .event_callback(|event| async move {
            tracing::debug!(%event, "NATS");
        });
    if let Some(file) = &settings.authorities {
        options = options.add_root_certificates(file.clone());
    }
    if let Some(file) = &settings.credentials {
        let unread = |problem: io::Error| {
            let what = format!("the credentials {} can't be read", file.display());
            failed(&what, problem)
        };
        let text = std::fs::read_to_string(file).map_err(unread)?;
        // A user's seed begins so: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
        options = match text.trim() {
            seed if seed.starts_with("SU") => options.nkey(seed.to_owned()),
            _ => options.credentials(&text).map_err(unread)?,
        };
    }
    options.connect(servers).await.map_err(|problem| {
        failed(
            &format!("no NATS server answers at {urls}"),
            chain(&problem),
        )
    })
}

fn no_stream(name: &str, problem: &dyn std::error::Error) -> io::Error {
    let why = "the NATS server needs JetStream (nats-server -js) with room for it";
    failed(
        &format!("JetStream has no {name}, and can't make it; {why}"),
        chain(problem),
    )
}
