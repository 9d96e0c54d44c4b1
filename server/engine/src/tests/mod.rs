//! The engine with a real worker, on a tiny model with random weights: no socket, no card.

mod faults;
mod formats;
mod openings;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use api::{
    Asker, Command, ConversationId, ErrorCode, Event, FinishReason, Freed, Health, Picture,
    PictureKey, Pixels, Presence, Report, RequestId, SamplingParams, Shown, State, Turn, Usage,
    encoding,
};
use parking_lot::Mutex;

use super::faults::{Hook, Hooked};
use super::*;
use glimpse_image as image;
use model::device::{Choice, Dtype};

pub(super) const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn start(settings: Settings) -> Served {
    start_several(settings, vec![Box::new(|_, _| Ok(()))])
}

/// With a worker for each hook, which is called before each piece of its work.
pub(super) fn start_several(settings: Settings, hooks: Vec<Hook>) -> Served {
    let opens = hooks.into_iter().map(|hook| (tiny, Hooked(hook)));
    let served =
        Served::new(|reports| Engine::start_wrapped(settings, opens.collect(), reports).unwrap());
    let since = Instant::now();
    while served.status().borrow().state != State::Ready {
        assert!(since.elapsed() < PATIENCE && served.status().borrow().error.is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    served
}

/// An engine, and whoever hears what it tells. All that passes between them is bytes on the way.
#[derive(Clone)]
pub(super) struct Served {
    engine: Engine,
    sessions: Arc<Mutex<HashMap<SessionId, Sender<Event>>>>,
    health: Arc<Mutex<Vec<Health>>>,
}

impl Deref for Served {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// As it is after a network.
fn carried<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
    encoding::decode(&encoding::encode(message).unwrap()).unwrap()
}

impl Served {
    pub fn new(engine: impl FnOnce(Sender<Report>) -> Engine) -> Self {
        let (reports, inbox) = channel();
        let served = Served {
            engine: engine(reports),
            sessions: Arc::default(),
            health: Arc::default(),
        };
        let (sessions, health) = (served.sessions.clone(), served.health.clone());
        std::thread::spawn(move || {
            for report in inbox {
                match carried(&report) {
                    Report::Session { session, event } => {
                        if let Some(session) = sessions.lock().get(&session) {
                            let _ = session.send(event);
                        }
                    }
                    Report::Health(now) => health.lock().push(now),
                    _ => {}
                }
            }
        });
        served
    }

    pub fn send(&self, command: Command) {
        self.engine.command(carried(&command));
    }
}

/// A tiny model, on the CPU.
pub(super) fn tiny() -> Result<(Arc<Checkpoint>, Target), LoadError> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny.config.json");
    let checkpoint = Checkpoint::random(&config, 7)?;
    Ok((
        Arc::new(checkpoint),
        Target::choose(Choice::Cpu, Dtype::F32)?,
    ))
}

/// A session: it hears its events through a channel.
pub(super) struct Client {
    pub client: u128,
    pub session: SessionId,
    /// Its one conversation.
    pub conversation: ConversationId,
    engine: Served,
    events: Receiver<Event>,
    /// What each of its questions may tell at first.
    pub credit: u32,
}

/// What came of a question.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub text: String,
    pub ids: Vec<u32>,
    /// Tokens before the first that was told.
    pub first: Option<u64>,
    pub usage: Usage,
    timings: api::AnswerTimings,
    positions: Vec<Option<u64>>,
    pub finish: Option<FinishReason>,
    pub error: Option<Failure>,
}

impl Client {
    pub fn new(engine: &Served) -> Self {
        let (sender, events) = channel();
        let session = SessionId::random();
        engine.sessions.lock().insert(session, sender);
        Client {
            client: rand::random(),
            session,
            conversation: ConversationId::random(),
            engine: engine.clone(),
            events,
            credit: u32::MAX,
        }
    }

    /// From now on it hears what another session is told, too.
    pub fn hears(&self, other: &Client) {
        let mut sessions = self.engine.sessions.lock();
        let own = sessions[&self.session].clone();
        sessions.insert(other.session, own);
    }

    /// Goes on as another session of the same client's, heard in the same place.
    fn as_another_session(&mut self) {
        let session = SessionId::random();
        let mut sessions = self.engine.sessions.lock();
        let own = sessions[&self.session].clone();
        sessions.insert(session, own);
        self.session = session;
    }

    fn asker(&self) -> Asker {
        Asker {
            client: self.client,
            session: self.session,
        }
    }

    pub fn key(&self, shade: u8) -> PictureKey {
        PictureKey {
            session: Some(self.session),
            sha256: [shade; 32],
        }
    }

    /// A picture of one shade.
    pub fn show(&self, shade: u8) -> PictureKey {
        let key = self.key(shade);
        self.show_as(key, shade);
        key
    }

    pub fn show_as(&self, key: PictureKey, shade: u8) {
        self.engine.send(Command::Picture(Picture {
            asker: self.asker(),
            key,
            pixels: picture(shade),
            system: String::new(),
            secret: None,
            traceparent: None,
        }));
    }

    pub fn encoded(&self) -> bool {
        loop {
            if let Event::Encoded { cached, .. } = self.next() {
                return cached;
            }
        }
    }

    pub fn next(&self) -> Event {
        self.events
            .recv_timeout(PATIENCE)
            .expect("the engine fell silent")
    }

    pub fn ask(
        &self,
        picture: Option<PictureKey>,
        history: &[Turn],
        question: &str,
        tokens: u64,
    ) -> RequestId {
        let request = RequestId::random();
        self.engine.send(Command::Ask(Box::new(Ask {
            pictures: picture.into_iter().map(shown).collect(),
            history: history.to_vec(),
            ..self.question(request, question, tokens)
        })));
        request
    }

    /// What is asked without a picture or a history.
    pub fn question(&self, request: RequestId, question: &str, tokens: u64) -> Ask {
        Ask {
            asker: self.asker(),
            conversation: self.conversation,
            request,
            attempt: 0,
            system: String::new(),
            pictures: Vec::new(),
            history: Vec::new(),
            question: question.into(),
            sampling: SamplingParams {
                max_new_tokens: tokens,
                ..greedy()
            },
            format: None,
            logprobs: None,
            background: false,
            so_far: Vec::new(),
            credit: self.credit,
            waited_ms: 0.0,
            left_ms: PATIENCE.as_secs_f64() * 1e3,
            traceparent: None,
        }
    }

    pub fn grant(&self, request: RequestId, events: u32) {
        let session = self.session;
        self.engine.send(Command::Credit {
            session,
            request,
            events,
        });
    }

    pub fn cancel(&self, request: RequestId) {
        let session = self.session;
        self.engine.send(Command::Cancel { session, request });
    }

    pub fn end(&self) {
        let session = self.session;
        self.engine.send(Command::EndSession { session });
    }

    pub fn is(&self, presence: Presence) {
        let session = self.session;
        self.engine.send(Command::Presence { session, presence });
    }

    /// Waits until that is freed.
    pub fn forget(&self, picture: PictureKey) {
        let session = self.session;
        self.engine.send(Command::Forget { session, picture });
        self.freed(Freed::Picture(picture));
    }

    /// Waits until its conversation is freed; what it hears meanwhile.
    pub fn forget_conversation(&self) -> Vec<Event> {
        let (session, conversation) = (self.session, self.conversation);
        self.engine.send(Command::ForgetConversation {
            session,
            conversation,
        });
        self.freed(Freed::Conversation(conversation))
    }

    pub fn freed(&self, what: Freed) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Event::Freed(freed) if freed == what => return before,
                event => before.push(event),
            }
        }
    }

    /// Waits for the end of `request`; events of others are passed over.
    pub fn answer(&self, request: RequestId) -> Answer {
        let mut answer = Answer::default();
        loop {
            if answer.take(self.next(), request) {
                return answer;
            }
        }
    }

    /// Why the question is refused.
    pub fn refused(&self, request: RequestId) -> Failure {
        self.answer(request).error.expect("it was answered")
    }
}

impl Answer {
    /// What is told of `request`; whether that is its end.
    pub fn take(&mut self, event: Event, request: RequestId) -> bool {
        match event {
            Event::Tokens {
                request: r,
                first,
                ids,
                text,
                ..
            } if r == request => {
                self.first.get_or_insert(first);
                assert_eq!(first, self.first.unwrap_or(0) + self.ids.len() as u64);
                self.ids.extend(ids);
                self.text += &text;
            }
            Event::Queued {
                request: r,
                position,
                ..
            } if r == request => self.positions.push(position),
            Event::Done {
                request: r,
                finish_reason,
                usage,
                timings,
                ..
            } if r == request => {
                self.finish = Some(finish_reason);
                self.usage = usage;
                self.timings = timings;
                return true;
            }
            Event::Failed {
                request: r,
                failure,
                ..
            } if r == request => {
                self.error = Some(failure);
                return true;
            }
            _ => {}
        }
        false
    }
}

pub(super) fn shown(key: PictureKey) -> Shown {
    Shown {
        key,
        shape: (224, 224),
        turn: 0,
    }
}

fn greedy() -> SamplingParams {
    api::Defaults::default()
        .with(&api::Sampling::default(), 1 << 20, 0)
        .unwrap()
}

fn picture(shade: u8) -> Pixels {
    // A 1×1 BMP of 24 bits.
    let mut bmp =
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bmp.resize(54, 0);
    bmp.extend([shade, shade / 2, 255 - shade, 0]);
    image::load(&bmp, 224, &image::Options::default())
        .unwrap()
        .pixels
}

/// The same questions one at a time, two at a time, sliced and reused give the same answers.
#[test]
fn answers_do_not_depend_on_company() {
    let questions = [
        "a",
        "what is in the picture, please?",
        "who",
        "1 2 3 4 5 6 7 8 9",
        "x y z",
    ];
    let alone: Vec<Answer> = {
        let engine = start(Settings {
            max_batch: 1,
            prefix_cache: false,
            eager_encode: false,
            ..Settings::default()
        });
        let client = Client::new(&engine);
        let key = client.show(10);
        questions
            .iter()
            .map(|q| client.answer(client.ask(Some(key), &[], q, 40)))
            .collect()
    };
    assert!(
        alone
            .iter()
            .all(|a| a.finish.is_some() && a.usage.completion_tokens > 0)
    );
    let engine = start(Settings::default());
    let clients: Vec<Client> = questions.iter().map(|_| Client::new(&engine)).collect();
    let asked: Vec<RequestId> = clients
        .iter()
        .zip(questions)
        .map(|(client, question)| client.ask(Some(client.show(10)), &[], question, 40))
        .collect();
    for ((client, request), alone) in clients.iter().zip(asked).zip(&alone) {
        let answer = client.answer(request);
        assert_eq!(
            (answer.text, answer.ids),
            (alone.text.clone(), alone.ids.clone())
        );
        assert_eq!(answer.usage.prompt_tokens, alone.usage.prompt_tokens);
    }
    assert_eq!(engine.open_requests(), 0);
}

/// Sixteen long answers at once where the cache holds the longest conversation and little more: those that make room for others,
/// and come back from the host's memory, are what they are alone.
#[test]
fn answers_that_make_room_are_the_same_to_the_letter() {
    let questions: Vec<String> = (0..16).map(|n| format!("question {n}")).collect();
    let ask = |client: &Client, n: usize| {
        let key = n.is_multiple_of(2).then(|| client.show(10 + n as u8));
        client.ask(key, &[], &questions[n], 150)
    };
    let one = start(Settings {
        max_batch: 1,
        ..Settings::default()
    });
    let alone: Vec<Answer> = (0..16)
        .map(|n| {
            let client = Client::new(&one);
            client.answer(ask(&client, n))
        })
        .collect();
    let copied = Arc::new(AtomicUsize::new(0));
    let counter = copied.clone();
    let hook: Hook = Box::new(move |what, _| {
        counter.fetch_add(usize::from(what == "in"), Ordering::Relaxed);
        Ok(())
    });
    let settings = Settings {
        max_batch: 16,
        cache_bytes: Some(0),
        ..Settings::default()
    };
    let engine = start_several(settings, vec![hook]);
    let clients: Vec<Client> = (0..16).map(|_| Client::new(&engine)).collect();
    let asked: Vec<RequestId> = (0..16).map(|n| ask(&clients[n], n)).collect();
    for (n, request) in asked.into_iter().enumerate() {
        let answer = clients[n].answer(request);
        assert_eq!(answer.error, None);
        assert_eq!(answer.ids, alone[n].ids, "question {n}");
    }
    assert!(copied.load(Ordering::Relaxed) > 0, "nobody made room");
}

#[test]
fn a_conversation_from_the_cache_is_the_one_sent_whole() {
    let engine = start(Settings::default());
    let (client, fresh) = (Client::new(&engine), Client::new(&engine));
    let key = client.show(77);
    assert!(!client.encoded());
    let mut history: Vec<Turn> = Vec::new();
    let mut cached_before = 0;
    for round in 0..6 {
        let question = format!("question {round}");
        let answer = client.answer(client.ask(Some(key), &history, &question, 12));
        // All but what is new came from the cache: the picture at first, then the whole conversation.
        assert!(
            answer.usage.cached_tokens > cached_before,
            "round {round}: {:?}",
            answer.usage
        );
        assert!(answer.usage.prompt_tokens - answer.usage.cached_tokens <= 24);
        cached_before = answer.usage.cached_tokens;
        history.push(Turn {
            question,
            answer: answer.text.clone(),
            answer_ids: Some(answer.ids.clone()),
        });
    }
    let (last, earlier) = history.split_last().unwrap();
    let whole = fresh.answer(fresh.ask(Some(fresh.show(77)), earlier, &last.question, 12));
    assert_eq!(Some(whole.ids), last.answer_ids);
    // Another branch of the same conversation, and then the first again.
    let other = client.answer(client.ask(Some(key), &history[..2], "something else", 12));
    assert!(other.usage.cached_tokens > 0);
    let again = client.answer(client.ask(Some(key), earlier, &last.question, 12));
    assert_eq!(Some(again.ids), last.answer_ids);
}

#[test]
fn what_was_dropped_is_computed_again() {
    // The least cache there can be: every new picture drops an old one.
    let engine = start(Settings {
        cache_bytes: Some(0),
        max_batch: 1,
        ..Settings::default()
    });
    let client = Client::new(&engine);
    let keys: Vec<PictureKey> = (0..40).map(|i| client.show(i * 6)).collect();
    let first: Vec<Answer> = keys
        .iter()
        .map(|k| client.answer(client.ask(Some(*k), &[], "what?", 8)))
        .collect();
    for (key, first) in keys.iter().zip(&first) {
        let again = client.answer(client.ask(Some(*key), &[], "what?", 8));
        assert_eq!(again.ids, first.ids);
    }
}

#[test]
fn a_picture_is_looked_at_once_and_forgotten_on_demand() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let key = client.show(3);
    assert!(!client.encoded());
    client.show(3);
    assert!(client.encoded());
    client.forget(key);
    let answer = client.answer(client.ask(Some(key), &[], "what?", 4));
    assert_eq!(answer.error.unwrap().code, ErrorCode::ImageGone);
}

/// As with `--share-pictures`: both sessions hold the same one.
#[test]
fn a_shared_picture_stays_while_anyone_holds_it() {
    let engine = start(Settings::default());
    let (one, other) = (Client::new(&engine), Client::new(&engine));
    let key = PictureKey {
        session: None,
        sha256: [9; 32],
    };
    one.show_as(key, 9);
    assert!(!one.encoded());
    other.show_as(key, 9);
    assert!(other.encoded());
    let first = one.answer(one.ask(Some(key), &[], "what?", 4));
    assert_eq!(first.error, None);
    one.forget(key);
    let answer = other.answer(other.ask(Some(key), &[], "what?", 4));
    assert_eq!((answer.error, answer.ids), (None, first.ids));
    other.forget(key);
    let answer = other.answer(other.ask(Some(key), &[], "what?", 4));
    assert_eq!(answer.error.unwrap().code, ErrorCode::ImageGone);
}

#[test]
fn megabytes_of_history_are_refused_unread() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let turn = Turn {
        question: "word ".repeat(1 << 20),
        ..Turn::default()
    };
    let error = client.answer(client.ask(None, &[turn], "what?", 4));
    let error = error.error.unwrap();
    assert_eq!(error.code, ErrorCode::ContextFull);
    // By its bytes: what was read is told in positions.
    let bytes = (5 << 20) + "what?".len();
    assert!(
        error.message.contains(&format!("{bytes} bytes")),
        "{error:?}"
    );
}

#[test]
fn a_forgotten_conversation_is_computed_anew() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let first = client.answer(client.ask(None, &[], "what was it again?", 8));
    assert_eq!(first.usage.cached_tokens, 0);
    let again = client.answer(client.ask(None, &[], "what was it again?", 8));
    assert!(again.usage.cached_tokens > 0);
    let running = client.ask(None, &[], "what was it again?", 480);
    let mut cancelled = Answer::default();
    for event in client.forget_conversation() {
        cancelled.take(event, running);
    }
    assert_eq!(cancelled.finish, Some(FinishReason::Cancelled));
    let anew = client.answer(client.ask(None, &[], "what was it again?", 8));
    assert_eq!((anew.usage.cached_tokens, anew.ids), (0, first.ids));
}

#[test]
fn a_question_ends_where_it_must() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let answer = client.answer(client.ask(None, &[], "hello", 5));
    assert_eq!(
        (answer.finish, answer.usage.completion_tokens),
        (Some(FinishReason::Length), 5)
    );
    assert_eq!(answer.positions, [Some(0)]);

    // 512 positions: the answer ends with them, and the next question finds no room.
    let answer = client.answer(client.ask(None, &[], &"word ".repeat(90), 10_000));
    assert_eq!(answer.finish, Some(FinishReason::Length));
    assert_eq!(
        answer.usage.prompt_tokens + answer.usage.completion_tokens,
        512
    );
    let turn = Turn {
        question: "word ".repeat(90),
        answer: answer.text,
        answer_ids: Some(answer.ids),
    };
    let answer = client.answer(client.ask(None, &[turn], "more", 10));
    assert_eq!(answer.error.unwrap().code, ErrorCode::ContextFull);

    let late = RequestId::random();
    engine.send(Command::Ask(Box::new(Ask {
        left_ms: 0.0,
        ..client.question(late, "late", 400)
    })));
    assert_eq!(client.answer(late).finish, Some(FinishReason::Timeout));
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn cancelling_ends_waiting_and_running_questions() {
    let engine = start(Settings {
        max_batch: 1,
        ..Settings::default()
    });
    let client = Client::new(&engine);
    let are_cancelled = || {
        let running = client.ask(None, &[], "run", 480);
        let waiting = client.ask(None, &[], "wait", 480);
        while !matches!(client.next(), Event::Tokens { .. }) {}
        client.cancel(waiting);
        client.cancel(running);
        let (mut ends, mut started) = (Vec::new(), false);
        while ends.len() < 2 {
            match client.next() {
                Event::Done {
                    request,
                    finish_reason,
                    ..
                } => ends.push((request, finish_reason)),
                Event::Started { request, .. } => started |= request == waiting,
                _ => {}
            }
        }
        // This thread may get a core so late that the answer was whole by then.
        let in_time = !ends.contains(&(running, FinishReason::Length));
        if in_time {
            let all = ends
                .iter()
                .all(|(_, reason)| *reason == FinishReason::Cancelled);
            assert!(all && !started, "{ends:?}");
        }
        in_time
    };
    assert!((0..100).any(|_| are_cancelled()));
    let gone = Client::new(&engine);
    gone.ask(None, &[], "run", 480);
    gone.end();
    // The last that is told of it.
    gone.freed(Freed::Session);
    let next = client.answer(client.ask(None, &[], "next", 3));
    assert_eq!(next.finish, Some(FinishReason::Length));
    assert_eq!(engine.open_requests(), 0);
}

/// The queue is full of one client's questions: the newest of them gives way to another's.
#[test]
fn whoever_has_nothing_in_line_finds_a_place() {
    let engine = start(Settings {
        max_batch: 1,
        queue: 2,
        ..Settings::default()
    });
    let (mut greedy, small) = (Client::new(&engine), Client::new(&engine));
    // None of its answers ends meanwhile.
    greedy.credit = 0;
    let mut asked = vec![
        greedy.ask(None, &[], "more", 5),
        greedy.ask(None, &[], "more", 5),
        greedy.ask(None, &[], "more", 5),
    ];
    let refused = greedy.refused(greedy.ask(None, &[], "more", 5));
    assert_eq!(refused.code, ErrorCode::Busy);
    // Another session makes it no other client, but among its own it has a share.
    greedy.as_another_session();
    asked.push(greedy.ask(None, &[], "more", 5));
    let gave_way = greedy.answer(asked.remove(2)).error.unwrap();
    assert_eq!(gave_way.code, ErrorCode::Busy);
    let refused = greedy.refused(greedy.ask(None, &[], "more", 5));
    assert_eq!(refused.code, ErrorCode::Busy);
    let answer = small.answer(small.ask(None, &[], "one", 5));
    assert_eq!(answer.finish, Some(FinishReason::Length));
    let gave_way = greedy.answer(asked.remove(1)).error.unwrap();
    assert_eq!(gave_way.code, ErrorCode::Busy);
    assert!(gave_way.retry_after_ms.unwrap() > 0.0);
    for request in asked {
        greedy.grant(request, 100);
        assert!(greedy.answer(request).finish.is_some());
    }
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn pictures_are_looked_at_by_turns() {
    let (go, wait) = channel::<()>();
    let mut first = true;
    let hook = move |what: &str, _: &[u32]| {
        if what == "picture" && std::mem::take(&mut first) {
            // Until all are in line.
            let _ = wait.recv();
        }
        Ok(())
    };
    let engine = start_several(Settings::default(), vec![Box::new(hook)]);
    let (many, other) = (Client::new(&engine), Client::new(&engine));
    for shade in 0..8 {
        many.show(shade);
    }
    // Heard in the same place, so that the order is seen.
    many.hears(&other);
    let key = other.show(100);
    go.send(()).unwrap();
    let order: Vec<PictureKey> = (0..9)
        .map(|_| {
            loop {
                if let Event::Encoded { key, .. } = many.next() {
                    break key;
                }
            }
        })
        .collect();
    // The first was begun before the other came.
    let place = order.iter().position(|it| *it == key).unwrap();
    assert!(place <= 2, "the other's came {place} others later");
}

/// Where pictures are looked at for questions alone.
#[test]
fn a_picture_that_nobody_asks_about_any_more_is_not_looked_at() {
    let looked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (go, wait) = channel::<()>();
    let count = looked.clone();
    let mut first = true;
    let hook = move |what: &str, _: &[u32]| {
        if what == "answer" && std::mem::take(&mut first) {
            let _ = wait.recv();
        }
        if what == "picture" {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let settings = Settings {
        eager_encode: false,
        ..Settings::default()
    };
    let engine = start_several(settings, vec![Box::new(hook)]);
    let client = Client::new(&engine);
    let first = client.ask(None, &[], "first", 3);
    while !matches!(client.next(), Event::Started { .. }) {}
    let asked: Vec<RequestId> = (0..4)
        .map(|shade| client.ask(Some(client.show(shade)), &[], "what?", 3))
        .collect();
    for request in &asked {
        client.cancel(*request);
    }
    go.send(()).unwrap();
    for request in asked {
        assert_eq!(client.answer(request).finish, Some(FinishReason::Cancelled));
    }
    client.answer(first);
    client.answer(client.ask(None, &[], "last", 3));
    assert_eq!(looked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_full_queue_refuses_at_once_and_says_how_long_to_wait() {
    let engine = start(Settings {
        max_batch: 1,
        queue: 2,
        ..Settings::default()
    });
    let mut client = Client::new(&engine);
    // None ends before the queue is seen to be full.
    client.credit = 0;
    let asked: Vec<RequestId> = (0..3).map(|_| client.ask(None, &[], "q", 200)).collect();
    let refused = client.ask(None, &[], "one too many", 5);
    // What is told of the others before is for later.
    let mut last = Answer::default();
    let mut told = Answer::default();
    while !told.take(
        {
            let event = client.next();
            last.take(event.clone(), asked[2]);
            event
        },
        refused,
    ) {}
    let refused = told.error.unwrap();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.retry_after_ms.unwrap() > 0.0);
    for request in &asked {
        client.grant(*request, 1000);
    }
    while !last.take(client.next(), asked[2]) {}
    // Positions only fall, down to the next in line.
    let told: Vec<u64> = last.positions.into_iter().flatten().collect();
    assert!(told.windows(2).all(|w| w[0] > w[1]), "{told:?}");
    assert_eq!(told.last(), Some(&0));
    client.ask(None, &[], "now there is room", 5);
}

#[test]
fn an_unread_answer_pauses_and_goes_on_where_it_was() {
    let engine = start(Settings {
        max_batch: 1,
        ..Settings::default()
    });
    let expected = {
        let client = Client::new(&engine);
        client.answer(client.ask(None, &[], "long", 300))
    };
    let (mut slow, other) = (Client::new(&engine), Client::new(&engine));
    slow.credit = 3;
    let request = slow.ask(None, &[], "long", 300);
    let mut answer = Answer::default();
    while answer.ids.len() < 3 {
        assert!(!answer.take(slow.next(), request));
    }
    // Its slot is free for others meanwhile.
    assert_eq!(
        other.answer(other.ask(None, &[], "short", 5)).finish,
        Some(FinishReason::Length)
    );
    // Not one more was told.
    assert!(slow.events.try_recv().is_err());
    for granted in [1, 10] {
        slow.grant(request, granted);
        let before = answer.ids.len();
        while answer.ids.len() < before + granted as usize {
            assert!(!answer.take(slow.next(), request));
        }
    }
    slow.grant(request, 1000);
    while !answer.take(slow.next(), request) {}
    assert_eq!(answer.ids, expected.ids);
}

/// A session without a connection has its slot for as long as nobody else wants it.
#[test]
fn who_is_away_gives_way() {
    let engine = start(Settings {
        max_batch: 1,
        ..Settings::default()
    });
    let (away, here) = (Client::new(&engine), Client::new(&engine));
    // Heard in one place, so that the order is seen.
    here.hears(&away);
    away.is(Presence::Away);
    // On a busy machine the long answer may be over before the others are asked, and has to be asked for again.
    let mut tries = 0..20;
    let (first, queued, short, ends) = loop {
        assert!(tries.next().is_some(), "who is away never gave way");
        let first = away.ask(None, &[], "long", 400);
        while !matches!(here.next(), Event::Tokens { .. }) {}
        let (queued, short) = (away.ask(None, &[], "x", 5), here.ask(None, &[], "short", 5));
        let mut ends = Vec::new();
        while ends.len() < 3 {
            if let Event::Done { request, .. } = here.next() {
                ends.push(request);
            }
        }
        if ends[0] != first {
            break (first, queued, short, ends);
        }
    };
    assert_eq!(ends[0], short);
    assert!(ends.contains(&first) && ends.contains(&queued));
    // Back, it has its turn as everybody has.
    away.is(Presence::Here);
    let back = away.ask(None, &[], "short", 5);
    let other = here.ask(None, &[], "short", 400);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        if let Event::Done { request, .. } = here.next() {
            ends.push(request);
        }
    }
    assert_eq!(ends, [back, other]);
}

/// Wherever an answer was cut, another attempt goes on behind it, exactly as it would have gone on.
#[test]
fn an_answer_goes_on_from_any_cut() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let key = client.show(50);
    let sampled = |request, so_far: Vec<u32>, attempt| {
        let ask = client.question(request, "what is it?", 24);
        engine.send(Command::Ask(Box::new(Ask {
            pictures: vec![shown(key)],
            attempt,
            sampling: SamplingParams {
                temperature: 1.5,
                repetition_penalty: 1.2,
                seed: 99,
                ..ask.sampling.clone()
            },
            so_far,
            ..ask
        })));
    };
    let whole = RequestId::random();
    sampled(whole, vec![], 0);
    let whole = client.answer(whole);
    for cut in 0..=whole.ids.len() {
        let request = RequestId::random();
        sampled(request, whole.ids[..cut].to_vec(), 1);
        let rest = client.answer(request);
        assert_eq!(rest.error, None);
        assert_eq!(rest.ids, whole.ids[cut..], "cut at {cut}");
        assert_eq!(rest.first.unwrap_or(cut as u64), cut as u64);
        assert!(whole.text.ends_with(&rest.text), "cut at {cut}");
        assert_eq!(rest.finish, whole.finish);
        let tokens = |answer: &Answer| answer.usage.completion_tokens;
        assert_eq!(tokens(&rest), tokens(&whole));
    }
    assert_eq!(engine.open_requests(), 0);
}

/// Messages may come twice.
#[test]
fn a_question_that_comes_again_changes_nothing() {
    let engine = start(Settings {
        max_batch: 1,
        queue: 0,
        ..Settings::default()
    });
    let mut client = Client::new(&engine);
    client.credit = 2;
    let request = RequestId::random();
    let ask = |attempt| {
        engine.send(Command::Ask(Box::new(Ask {
            attempt,
            ..client.question(request, "what?", 8)
        })));
    };
    ask(1);
    let mut before = Answer::default();
    while before.ids.len() < 2 {
        assert!(!before.take(client.next(), request));
    }
    // The queue is full, with this one.
    ask(1);
    ask(0);
    assert_eq!(engine.open_requests(), 1);
    // A later attempt begins anew, and takes the place of the one that paused.
    ask(2);
    client.grant(request, 100);
    let mut ends = 0;
    let answer = loop {
        let mut answer = Answer::default();
        let event = client.next();
        if let Event::Started { attempt, .. } = event {
            assert_eq!(attempt, 2);
            while !answer.take(client.next(), request) {}
            ends += 1;
            break answer;
        }
    };
    assert_eq!((ends, answer.finish), (1, Some(FinishReason::Length)));
    assert_eq!(answer.ids[..2], before.ids);
    assert_eq!(engine.open_requests(), 0);
    client.forget(client.key(1));
    assert!(client.events.try_recv().is_err(), "nothing more is told");
}

#[test]
fn more_pictures_than_the_model_takes_are_refused() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let pictures = [1, 2].map(|shade| shown(client.show(shade)));
    let request = RequestId::random();
    engine.send(Command::Ask(Box::new(Ask {
        pictures: pictures.into(),
        ..client.question(request, "which?", 5)
    })));
    assert_eq!(client.refused(request).code, ErrorCode::BadMessage);
    assert_eq!(engine.open_requests(), 0);
}

/// Whatever a message says about time, it is one.
#[test]
fn times_that_make_no_sense_are_survived() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    for time in [f64::NAN, f64::INFINITY, f64::MAX, -1.0] {
        let request = RequestId::random();
        engine.send(Command::Ask(Box::new(Ask {
            waited_ms: time,
            left_ms: time,
            ..client.question(request, "hello", 3)
        })));
        assert!(client.answer(request).finish.is_some(), "{time}");
    }
}

#[test]
fn health_is_told_each_second() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    client.answer(client.ask(None, &[], "hello", 3));
    let since = Instant::now();
    let ready = loop {
        let ready: Vec<Health> = engine.health.lock().clone();
        let ready: Vec<_> = ready.into_iter().filter(|h| h.turn > 0).collect();
        if ready.len() > 2 {
            break ready;
        }
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    };
    let states: Vec<State> = engine.health.lock().iter().map(|h| h.state).collect();
    let before: Vec<_> = states.iter().take_while(|s| **s != State::Ready).collect();
    assert_eq!(before.last(), Some(&&State::Warming));
    let [one, .., other] = &ready[..] else {
        unreachable!()
    };
    assert!(other.turn > one.turn && other.token_ms > 0.0);
    assert!(other.pages > 0 && other.used_pages > 0 && other.open == 0);
    // The same weights have the same name.
    assert!(other.model.len() == 32 && one.model == other.model);
    let again = start(Settings::default());
    let model = |served: &Served| served.health.lock().last().unwrap().model.clone();
    assert_eq!(model(&again), other.model);
}

#[test]
fn the_stages_add_up() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let key = client.show(9);
    let answer = client.answer(client.ask(Some(key), &[], "what?", 60));
    let t = answer.timings;
    let sum = t.image_wait_ms + t.queue_ms + t.prefill_ms + t.decode_ms;
    assert!((sum - t.total_ms).abs() <= 0.05 * t.total_ms, "{t:?}");
    assert!(t.first_token_ms <= t.total_ms && t.first_token_ms >= t.image_wait_ms);
}

/// The least of a few tries: other threads of a busy machine come between.
fn least(tries: usize, time: impl Fn() -> f64) -> f64 {
    (0..tries).map(|_| time()).fold(f64::INFINITY, f64::min)
}

#[test]
fn nobody_waits_for_a_free_slot() {
    let engine = start(Settings {
        max_batch: 1,
        ..Settings::default()
    });
    let clients: Vec<Client> = (0..6).map(|_| Client::new(&engine)).collect();
    let idle = least(20, || {
        let asked: Vec<RequestId> = clients.iter().map(|c| c.ask(None, &[], "a", 3)).collect();
        let answers = clients.iter().zip(asked).map(|(c, r)| c.answer(r).timings);
        let timings: Vec<_> = answers.collect();
        let running = |t: &api::AnswerTimings| t.prefill_ms + t.decode_ms;
        let before: f64 = timings[..5].iter().map(running).sum();
        timings[5].queue_ms / before - 1.0
    });
    assert!(idle < 1.0, "{idle} of what six answers take, between them");
}

#[test]
fn nobody_waits_once_the_picture_is_there() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let shade = std::cell::Cell::new(0);
    let idle = least(20, || {
        shade.set(shade.get() + 1);
        let key = client.show(shade.get());
        let answer = client.answer(client.ask(Some(key), &[], "a", 3));
        let t = answer.timings;
        t.queue_ms / (t.prefill_ms + t.decode_ms)
    });
    assert!(idle < 1.0, "{idle} of an answer, between a picture and it");
}
