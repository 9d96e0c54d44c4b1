//! Sessions with an engine that the test itself plays.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use wire::{ErrorCode, FinishReason, Limits, Reason, frame};

use super::*;
use crate::config::LimitArgs;
use crate::engine::{AskJob, Command, Engine, JobError, PictureJob, Status};

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
    let (commands_in, commands) = channel();
    let (status, watch) = watch::channel(Status {
        state: wire::State::Ready,
        model: wire::Model {
            image_size: 8,
            ..wire::Model::default()
        },
        ..Status::default()
    });
    let mut limits = LimitArgs::default().wire().unwrap();
    change(&mut limits);
    let options = Options {
        share_pictures: false,
        image: crate::image::Options::default(),
        decode_threads: 1,
        decode_memory: 1 << 30,
        upload_memory: 1 << 30,
    };
    let engine = Engine::stand_in(commands_in, watch);
    let hub = Arc::new(Hub::new(Shared::new(engine, limits, options).unwrap()));
    let connection = hub.open(None).unwrap();
    let rig = Rig {
        hub,
        commands,
        connection,
        _status: status,
    };
    assert_eq!(rig.kinds(), ["welcome"]);
    rig
}

fn rig() -> Rig {
    rig_with(|_| {})
}

impl Rig {
    fn send(&self, message: Value) {
        self.connection
            .text(codec::decode(&message.to_string()), || Ok(()));
    }

    /// All that is there to be sent.
    fn take(&self) -> Vec<Value> {
        take(&self.connection)
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
        error: JobError::new(ErrorCode::WorkerFailed, "broken"),
    });
}

#[test]
fn a_question_may_come_before_its_picture() {
    let rig = rig();
    let file = picture(1);
    rig.send(json!({"type": "upload", "upload": 1, "bytes": file.len()}));
    rig.ask("a", json!({"upload": 1}));
    rig.connection.binary(&frame::encode(1, &file[..20]));
    let before = rig.take();
    assert_eq!(kind(&before[1]), "queued");
    assert_eq!(before[1]["position"], Value::Null);
    rig.no_command();
    rig.connection.binary(&frame::encode(1, &file[20..]));
    let look = rig.looked();
    let ask = rig.asked();
    assert_eq!(ask.picture, Some(look.key));
    assert_eq!(look.pixels.size(), 8);
    look.events.event(Event::Encoded {
        key: look.key,
        tokens: 3,
        timings: wire::EncodeTimings::default(),
        cached: false,
    });
    answer(&ask, FinishReason::Stop);
    let messages = rig.take();
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        [
            "upload_received",
            "image_ready",
            "image_encoded",
            "queued",
            "started",
            "token",
            "token",
            "done"
        ]
    );
    assert_eq!(messages[0]["sha256"], codec::to_hex(&Sha256::digest(&file)));
    assert_eq!(messages[1]["format"], "png");
    assert_eq!(
        (&messages[1]["width"], &messages[1]["height"]),
        (&json!(6), &json!(4))
    );
    assert_eq!(
        (&messages[5]["index"], &messages[6]["index"]),
        (&json!(0), &json!(1))
    );
    let events: Vec<_> = messages
        .iter()
        .map(|m| m["event"].as_u64().unwrap())
        .collect();
    assert_eq!(events, (2..10).collect::<Vec<_>>());
}

#[test]
fn history_is_what_was_said() {
    let rig = rig();
    let turns = |job: &AskJob| -> Vec<(String, String)> {
        job.history
            .iter()
            .map(|turn| (turn.question.clone(), turn.answer.clone()))
            .collect()
    };
    let said = |question: &str| (format!("{question}?"), "An answer".to_owned());
    let conversation = rig.answered("a", json!({}));
    let on = json!({"conversation": conversation});
    rig.ask("b", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a")]);
    assert_eq!(job.history[0].answer_ids, Some(vec![7, 8]));
    // Cancelled, timed out or cut off: it stays.
    answer(&job, FinishReason::Cancelled);
    rig.ask("c", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), said("b")]);
    // Failed: it never happened.
    failed(&job);
    rig.ask("d", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), said("b")]);
    failed(&job);
    // Given: it replaces what was, and keeps the tokens of what is unchanged.
    let mut edit = on.clone();
    edit["history"] = json!([
        {"question": "a?", "answer": "An answer"},
        {"question": "else", "answer": "other"}
    ]);
    rig.ask("e", edit);
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), ("else".into(), "other".into())]);
    assert_eq!(job.history[0].answer_ids, Some(vec![7, 8]));
    assert_eq!(job.history[1].answer_ids, None);
    failed(&job);
    // That failed too, so even the edit never happened.
    rig.ask("f", on.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), [said("a"), said("b")]);
    answer(&job, FinishReason::Length);
    let mut anew = on;
    anew["history"] = json!([]);
    rig.ask("g", anew.clone());
    let job = rig.asked();
    assert_eq!(turns(&job), []);
    answer(&job, FinishReason::Stop);
    anew["history"] = Value::Null;
    rig.ask("h", anew);
    assert_eq!(turns(&rig.asked()), [said("g")]);
}

#[test]
fn one_conversation_is_answered_in_order_and_others_beside_it() {
    let rig = rig();
    let conversation = rig.answered("a", json!({}));
    let on = json!({"conversation": conversation});
    for request in ["b", "c", "d"] {
        rig.ask(request, on.clone());
    }
    rig.ask("other", json!({}));
    let first = rig.asked();
    assert_eq!(first.question, "b?");
    let other = rig.asked();
    assert_eq!(other.question, "other?");
    rig.no_command();
    let positions: Vec<_> = rig
        .take()
        .iter()
        .map(|m| (m["request"].clone(), m["position"].clone()))
        .collect();
    assert_eq!(positions, [(json!("c"), json!(0)), (json!("d"), json!(1))]);
    rig.send(json!({"type": "cancel", "request": "c"}));
    let messages = rig.take();
    assert_eq!(messages[0]["finish_reason"], "cancelled");
    // The one behind it moves up.
    assert_eq!(
        (&messages[1]["request"], &messages[1]["position"]),
        (&json!("d"), &json!(0))
    );
    answer(&first, FinishReason::Stop);
    let last = rig.asked();
    assert_eq!(last.question, "d?");
    // In the order of asking, with what was said of it: nothing.
    assert_eq!(last.history[2].question, "c?");
    assert_eq!(last.history[2].answer, "");
}

#[test]
fn the_queue_is_told_when_it_falls() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    for position in [None, Some(3), Some(3), Some(4), Some(1), Some(0)] {
        job.events.event(Event::Queued {
            request: job.request,
            position,
        });
    }
    let told: Vec<_> = rig.take().iter().map(|m| m["position"].clone()).collect();
    assert_eq!(told, [Value::Null, json!(3), json!(1), json!(0)]);
}

#[test]
fn what_cannot_be_asked() {
    let rig = rig_with(|limits| {
        limits.open_requests = 2;
        limits.text_chars = 10;
    });
    let image = rig.image(1);
    let other = rig.image(2);
    let conversation = rig.answered("a", json!({"image": image}));
    for (request, more, code) in [
        ("r1", json!({"text": " \n"}), ErrorCode::EmptyText),
        ("r2", json!({"text": "12345678901"}), ErrorCode::TextTooLong),
        ("r3", json!({"image": "img_x"}), ErrorCode::UnknownImage),
        ("r4", json!({"upload": 9}), ErrorCode::UnknownUpload),
        (
            "r5",
            json!({"conversation": "conv_x"}),
            ErrorCode::UnknownConversation,
        ),
        (
            "r6",
            json!({"conversation": conversation, "image": other}),
            ErrorCode::ConversationHasImage,
        ),
        (
            "r7",
            json!({"conversation": conversation, "upload": 2}),
            ErrorCode::ConversationHasImage,
        ),
        (
            "r8",
            json!({"sampling": {"temperature": -0.1}}),
            ErrorCode::BadSampling,
        ),
        (
            "r9",
            json!({"sampling": {"max_new_tokens": 1_000_000}}),
            ErrorCode::BadSampling,
        ),
    ] {
        rig.ask(request, more);
        assert_eq!(rig.refused(code)["request"], request);
    }
    // The same picture, under whatever name, is tolerated. Chinese counts by characters.
    rig.answered(
        "b",
        json!({"conversation": conversation, "upload": 1, "text": "图里有几只猫呢朋友？"}),
    );
    rig.answered("c", json!({"conversation": conversation, "image": image}));
    rig.ask("d", json!({}));
    rig.ask("e", json!({}));
    rig.ask("f", json!({}));
    let busy = rig.refused(ErrorCode::Busy);
    assert_eq!(busy["request"], "f");
    assert!(busy["retry_after_ms"].is_number());
    let (first, _second) = (rig.asked(), rig.asked());
    answer(&first, FinishReason::Stop);
    rig.take();
    // So it may be tried again under the same id.
    rig.answered("f", json!({}));
}

#[test]
fn a_request_is_asked_once() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.ask("a", json!({}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.ask("a", json!({"text": "something else"}));
    // Without the id: the first goes on.
    assert_eq!(
        rig.refused(ErrorCode::DuplicateRequest).get("request"),
        None
    );
    rig.no_command();
    answer(&job, FinishReason::Stop);
    rig.take();
    rig.ask("a", json!({}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.no_command();
}

#[test]
fn a_bad_picture_fails_each_question_that_waits_for_it() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    rig.ask("b", json!({"upload": 1}));
    rig.take();
    rig.connection.binary(&frame::encode(1, b"hello"));
    let end = Instant::now() + Duration::from_secs(10);
    let mut messages = vec![];
    while messages.len() < 4 && Instant::now() < end {
        messages.extend(rig.take());
    }
    assert_eq!(kind(&messages[0]), "upload_received");
    for message in &messages[1..] {
        assert_eq!(message["code"], "image_unsupported");
    }
    assert_eq!(messages[1]["image"], messages[0]["image"]);
    let mut requests: Vec<_> = messages[2..]
        .iter()
        .map(|m| m["request"].as_str().unwrap())
        .collect();
    requests.sort_unstable();
    assert_eq!(requests, ["a", "b"]);
    rig.ask("c", json!({"upload": 1}));
    rig.refused(ErrorCode::ImageUnsupported);
    rig.no_command();
}

#[test]
fn a_cancelled_upload_fails_its_questions() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    rig.take();
    rig.send(json!({"type": "cancel", "upload": 1}));
    let messages = rig.take();
    let codes: Vec<_> = messages
        .iter()
        .map(|m| m["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["upload_cancelled", "upload_cancelled"]);
    assert_eq!(
        (&messages[0]["upload"], &messages[1]["request"]),
        (&json!(1), &json!("a"))
    );
    rig.connection.binary(&frame::encode(1, b"late"));
    rig.send(json!({"type": "cancel", "upload": 1}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.send(json!({"type": "cancel", "upload": 2}));
    rig.refused(ErrorCode::UnknownUpload);
}

#[test]
fn cancelling_reaches_the_engine_after_the_question() {
    let rig = rig();
    rig.ask("a", json!({}));
    rig.send(json!({"type": "cancel", "request": "a"}));
    rig.send(json!({"type": "cancel", "request": "unknown"}));
    let job = rig.asked();
    assert!(matches!(rig.command(), Command::Cancel { request } if request == job.request));
    rig.no_command();
    assert_eq!(rig.kinds(), Vec::<String>::new());
}

#[test]
fn a_picture_is_forgotten_when_it_is_freed() {
    let rig = rig();
    let image = rig.image(1);
    rig.ask("a", json!({"image": image}));
    let job = rig.asked();
    rig.send(json!({"type": "forget", "image": image}));
    assert!(matches!(rig.command(), Command::Cancel { request } if request == job.request));
    let Command::Forget { done, .. } = rig.command() else {
        panic!("the picture must be forgotten")
    };
    assert_eq!(rig.kinds(), Vec::<String>::new());
    answer(&job, FinishReason::Cancelled);
    assert_eq!(rig.kinds().last().unwrap(), "done");
    done();
    let forgotten = rig.only();
    assert_eq!(
        (&forgotten["type"], &forgotten["image"]),
        (&json!("forgotten"), &json!(image))
    );
    rig.ask("b", json!({"image": image}));
    rig.refused(ErrorCode::ImageGone);
    rig.send(json!({"type": "forget", "image": "img_x"}));
    rig.refused(ErrorCode::UnknownImage);
    // Sent again, it is a new picture.
    assert_ne!(rig.image_again(2, 1), image);
}

impl Rig {
    fn image_again(&self, number: u32, shade: u8) -> String {
        self.upload(number, &picture(shade));
        self.looked();
        self.take()[1]["image"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_conversation_is_forgotten_when_its_answers_are_over() {
    let rig = rig();
    let conversation = rig.answered("a", json!({}));
    let on = json!({"conversation": conversation});
    rig.ask("b", on.clone());
    rig.ask("c", on.clone());
    let job = rig.asked();
    rig.take();
    rig.send(json!({"type": "forget", "conversation": conversation}));
    assert_eq!(rig.kinds(), ["done"]);
    assert!(matches!(rig.command(), Command::Cancel { .. }));
    answer(&job, FinishReason::Cancelled);
    let kinds = rig.kinds();
    assert_eq!(kinds[kinds.len() - 2..], ["done", "forgotten"]);
    rig.ask("d", on);
    rig.refused(ErrorCode::UnknownConversation);
}

#[test]
fn the_picture_used_longest_ago_goes() {
    let rig = rig_with(|limits| limits.images = 2);
    let (first, second) = (rig.image(1), rig.image(2));
    rig.answered("a", json!({"image": first}));
    rig.upload(3, &picture(3));
    assert!(matches!(rig.command(), Command::Forget { .. }));
    rig.looked();
    rig.take();
    rig.ask("b", json!({"image": second}));
    rig.refused(ErrorCode::ImageGone);
    rig.answered("c", json!({"image": first}));
}

#[test]
fn a_known_picture_is_not_sent_again() {
    let rig = rig();
    let image = rig.image(1);
    let sha256 = codec::to_hex(&Sha256::digest(picture(1)));
    rig.send(json!({"type": "upload", "upload": 2, "bytes": 1, "sha256": sha256}));
    let messages = rig.take();
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        ["upload_received", "image_ready"]
    );
    assert!(
        messages
            .iter()
            .all(|m| m["image"] == image.as_str() && m["cached"] == true)
    );
    // Without its hash it is noticed at its end.
    rig.upload(3, &picture(1));
    assert_eq!(
        rig.kinds(),
        ["upload_accepted", "upload_received", "image_ready"]
    );
    rig.no_command();
    rig.answered("a", json!({"upload": 3}));
}

#[test]
fn no_word_is_lost_with_the_connection() {
    let mut rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    job.events.event(Event::Started {
        request: job.request,
    });
    job.events.event(Event::Token {
        request: job.request,
        text: "one ".into(),
    });
    assert_eq!(rig.kinds(), ["started", "token"]);
    assert!(!job.events.away());
    rig.connection.detach();
    assert!(job.events.away() && !job.events.stalled());
    job.events.event(Event::Token {
        request: job.request,
        text: "two".into(),
    });
    let back = rig.resume(1).unwrap();
    let messages = take(&back);
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        ["welcome", "token", "token"]
    );
    assert_eq!(messages[0]["resumed"], true);
    assert_eq!(
        (&messages[1]["event"], &messages[2]["event"]),
        (&json!(2), &json!(3))
    );
    assert!(!job.events.away());
    // Taken over: the old connection neither hears nor is heard.
    let second = rig.resume(3).unwrap();
    assert!(matches!(back.next(), Outgoing::TakenOver));
    back.text(
        codec::decode(r#"{"type":"ask","request":"b","text":"?"}"#),
        || Ok(()),
    );
    back.detach();
    assert!(!job.events.away());
    rig.no_command();
    assert_eq!(take(&second).len(), 1);
    rig.connection = second;
    assert!(matches!(rig.resume(99), Err(Reason::Gap)));
    rig.send(json!({"type": "ack", "event": 3}));
    assert!(matches!(rig.resume(2), Err(Reason::Gap)));
    assert!(matches!(rig.resume(3), Err(Reason::Unknown)));
}

#[test]
fn resuming_takes_the_id_and_the_key() {
    let rig = rig();
    let resume = |session: &str, owner| {
        let session = session.to_owned();
        rig.hub
            .resume(
                &wire::Resume {
                    session,
                    last_event: 0,
                },
                owner,
            )
            .err()
    };
    assert_eq!(
        resume("0123456789abcdef0123456789abcdef", None),
        Some(Reason::Unknown)
    );
    assert_eq!(resume(rig.connection.id(), Some(1)), Some(Reason::Unknown));
    assert_eq!(resume(rig.connection.id(), None), None);
    assert_eq!(rig.connection.id().len(), 32);
    assert!(!rig.connection.id().contains(rig.connection.tag()));
}

#[test]
fn a_lonely_session_expires() {
    let rig = rig();
    let patience = Duration::from_secs(300);
    rig.hub.tick(Instant::now() + 2 * patience);
    assert_eq!(rig.hub.count(), (1, 1));
    rig.connection.detach();
    rig.hub.tick(Instant::now() + patience / 2);
    assert_eq!(rig.hub.count(), (1, 0));
    rig.hub.tick(Instant::now() + 2 * patience);
    assert_eq!(rig.hub.count(), (0, 0));
    assert!(matches!(rig.command(), Command::EndSession { .. }));
    assert!(matches!(rig.resume(0), Err(Reason::Expired)));
}

#[test]
fn an_ended_session_hears_nothing_more() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.upload(1, b"12");
    rig.hub.close(&rig.connection);
    assert!(matches!(rig.connection.next(), Outgoing::Ended));
    answer(&job, FinishReason::Stop);
    rig.send(json!({"type": "ping"}));
    rig.connection.detach();
    assert!(job.events.away());
    assert!(matches!(rig.command(), Command::EndSession { .. }));
    assert!(matches!(rig.resume(0), Err(Reason::Unknown)));
}

#[test]
fn a_slow_reader_stalls_its_answers_and_then_its_connection() {
    let rig = rig_with(|limits| {
        limits.outbox_bytes = 10_000;
        limits.replay_bytes = 20_000;
    });
    rig.ask("a", json!({}));
    let job = rig.asked();
    let token = |count: usize| {
        for _ in 0..count {
            job.events.event(Event::Token {
                request: job.request,
                text: "x".repeat(100),
            });
        }
    };
    token(60);
    assert!(job.events.stalled() && rig.connection.is_full());
    rig.take();
    assert!(!job.events.stalled() && !rig.connection.is_full());
    token(200);
    assert!(matches!(rig.connection.next(), Outgoing::TooSlow));
}

#[test]
fn an_upload_goes_on_after_a_resume() {
    let mut rig = rig();
    let file = picture(1);
    let announce = json!({"type": "upload", "upload": 1, "bytes": file.len()});
    rig.send(announce.clone());
    rig.connection.binary(&frame::encode(1, &file[..30]));
    rig.connection.detach();
    // Nobody can send meanwhile, so it does not grow old.
    rig.hub.tick(Instant::now() + Duration::from_secs(200));
    rig.connection = rig.resume(0).unwrap();
    rig.send(announce.clone());
    let messages = rig.take();
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        ["welcome", "upload_accepted"]
    );
    assert_eq!(messages[1]["received"], 30);
    rig.connection.binary(&frame::encode(1, &file[30..]));
    rig.looked();
    assert_eq!(rig.kinds(), ["upload_received", "image_ready"]);
    // It is over: the same announcement learns that nothing is left to send, another is refused and ends nothing.
    rig.send(announce);
    assert_eq!(rig.only()["received"], file.len());
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 3}));
    assert_eq!(rig.refused(ErrorCode::UploadNumberUsed).get("upload"), None);
}

#[test]
fn idle_uploads_and_waiting_questions_time_out() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    rig.take();
    rig.hub.tick(Instant::now() + Duration::from_secs(31));
    let codes: Vec<_> = rig.take().iter().map(|m| m["code"].clone()).collect();
    assert_eq!(codes, ["upload_timeout", "upload_timeout"]);

    rig.ask("b", json!({}));
    let conversation = {
        let job = rig.asked();
        job.events.event(Event::Queued {
            request: job.request,
            position: Some(0),
        });
        rig.only()["conversation"].clone()
    };
    rig.ask("c", json!({"conversation": conversation}));
    rig.take();
    rig.hub.tick(Instant::now() + Duration::from_secs(601));
    let done = rig.only();
    assert_eq!(
        (&done["request"], &done["finish_reason"]),
        (&json!("c"), &json!("timeout"))
    );
}

#[test]
fn messages_that_are_refused_end_nothing_else() {
    let rig = rig();
    rig.ask("a", json!({}));
    rig.asked();
    rig.connection
        .text(codec::decode(r#"{"type":"ask","request":"a"}"#), || Ok(()));
    assert_eq!(rig.refused(ErrorCode::BadMessage).get("request"), None);
    rig.connection
        .text(codec::decode(r#"{"type":"ask","request":"b"}"#), || Ok(()));
    assert_eq!(rig.refused(ErrorCode::BadMessage)["request"], "b");
    rig.connection.text(
        codec::decode(r#"{"type":"upload","upload":4,"bytes":-1}"#),
        || Ok(()),
    );
    assert_eq!(rig.refused(ErrorCode::BadMessage)["upload"], 4);
    // Its frames are on their way already.
    rig.connection.binary(&frame::encode(4, b"x"));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.connection
        .text(codec::decode(r#"{"type":"hello"}"#), || Ok(()));
    rig.refused(ErrorCode::HelloLate);
    rig.send(json!({"type": "ack", "event": 1000}));
    rig.refused(ErrorCode::BadMessage);
    rig.send(json!({"type": "ping", "t": [1, "x"]}));
    let pong = rig.only();
    assert_eq!((&pong["t"], pong.get("event")), (&json!([1, "x"]), None));
}

#[test]
fn nothing_is_taken_while_the_server_drains() {
    let rig = rig();
    rig.ask("a", json!({}));
    let job = rig.asked();
    rig.hub.shared.set_phase(Phase::Draining);
    rig.ask("b", json!({}));
    let refusal = rig.refused(ErrorCode::Draining);
    assert!(refusal["retry_after_ms"].is_number());
    answer(&job, FinishReason::Stop);
    assert_eq!(rig.kinds().last().unwrap(), "done");
}
