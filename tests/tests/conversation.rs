//! Conversations through the engine: from its caches they are, token for token, what the reference computes from scratch.

mod support;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use glimpse::checkpoint::{Checkpoint, folder};
use glimpse::config::{Device, Dtype};
use glimpse::device::Target;
use glimpse::engine::{AskJob, Engine, Event, EventSink, PictureJob, PictureKey, Settings};
use glimpse::image;
use glimpse::text::{Defaults, SamplingParams, Turn};
use parking_lot::Mutex;
use support::{Golden, checkpoints};
use wire::{FinishReason, State, Usage};

const PATIENCE: Duration = Duration::from_secs(60);

struct Sink(Mutex<Sender<Event>>);

impl EventSink for Sink {
    fn event(&self, event: Event) {
        // Nobody listens once the test is over.
        let _ = self.0.lock().send(event);
    }
}

struct Client {
    engine: Engine,
    session: u64,
    picture: PictureKey,
    sink: Arc<Sink>,
    events: Receiver<Event>,
}

struct Answer {
    ids: Vec<u32>,
    text: String,
    usage: Usage,
    finish: FinishReason,
}

fn start(golden: &Golden) -> Engine {
    let path = golden.folder.clone();
    let engine = Engine::start(Settings::default(), move || {
        let target = Target::choose(Device::Cpu, Dtype::F32)?;
        Ok((Checkpoint::open(&folder(&path))?, target))
    })
    .unwrap();
    let since = Instant::now();
    while engine.status().borrow().state != State::Ready {
        assert!(since.elapsed() < PATIENCE && engine.status().borrow().error.is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    engine
}

impl Client {
    /// A session that shows the checkpoint's picture.
    fn new(engine: &Engine, golden: &Golden) -> Self {
        let size = engine.status().borrow().model.image_size;
        let picture = image::load(&golden.picture(), size, &image::Options::default()).unwrap();
        let (sender, events) = channel();
        let session = engine.next_id();
        let client = Client {
            engine: engine.clone(),
            session,
            picture: PictureKey {
                scope: session,
                sha256: [1; 32],
            },
            sink: Arc::new(Sink(Mutex::new(sender))),
            events,
        };
        engine.picture(PictureJob {
            session,
            key: client.picture,
            pixels: Arc::new(picture.pixels),
            events: client.sink.clone(),
        });
        client
    }

    fn ask(&self, history: &[Turn], question: &str, max_new_tokens: u64) -> Answer {
        let greedy = Defaults::default().with(&wire::Sampling::default(), 1 << 20);
        let job = AskJob {
            session: self.session,
            request: self.engine.next_id(),
            picture: Some(self.picture),
            history: history.to_vec(),
            question: question.into(),
            sampling: SamplingParams {
                max_new_tokens,
                ..greedy.unwrap()
            },
            received: Instant::now(),
            deadline: Instant::now() + PATIENCE,
            events: self.sink.clone(),
        };
        self.engine.ask(job).unwrap();
        let mut text = String::new();
        loop {
            match self.events.recv_timeout(PATIENCE).unwrap() {
                Event::Token { text: piece, .. } => text += &piece,
                Event::Failed { error, .. } => panic!("{error}"),
                Event::Done {
                    finish_reason,
                    usage,
                    answer_ids,
                    ..
                } => {
                    return Answer {
                        ids: answer_ids,
                        text,
                        usage,
                        finish: finish_reason,
                    };
                }
                _ => {}
            }
        }
    }
}

#[test]
fn turns_from_the_cache_equal_the_reference_and_the_conversation_sent_whole() {
    for golden in checkpoints() {
        let engine = start(&golden);
        let client = Client::new(&engine, &golden);
        let mut history = Vec::new();
        for expected in &golden.conversation {
            let most = expected.answer_ids.len() as u64;
            let answer = client.ask(&history, &expected.question, most);
            assert_eq!(answer.ids, expected.answer_ids, "{}", golden.name());
            assert_eq!(
                answer.usage.prompt_tokens as usize,
                expected.position_ids.len()
            );
            assert!(history.is_empty() || answer.usage.cached_tokens > 0);

            let fresh = Client::new(&engine, &golden);
            let whole = fresh.ask(&history, &expected.question, most);
            assert_eq!(whole.ids, expected.answer_ids, "{}", golden.name());
            history.push(Turn {
                question: expected.question.clone(),
                answer: answer.text,
                answer_ids: Some(answer.ids),
            });
        }
    }
}

/// The end is `seq_length` positions, of which a picture takes three however many entries it fills.
#[test]
fn an_answer_ends_with_the_models_positions() {
    let golden = checkpoints()
        .into_iter()
        .find(|g| g.name() == "one-group-f32")
        .unwrap();
    let engine = start(&golden);
    let client = Client::new(&engine, &golden);
    let positions = 160;
    let entries = positions + golden.rows("vision").len() as u64 - 3;
    let questions = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|c| c.repeat(110));
    let ends = questions.iter().filter(|question| {
        let answer = client.ask(&[], question, 10_000);
        let filled = answer.usage.prompt_tokens + answer.usage.completion_tokens;
        match answer.finish {
            FinishReason::Length => assert_eq!(filled, entries),
            other => assert!(filled <= entries, "{other:?}"),
        }
        answer.finish == FinishReason::Length
    });
    assert!(ends.count() > 0, "every answer stopped of itself");
}
