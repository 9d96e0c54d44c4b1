//! A worker's side: carries what gateways ask for to an engine, and back what that tells.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::encoding::{self, decode};
use api::{Compute, Counted, Gauges, Health, Measured, Report, SessionId, State, Status, Tokens};
use async_nats::Message;
use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::desk::{Deed, Desk};
use crate::link::{Keys, Outgoing, Part, Standstill, receive};
use crate::message::{Beat, Draining, Registration, ToGateway, ToWorker};
use crate::nats::{
    BEAT, COMMANDS, GATEWAY_BEATS, Nats, Settings, WORKER_BEATS, chain, command_subject,
    drain_subject, event_subject, is_name, pixels_subject, written,
};
use crate::order::Inbox;
use crate::pictures::{OBJECT, OFFSET, fetch};
use crate::registration::Entry;
use crate::seal::Half;
use crate::tokens;

/// How a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By a signal: what it had open goes on elsewhere.
    Asked,
    /// By `glimpse drain`: it had nothing open any more.
    Drained,
    /// The device is lost, and only a new process can get it back.
    Lost,
}

/// What computes, and what it tells.
pub struct Engine {
    pub compute: Arc<dyn Compute>,
    pub tokens: Arc<dyn Tokens>,
    pub status: watch::Receiver<Status>,
    pub reports: UnboundedReceiver<Report>,
}

/// Serves gateways under a name until a signal, `glimpse drain` or the device's loss. `here` is called once gateways may ask.
///
/// # Errors
/// A name that can't be one, NATS that can't be reached or used, a model that can't be served; another worker that took the name.
pub fn run(
    settings: Settings,
    name: String,
    engine: Engine,
    here: impl FnOnce(&str),
) -> io::Result<Ended> {
    if !is_name(&name) {
        let problem =
            format!("{name:?} is no name for a worker: take letters, digits, - and _, 64 at most");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(settings, name, engine, here))
}

async fn serve(
    settings: Settings,
    name: String,
    engine: Engine,
    here: impl FnOnce(&str),
) -> io::Result<Ended> {
    let mut stop = Box::pin(signalled());
    let nats = Nats::connect(settings, &format!("glimpse worker {name}")).await?;
    let Engine {
        compute,
        tokens,
        mut status,
        mut reports,
    } = engine;
    let mut worker = Worker::new(nats, name, compute).await?;
    // Not before it may be asked.
    loop {
        let (state, error) = {
            let status = status.borrow_and_update();
            (status.state, status.error.clone())
        };
        match state {
            State::Ready if !worker.fingerprint().is_empty() => break,
            State::Failed => return Err(io::Error::other(error.unwrap_or_default())),
            _ => {}
        }
        tokio::select! {
            _ = &mut stop => return Ok(Ended::Asked),
            Some(report) = reports.recv() => drop(worker.report(report)),
            changed = status.changed() => if changed.is_err() {
                return Err(io::Error::other("the model is gone"));
            },
        }
    }
    let now = status.borrow().clone();
    worker.register(&now).await?;
    here(&worker.name);
    tokio::spawn(tokens::answer(worker.nats.client.clone(), tokens));
    let ended = worker.work(reports, stop).await;
    worker.leave().await;
    ended
}

/// SIGTERM or Ctrl-C.
async fn signalled() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// What came of fetching a picture.
type Fetched = (SessionId, String, Result<Vec<u8>, String>);

struct Worker {
    nats: Nats,
    name: String,
    instance: String,
    compute: Arc<dyn Compute>,
    /// Its place in the registry, once it can compute.
    entry: Option<Entry>,
    desk: Desk,
    keys: Keys,
    start: Instant,
    ways: HashMap<String, Outgoing<ToGateway>>,
    devices: HashMap<u32, Health>,
    gauges: HashMap<u32, Gauges>,
    passes: HashMap<u32, Counted>,
    trouble: UnboundedSender<Option<String>>,
    troubles: UnboundedReceiver<Option<String>>,
    standstill: Standstill,
    fetched: UnboundedSender<Fetched>,
    fetches: UnboundedReceiver<Fetched>,
}

impl Worker {
    async fn new(nats: Nats, name: String, compute: Arc<dyn Compute>) -> io::Result<Self> {
        let (trouble, troubles) = unbounded_channel();
        let (fetched, fetches) = unbounded_channel();
        Ok(Worker {
            nats,
            name,
            instance: SessionId::random().to_string(),
            compute,
            entry: None,
            desk: Desk::default(),
            keys: Keys::new(Half::random().map_err(io::Error::other)?),
            start: Instant::now(),
            ways: HashMap::new(),
            devices: HashMap::new(),
            gauges: HashMap::new(),
            passes: HashMap::new(),
            trouble,
            troubles,
            standstill: Standstill::default(),
            fetched,
            fetches,
        })
    }

    /// The model's, once it is known.
    fn fingerprint(&self) -> &str {
        let known = self.devices.values().map(|it| it.model.as_str());
        known.max().unwrap_or_default()
    }

    async fn register(&mut self, status: &Status) -> io::Result<()> {
        let registration = Registration {
            name: self.name.clone(),
            instance: self.instance.clone(),
            api: encoding::VERSION,
            fingerprint: self.fingerprint().to_owned(),
            model: status.model.clone(),
            sampling: status.sampling.clone(),
            pages: self.devices.values().map(|it| it.pages).sum(),
            half: Some(self.keys.mine.public()),
            draining: false,
        };
        let registry = self.nats.registry().await?;
        self.entry = Some(Entry::put(registry, registration).await?);
        Ok(())
    }

    async fn work(
        &mut self,
        mut reports: UnboundedReceiver<Report>,
        mut stop: impl Future<Output = ()> + Unpin,
    ) -> io::Result<Ended> {
        let client = &self.nats.client;
        let (parts, mut arrived) = unbounded_channel();
        let (nats, me) = (self.nats.clone(), self.instance.clone());
        tokio::spawn(receive(
            nats,
            COMMANDS,
            command_subject(&me, "*"),
            me.clone(),
            parts,
        ));
        let subscribed = |it: async_nats::SubscribeError| io::Error::other(chain(&it));
        let mut pieces = client
            .subscribe(pixels_subject(&me))
            .await
            .map_err(subscribed)?;
        let mut gateways = client
            .subscribe(format!("{GATEWAY_BEATS}.*"))
            .await
            .map_err(subscribed)?;
        let mut drains = client
            .subscribe(drain_subject(&self.name))
            .await
            .map_err(subscribed)?;
        let mut inbox = Inbox::default();
        let mut ticks = tokio::time::interval(BEAT / 5);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u64;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return Ok(Ended::Asked),
                problem = taken(&mut self.entry) => return Err(problem),
                Some(report) = reports.recv() => if self.report(report) {
                    return Ok(Ended::Lost);
                },
                Some(part) = arrived.recv() => self.arrived(part, &mut inbox),
                Some(piece) = pieces.next() => self.piece(&piece),
                Some((session, object, result)) = self.fetches.recv() => {
                    let deeds = self.desk.fetched(session, &object, result, self.start.elapsed());
                    self.apply(deeds);
                }
                Some(trouble) = self.troubles.recv() => self.standstill.hear(trouble, Instant::now()),
                Some(beat) = gateways.next() => {
                    if let Some(gateway) = beat.subject.rsplit('.').next() {
                        self.desk.gateway(gateway, self.start.elapsed());
                    }
                }
                Some(asked) = drains.next() => self.drain(asked).await,
                _ = ticks.tick() => {
                    count += 1;
                    let deeds = self.desk.tick(self.start.elapsed());
                    self.apply(deeds);
                    if count.is_multiple_of(5) {
                        self.beat();
                    }
                    if self.is_drained() {
                        return Ok(Ended::Drained);
                    }
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        let draining = self.entry.as_ref().is_some_and(Entry::is_draining);
        draining && self.open() == 0 && self.desk.sessions() == 0
    }

    fn open(&self) -> u64 {
        self.devices.values().map(|it| it.open).sum()
    }

    /// Finishes what it has, and takes nothing new.
    async fn drain(&mut self, asked: Message) {
        if self.entry.as_ref().is_some_and(Entry::drain) {
            tracing::info!("the worker drains");
        }
        let draining = Draining {
            open: self.open(),
            sessions: self.desk.sessions(),
        };
        if let Some(reply) = asked.reply {
            let _ = self.nats.client.publish(reply, written(&draining)).await;
        }
    }

    fn beat(&self) {
        let mut devices: Vec<Health> = self.devices.values().cloned().collect();
        devices.sort_by_key(|it| it.worker);
        let beat = Beat {
            instance: self.instance.clone(),
            at_ms: self.start.elapsed().as_secs_f64() * 1e3,
            devices,
            gauges: self
                .gauges
                .iter()
                .map(|(device, gauges)| (*device, *gauges))
                .collect(),
            passes: self
                .passes
                .iter()
                .map(|(device, passes)| (*device, *passes))
                .collect(),
            sessions: self.desk.sessions(),
            trouble: self.standstill.sentence(Instant::now()),
        };
        let subject = format!("{WORKER_BEATS}.{}", self.instance);
        let client = self.nats.pulse.clone();
        // Beside what carries answers, since it may wait where the connection is lost.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(BEAT, client.publish(subject, written(&beat))).await;
        });
    }

    fn arrived(&mut self, part: Part, inbox: &mut Inbox) {
        let now = self.start.elapsed();
        let place = (part.number, part.by_stream);
        for message in inbox.arrive(&part.from, place, part.more, part.bytes.into(), now) {
            let Some(message) = self.keys.open(&part.from, part.half, message) else {
                tracing::error!(
                    gateway = part.from,
                    "what a gateway asks for is sealed for somebody else"
                );
                continue;
            };
            match decode::<Vec<ToWorker>>(&message) {
                Ok(asked) => {
                    for one in asked {
                        let deeds = self.desk.take(&part.from, one, now);
                        self.apply(deeds);
                    }
                }
                Err(problem) => {
                    tracing::error!(gateway = part.from, %problem, "what a gateway asks for can't be read")
                }
            }
        }
    }

    fn piece(&mut self, piece: &Message) {
        let header = |name| {
            piece
                .headers
                .as_ref()?
                .get(name)
                .map(|it| it.as_str().to_owned())
        };
        let (Some(object), Some(Ok(offset))) =
            (header(OBJECT), header(OFFSET).map(|it| it.parse()))
        else {
            return;
        };
        let deeds = self
            .desk
            .piece(&object, offset, &piece.payload, self.start.elapsed());
        self.apply(deeds);
    }

    /// What the engine tells; true if its device is lost.
    fn report(&mut self, report: Report) -> bool {
        match report {
            Report::Session { session, event } => {
                let deed = self.desk.report(session, event);
                self.apply(deed);
            }
            Report::Health(health) => {
                let lost = health.state == State::Failed;
                self.devices.insert(health.worker, health);
                return lost;
            }
            Report::Measured {
                worker,
                measured: Measured::Gauges(gauges),
            } => {
                // As soon as it changes, where its health is told each second: gateways place newcomers by it.
                if let Some(device) = self.devices.get_mut(&worker) {
                    device.open = gauges.waiting + gauges.running;
                }
                self.gauges.insert(worker, gauges);
            }
            Report::Measured {
                worker,
                measured: Measured::Pass(pass),
            } => self.passes.entry(worker).or_default().add(pass),
            Report::Fleet(_)
            | Report::Kept { .. }
            | Report::Unkept { .. }
            | Report::Missing { .. }
            | Report::Taken { .. } => {}
        }
        false
    }

    fn apply(&mut self, deeds: impl IntoIterator<Item = Deed>) {
        for deed in deeds {
            match deed {
                Deed::Ask(command) => self.compute.command(command),
                Deed::Fetch {
                    session,
                    object,
                    secret,
                } => {
                    let (nats, fetched) = (self.nats.clone(), self.fetched.clone());
                    tokio::spawn(async move {
                        let came = fetch(&nats, &object, secret).await;
                        let _ = fetched.send((session, object, came));
                    });
                }
                Deed::Tell { gateway, report } => {
                    self.way(&gateway).send(ToGateway::Report(report))
                }
            }
        }
    }

    fn way(&mut self, gateway: &str) -> &Outgoing<ToGateway> {
        let (nats, me, trouble) = (&self.nats, &self.instance, &self.trouble);
        let halves = (&self.keys.mine, self.keys.half(gateway));
        self.ways.entry(gateway.to_owned()).or_insert_with(|| {
            let subject = event_subject(gateway, me);
            Outgoing::open(nats.clone(), subject, me, gateway, halves, trouble.clone())
        })
    }

    /// Says that nothing more comes, so that what is open goes on elsewhere at once.
    async fn leave(mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let gateways: Vec<String> = self.desk.gateways().cloned().collect();
        for gateway in gateways {
            self.way(&gateway).send(ToGateway::Lost);
        }
        for way in std::mem::take(&mut self.ways).into_values() {
            way.finish(PATIENCE).await;
        }
        if let Some(entry) = self.entry {
            entry.remove().await;
        }
    }
}

async fn taken(entry: &mut Option<Entry>) -> io::Error {
    match entry {
        Some(entry) => entry.taken().await,
        None => std::future::pending().await,
    }
}
