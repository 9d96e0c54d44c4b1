//! Sessions, kept in a stream so that any gateway can go on with them.
//!
//! A session's records are the messages of one subject. Each is written behind the last that its writer knows of, so that of two
//! gateways only one can go on: whoever takes a session over writes a claim behind the last record, and what the other one would
//! write then is refused. Records are sealed with the session's key. Both stand in streams in memory, never on a disk.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use api::{ErrorCode, Failure, LogName, Record, RecordKind, Report, SessionId};
use async_nats::HeaderMap;
use async_nats::header::NATS_ROLLUP;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;
use tokio::time::MissedTickBehavior;

use crate::link::{Attempts, Trouble, connects};
use crate::nats::{LIFE, Nats, PIECE, chain, key_subject, reading, session_subject, taken_subject};
use crate::seal::{Key, Wrapping};

/// Headers of a record: what it is to those before it, whether more of it follows, which gateway wrote it, and where its session
/// is at home.
const KIND: &str = "Glimpse-Kind";
const MORE: &str = "Glimpse-More";
const GATEWAY: &str = "Glimpse-Gateway";
const HOME: &str = "Glimpse-Home";
const ID: &str = "Nats-Msg-Id";

/// A session has none: a server has lost its memory, and whoever has the session will put it there again, or is lost too.
const NO_KEY: &str = "a session's key is not there";

const WHOLE: &str = "whole";
const EVENTS: &str = "events";
/// What goes on with the message before.
const PART: &str = "part";
const CLAIM: &str = "claim";

/// The sessions that this gateway keeps.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    nats: Nats,
    records: Stream,
    keys: Stream,
    gateway: String,
    wrapping: Wrapping,
    held: Mutex<HashMap<LogName, Arc<Turn<Held>>>>,
    /// Counts what is written, by which a repetition is known.
    written: AtomicU64,
    reports: Sender<Report>,
    trouble: Trouble,
}

/// A session that this gateway has.
#[derive(Default)]
struct Held {
    /// Once something of it was kept here.
    session: Option<SessionId>,
    key: Option<Key>,
    /// The place of that in the keys' stream; 0 for none.
    key_at: u64,
    /// The place in the stream of its last record; 0 for none.
    last: u64,
    /// It has ended, or another gateway has it.
    over: bool,
}

/// A session that was taken over.
pub struct Taken {
    pub records: Vec<Record>,
    /// The worker that it was at home with.
    pub home: Option<String>,
    /// Its claim's place in the stream: those of later claims are higher.
    pub epoch: u64,
}

/// What came of writing.
enum Put {
    At(u64),
    /// Another gateway has written there.
    Taken,
    /// What was there is lost; this is the place of what is left.
    Lost(u64),
}

impl Sessions {
    /// # Errors
    /// If the streams can't be had.
    pub async fn open(
        nats: Nats,
        gateway: String,
        wrapping: Wrapping,
        reports: Sender<Report>,
        trouble: Trouble,
    ) -> io::Result<Self> {
        let nats = nats.beside("glimpse gateway: sessions").await?;
        let (records, keys) = nats.sessions().await?;
        let sessions = Sessions(Arc::new(Inner {
            records,
            keys,
            nats,
            gateway,
            wrapping,
            held: Mutex::default(),
            written: AtomicU64::new(0),
            reports,
            trouble,
        }));
        tokio::spawn(sessions.clone().refresh());
        Ok(sessions)
    }

    /// Keeps a session's record, whatever time that takes. `home` is where it is at home.
    pub fn keep(&self, session: SessionId, name: LogName, record: Record, home: Option<String>) {
        let inner = self.0.clone();
        // Before its end can be asked for.
        let held = inner.held.lock().entry(name).or_default().clone();
        tokio::spawn(async move {
            let mut held = held.lock().await;
            if held.over {
                return;
            }
            held.session = Some(session);
            let report = match inner.keep(&mut held, name, record, home).await {
                Ok(Put::At(_)) => Report::Kept { session },
                Ok(Put::Taken) => Report::Taken { session },
                Ok(Put::Lost(place)) => {
                    held.last = place;
                    Report::Unkept { session }
                }
                Err(problem) => {
                    tracing::error!(problem, "a session can't be kept");
                    Report::Unkept { session }
                }
            };
            let _ = inner.reports.send(report);
        });
    }

    /// Whether no other gateway has taken a session of this one's.
    pub async fn has(self, name: LogName) -> bool {
        match self.0.newest(&name).await {
            Ok(Some(message)) => self.0.is_own(&message),
            Ok(None) | Err(_) => true,
        }
    }

    /// Whether a session that is over was this gateway's to the end, which is waited for.
    pub async fn was_own(self, name: LogName) -> bool {
        const PAUSE: Duration = Duration::from_secs(1);
        loop {
            match self.0.newest(&name).await {
                Ok(Some(message)) => return self.0.is_own(&message),
                Ok(None) => return true,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Takes a session over; `None` if nothing of it is kept that can be read.
    ///
    /// # Errors
    /// `busy`, while it can't be found out.
    pub async fn take(self, name: LogName) -> Result<Option<Taken>, Failure> {
        const ATTEMPTS: u32 = 8;
        const PAUSE: Duration = Duration::from_millis(250);
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.0.take(&name).await {
                Ok(taken) => return Ok(taken),
                Err(problem) => why = problem,
            }
            tokio::time::sleep(PAUSE).await;
        }
        if why == NO_KEY {
            return Ok(None);
        }
        let message = "It can't be found out now where this session is: connect again in a moment.";
        let failure = Failure::new(ErrorCode::Busy, message).retry_after(1000.0);
        Err(failure.detail(why))
    }

    /// Another gateway has it.
    pub fn release(&self, name: &LogName) {
        self.0.held.lock().remove(name);
    }

    /// Nobody can read any more what was kept: its key goes first, then what it sealed.
    pub fn end(&self, name: LogName) {
        const ATTEMPTS: u32 = 20;
        const PAUSE: Duration = Duration::from_millis(500);
        let inner = self.0.clone();
        let held = inner.held.lock().remove(&name);
        tokio::spawn(async move {
            if let Some(held) = held {
                // Behind what is being kept of it.
                held.lock().await.over = true;
            }
            for _ in 0..ATTEMPTS {
                let keys = inner.keys.purge().filter(key_subject(&name)).await;
                let records = inner.records.purge().filter(session_subject(&name)).await;
                if keys.is_ok() && records.is_ok() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
            tracing::warn!(
                "what was kept of a session can't be deleted: it goes by itself in an hour"
            );
        });
    }

    /// Whether anything is kept of a session.
    pub async fn is_kept(&self, name: &LogName) -> Result<bool, String> {
        Ok(self.0.newest(name).await?.is_some())
    }

    /// Keeps keys alive: those that a server lost with its memory, and those that grow old. Of records that were lost it is told.
    async fn refresh(self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut made = connects(&self.0.nats.client);
        let mut told = Instant::now();
        loop {
            ticks.tick().await;
            // Only the gateway's end is left.
            if Arc::strong_count(&self.0) == 1 {
                return;
            }
            let now = connects(&self.0.nats.client);
            let anew = now != made || told.elapsed() >= LIFE / 3;
            if !anew {
                continue;
            }
            // A server alone that was restarted has not even the streams.
            if let Err(problem) = self.0.nats.sessions().await {
                tracing::debug!(%problem, "sessions can't be kept yet");
                continue;
            }
            (made, told) = (now, Instant::now());
            let all: Vec<(LogName, Arc<Turn<Held>>)> = {
                let held = self.0.held.lock();
                held.iter().map(|(name, it)| (*name, it.clone())).collect()
            };
            for (name, held) in all {
                // Whoever is writing has to wait until the server has it.
                let mut held = held.lock().await;
                let (Some(key), false) = (held.key.clone(), held.over) else {
                    continue;
                };
                let put = self.0.put_keys(&mut held, &name, &[key]).await;
                if let Err(problem) = put {
                    tracing::warn!(problem, "a session's key can't be kept");
                }
                let (is_written, session) = (held.last > 0, held.session);
                if is_written
                    && let Some(session) = session
                    && let Ok(None) = self.0.newest(&name).await
                {
                    let _ = self.0.reports.send(Report::Missing { session });
                }
            }
        }
    }
}

impl Inner {
    async fn keep(
        &self,
        held: &mut Held,
        name: LogName,
        record: Record,
        home: Option<String>,
    ) -> Result<Put, String> {
        let earlier = match &held.key {
            Some(key) => key.clone(),
            None => {
                let key = Key::random()?;
                // One that another gateway has by now has a key.
                if !self
                    .put_keys(held, &name, std::slice::from_ref(&key))
                    .await?
                {
                    return Ok(Put::Taken);
                }
                held.key.insert(key).clone()
            }
        };
        let erases = record.kind == RecordKind::Erasing;
        let key = match erases {
            true => Key::random()?,
            false => earlier.clone(),
        };
        if erases {
            // Both until the new record is there, so that whoever goes on in between can.
            if !self.put_keys(held, &name, &[key.clone(), earlier]).await? {
                return Ok(Put::Taken);
            }
        }
        let mut sealed = Bytes::from(key.seal(&name, &record.bytes)?);
        let whole = record.kind != RecordKind::More;
        let before = held.last;
        let alone = sealed.len() <= PIECE;
        let mut kind = if whole { WHOLE } else { EVENTS };
        while !sealed.is_empty() {
            let piece = sealed.split_to(sealed.len().min(PIECE));
            let mut headers = HeaderMap::new();
            headers.insert(KIND, std::mem::replace(&mut kind, PART));
            headers.insert(GATEWAY, self.gateway.as_str());
            if !sealed.is_empty() {
                headers.insert(MORE, "1");
            }
            if let Some(home) = &home {
                headers.insert(HOME, home.as_str());
            }
            // In the place of all before it.
            if whole && alone {
                headers.insert(NATS_ROLLUP, "sub");
            }
            match self.put(&name, held.last, headers, piece).await {
                Put::At(place) => held.last = place,
                other => return Ok(other),
            }
        }
        if whole && !alone {
            let purge = self.records.purge().filter(session_subject(&name));
            if let Err(problem) = purge.sequence(before + 1).await {
                tracing::debug!(%problem, "what a session's record replaces can't be deleted");
            }
        }
        if erases {
            self.put_keys(held, &name, std::slice::from_ref(&key))
                .await?;
            held.key = Some(key);
        }
        Ok(Put::At(held.last))
    }

    /// Writes a message behind the session's `last`, whatever time that takes.
    async fn put(&self, name: &LogName, last: u64, headers: HeaderMap, bytes: Bytes) -> Put {
        let id = self.message_id();
        let mut attempts = Attempts::new(&self.trouble);
        let put = loop {
            match self.put_once(name, last, &id, &headers, &bytes).await {
                Ok(put) => break put,
                Err(why) => {
                    tracing::debug!(why, "a session's record is not taken");
                    attempts.failed(why).await;
                }
            }
        };
        attempts.done();
        put
    }

    async fn put_once(
        &self,
        name: &LogName,
        last: u64,
        id: &str,
        headers: &HeaderMap,
        bytes: &Bytes,
    ) -> Result<Put, String> {
        let message = PublishMessage::build()
            .payload(bytes.clone())
            .headers(headers.clone())
            .message_id(id)
            .expected_last_subject_sequence(last);
        let js = &self.nats.js;
        let sent = match js.send_publish(session_subject(name), message).await {
            Ok(ack) => ack.await,
            Err(problem) => Err(problem),
        };
        match sent {
            Ok(ack) => Ok(Put::At(ack.sequence)),
            Err(problem) if problem.kind() == PublishErrorKind::WrongLastSequence => {
                // Whose is what stands there?
                let Some(newest) = self.newest(name).await? else {
                    return Ok(Put::Lost(0));
                };
                if !self.is_own(&newest) {
                    return Ok(Put::Taken);
                }
                let same = newest.headers.get(ID).is_some_and(|it| it.as_str() == id);
                Ok(match same {
                    // This very one, whose answer was lost.
                    true => Put::At(newest.sequence),
                    false => Put::Lost(newest.sequence),
                })
            }
            Err(problem) => Err(chain(&problem)),
        }
    }

    fn message_id(&self) -> String {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        format!("{}.session.{number}", self.gateway)
    }

    fn is_own(&self, message: &StreamMessage) -> bool {
        let by = message.headers.get(GATEWAY);
        by.is_some_and(|it| it.as_str() == self.gateway)
    }

    /// A session's last message.
    async fn newest(&self, name: &LogName) -> Result<Option<StreamMessage>, String> {
        newest(&self.records, session_subject(name)).await
    }

    /// What stands as a session's keys.
    async fn key(&self, name: &LogName) -> Result<Option<StreamMessage>, String> {
        newest(&self.keys, key_subject(name)).await
    }

    /// Writes a session's keys in the place of those that this gateway knows of; false if another one has written some.
    async fn put_keys(
        &self,
        held: &mut Held,
        name: &LogName,
        keys: &[Key],
    ) -> Result<bool, String> {
        const ATTEMPTS: u32 = 30;
        const PAUSE: Duration = Duration::from_millis(200);
        let wrapped = Bytes::from(self.wrapping.wrap(name, keys)?);
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            let message = PublishMessage::build()
                .payload(wrapped.clone())
                .expected_last_subject_sequence(held.key_at);
            let js = &self.nats.js;
            let sent = match js.send_publish(key_subject(name), message).await {
                Ok(ack) => ack.await,
                Err(problem) => Err(problem),
            };
            match sent {
                Ok(ack) => {
                    held.key_at = ack.sequence;
                    return Ok(true);
                }
                Err(problem) if problem.kind() == PublishErrorKind::WrongLastSequence => {
                    match self.key(name).await? {
                        // A server has lost its memory.
                        None => held.key_at = 0,
                        // These very ones, of which the answer was lost.
                        Some(there) if there.payload == wrapped => {
                            held.key_at = there.sequence;
                            return Ok(true);
                        }
                        Some(_) => return Ok(false),
                    }
                }
                Err(problem) => {
                    why = chain(&problem);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Err(why)
    }

    async fn take(&self, name: &LogName) -> Result<Option<Taken>, String> {
        const RACES: u32 = 32;
        let mut headers = HeaderMap::new();
        headers.insert(KIND, CLAIM);
        headers.insert(GATEWAY, self.gateway.as_str());
        let mut claimed = None;
        for _ in 0..RACES {
            let Some(newest) = self.newest(name).await? else {
                return Ok(None);
            };
            // Whoever has the session may be about to put its key there again, and would not after a claim.
            self.key(name).await?.ok_or(NO_KEY)?;
            let id = self.message_id();
            let put = self
                .put_once(name, newest.sequence, &id, &headers, &Bytes::new())
                .await?;
            if let Put::At(place) = put {
                claimed = Some(place);
                if let Some(before) = newest
                    .headers
                    .get(GATEWAY)
                    .filter(|_| !self.is_own(&newest))
                {
                    // It would find out when it writes next.
                    let subject = taken_subject(before.as_str());
                    let name = Bytes::copy_from_slice(name);
                    let _ = self.nats.client.publish(subject, name).await;
                }
                break;
            }
        }
        let epoch = claimed.ok_or("others write all the while")?;
        // Not before: whoever had the session may have changed them until then.
        let wrapped = self.key(name).await?.ok_or(NO_KEY)?;
        let wrapped_at = wrapped.sequence;
        let Some(keys) = self.wrapping.unwrap(name, wrapped.payload.to_vec()) else {
            tracing::error!("a session's key was written with another --fleet-secret");
            return Ok(None);
        };
        let read = self.read(name, epoch, &keys).await?;
        if read.is_some() {
            let mut held = Held {
                key: keys.first().cloned(),
                key_at: wrapped_at,
                last: epoch,
                ..Held::default()
            };
            // So that whoever had it writes no other.
            if !self.put_keys(&mut held, name, &keys).await? {
                return Err("its keys were changed meanwhile".into());
            }
            self.held.lock().insert(*name, Arc::new(Turn::new(held)));
        }
        Ok(read)
    }

    /// A session's records from the last whole one on, up to its claim.
    async fn read(
        &self,
        name: &LogName,
        claim: u64,
        keys: &[Key],
    ) -> Result<Option<Taken>, String> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let config = reading(session_subject(name));
        let consumer = self.records.create_consumer(config).await;
        let consumer = consumer.map_err(|it| chain(&it))?;
        let mut taken = Taken {
            records: Vec::new(),
            home: None,
            epoch: claim,
        };
        let (mut sealed, mut at, mut kind) = (Vec::new(), 0, RecordKind::More);
        while at < claim {
            let batch = consumer.batch().max_messages(256).expires(PATIENCE);
            let mut messages = batch.messages().await.map_err(|it| chain(&it))?;
            let before = at;
            while at < claim
                && let Some(message) = messages.next().await
            {
                let message = message.map_err(|it| it.to_string())?;
                at = message.info().map_err(|it| it.to_string())?.stream_sequence;
                let header = |header: &str| {
                    let headers = message.headers.as_ref()?;
                    Some(headers.get(header)?.as_str().to_owned())
                };
                match header(KIND).as_deref() {
                    Some(WHOLE) => kind = RecordKind::Whole,
                    Some(EVENTS) => kind = RecordKind::More,
                    Some(PART) if !sealed.is_empty() => {}
                    // A claim, behind which nothing goes on; or the rest of what was broken off.
                    _ => {
                        sealed.clear();
                        continue;
                    }
                }
                if header(KIND).as_deref() != Some(PART) {
                    sealed.clear();
                }
                taken.home = header(HOME).or(taken.home);
                sealed.extend_from_slice(&message.payload);
                if header(MORE).is_some() {
                    continue;
                }
                let sealed = std::mem::take(&mut sealed);
                let opened = keys.iter().find_map(|key| key.open(name, sealed.clone()));
                let Some(bytes) = opened else {
                    // Of before something was forgotten; what follows is whole.
                    taken.records.clear();
                    continue;
                };
                if kind == RecordKind::Whole {
                    taken.records.clear();
                }
                taken.records.push(Record { kind, bytes });
            }
            if at == before {
                return Err("a session's records can't be read to their end".into());
            }
        }
        let whole = |record: &Record| record.kind == RecordKind::Whole;
        Ok(taken.records.first().is_some_and(whole).then_some(taken))
    }
}

async fn newest(stream: &Stream, subject: String) -> Result<Option<StreamMessage>, String> {
    match stream.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(problem) if problem.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(problem) => Err(chain(&problem)),
    }
}
