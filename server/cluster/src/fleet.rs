//! A gateway's side: all workers, as one that computes.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use api::encoding::{self, decode};
use api::{
    Answer, Command, Compute, Failure, KnownPicture, Log, LogName, Pixels, Record, Report,
    SessionId, Status, Tokens,
};
use async_nats::jetstream::kv::{Operation, Store};
use async_nats::{Client, Message};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::link::{Keys, Outgoing, Part, Standstill, Trouble, receive};
use crate::message::{Beat, Gateway, Registration, ToGateway, ToWorker};
use crate::nats::{
    BEAT, EVENTS, GATEWAY_BEATS, Nats, Settings, WORKER_BEATS, chain, command_subject,
    event_subject, gateway_key, listen, pixels_subject, taken_subject,
};
use crate::order::Inbox;
use crate::pictures::{Copying, Stored, copy, send_straight, watch_store};
use crate::seal::{Half, Key, Wrapping};
use crate::sessions::Sessions;
use crate::state::{Effect, Fleet as State};
use crate::sweep::sweep;
use crate::tokens::Asking;

/// How a gateway uses its fleet.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    pub nats: Settings,
    /// What clients are told of their limits, in which all gateways must agree.
    pub limits: String,
    /// What sessions' keys are wrapped with; nothing, where they stand as they are in NATS' memory.
    pub secret: Option<Vec<u8>>,
}

/// The workers of a fleet.
pub struct Fleet {
    asked: UnboundedSender<Asked>,
    runtime: Handle,
    sessions: Sessions,
}

/// What sessions ask for, in order.
enum Asked {
    Command(Command),
    Enter(SessionId, LogName),
    Keep(SessionId, LogName, Record),
    Known(KnownPicture),
    Release(SessionId),
    End(SessionId, LogName),
    /// Whether a session that is over was this gateway's to the end.
    Ended(SessionId, LogName, bool),
    /// A session was taken from another gateway.
    Taken(LogName, Option<String>, u64),
}

impl Fleet {
    fn ask(&self, asked: Asked) {
        let _ = self.asked.send(asked);
    }
}

impl Compute for Fleet {
    fn command(&self, command: Command) {
        self.ask(Asked::Command(command));
    }
}

impl Log for Fleet {
    fn enter(&self, session: SessionId, name: LogName) {
        self.ask(Asked::Enter(session, name));
    }

    fn keep(&self, session: SessionId, name: LogName, record: Record) {
        self.ask(Asked::Keep(session, name, record));
    }

    fn has(&self, name: LogName) -> Answer<bool> {
        let sessions = self.sessions.clone();
        let has = self.runtime.spawn(async move { sessions.has(name).await });
        Box::pin(async move { has.await.unwrap_or(true) })
    }

    fn take(&self, name: LogName) -> Answer<Result<Option<Vec<Record>>, Failure>> {
        let (sessions, asked) = (self.sessions.clone(), self.asked.clone());
        let taking = self.runtime.spawn(async move {
            let taken = sessions.take(name).await?;
            Ok(taken.map(|taken| {
                // Before its session enters.
                let _ = asked.send(Asked::Taken(name, taken.home, taken.epoch));
                taken.records
            }))
        });
        Box::pin(async move { taking.await.unwrap_or(Ok(None)) })
    }

    fn known(&self, picture: KnownPicture) {
        self.ask(Asked::Known(picture));
    }

    fn release(&self, session: SessionId, name: LogName) {
        // At once: it may come back in the next moment.
        self.sessions.release(&name);
        self.ask(Asked::Release(session));
    }

    fn end(&self, session: SessionId, name: LogName) {
        self.ask(Asked::End(session, name));
    }
}

/// A fleet that is connected.
pub struct Started {
    pub fleet: Arc<Fleet>,
    pub tokens: Arc<dyn Tokens>,
    pub status: watch::Receiver<Status>,
    pub reports: Receiver<Report>,
}

impl Fleet {
    /// Connects to a fleet, whose workers may come and go from then on.
    ///
    /// # Errors
    /// If NATS can't be reached or used, or another gateway has other limits.
    pub fn start(settings: GatewaySettings) -> io::Result<Started> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let gateway = api::SessionId::random().to_string();
        let (asked, inbox) = unbounded_channel();
        let own = asked.downgrade();
        let (reports, told) = mpsc::channel();
        let (status, watched) = watch::channel(Status::default());
        let fleet = runtime.block_on(Running::connect(settings, gateway, own, status, reports))?;
        let (sessions, handle) = (fleet.kept.clone(), runtime.handle().clone());
        let tokens = Arc::new(Asking {
            client: fleet.nats.client.clone(),
            runtime: runtime.handle().clone(),
        });
        std::thread::Builder::new()
            .name("fleet".into())
            .spawn(move || runtime.block_on(fleet.run(inbox)))?;
        Ok(Started {
            fleet: Arc::new(Fleet {
                asked,
                runtime: handle,
                sessions,
            }),
            tokens,
            status: watched,
            reports: told,
        })
    }
}

/// A change of the registry.
enum Entry {
    Here(Box<Registration>),
    Gone(String),
}

/// What goes to a worker.
struct Way {
    commands: Outgoing<ToWorker>,
    pixels: UnboundedSender<(String, Pixels)>,
}

struct Running {
    nats: Nats,
    gateway: String,
    /// The way to itself, for what is found out meanwhile.
    asked: WeakUnboundedSender<Asked>,
    registry: Store,
    state: State,
    /// Sessions, so that another gateway can go on with them.
    kept: Sessions,
    keys: Keys,
    /// Sessions that were taken and have yet to enter: where each was at home, and when it was taken.
    taken: HashMap<LogName, (Option<String>, u64)>,
    start: Instant,
    status: watch::Sender<Status>,
    reports: Sender<Report>,
    ways: HashMap<String, Way>,
    /// Pictures on their way into the store, one after the other.
    copies: UnboundedSender<Copying>,
    stored: UnboundedReceiver<Stored>,
    /// What the store takes, of what it may take.
    store: watch::Receiver<Option<(u64, u64)>>,
    /// When it was told last how the fleet stands.
    told: Option<Instant>,
    trouble: Trouble,
    troubles: UnboundedReceiver<Option<String>>,
    standstill: Standstill,
    /// When this gateway heard itself last.
    heard: Option<Instant>,
}

impl Running {
    async fn connect(
        settings: GatewaySettings,
        gateway: String,
        asked: WeakUnboundedSender<Asked>,
        status: watch::Sender<Status>,
        reports: Sender<Report>,
    ) -> io::Result<Self> {
        let most = settings.nats.pictures;
        let nats = Nats::connect(settings.nats, "glimpse gateway").await?;
        let registry = nats.registry().await?;
        let pictures = nats.pictures().await?;
        join(&nats, &registry, &gateway, settings.limits).await?;
        let (copies, copying) = unbounded_channel();
        let (told, stored) = unbounded_channel();
        let (beats, gateways) = unbounded_channel();
        let all = format!("{GATEWAY_BEATS}.*");
        tokio::spawn(subscribe(nats.client.clone(), all, beats));
        let (trouble, troubles) = unbounded_channel();
        let wrapping = Wrapping(settings.secret.as_deref().map(Key::derived));
        let kept = Sessions::open(
            nats.clone(),
            gateway.clone(),
            wrapping,
            reports.clone(),
            trouble.clone(),
        );
        let kept = kept.await?;
        tokio::spawn(sweep(
            nats.clone(),
            registry.clone(),
            pictures.clone(),
            gateways,
            kept.clone(),
        ));
        tokio::spawn(copy(nats.clone(), pictures, most, copying, told));
        let (seen, store) = watch::channel(None);
        tokio::spawn(watch_store(nats.clone(), seen));
        Ok(Running {
            kept,
            keys: Keys::new(Half::random().map_err(io::Error::other)?),
            taken: HashMap::new(),
            state: State::new(gateway.clone(), encoding::VERSION),
            nats,
            gateway,
            asked,
            registry,
            start: Instant::now(),
            status,
            reports,
            ways: HashMap::new(),
            copies,
            stored,
            store,
            told: None,
            trouble,
            troubles,
            standstill: Standstill::default(),
            heard: None,
        })
    }

    async fn run(mut self, mut asked: UnboundedReceiver<Asked>) {
        let (parts, mut arrived) = unbounded_channel();
        let (nats, me) = (self.nats.clone(), self.gateway.clone());
        tokio::spawn(receive(
            nats,
            EVENTS,
            event_subject(&me, "*"),
            me.clone(),
            parts,
        ));
        let (entries, mut registry) = unbounded_channel();
        tokio::spawn(watch_registry(self.registry.clone(), entries));
        let (beats, mut heard) = unbounded_channel();
        tokio::spawn(subscribe(
            self.nats.pulse.clone(),
            format!("{WORKER_BEATS}.*"),
            beats,
        ));
        let (echoes, mut echo) = unbounded_channel();
        let own = format!("{GATEWAY_BEATS}.{me}");
        tokio::spawn(subscribe(self.nats.pulse.clone(), own.clone(), echoes));
        tokio::spawn(beat(self.nats.pulse.clone(), own));
        let (losses, mut lost) = unbounded_channel();
        let taken = taken_subject(&me);
        tokio::spawn(subscribe(self.nats.client.clone(), taken, losses));
        let mut inbox = Inbox::default();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What frees comes before what takes.
                biased;
                Some(part) = arrived.recv() => self.arrived(part, &mut inbox),
                asked = asked.recv() => match asked {
                    Some(asked) => self.asked(asked),
                    None => break,
                },
                Some((session, key, result)) = self.stored.recv() => self.state.stored(session, key, result),
                Some(entry) = registry.recv() => match entry {
                    Entry::Here(registration) => self.state.registered(*registration, self.start.elapsed()),
                    Entry::Gone(name) => self.state.unregistered(&name, self.start.elapsed()),
                },
                Some((_, message)) = heard.recv() => match decode::<Beat>(&message) {
                    Ok(beat) => self.state.beat(beat, self.start.elapsed()),
                    Err(problem) => tracing::debug!(%problem, "a heartbeat can't be read"),
                },
                Some((_, name)) = lost.recv() => self.lost(&name),
                Some(_) = echo.recv() => {
                    self.heard = Some(Instant::now());
                    self.state.link(true, self.start.elapsed());
                }
                Some(trouble) = self.troubles.recv() => self.standstill.hear(trouble, Instant::now()),
                _ = ticks.tick() => self.tick(),
            }
            self.apply().await;
        }
        // Whoever starts next need not ask whether it lives.
        let _ = self.registry.delete(gateway_key(&self.gateway)).await;
    }

    fn asked(&mut self, asked: Asked) {
        let now = self.start.elapsed();
        match asked {
            Asked::Command(command) => self.state.command(command, now),
            Asked::Enter(session, name) => {
                self.state.enter(session, name);
                if let Some((home, epoch)) = self.taken.remove(&name) {
                    self.state.taken(session, epoch, home);
                }
            }
            Asked::Keep(session, name, record) => {
                let home = self.state.home(session);
                self.kept.keep(session, name, record, home);
            }
            Asked::Known(picture) => self.state.known(picture, now),
            Asked::Release(session) => self.state.release(session),
            Asked::End(session, name) => {
                let (sessions, asked) = (self.kept.clone(), self.asked.clone());
                tokio::spawn(async move {
                    let own = sessions.was_own(name).await;
                    if let Some(asked) = asked.upgrade() {
                        let _ = asked.send(Asked::Ended(session, name, own));
                    }
                });
            }
            Asked::Ended(session, name, true) => {
                // What can be read last goes first.
                self.kept.end(name);
                self.state.command(Command::EndSession { session }, now);
            }
            Asked::Ended(session, name, false) => {
                self.kept.release(&name);
                self.state.release(session);
            }
            Asked::Taken(name, home, epoch) => drop(self.taken.insert(name, (home, epoch))),
        }
    }

    /// Another gateway says that it has taken a session from this one.
    fn lost(&mut self, name: &[u8]) {
        let session = name
            .try_into()
            .ok()
            .and_then(|name| self.state.logged(&name));
        if let Some(session) = session {
            let _ = self.reports.send(Report::Taken { session });
        }
    }

    fn arrived(&mut self, part: Part, inbox: &mut Inbox) {
        let now = self.start.elapsed();
        let place = (part.number, part.by_stream);
        for message in inbox.arrive(&part.from, place, part.more, part.bytes.into(), now) {
            let Some(message) = self.keys.open(&part.from, part.half, message) else {
                tracing::error!(
                    worker = part.from,
                    "what a worker told is sealed for somebody else"
                );
                continue;
            };
            let told = match decode::<Vec<ToGateway>>(&message) {
                Ok(told) => told,
                Err(problem) => {
                    tracing::error!(worker = part.from, %problem, "what a worker told can't be read");
                    continue;
                }
            };
            for one in told {
                match one {
                    ToGateway::Report(Report::Session { session, event }) => {
                        self.state.event(&part.from, session, event, now);
                    }
                    ToGateway::Report(report) => drop(self.reports.send(report)),
                    ToGateway::Lost => self.state.left(&part.from, now),
                }
            }
        }
    }

    fn tick(&mut self) {
        /// Beats that may be missing.
        const MISSED: u32 = 3;
        if self
            .heard
            .is_none_or(|heard| heard.elapsed() > BEAT * MISSED)
        {
            self.state.link(false, self.start.elapsed());
        }
        self.state.trouble(self.standstill.sentence(Instant::now()));
        self.state.tick(self.start.elapsed());
        if self
            .told
            .is_none_or(|told| told.elapsed() >= Duration::from_secs(1))
        {
            self.told = Some(Instant::now());
            let mut standing = self.state.standing(self.start.elapsed());
            standing.pictures = *self.store.borrow();
            let _ = self.reports.send(Report::Fleet(Box::new(standing)));
        }
    }

    /// Does what was decided, and tells how the fleet stands.
    async fn apply(&mut self) {
        for effect in self.state.take_effects() {
            match effect {
                Effect::Send { worker, message } => self.way(worker).commands.send(message),
                Effect::Pixels {
                    worker,
                    object,
                    pixels,
                } => drop(self.way(worker).pixels.send((object, pixels))),
                Effect::Copy(copying) => drop(self.copies.send(copying)),
                Effect::Report(report) => drop(self.reports.send(report)),
                Effect::Gone { worker } => drop(self.ways.remove(&worker)),
                Effect::Unregister { name } => {
                    let registry = self.registry.clone();
                    tokio::spawn(
                        async move { registry.delete(crate::nats::worker_key(&name)).await },
                    );
                }
            }
        }
        let now = self.state.status();
        self.status.send_if_modified(|told| {
            let news = *told != now;
            if news {
                *told = now;
            }
            news
        });
    }

    fn way(&mut self, worker: String) -> &Way {
        let (nats, gateway, trouble) = (&self.nats, &self.gateway, &self.trouble);
        let halves = (&self.keys.mine, self.state.half(&worker));
        self.ways.entry(worker).or_insert_with_key(|worker| {
            let subject = command_subject(worker, gateway);
            let (pixels, queue) = unbounded_channel();
            tokio::spawn(send_straight(
                nats.client.clone(),
                pixels_subject(worker),
                queue,
            ));
            Way {
                commands: Outgoing::open(
                    nats.clone(),
                    subject,
                    gateway,
                    worker,
                    halves,
                    trouble.clone(),
                ),
                pixels,
            }
        })
    }
}

/// Registers the gateway, unless another one that lives has other limits.
async fn join(nats: &Nats, registry: &Store, me: &str, limits: String) -> io::Result<()> {
    let broken = |problem: String| {
        io::Error::other(format!("JetStream's registry can't be used: {problem}"))
    };
    let mut others = Vec::new();
    let mut keys = registry.keys().await.map_err(|it| broken(chain(&it)))?;
    while let Some(Ok(key)) = keys.next().await {
        if !key.starts_with("gateway.") {
            continue;
        }
        let value = registry.get(&key).await.map_err(|it| broken(chain(&it)))?;
        let Some(Ok(other)) = value.map(|value| decode::<Gateway>(&value)) else {
            continue;
        };
        if other.limits != limits {
            others.push(other);
        }
    }
    for other in others {
        let beats = format!("{GATEWAY_BEATS}.{}", other.instance);
        let mut heard = nats
            .client
            .subscribe(beats)
            .await
            .map_err(|it| broken(chain(&it)))?;
        if tokio::time::timeout(BEAT * 4, heard.next()).await.is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "another gateway of this fleet tells clients other limits, and a client may come to either: give both the \
                     same flags. There: {}. Here: {limits}",
                    other.limits
                ),
            ));
        }
        let _ = registry.delete(gateway_key(&other.instance)).await;
    }
    let gateway = Gateway {
        instance: me.to_owned(),
        limits,
    };
    let put = registry
        .put(gateway_key(me), crate::nats::written(&gateway))
        .await;
    put.map(drop).map_err(|it| broken(chain(&it)))
}

/// Hands on what is registered, and what changes.
async fn watch_registry(registry: Store, entries: UnboundedSender<Entry>) {
    while !entries.is_closed() {
        if let Ok(mut changes) = registry.watch_with_history("worker.>").await {
            while let Some(Ok(change)) = changes.next().await {
                let entry = match change.operation {
                    Operation::Put => match decode(&change.value) {
                        Ok(registration) => Entry::Here(Box::new(registration)),
                        Err(problem) => {
                            tracing::error!(key = change.key, %problem, "a registration can't be read");
                            continue;
                        }
                    },
                    Operation::Delete | Operation::Purge => {
                        Entry::Gone(change.key.trim_start_matches("worker.").to_owned())
                    }
                };
                if entries.send(entry).is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Hands on what comes on a subject, each with the last part of its own.
async fn subscribe(
    client: Client,
    subject: String,
    messages: UnboundedSender<(String, bytes::Bytes)>,
) {
    let hand_on = |message: Message| {
        let last = message.subject.rsplit('.').next().unwrap_or_default();
        let handed = messages.send((last.to_owned(), message.payload));
        handed.is_ok()
    };
    listen(client, subject, hand_on).await;
}

/// Says that this gateway is alive: to workers, and to itself, whose link it so tries.
async fn beat(client: Client, subject: String) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let _ = client.publish(subject.clone(), bytes::Bytes::new()).await;
    }
}
