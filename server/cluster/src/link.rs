//! A way from one process to another over a stream: in order, nothing lost, nothing twice.
//!
//! The sender numbers what it sends, and has a few messages on their way at once; what came together meanwhile goes in one. The
//! number is the message's id too, so that the stream itself drops what was sent again for want of an answer, and the receiver puts
//! in order what overtook something.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::nats::{Nats, PIECE, chain, from_hex, hex, listen, written};
use crate::seal::{Half, Key, PublicHalf};

/// How often it is looked whether the connection is still the same.
const LOOK: Duration = Duration::from_secs(1);
/// After how many looks at nothing it is looked whether the stream is still what it was.
const SILENT: u32 = 5;
const ID: &str = "Nats-Msg-Id";
/// More of the same message follows.
const MORE: &str = "Glimpse-More";

/// The sender's half of the key that a message is sealed with.
const HALF: &str = "Glimpse-Half";

/// Why a stream takes nothing, and that it does again.
pub type Trouble = UnboundedSender<Option<String>>;

/// A message that is tried again until it is taken.
pub struct Attempts<'a> {
    trouble: &'a Trouble,
    begun: Instant,
    told: bool,
}

impl<'a> Attempts<'a> {
    pub fn new(trouble: &'a Trouble) -> Self {
        Attempts {
            trouble,
            begun: Instant::now(),
            told: false,
        }
    }

    /// One has failed: the next one's time comes. Of what lasts it is told.
    pub async fn failed(&mut self, why: String) {
        const PAUSE: Duration = Duration::from_millis(100);
        /// What passes sooner is no trouble: servers that choose a leader take nothing meanwhile.
        const BLIP: Duration = Duration::from_secs(2);
        if self.begun.elapsed() >= BLIP {
            self.told = true;
            let _ = self.trouble.send(Some(why));
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// It is taken.
    pub fn done(self) {
        if self.told {
            let _ = self.trouble.send(None);
        }
    }
}

/// Whether JetStream takes what is sent, as those know it who send.
#[derive(Default)]
pub struct Standstill {
    why: String,
    since: Option<Instant>,
    /// Since when it takes something again.
    well: Option<Instant>,
}

impl Standstill {
    /// How long it may be in trouble before anybody hears of it: longer than its own failover takes.
    const PATIENCE: Duration = Duration::from_secs(8);
    /// How long it takes everything until that is believed: a full disk has room for this and that.
    const HEALED: Duration = Duration::from_secs(2);

    pub fn hear(&mut self, trouble: Option<String>, now: Instant) {
        match trouble {
            Some(why) => {
                if self.is_healed(now) {
                    self.since = None;
                }
                self.why = why;
                self.since.get_or_insert(now);
                self.well = None;
            }
            None => drop(self.well.get_or_insert(now)),
        }
    }

    fn is_healed(&self, now: Instant) -> bool {
        self.well
            .is_some_and(|well| now.duration_since(well) >= Self::HEALED)
    }

    /// What to do about it, once it has lasted.
    pub fn sentence(&self, now: Instant) -> Option<String> {
        let lasts = now.duration_since(self.since?) >= Self::PATIENCE;
        (lasts && !self.is_healed(now)).then(|| {
            format!(
                "JetStream takes nothing ({}): look at the NATS servers' log; after a full disk free some of it, then restart \
                 them one after the other.",
                self.why
            )
        })
    }
}

/// The sending end. Dropped, it sends nothing more.
pub struct Outgoing<T> {
    queue: Option<UnboundedSender<T>>,
    task: JoinHandle<()>,
}

impl<T: Serialize + Send + Sync + 'static> Outgoing<T> {
    /// `from` and `to` are processes, not names that one may have again. What is sent can be read by the other one alone, unless
    /// its half of the key is not known.
    pub fn open(
        nats: Nats,
        subject: String,
        from: &str,
        to: &str,
        halves: (&Half, Option<PublicHalf>),
        trouble: Trouble,
    ) -> Self {
        let (queue, messages) = unbounded_channel();
        let link = format!("{from}.{to}");
        let (mine, other) = halves;
        let (key, half) = match other {
            Some(other) => (Some(mine.with(other)), Some(hex(&mine.public()))),
            None => (None, None),
        };
        let sender = Sender {
            key,
            writer: Arc::new(Writer {
                nats,
                subject,
                half,
                trouble,
            }),
            flying: FuturesOrdered::new(),
            last: VecDeque::new(),
            place: 0,
        };
        let task = tokio::spawn(send(sender, link, messages));
        Outgoing {
            queue: Some(queue),
            task,
        }
    }

    pub fn send(&self, message: T) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(message);
        }
    }

    /// Sends what is still to be sent, for so long at most.
    pub async fn finish(mut self, patience: Duration) {
        self.queue = None;
        let _ = tokio::time::timeout(patience, &mut self.task).await;
    }
}

impl<T> Drop for Outgoing<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Sender {
    /// What messages are sealed with.
    key: Option<Key>,
    writer: Arc<Writer>,
    /// What is on its way into the stream.
    flying: FuturesOrdered<BoxFuture<'static, (Piece, u64)>>,
    /// What was sent last, for when a server comes back without it.
    last: VecDeque<Piece>,
    /// The place in the stream of what was sent last.
    place: u64,
}

/// Writes to a subject.
struct Writer {
    nats: Nats,
    subject: String,
    /// This side's half of the messages' key as it stands in a header.
    half: Option<String>,
    trouble: Trouble,
}

#[derive(Clone)]
struct Piece {
    id: String,
    /// More of the same message follows.
    more: bool,
    bytes: Bytes,
}

async fn send<T: Serialize + Send + Sync>(
    mut sender: Sender,
    link: String,
    mut messages: UnboundedReceiver<T>,
) {
    /// Messages in one.
    const MOST: usize = 256;
    /// Pieces on their way at once: enough that a word does not wait for the last one's answer, few enough that a crowd's go together.
    const FLYING: usize = 4;
    let client = sender.writer.nats.client.clone();
    let mut number = 0;
    let mut made = connects(&client);
    let mut ended = false;
    while !(ended && sender.flying.is_empty()) {
        let free = !ended && sender.flying.len() < FLYING;
        let next = tokio::select! {
            biased;
            Some((piece, place)) = sender.flying.next() => {
                sender.arrived(piece, place).await;
                None
            }
            next = messages.recv(), if free => {
                ended = next.is_none();
                next
            }
            () = tokio::time::sleep(LOOK) => None,
        };
        let now = connects(&client);
        if now != std::mem::replace(&mut made, now) {
            sender.send_again().await;
        }
        let Some(first) = next else {
            continue;
        };
        let mut batch = vec![first];
        while batch.len() < MOST
            && let Ok(next) = messages.try_recv()
        {
            batch.push(next);
        }
        let mut bytes = written(&batch);
        drop(batch);
        if let Some(key) = &sender.key {
            bytes = match key.seal(&[], &bytes) {
                Ok(sealed) => sealed.into(),
                Err(problem) => {
                    tracing::error!(problem, "a message can't be sealed, and is not sent");
                    continue;
                }
            };
        }
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let piece = Piece {
                id: format!("{link}.{number}"),
                more: !bytes.is_empty(),
                bytes: piece,
            };
            let writer = sender.writer.clone();
            let flies = async move {
                let place = writer.put(&piece).await;
                (piece, place)
            };
            sender.flying.push_back(flies.boxed());
            number += 1;
        }
    }
}

impl Sender {
    /// A piece is in the stream.
    async fn arrived(&mut self, piece: Piece, place: u64) {
        /// Bytes and pieces that are kept.
        const KEPT: (usize, usize) = (256 * 1024, 32);
        // The stream has lost its end, with what was in it; or this one overtook the one before.
        if place < std::mem::replace(&mut self.place, place) {
            tracing::warn!(
                self.writer.subject,
                "a stream has lost its end: it is sent again"
            );
            self.send_again().await;
        }
        self.last.push_back(piece);
        let bytes = |last: &VecDeque<Piece>| last.iter().map(|it| it.bytes.len()).sum::<usize>();
        while self.last.len() > KEPT.1 || (self.last.len() > 1 && bytes(&self.last) > KEPT.0) {
            self.last.pop_front();
        }
    }

    async fn send_again(&mut self) {
        for piece in &self.last {
            self.place = self.writer.put(piece).await.max(self.place);
        }
    }
}

impl Writer {
    /// Puts a piece into the stream, however long that takes; its place there.
    async fn put(&self, piece: &Piece) -> u64 {
        let mut attempts = Attempts::new(&self.trouble);
        let place = loop {
            let mut message = PublishMessage::build()
                .payload(piece.bytes.clone())
                .message_id(&piece.id);
            if piece.more {
                message = message.header(MORE, "1");
            }
            if let Some(half) = &self.half {
                message = message.header(HALF, half.as_str());
            }
            let js = &self.nats.js;
            let sent = match js.send_publish(self.subject.clone(), message).await {
                Ok(ack) => ack.await.map(|ack| ack.sequence),
                Err(problem) => Err(problem),
            };
            match sent {
                Ok(place) => break place,
                Err(problem) => {
                    let why = chain(&problem);
                    tracing::debug!(self.subject, why, "a stream takes nothing");
                    attempts.failed(why).await;
                }
            }
        };
        attempts.done();
        place
    }
}

/// A part of what came: whose it is, its number, and whether more of the message follows.
#[derive(Debug)]
pub struct Part {
    pub from: String,
    pub number: u64,
    /// The stream gave it; otherwise it was heard as it was sent.
    pub by_stream: bool,
    pub more: bool,
    /// The sender's half of the key that the message is sealed with.
    pub half: Option<PublicHalf>,
    pub bytes: Bytes,
}

/// The keys that a process has in common with those that send to it.
pub struct Keys {
    pub mine: Half,
    others: HashMap<String, (PublicHalf, Key)>,
}

impl Keys {
    pub fn new(mine: Half) -> Self {
        Keys {
            mine,
            others: HashMap::new(),
        }
    }

    /// A sender's half, if it has sent anything that was sealed.
    pub fn half(&self, from: &str) -> Option<PublicHalf> {
        self.others.get(from).map(|it| it.0)
    }

    /// A message that `from` sent, as it was before it was sealed; `None` if it can't be opened.
    pub fn open(
        &mut self,
        from: &str,
        half: Option<PublicHalf>,
        bytes: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let Some(half) = half else {
            return Some(bytes);
        };
        if self.half(from) != Some(half) {
            let key = self.mine.with(half);
            self.others.insert(from.to_owned(), (half, key));
        }
        let (_, key) = self.others.get(from)?;
        key.open(&[], bytes)
    }
}

/// How often this process was connected. A server that comes back, from a full disk, say, may have lost what it had taken last,
/// and number its streams from further back than their consumers have got; then what was sent last is sent again, and all that
/// is there is read again. What comes twice is passed over by its number.
pub fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// Hands on whatever comes to `to` on a stream's `filter`, until nobody takes it. Everything comes twice, as long as nothing goes
/// wrong: as it is sent, a millisecond sooner, and as the stream gives it, which also has what the other way lost.
pub async fn receive(
    nats: Nats,
    stream: &'static str,
    filter: String,
    to: String,
    parts: UnboundedSender<Part>,
) {
    const PAUSE: Duration = Duration::from_millis(100);
    let heard = parts.clone();
    // What has no number is told of where the stream gives it.
    let hand_on = move |message| part(&message, false).is_none_or(|part| heard.send(part).is_ok());
    tokio::spawn(listen(nats.client.clone(), filter.clone(), hand_on));
    let mut consumer = Consumer {
        nats,
        stream,
        filter,
        to,
        made: 0,
        ahead: false,
    };
    while !parts.is_closed() {
        if let Err(why) = consumer.receive(&parts).await {
            tracing::debug!(stream, why, "a stream gives nothing");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Consumer {
    nats: Nats,
    stream: &'static str,
    filter: String,
    to: String,
    /// The connection that it was made over.
    made: u64,
    ahead: bool,
}

impl Consumer {
    /// Whether it has got further than its stream goes: servers may lose the end of a stream when one of them dies, and would
    /// give nothing until the stream has caught up.
    async fn is_ahead(&self) -> Result<bool, String> {
        let js = &self.nats.js;
        let stream = js.get_stream(self.stream).await.map_err(|it| chain(&it))?;
        let consumer: Result<PullConsumer, _> = stream.get_consumer(&self.to).await;
        let consumer = consumer.map_err(|it| it.to_string())?;
        let got = consumer.cached_info().delivered.stream_sequence;
        Ok(got > stream.cached_info().state.last_sequence)
    }

    /// Finds or makes it: anew over another connection, or where it is ahead.
    async fn find(&mut self) -> Result<PullConsumer, String> {
        let config = pull::Config {
            durable_name: Some(self.to.clone()),
            filter_subject: self.filter.clone(),
            ack_policy: AckPolicy::Explicit,
            // What a lost connection swallowed comes again soon.
            ack_wait: Duration::from_secs(2),
            max_ack_pending: 4096,
            inactive_threshold: Duration::from_secs(3600),
            ..pull::Config::default()
        };
        let (js, now) = (&self.nats.js, connects(&self.nats.client));
        // Several replicas survive a server; what they lose together shows in their numbers.
        let renew = self.nats.replicas() == 1 && self.made != 0 && self.made != now;
        if renew || self.ahead {
            let gone = js.delete_consumer_from_stream(&self.to, self.stream).await;
            if let Err(problem) = gone {
                tracing::debug!(%problem, self.stream, "a consumer can't be deleted");
            }
        }
        let made = js.create_consumer_on_stream(config, self.stream).await;
        let made = made.map_err(|it| chain(&it))?;
        (self.made, self.ahead) = (now, false);
        Ok(made)
    }

    /// Hands on what comes, as long as the connection is the same.
    async fn receive(&mut self, parts: &UnboundedSender<Part>) -> Result<(), String> {
        let messages = self.find().await?;
        let messages = messages
            .stream()
            .max_messages_per_batch(512)
            .expires(Duration::from_secs(5))
            .heartbeat(Duration::from_secs(1));
        let mut messages = messages.messages().await.map_err(|it| chain(&it))?;
        let mut silent = 0;
        while connects(&self.nats.client) == self.made {
            let Ok(next) = tokio::time::timeout(LOOK, messages.next()).await else {
                silent += 1;
                if silent % SILENT == 0 && self.is_ahead().await? {
                    tracing::warn!(self.stream, "a stream has lost its end: it is read anew");
                    self.ahead = true;
                    break;
                }
                continue;
            };
            silent = 0;
            let Some(message) = next else {
                break;
            };
            let message = message.map_err(|it| chain(&it))?;
            let part = part(&message, true);
            // Whoever takes it is in this process, which is what would be lost with it.
            let _ = message.ack().await;
            match part {
                Some(part) => {
                    if parts.send(part).is_err() {
                        return Ok(());
                    }
                }
                None => tracing::error!(self.stream, "a message has no number: it is passed over"),
            }
        }
        Ok(())
    }
}

fn part(message: &async_nats::Message, by_stream: bool) -> Option<Part> {
    let headers = message.headers.as_ref()?;
    let mut id = headers.get(ID)?.as_str().split('.');
    let (from, _, number) = (id.next()?, id.next()?, id.next()?);
    Some(Part {
        from: from.to_owned(),
        number: number.parse().ok()?,
        by_stream,
        more: headers.get(MORE).is_some(),
        half: headers.get(HALF).and_then(|it| from_hex(it.as_str())),
        bytes: message.payload.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_and_what_flickers_is_not_healed() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let full = || Some("full".to_owned());
        let mut it = Standstill::default();
        assert_eq!(it.sentence(at(0.0)), None);
        // A failover.
        it.hear(full(), at(0.0));
        it.hear(full(), at(4.0));
        it.hear(None, at(5.0));
        assert_eq!(it.sentence(at(7.1)), None);
        // Now and then something fits in.
        for second in 10..18 {
            it.hear(full(), at(f64::from(second)));
            assert_eq!(it.sentence(at(f64::from(second))), None);
            it.hear(None, at(f64::from(second) + 0.5));
        }
        it.hear(full(), at(18.0));
        assert!(it.sentence(at(18.0)).unwrap().contains("(full)"));
        it.hear(None, at(19.0));
        assert!(it.sentence(at(20.0)).is_some());
        assert_eq!(it.sentence(at(21.1)), None);
        it.hear(full(), at(22.0));
        assert_eq!(it.sentence(at(22.0)), None);
    }
}
