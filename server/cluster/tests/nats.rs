//! A gateway and workers over a NATS server, with engines that only count.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{
    AnswerTimings, Ask, Asker, Command, Compute, Conversation, ConversationId, EncodeTimings,
    Event, Failure, FinishReason, Freed, Health, Picture, PictureKey, Pixels, Report, RequestId,
    SamplingParams, SessionId, Shown, State, Status, Tokens, Usage,
};
use cluster::worker::{self, Ended, Engine};
use cluster::{Fleet, GatewaySettings, Settings, Started};
use glimpse_cluster as cluster;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Only what hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ids of an answer.
const LENGTH: u32 = 60;
const SIDE: u32 = 600;

/// A NATS server, which ends with the test.
struct Nats {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Nats {
    fn start() -> Nats {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder =
            std::env::temp_dir().join(format!("glimpse-nats-{port}-{}", std::process::id()));
        let process = Nats::serve(port, &folder);
        Nats {
            process,
            port,
            folder,
        }
    }

    fn serve(port: u16, folder: &PathBuf) -> Child {
        let tools = std::env::var("GLIMPSE_TOOLS").unwrap_or_else(|_| "../../.tools".into());
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Process::new("nats-server");
        command
            .env("PATH", format!("{path}:{tools}/bin:/usr/sbin"))
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .expect("there is no nats-server here: run `make test`, which fetches it");
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "nats-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Nats::serve(self.port, &self.folder);
    }

    fn settings(&self) -> Settings {
        Settings {
            servers: vec![format!("nats://127.0.0.1:{}", self.port)],
            credentials: None,
            authorities: None,
            replicas: 1,
            pictures: 64 << 20,
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Answers with numbers, one each few milliseconds, from where an earlier attempt was.
struct Counting {
    reports: UnboundedSender<Report>,
    commands: Sender<Command>,
    /// Whether its device is lost: it says nothing more.
    lost: Arc<Mutex<bool>>,
}

impl Compute for Counting {
    fn command(&self, command: Command) {
        let _ = self.commands.send(command.clone());
        let reports = self.reports.clone();
        let session = command.session();
        let tell = move |event| drop(reports.send(Report::Session { session, event }));
        match command {
            Command::Picture(picture) => tell(Event::Encoded {
                key: picture.key,
                tokens: 4,
                timings: EncodeTimings::default(),
                cached: false,
            }),
            Command::Ask(ask) => {
                let lost = self.lost.clone();
                std::thread::spawn(move || count(&ask, &lost, tell));
            }
            Command::Forget { picture, .. } => tell(Event::Freed(Freed::Picture(picture))),
            Command::EndSession { .. } => tell(Event::Freed(Freed::Session)),
            _ => {}
        }
    }
}

fn count(ask: &Ask, lost: &Mutex<bool>, tell: impl Fn(Event)) {
    let (request, attempt) = (ask.request, ask.attempt);
    tell(Event::Started { request, attempt });
    for id in ask.so_far.len() as u32..LENGTH {
        std::thread::sleep(Duration::from_millis(10));
        let lost = lost.lock().unwrap();
        if *lost {
            return;
        }
        tell(Event::Tokens {
            request,
            attempt,
            first: id.into(),
            ids: vec![id],
            text: format!("{id} "),
            logprobs: Vec::new(),
        });
    }
    tell(Event::Done {
        request,
        attempt,
        finish_reason: FinishReason::Stop,
        usage: Usage::default(),
        timings: AnswerTimings::default(),
    });
}

impl Tokens for Counting {
    fn encode(&self, text: &str, _: bool) -> Result<Vec<u32>, Failure> {
        Ok(text.chars().map(u32::from).collect())
    }

    fn prompt(&self, conversation: &Conversation<'_>) -> Result<Vec<u32>, Failure> {
        self.encode(conversation.question, true)
    }

    fn bytes(&self, ids: &[u32]) -> Result<Vec<Vec<u8>>, Failure> {
        Ok(ids.iter().map(|id| vec![*id as u8]).collect())
    }
}

/// The test's side of a worker.
struct Worker {
    commands: Receiver<Command>,
    reports: UnboundedSender<Report>,
    lost: Arc<Mutex<bool>>,
    ended: Receiver<std::io::Result<Ended>>,
    _status: watch::Sender<Status>,
}

impl Worker {
    fn start(nats: &Nats, name: &str, model: &str) -> Worker {
        let (reports, told) = unbounded_channel();
        let (asked, commands) = channel();
        let lost = Arc::new(Mutex::new(false));
        let (publish, status) = watch::channel(Status {
            state: State::Ready,
            ..Status::default()
        });
        let counting = Arc::new(Counting {
            reports: reports.clone(),
            commands: asked,
            lost: lost.clone(),
        });
        let health = Health {
            state: State::Ready,
            model: model.into(),
            ..Health::default()
        };
        // Its loop turns.
        let (turns, stands) = (reports.clone(), lost.clone());
        std::thread::spawn(move || {
            for turn in 1.. {
                if *stands.lock().unwrap() {
                    return;
                }
                let health = Health {
                    turn,
                    ..health.clone()
                };
                if turns.send(Report::Health(health)).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let engine = Engine {
            compute: counting.clone(),
            tokens: counting,
            status,
            reports: told,
        };
        let (settings, name) = (nats.settings(), name.to_owned());
        let (ready, is_ready) = channel();
        let (end, ended) = channel();
        std::thread::spawn(move || {
            let result = worker::run(settings, name, engine, |_| ready.send(()).unwrap());
            let _ = end.send(result);
        });
        is_ready.recv_timeout(PATIENCE).unwrap();
        Worker {
            commands,
            reports,
            lost,
            ended,
            _status: publish,
        }
    }

    /// Its device is lost.
    fn lose(&self) {
        *self.lost.lock().unwrap() = true;
        let health = Health {
            state: State::Failed,
            ..Health::default()
        };
        self.reports.send(Report::Health(health)).unwrap();
    }

    /// The first that it is asked and that is meant.
    fn until<T>(&self, meant: impl Fn(Command) -> Option<T>) -> T {
        loop {
            let command = self.commands.recv_timeout(PATIENCE).unwrap();
            if let Some(found) = meant(command) {
                return found;
            }
        }
    }
}

fn gateway(nats: &Nats) -> Started {
    let mut started = Fleet::start(GatewaySettings {
        nats: nats.settings(),
        limits: "{}".into(),
        secret: None,
    })
    .unwrap();
    let end = Instant::now() + PATIENCE;
    while started.status.borrow_and_update().state != State::Ready {
        assert!(Instant::now() < end, "{:?}", started.status.borrow().error);
        std::thread::sleep(Duration::from_millis(20));
    }
    started
}

fn key(session: SessionId) -> PictureKey {
    PictureKey {
        session: Some(session),
        sha256: [9; 32],
    }
}

fn picture(session: SessionId) -> Command {
    let bytes: Vec<u8> = (0..Pixels::bytes(SIDE)).map(|at| at as u8).collect();
    Command::Picture(Picture {
        asker: Asker { client: 1, session },
        key: key(session),
        pixels: Pixels::new(SIDE, bytes),
        system: String::new(),
        secret: None,
        traceparent: None,
    })
}

fn ask(session: SessionId, request: u128) -> Command {
    Command::Ask(Box::new(Ask {
        asker: Asker { client: 1, session },
        conversation: ConversationId::new(1),
        request: RequestId::new(request),
        attempt: 0,
        system: String::new(),
        pictures: vec![Shown {
            key: key(session),
            shape: (SIDE, SIDE),
            turn: 0,
        }],
        history: Vec::new(),
        // More than fits into one message.
        question: "?".repeat(1_500_000),
        sampling: SamplingParams::default(),
        format: None,
        logprobs: None,
        background: false,
        so_far: Vec::new(),
        credit: 1000,
        waited_ms: 0.0,
        left_ms: 600_000.0,
        traceparent: None,
    }))
}

/// What a session is told, up to an answer's end or what is looked for.
fn told(started: &Started, until: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let report = started.reports.recv_timeout(PATIENCE).unwrap();
        let Report::Session { event, .. } = report else {
            continue;
        };
        all.push(event);
        if all.last().is_some_and(&until) {
            return all;
        }
    }
}

fn is_done(event: &Event) -> bool {
    matches!(event, Event::Done { .. } | Event::Failed { .. })
}

#[track_caller]
fn assert_whole(told: &[Event]) {
    let mut ids: Vec<u32> = Vec::new();
    for event in told {
        if let Event::Tokens {
            first, ids: new, ..
        } = event
        {
            assert_eq!(*first, ids.len() as u64);
            ids.extend(new);
        }
    }
    assert_eq!(ids, (0..LENGTH).collect::<Vec<u32>>());
}

#[test]
fn an_answer_and_its_picture_outlive_their_worker_and_nats() {
    let mut nats = Nats::start();
    let one = Worker::start(&nats, "one", "model");
    let started = gateway(&nats);
    let session = SessionId::random();
    started.fleet.command(picture(session));
    let seen = told(&started, |event| matches!(event, Event::Encoded { .. }));
    assert_eq!(seen.len(), 1);
    let pixels = one.until(|command| match command {
        Command::Picture(picture) => Some(picture.pixels),
        _ => None,
    });
    started.fleet.command(ask(session, 1));
    let mut all = told(&started, |event| {
        matches!(event, Event::Tokens { first: 5, .. })
    });
    let two = Worker::start(&nats, "two", "model");
    one.lose();
    assert_eq!(
        one.ended.recv_timeout(PATIENCE).unwrap().unwrap(),
        Ended::Lost
    );
    all.extend(told(&started, |event| matches!(event, Event::Moved { .. })));
    all.extend(told(&started, is_done));
    assert_whole(&all);
    let again = two.until(|command| match command {
        Command::Picture(picture) => Some(picture.pixels),
        _ => None,
    });
    assert!(again == pixels, "the picture from the store is another one");
    let went_on = two.until(|command| match command {
        Command::Ask(ask) => Some(ask.so_far.len()),
        _ => None,
    });
    assert!(went_on >= 6);
    // NATS gone in mid-answer is a pause.
    started.fleet.command(ask(session, 2));
    let mut all = told(&started, |event| {
        matches!(event, Event::Tokens { first: 5, .. })
    });
    nats.restart();
    all.extend(told(&started, is_done));
    assert_whole(&all);
    assert!(!all.iter().any(|event| matches!(event, Event::Moved { .. })));
    // Its tokens are counted by the worker.
    assert_eq!(started.tokens.encode("ab", true).unwrap(), [97, 98]);
    started.fleet.command(Command::EndSession { session });
    told(&started, |event| *event == Event::Freed(Freed::Session));
}

#[test]
fn a_worker_that_drains_ends_when_it_has_nothing_more() {
    let nats = Nats::start();
    let one = Worker::start(&nats, "one", "model");
    let started = gateway(&nats);
    let session = SessionId::random();
    started.fleet.command(picture(session));
    started.fleet.command(ask(session, 1));
    let mut all = told(&started, |event| {
        matches!(event, Event::Tokens { first: 5, .. })
    });
    let two = Worker::start(&nats, "two", "model");
    let settings = nats.settings();
    let drain = std::thread::spawn(move || {
        let mut said = 0;
        cluster::drain(settings, "one", |_, _| said += 1).map(|()| said)
    });
    all.extend(told(&started, is_done));
    assert_whole(&all);
    assert!(!all.iter().any(|event| matches!(event, Event::Moved { .. })));
    assert_eq!(
        one.ended.recv_timeout(PATIENCE).unwrap().unwrap(),
        Ended::Drained
    );
    assert!(drain.join().unwrap().unwrap() > 0);
    started.fleet.command(ask(session, 2));
    assert_whole(&told(&started, is_done));
    two.until(|command| matches!(command, Command::Ask(_)).then_some(()));
    assert!(cluster::drain(nats.settings(), "one", |_, _| {}).is_err());
}

#[test]
fn what_a_gateway_can_not_use_is_said() {
    let nats = Nats::start();
    let first = gateway_with(&nats, "{\"images\":16}").unwrap();
    let Err(other) = gateway_with(&nats, "{\"images\":8}") else {
        panic!("other limits were taken")
    };
    assert!(other.to_string().contains("other limits"), "{other}");
    gateway_with(&nats, "{\"images\":16}").unwrap();
    drop(first);
    let nobody = Settings {
        servers: vec!["nats://127.0.0.1:1".into()],
        ..nats.settings()
    };
    let Err(problem) = cluster::drain(nobody, "one", |_, _| {}) else {
        panic!("nobody was there")
    };
    assert!(
        problem.to_string().contains("no NATS server answers"),
        "{problem}"
    );
}

fn gateway_with(nats: &Nats, limits: &str) -> std::io::Result<Started> {
    Fleet::start(GatewaySettings {
        nats: nats.settings(),
        limits: limits.into(),
        secret: None,
    })
}
