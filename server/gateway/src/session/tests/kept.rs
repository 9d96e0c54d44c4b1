//! Sessions that are kept outside of their process, and gone on with by another.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use api::{Answer, KnownPicture, Log, LogName, Record, RecordKind, Report, SessionId};
use parking_lot::{Mutex, MutexGuard};

use super::*;

/// Keeps records for two processes, as a stream does: whoever does not have a session writes nothing.
#[derive(Default)]
struct Shelf(Mutex<Shelved>);

#[derive(Default)]
struct Shelved {
    records: HashMap<LogName, Vec<Record>>,
    /// The process that has it.
    owners: HashMap<LogName, u32>,
    ended: Vec<LogName>,
    /// Nothing is kept for now: whoever waits for that.
    stopped: Option<Vec<(u32, SessionId, LogName, Record)>>,
}

/// One process's way to it.
struct Way {
    number: u32,
    shelf: Arc<Shelf>,
    reports: Mutex<Sender<Report>>,
    known: Mutex<Vec<KnownPicture>>,
}

impl Way {
    fn put(&self, shelved: &mut Shelved, session: SessionId, name: LogName, record: Record) {
        let owner = *shelved.owners.entry(name).or_insert(self.number);
        let report = match owner == self.number {
            true => {
                shelved.records.entry(name).or_default().push(record);
                Report::Kept { session }
            }
            false => Report::Taken { session },
        };
        self.reports.lock().send(report).unwrap();
    }

    /// Lets through what was stopped.
    fn go_on(&self) {
        let mut shelved = self.shelf.0.lock();
        for (_, session, name, record) in shelved.stopped.take().unwrap_or_default() {
            self.put(&mut shelved, session, name, record);
        }
    }
}

impl Log for Way {
    fn enter(&self, _: SessionId, _: LogName) {}

    fn keep(&self, session: SessionId, name: LogName, record: Record) {
        let mut shelved = self.shelf.0.lock();
        match &mut shelved.stopped {
            Some(stopped) => stopped.push((self.number, session, name, record)),
            None => self.put(&mut shelved, session, name, record),
        }
    }

    fn has(&self, name: LogName) -> Answer<bool> {
        let has = self.shelf.0.lock().owners.get(&name) == Some(&self.number);
        Box::pin(async move { has })
    }

    fn take(&self, name: LogName) -> Answer<Result<Option<Vec<Record>>, Failure>> {
        let mut shelved = self.shelf.0.lock();
        let records = shelved
            .records
            .get(&name)
            .map(|records| last_whole(records));
        shelved.owners.insert(name, self.number);
        Box::pin(async move { Ok(records) })
    }

    fn known(&self, picture: KnownPicture) {
        self.known.lock().push(picture);
    }

    fn release(&self, _: SessionId, _: LogName) {}

    fn end(&self, _: SessionId, name: LogName) {
        let mut shelved = self.shelf.0.lock();
        shelved.records.remove(&name);
        shelved.owners.remove(&name);
        shelved.ended.push(name);
    }
}

/// The last whole record and all behind it.
fn last_whole(records: &[Record]) -> Vec<Record> {
    let is_whole = |record: &Record| record.kind != RecordKind::More;
    let first = records.iter().rposition(is_whole).unwrap_or(0);
    records[first..].to_vec()
}

/// A process that keeps its sessions on the shelf.
fn process(number: u32, shelf: &Arc<Shelf>) -> (Rig, Arc<Way>) {
    let (engine, reports, player) = stand_in();
    let (sender, mine) = channel();
    let way = Arc::new(Way {
        number,
        shelf: shelf.clone(),
        reports: Mutex::new(sender),
        known: Mutex::default(),
    });
    // Sent from where nobody waits for it.
    let told = player.reports();
    thread::spawn(move || mine.into_iter().for_each(|it| told.send(it).unwrap_or(())));
    let (status, watch) = watch::channel(stand_in::ready());
    let shared = Shared::new(
        engine,
        Some(way.clone()),
        watch,
        reports,
        stand_in::limits(),
        stand_in::options(),
    );
    (rig_from(shared.unwrap(), player, status), way)
}

/// What a session's client is to be told, kept or not, as it is sent.
fn told(session: &Session) -> Vec<(u64, String)> {
    let inner = session.inner.lock();
    inner.state.context.outbox.kept().events()
}

/// Waits until all that happened is kept.
fn settle(connection: &Connection) {
    drop(settled(connection));
}

/// The session as it is then: nothing happens to it before this is dropped.
fn settled(connection: &Connection) -> MutexGuard<'_, Inner> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let inner = connection.session.inner.lock();
        let settled = inner.journal.as_ref().is_none_or(|it| it.is_settled());
        if settled && !inner.state.context.outbox.is_withheld() {
            return inner;
        }
        drop(inner);
        assert!(Instant::now() < end, "it is never kept");
        thread::sleep(Duration::from_millis(1));
    }
}

fn come_back(rig: &Rig, id: &str, last_event: u64) -> Result<Connection, Option<Reason>> {
    let resume = wire::Resume {
        session: id.into(),
        last_event,
    };
    futures_util::FutureExt::now_or_never(rig.hub.come_back(&resume, None)).unwrap()
}

/// All that is there to be sent, as it is sent, once it may be.
fn texts(connection: &Connection) -> Vec<String> {
    settle(connection);
    let next = || match connection.next() {
        Outgoing::Text(text) => Some(text.to_string()),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn another_process_goes_on_behind_the_last_word() {
    let shelf = Arc::default();
    let (one, _) = process(1, &shelf);
    let (other, way) = process(2, &shelf);
    let id = one.connection.id().to_owned();
    one.upload(1, &picture(1));
    let shown = one.looked();
    one.ask("a", json!({"upload": 1, "sampling": {"seed": 7}}));
    let job = one.asked();
    one.queued(&job, Some(0));
    one.started(&job);
    one.tokens(&job, 0, &[5, 6], "Two");
    // Held back: it is known, and not shown.
    one.tokens(&job, 2, &[7], "");
    one.tokens(&job, 3, &[8], " boats");
    settle(&one.connection);
    let all = told(&one.connection.session);

    let back = come_back(&other, &id, 2).unwrap();
    let mut seen = texts(&back);
    let welcome: Value = serde_json::from_str(&seen.remove(0)).unwrap();
    assert_eq!(
        (&welcome["type"], &welcome["resumed"]),
        (&json!("welcome"), &json!(true))
    );
    let status: Value = serde_json::from_str(&seen.pop().unwrap()).unwrap();
    assert_eq!(status["moving"], json!(["a"]));
    let missed: Vec<String> = all
        .iter()
        .filter(|it| it.0 > 2)
        .map(|it| it.1.clone())
        .collect();
    assert_eq!(seen, missed);
    // Whoever computes goes on with what was begun, and looks where the picture is.
    let known = way.known.lock().clone();
    assert_eq!((known[0].key, known[0].told), (shown.key, false));
    let again = other.asked();
    assert_eq!(again.so_far, [5, 6, 7, 8]);
    assert_eq!(
        (again.request, again.attempt),
        (job.request, job.attempt + 1)
    );
    assert_eq!(
        (&again.sampling, &again.question, &again.pictures),
        (&job.sampling, &job.question, &job.pictures)
    );
    // What was said before is not said again, and what the first process is still told is nobody's news.
    other.queued(&again, Some(0));
    other.started(&again);
    other.tokens(&again, 4, &[9], ".");
    other.done(&again, FinishReason::Stop);
    one.tokens(&job, 4, &[9], ".");
    let rest: Vec<Value> = texts(&back)
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(rest.iter().map(kind).collect::<Vec<_>>(), ["token", "done"]);
    assert_eq!(
        (&rest[0]["index"], &rest[0]["text"]),
        (&json!(2), &json!("."))
    );
    let numbers: Vec<u64> = rest
        .iter()
        .map(|it| it["event"].as_u64().unwrap())
        .collect();
    let last = all.last().unwrap().0;
    assert_eq!(numbers, [last + 1, last + 2]);
    // Its client there hears that another connection has the session, and nothing of that is freed.
    let end = Instant::now() + Duration::from_secs(60);
    while !matches!(one.connection.next(), Outgoing::TakenOver) {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(1));
    }
    one.no_command();
    // The conversation goes on too.
    let conversation = rest[1]["conversation"].clone();
    send(
        &back,
        json!({"type": "ask", "request": "b", "text": "And?", "conversation": conversation}),
    );
    let next = other.asked();
    assert_eq!(
        next.history[0].answer_ids.as_deref(),
        Some(&[5, 6, 7, 8, 9][..])
    );
    assert_eq!(
        (next.conversation, next.pictures),
        (job.conversation, job.pictures)
    );
}

#[test]
fn nothing_is_sent_before_it_is_kept() {
    let shelf: Arc<Shelf> = Arc::default();
    let (one, way) = process(1, &shelf);
    one.ask("a", json!({}));
    let job = one.asked();
    one.queued(&job, Some(0));
    settle(&one.connection);
    one.take();
    shelf.0.lock().stopped = Some(Vec::new());
    one.started(&job);
    one.tokens(&job, 0, &[5], "Two");
    one.send(json!({"type": "ping"}));
    // Nor anything that comes behind it.
    assert_eq!(one.kinds(), Vec::<String>::new());
    assert!(matches!(one.connection.next(), Outgoing::Withheld));
    way.go_on();
    settle(&one.connection);
    assert_eq!(one.kinds(), ["started", "token", "pong"]);
}

#[test]
fn what_was_lost_with_its_process_is_asked_for_again() {
    let shelf = Arc::default();
    let (one, way) = process(1, &shelf);
    let (other, _) = process(2, &shelf);
    let id = one.connection.id().to_owned();
    // A picture that is not decoded, and one of which a part has come.
    way.shelf.0.lock().stopped = None;
    let file = picture(1);
    one.send(json!({"type": "upload", "upload": 2, "bytes": 100_000}));
    send_bytes(&one.connection, 2, 50_000);
    one.send(json!({"type": "upload", "upload": 1, "bytes": file.len()}));
    one.connection.binary(&frame::encode(1, &file));
    settle(&one.connection);
    let records = shelf.0.lock().records.values().next().unwrap().clone();
    // As if the process had died right behind the first record: the file was received, and is not decoded.
    shelf
        .0
        .lock()
        .records
        .values_mut()
        .next()
        .unwrap()
        .truncate(1);
    assert!(!records.is_empty());
    let back = come_back(&other, &id, 0).unwrap();
    let all: Vec<Value> = texts(&back)
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(
        all.iter().map(kind).collect::<Vec<_>>(),
        ["welcome", "upload_received", "error"]
    );
    assert_eq!(
        (&all[2]["code"], &all[2]["upload"]),
        (&json!("busy"), &json!(1))
    );
    assert!(all[2]["retry_after_ms"].is_number());
    send(
        &back,
        json!({"type": "upload", "upload": 2, "bytes": 100_000}),
    );
    let accepted: Vec<Value> = texts(&back)
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(
        (&accepted[0]["type"], &accepted[0]["received"]),
        (&json!("upload_accepted"), &json!(0))
    );
}

#[test]
fn what_ends_is_kept_no_more() {
    let shelf: Arc<Shelf> = Arc::default();
    let (one, _) = process(1, &shelf);
    let id = one.connection.id().to_owned();
    let conversation = one.answered_kept("a");
    one.send(json!({"type": "forget", "conversation": conversation}));
    settle(&one.connection);
    let kinds: Vec<RecordKind> = {
        let shelved = shelf.0.lock();
        let records = shelved.records.values().next().unwrap();
        records.iter().map(|it| it.kind).collect()
    };
    assert_eq!(kinds.last(), Some(&RecordKind::Erasing));
    one.hub.close(&one.connection);
    assert_eq!(shelf.0.lock().ended.len(), 1);
    let (other, _) = process(2, &shelf);
    assert_eq!(come_back(&other, &id, 0).err(), Some(Some(Reason::Unknown)));
}

impl Rig {
    /// Asks, and answers as the engine; the conversation's id.
    fn answered_kept(&self, request: &str) -> String {
        self.ask(request, json!({}));
        self.answer(&self.asked(), FinishReason::Stop);
        settle(&self.connection);
        let messages = self.take();
        messages.last().unwrap()["conversation"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// Numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are good enough here.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Wherever a session is cut, what is kept of it says to the byte what its client was and will be told.
#[test]
fn cut_anywhere_it_is_the_same_session() {
    for seed in 0..12 {
        let mut numbers = Numbers(seed);
        let shelf: Arc<Shelf> = Arc::default();
        let (one, _) = process(1, &shelf);
        let (mut open, mut asked, mut uploads) = (Vec::new(), 0, 0);
        let mut conversations: Vec<String> = Vec::new();
        for _ in 0..60 {
            match numbers.below(9) {
                0 => {
                    uploads += 1;
                    one.upload(uploads, &picture(uploads as u8));
                }
                1 | 2 => {
                    asked += 1;
                    let about = match (numbers.below(3), conversations.last(), uploads) {
                        (0, Some(id), _) => json!({"conversation": id}),
                        (1, _, 1..) => json!({"upload": uploads}),
                        _ => json!({}),
                    };
                    one.ask(&format!("r{asked}"), about);
                }
                3 => {
                    let request = format!("r{}", 1 + numbers.below(asked.max(1)));
                    one.send(json!({"type": "cancel", "request": request}));
                }
                4 if !conversations.is_empty() => {
                    let id = conversations.remove(0);
                    one.send(json!({"type": "forget", "conversation": id}));
                }
                5 => one.send(json!({"type": "ack", "event": numbers.below(4)})),
                _ if !open.is_empty() => {
                    let at = numbers.below(open.len() as u64) as usize;
                    let (job, ids, started): &mut (Ask, u64, bool) = &mut open[at];
                    match (numbers.below(6), *started) {
                        (_, false) => {
                            one.queued(job, Some(numbers.below(3)));
                            one.started(job);
                            *started = true;
                        }
                        (0, true) => {
                            one.done(job, FinishReason::Stop);
                            open.remove(at);
                        }
                        (1, true) => {
                            one.broken(job);
                            open.remove(at);
                        }
                        (held, true) => {
                            let text = if held == 2 { "" } else { "word " };
                            one.tokens(job, *ids, &[*ids as u32, 7], text);
                            *ids += 2;
                        }
                    }
                }
                _ => {}
            }
            for command in one.commands() {
                match command {
                    Command::Ask(job) => open.push((*job, 0, false)),
                    Command::Cancel { request, .. } => {
                        if let Some(at) = open.iter().position(|(job, ..)| job.request == request) {
                            let (job, ..) = open.remove(at);
                            one.done(&job, FinishReason::Cancelled);
                        }
                    }
                    Command::ForgetConversation {
                        session,
                        conversation,
                    } => {
                        one.freed(session, Freed::Conversation(conversation));
                    }
                    _ => {}
                }
            }
            settle(&one.connection);
            for message in one.take() {
                if message["type"] == "done" {
                    conversations.push(message["conversation"].as_str().unwrap().to_owned());
                }
            }
        }
        let (records, last) = {
            // A picture may still be on its way to being ready.
            let session = settled(&one.connection);
            let records = shelf.0.lock().records.values().next().unwrap().clone();
            (records, session.state.context.outbox.last())
        };
        let all: HashMap<u64, String> = told(&one.connection.session).into_iter().collect();
        let mut before = 0;
        for cut in 1..=records.len() {
            let kept = KeptSession::read(&last_whole(&records[..cut])).unwrap();
            let identity = kept.identity.clone();
            let state = kept.restore(setup(&[0; 32], &identity, false, &one.hub.shared));
            let (here, last) = (
                state.context.outbox.kept().events(),
                state.context.outbox.last(),
            );
            assert!(last >= before, "{seed}: events are lost at {cut}");
            before = last;
            for (event, text) in here {
                // What was acknowledged since is not there to be compared.
                assert!(
                    all.get(&event).is_none_or(|it| *it == text),
                    "{seed}: {event} at {cut}"
                );
            }
        }
        // At its end it is what the session is.
        assert_eq!(before, last, "{seed}");
    }
}
