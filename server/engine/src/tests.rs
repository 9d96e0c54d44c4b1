//! The engine with a real worker, on a tiny model with random weights: no socket, no card.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{
    Asker, ErrorCode, Event, EventSink, FinishReason, Pixels, SamplingParams, State, Turn, Usage,
};

use super::*;
use glimpse_image as image;
use model::device::{Choice, Dtype};

pub(super) const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn start(settings: Settings) -> Engine {
    start_with(settings, || {})
}

/// The same; `prepare` is called on the worker's thread.
pub(super) fn start_with(settings: Settings, prepare: impl FnOnce() + Send + 'static) -> Engine {
    start_several(settings, vec![prepare])
}

/// The same with as many workers.
pub(super) fn start_several(
    settings: Settings,
    prepares: Vec<impl FnOnce() + Send + 'static>,
) -> Engine {
    let opens = prepares.into_iter().map(|prepare| {
        move || {
            prepare();
            tiny()
        }
    });
    let engine = Engine::start(settings, opens.collect(), |_| Box::new(())).unwrap();
    let since = Instant::now();
    while engine.status().borrow().state != State::Ready {
        assert!(since.elapsed() < PATIENCE && engine.status().borrow().error.is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    engine
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
    pub session: u64,
    engine: Engine,
    pub sink: Arc<Sink>,
    events: Receiver<Event>,
}

/// Whether an event is of a kind.
type Kind = fn(&Event) -> bool;

pub(super) struct Sink {
    events: Mutex<Sender<Event>>,
    stalled: AtomicBool,
    away: AtomicBool,
    /// The next event of this kind panics.
    pub panics: Mutex<Option<Kind>>,
}

impl EventSink for Sink {
    fn event(&self, event: Event) {
        let struck = {
            let mut panics = self.panics.lock().unwrap();
            panics.is_some_and(|kind| kind(&event)) && panics.take().is_some()
        };
        assert!(!struck, "a fault, for the test");
        let _ = self.events.lock().unwrap().send(event);
    }

    fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    fn away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// What came of a question.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub text: String,
    pub ids: Vec<u32>,
    pub usage: Usage,
    timings: api::AnswerTimings,
    positions: Vec<Option<usize>>,
    pub finish: Option<FinishReason>,
    pub error: Option<Failure>,
}

impl Client {
    pub fn new(engine: &Engine) -> Self {
        let (sender, events) = channel();
        let sink = Sink {
            events: Mutex::new(sender),
            stalled: false.into(),
            away: false.into(),
            panics: Mutex::new(None),
        };
        let session = engine.next_id();
        Client {
            client: session.into(),
            session,
            engine: engine.clone(),
            sink: Arc::new(sink),
            events,
        }
    }

    fn asker(&self) -> Asker {
        Asker {
            client: self.client,
            session: self.session,
        }
    }

    /// A picture of one shade.
    pub fn show(&self, shade: u8) -> PictureKey {
        let key = PictureKey {
            scope: self.session,
            sha256: [shade; 32],
        };
        self.show_as(key, shade);
        key
    }

    pub fn show_as(&self, key: PictureKey, shade: u8) {
        self.engine.picture(PictureJob {
            asker: self.asker(),
            key,
            pixels: picture(shade),
            events: self.sink.clone(),
        });
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
    ) -> u64 {
        self.ask_until(picture, history, question, tokens, PATIENCE)
            .unwrap()
    }

    pub fn ask_until(
        &self,
        picture: Option<PictureKey>,
        history: &[Turn],
        question: &str,
        tokens: u64,
        deadline: Duration,
    ) -> Result<u64, Failure> {
        let request = self.engine.next_id();
        self.engine.ask(AskJob {
            asker: self.asker(),
            conversation: self.session,
            request,
            picture,
            history: history.to_vec(),
            question: question.into(),
            sampling: SamplingParams {
                max_new_tokens: tokens,
                ..greedy()
            },
            received: Instant::now(),
            deadline: Instant::now() + deadline,
            events: self.sink.clone(),
            open: Arc::new(()),
        })?;
        Ok(request)
    }

    /// Waits for the end of `request`; events of others are passed over.
    pub fn answer(&self, request: u64) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.next() {
                Event::Token { request: r, text } if r == request => answer.text += &text,
                Event::Queued {
                    request: r,
                    position,
                } if r == request => answer.positions.push(position),
                Event::Done {
                    request: r,
                    finish_reason,
                    usage,
                    timings,
                    answer_ids,
                } if r == request => {
                    answer.finish = Some(finish_reason);
                    answer.usage = usage;
                    answer.timings = timings;
                    answer.ids = answer_ids;
                    return answer;
                }
                Event::Failed { request: r, error } if r == request => {
                    answer.error = Some(error);
                    return answer;
                }
                _ => {}
            }
        }
    }
}

fn greedy() -> SamplingParams {
    api::Defaults::default()
        .with(&api::Sampling::default(), 1 << 20)
        .unwrap()
}

fn picture(shade: u8) -> Arc<Pixels> {
    // A 1×1 BMP of 24 bits.
    let mut bmp =
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bmp.resize(54, 0);
    bmp.extend([shade, shade / 2, 255 - shade, 0]);
    Arc::new(
        image::load(&bmp, 224, &image::Options::default())
            .unwrap()
            .pixels,
    )
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
    let asked: Vec<u64> = clients
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
    let (done, freed) = channel();
    engine.forget(
        client.session,
        key,
        Box::new(move || done.send(()).unwrap()),
    );
    freed.recv_timeout(PATIENCE).unwrap();
    let answer = client.answer(client.ask(Some(key), &[], "what?", 4));
    assert_eq!(answer.error.unwrap().code, ErrorCode::ImageGone);
}

/// As with `--share-pictures`: both sessions hold the same one.
#[test]
fn a_shared_picture_stays_while_anyone_holds_it() {
    let engine = start(Settings::default());
    let (one, other) = (Client::new(&engine), Client::new(&engine));
    let key = PictureKey {
        scope: 0,
        sha256: [9; 32],
    };
    one.show_as(key, 9);
    assert!(!one.encoded());
    other.show_as(key, 9);
    assert!(other.encoded());
    let first = one.answer(one.ask(Some(key), &[], "what?", 4));
    assert_eq!(first.error, None);
    let (done, freed) = channel();
    engine.forget(one.session, key, Box::new(move || done.send(()).unwrap()));
    freed.recv_timeout(PATIENCE).unwrap();
    let answer = other.answer(other.ask(Some(key), &[], "what?", 4));
    assert_eq!((answer.error, answer.ids), (None, first.ids));
    let (done, freed) = channel();
    engine.forget(other.session, key, Box::new(move || done.send(()).unwrap()));
    freed.recv_timeout(PATIENCE).unwrap();
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

/// Each client here has one conversation, which bears its session's number.
#[test]
fn a_forgotten_conversation_is_computed_anew() {
    let engine = start(Settings::default());
    let client = Client::new(&engine);
    let first = client.answer(client.ask(None, &[], "what was it again?", 8));
    assert_eq!(first.usage.cached_tokens, 0);
    let again = client.answer(client.ask(None, &[], "what was it again?", 8));
    assert!(again.usage.cached_tokens > 0);
    let running = client.ask(None, &[], "what was it again?", 480);
    let (done, freed) = channel();
    engine.forget_conversation(client.session, Box::new(move || done.send(()).unwrap()));
    freed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.answer(running).finish, Some(FinishReason::Cancelled));
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

    let request = client
        .ask_until(None, &[], "late", 400, Duration::ZERO)
        .unwrap();
    assert_eq!(client.answer(request).finish, Some(FinishReason::Timeout));
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn cancelling_ends_waiting_and_running_questions() {
    let engine = start(Settings {
        max_batch: 1,
        ..Settings::default()
    });
    let client = Client::new(&engine);
    let running = client.ask(None, &[], "run", 480);
    let waiting = client.ask(None, &[], "wait", 480);
    while !matches!(client.next(), Event::Token { .. }) {}
    engine.cancel(waiting);
    engine.cancel(running);
    let mut ended = 0;
    while ended < 2 {
        match client.next() {
            Event::Done { finish_reason, .. } => {
                assert_eq!(finish_reason, FinishReason::Cancelled);
                ended += 1;
            }
            Event::Started { request } => assert_ne!(request, waiting),
            _ => {}
        }
    }
    let gone = Client::new(&engine);
    gone.ask(None, &[], "run", 480);
    engine.end_session(gone.session);
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
    greedy.sink.stalled.store(true, Ordering::Relaxed);
    let mut asked = vec![
        greedy.ask(None, &[], "more", 5),
        greedy.ask(None, &[], "more", 5),
        greedy.ask(None, &[], "more", 5),
    ];
    let refused = greedy.ask_until(None, &[], "more", 5, PATIENCE);
    assert_eq!(refused.unwrap_err().code, ErrorCode::Busy);
    // Another session makes it no other client, but among its own it has a share.
    greedy.session = engine.next_id();
    asked.push(greedy.ask(None, &[], "more", 5));
    let gave_way = greedy.answer(asked.remove(2)).error.unwrap();
    assert_eq!(gave_way.code, ErrorCode::Busy);
    let refused = greedy.ask_until(None, &[], "more", 5, PATIENCE);
    assert_eq!(refused.unwrap_err().code, ErrorCode::Busy);
    let answer = small.answer(small.ask(None, &[], "one", 5));
    assert_eq!(answer.finish, Some(FinishReason::Length));
    let gave_way = greedy.answer(asked.remove(1)).error.unwrap();
    assert_eq!(gave_way.code, ErrorCode::Busy);
    assert!(gave_way.retry_after_ms.unwrap() > 0.0);
    greedy.sink.stalled.store(false, Ordering::Relaxed);
    for request in asked {
        assert!(greedy.answer(request).finish.is_some());
    }
    assert_eq!(engine.open_requests(), 0);
}

#[test]
fn pictures_are_looked_at_by_turns() {
    let (go, wait) = channel::<()>();
    let setup = move || {
        let first = std::cell::Cell::new(true);
        faults::install(Box::new(move |what, _| {
            if what == "picture" && first.replace(false) {
                // Until all are in line.
                let _ = wait.recv();
            }
            Ok(())
        }));
    };
    let engine = start_several(Settings::default(), vec![setup]);
    let (many, other) = (Client::new(&engine), Client::new(&engine));
    for shade in 0..8 {
        many.show(shade);
    }
    // Told to the same client, so that the order is seen.
    let key = PictureKey {
        scope: other.session,
        sha256: [100; 32],
    };
    engine.picture(PictureJob {
        asker: other.asker(),
        key,
        pixels: picture(100),
        events: many.sink.clone(),
    });
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
    let setup = move || {
        let first = std::cell::Cell::new(true);
        faults::install(Box::new(move |what, _| {
            if what == "answer" && first.replace(false) {
                let _ = wait.recv();
            }
            if what == "picture" {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }));
    };
    let settings = Settings {
        eager_encode: false,
        ..Settings::default()
    };
    let engine = start_several(settings, vec![setup]);
    let client = Client::new(&engine);
    let first = client.ask(None, &[], "first", 3);
    while !matches!(client.next(), Event::Started { .. }) {}
    let asked: Vec<u64> = (0..4)
        .map(|shade| client.ask(Some(client.show(shade)), &[], "what?", 3))
        .collect();
    for request in &asked {
        engine.cancel(*request);
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
    let client = Client::new(&engine);
    // None ends before the queue is seen to be full.
    client.sink.stalled.store(true, Ordering::Relaxed);
    let asked: Vec<u64> = (0..3).map(|_| client.ask(None, &[], "q", 200)).collect();
    let refused = client
        .ask_until(None, &[], "one too many", 5, PATIENCE)
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.retry_after_ms.unwrap() > 0.0);
    client.sink.stalled.store(false, Ordering::Relaxed);
    let last = client.answer(asked[2]);
    // Positions only fall, down to the next in line.
    let told: Vec<usize> = last.positions.into_iter().flatten().collect();
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
    let (slow, other) = (Client::new(&engine), Client::new(&engine));
    let request = slow.ask(None, &[], "long", 300);
    while !matches!(slow.next(), Event::Token { .. }) {}
    slow.sink.stalled.store(true, Ordering::Relaxed);
    // Its slot is free for others meanwhile.
    assert_eq!(
        other.answer(other.ask(None, &[], "short", 5)).finish,
        Some(FinishReason::Length)
    );
    slow.sink.stalled.store(false, Ordering::Relaxed);
    let answer = slow.answer(request);
    assert_eq!(answer.ids, expected.ids);
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
        let asked: Vec<u64> = clients.iter().map(|c| c.ask(None, &[], "a", 3)).collect();
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
