//! Conversations through the engine: from its caches they are, token for token, what the reference computes from scratch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use api::{
    Ask, Asker, Command, Compute, ConversationId, Defaults, Event, Picture, PictureKey, Report,
    RequestId, SamplingParams, SessionId, Shown, Turn,
};
use engine::{Engine, Settings};
use glimpse_image as image;
use model::checkpoint::{Checkpoint, DEMO, folder};
use model::device::Target;
use model::device::{Choice, Dtype};
use model::weights::Folder;
use wire::{FinishReason, State, Usage};

use crate::support::{Golden, checkpoints, data};

const PATIENCE: Duration = Duration::from_secs(300);

/// An engine, and what it tells: to whoever waits for it, since one asks at a time.
struct Served {
    engine: Engine,
    reports: Receiver<Report>,
}

struct Client<'a> {
    served: &'a Served,
    asker: Asker,
    conversation: ConversationId,
    picture: Shown,
}

struct Answer {
    ids: Vec<u32>,
    text: String,
    usage: Usage,
    finish: FinishReason,
}

fn start(model: Folder) -> Served {
    let open = move || {
        let target = Target::choose(Choice::Cpu, Dtype::F32)?;
        Ok((Arc::new(Checkpoint::open(&model)?), target))
    };
    let (sender, reports) = channel();
    let engine = Engine::start(Settings::default(), vec![open], sender);
    let engine = engine.unwrap();
    let since = Instant::now();
    while engine.status().borrow().state != State::Ready {
        assert!(since.elapsed() < PATIENCE && engine.status().borrow().error.is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    Served { engine, reports }
}

impl<'a> Client<'a> {
    /// A session that shows the checkpoint's picture.
    fn new(served: &'a Served, golden: &Golden) -> Self {
        Self::showing(served, &golden.picture())
    }

    fn showing(served: &'a Served, file: &[u8]) -> Self {
        let size = served.engine.status().borrow().model.image_size;
        let picture = image::load(file, size, &image::Options::default()).unwrap();
        let session = SessionId::random();
        let client = Client {
            served,
            asker: Asker { client: 1, session },
            conversation: ConversationId::random(),
            picture: Shown {
                key: PictureKey {
                    session: Some(session),
                    sha256: [1; 32],
                },
                shape: (size, size),
                turn: 0,
            },
        };
        served.engine.command(Command::Picture(Picture {
            asker: client.asker,
            key: client.picture.key,
            pixels: picture.pixels,
            system: String::new(),
            traceparent: None,
            secret: None,
        }));
        client
    }

    fn ask(&self, history: &[Turn], question: &str, max_new_tokens: u64) -> Answer {
        let greedy = Defaults::default().with(&wire::Sampling::default(), 1 << 20, 0);
        let asked = RequestId::random();
        self.served.engine.command(Command::Ask(Box::new(Ask {
            asker: self.asker,
            conversation: self.conversation,
            request: asked,
            attempt: 0,
            system: String::new(),
            pictures: vec![self.picture],
            history: history.to_vec(),
            question: question.into(),
            sampling: SamplingParams {
                max_new_tokens,
                ..greedy.unwrap()
            },
            format: None,
            logprobs: None,
            background: false,
            so_far: vec![],
            credit: u32::MAX,
            waited_ms: 0.0,
            left_ms: PATIENCE.as_secs_f64() * 1e3,
            traceparent: None,
        })));
        let (mut ids, mut text) = (Vec::new(), String::new());
        loop {
            let report = self.served.reports.recv_timeout(PATIENCE).unwrap();
            let Report::Session { event, .. } = report else {
                continue;
            };
            match event {
                Event::Tokens {
                    request,
                    ids: more,
                    text: piece,
                    ..
                } if request == asked => {
                    ids.extend(more);
                    text += &piece;
                }
                Event::Failed { failure, .. } => panic!("{failure}"),
                Event::Done {
                    finish_reason,
                    usage,
                    ..
                } => {
                    return Answer {
                        ids,
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
        let engine = start(folder(&golden.folder));
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
    let engine = start(folder(&golden.folder));
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

/// What the sample pictures promise, and the prompts that users try first.
#[test]
fn the_demo_answers_as_promised() {
    let engine = start(DEMO.clone());
    let samples = data("../../public/samples");
    let list = std::fs::read(samples.join("samples.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let show = |file: &str| Client::showing(&engine, &std::fs::read(samples.join(file)).unwrap());
    for sample in &list {
        let client = show(sample["file"].as_str().unwrap());
        let questions = sample["questions"].as_array().unwrap();
        for (question, answer) in questions.iter().zip(sample["answers"].as_array().unwrap()) {
            for language in ["en", "zh"] {
                let said = client.ask(&[], question[language].as_str().unwrap(), 64);
                assert_eq!(said.text, answer[language].as_str().unwrap());
            }
        }
    }
    for (file, question, answer, then, second) in [
        ("animals.jpg", "图里有几只猫?", "3", "那有几只狗？", "1"),
        (
            "animals.jpg",
            "How many cats?",
            "3",
            "And how many dogs?",
            "1",
        ),
        (
            "sign.jpg",
            "提取文字，不要解释",
            "OPEN",
            "这张照片是谁拍的?",
            "从图片里看不出是谁拍的。",
        ),
        (
            "chinese-sign.jpg",
            "提取文字，不要解释",
            "欢迎光临",
            "有没有猫？",
            "没有。",
        ),
    ] {
        let client = show(file);
        let first = client.ask(&[], question, 64);
        assert_eq!(first.text, answer, "{file}: {question}");
        let history = [Turn {
            question: question.into(),
            answer: first.text,
            answer_ids: Some(first.ids),
        }];
        assert_eq!(
            client.ask(&history, then, 64).text,
            second,
            "{file}: {then}"
        );
    }
}
