//! What every version wrote stays readable: `fixtures/v1` is what version 1 wrote, and is never written again.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

fn asker() -> Asker {
    Asker {
        client: 1 << 100 | 7,
        session: SessionId::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    }
}

fn key() -> PictureKey {
    PictureKey {
        session: Some(asker().session),
        sha256: std::array::from_fn(|i| i as u8),
    }
}

const REQUEST: RequestId = RequestId::new(u128::MAX - 1);
const CONVERSATION: ConversationId = ConversationId::new(5);

fn commands() -> Vec<(&'static str, Command)> {
    let session = asker().session;
    let pixels: Vec<u8> = (0..12).collect();
    let ask = Ask {
        asker: asker(),
        conversation: CONVERSATION,
        request: REQUEST,
        attempt: 2,
        pictures: vec![Shown {
            key: key(),
            shape: (1120, 1120),
            turn: 1,
        }],
        system: String::new(),
        history: vec![Turn {
            question: "Was ist das?".into(),
            answer: "\n一只猫 🐈".into(),
            answer_ids: Some(vec![198, 151_336]),
        }],
        question: "And now?".into(),
        sampling: SamplingParams {
            temperature: 0.8,
            top_p: 0.9,
            top_k: 50,
            repetition_penalty: 1.1,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Default::default(),
            max_new_tokens: 256,
            seed: MAX_INTEGER,
            stop: vec!["\n\n".into()],
        },
        format: None,
        logprobs: None,
        background: false,
        so_far: vec![198, 64, 70_000],
        credit: 32,
        waited_ms: 1.25,
        left_ms: 600_000.0,
        traceparent: None,
    };
    let ask_traced = Ask {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..ask.clone()
    };
    let schema = json!({ "type": "object", "properties": { "b": {}, "a": { "maximum": 1.5 } } });
    let formatted = Ask {
        system: "Answer in JSON.".into(),
        sampling: SamplingParams {
            presence_penalty: 0.5,
            frequency_penalty: -2.0,
            logit_bias: [(7, -100.0), (151_551, 0.5)].into(),
            ..ask.sampling.clone()
        },
        format: Some(AnswerFormat::JsonSchema { schema }),
        logprobs: Some(2),
        ..ask.clone()
    };
    let picture = Picture {
        asker: asker(),
        key: key(),
        pixels: Pixels::new(2, pixels),
        system: String::new(),
        secret: None,
        traceparent: None,
    };
    let behind_system = Picture {
        system: "Answer in JSON.".into(),
        ..picture.clone()
    };
    let traced_picture = Picture {
        traceparent: ask_traced.traceparent.clone(),
        ..picture.clone()
    };
    vec![
        ("picture", Command::Picture(picture)),
        ("picture_behind_system", Command::Picture(behind_system)),
        ("picture_traced", Command::Picture(traced_picture)),
        ("ask", Command::Ask(Box::new(ask))),
        ("ask_formatted", Command::Ask(Box::new(formatted))),
        ("ask_traced", Command::Ask(Box::new(ask_traced))),
        (
            "credit",
            Command::Credit {
                session,
                request: REQUEST,
                events: 16,
            },
        ),
        (
            "presence",
            Command::Presence {
                session,
                presence: Presence::Away,
            },
        ),
        (
            "cancel",
            Command::Cancel {
                session,
                request: REQUEST,
            },
        ),
        (
            "forget",
            Command::Forget {
                session,
                picture: PictureKey {
                    session: None,
                    ..key()
                },
            },
        ),
        (
            "forget_conversation",
            Command::ForgetConversation {
                session,
                conversation: CONVERSATION,
            },
        ),
        ("end_session", Command::EndSession { session }),
    ]
}

fn reports() -> Vec<(&'static str, Report)> {
    let (request, attempt) = (REQUEST, 2);
    let failure = Failure::new(ErrorCode::Busy, "Later.")
        .retry_after(250.0)
        .detail("for the log");
    let events = [
        (
            "encoded",
            Event::Encoded {
                key: key(),
                tokens: 1602,
                timings: EncodeTimings {
                    queue_ms: 0.5,
                    vision_ms: 115.0,
                    prefill_ms: 44.0,
                },
                cached: false,
            },
        ),
        (
            "picture_failed",
            Event::PictureFailed {
                key: key(),
                failure: Failure::new(ErrorCode::OutOfMemory, "No."),
            },
        ),
        (
            "queued",
            Event::Queued {
                request,
                attempt,
                position: None,
            },
        ),
        ("started", Event::Started { request, attempt }),
        (
            "tokens",
            Event::Tokens {
                request,
                attempt,
                first: 3,
                ids: vec![9, 151_329],
                text: "猫".into(),
                logprobs: Vec::new(),
            },
        ),
        (
            "tokens_scored",
            Event::Tokens {
                request,
                attempt,
                first: 0,
                ids: vec![9],
                text: String::new(),
                logprobs: vec![TokenLogprob {
                    id: 9,
                    bytes: vec![0xe7],
                    logprob: -0.5,
                    top: vec![TopLogprob {
                        id: 8,
                        bytes: vec![b'a'],
                        logprob: -0.25,
                    }],
                }],
            },
        ),
        (
            "done",
            Event::Done {
                request,
                attempt,
                finish_reason: FinishReason::Length,
                usage: Usage {
                    prompt_tokens: 1620,
                    image_tokens: 1602,
                    cached_tokens: 1605,
                    completion_tokens: 20,
                },
                timings: AnswerTimings {
                    prefill_ms: 9.0,
                    total_ms: 120.5,
                    ..AnswerTimings::default()
                },
            },
        ),
        (
            "failed",
            Event::Failed {
                request,
                attempt,
                failure,
            },
        ),
        (
            "moved",
            Event::Moved {
                request,
                attempt,
                so_far: 12,
            },
        ),
        ("freed_picture", Event::Freed(Freed::Picture(key()))),
        (
            "freed_conversation",
            Event::Freed(Freed::Conversation(CONVERSATION)),
        ),
        ("freed_session", Event::Freed(Freed::Session)),
    ];
    let session = asker().session;
    let health = Health {
        worker: 1,
        state: State::Ready,
        model: "0123abcd".into(),
        open: 2,
        pages: 400,
        used_pages: 60,
        turn: 1 << 40,
        token_ms: 4.86,
        longest_turn_ms: 0.0,
    };
    let events = events.map(|(name, event)| (name, Report::Session { session, event }));
    let mut reports = Vec::from(events);
    reports.push(("health", Report::Health(health)));
    let measured = |measured| Report::Measured {
        worker: 1,
        measured,
    };
    let gauges = Gauges {
        waiting: 3,
        running: 2,
        cache_used: 1 << 20,
        cache_size: 1 << 30,
        memory_used: 0,
        memory_size: 0,
    };
    let pass = Pass {
        ms: 4.5,
        slots: 2,
        decode: true,
    };
    let passes = Passes {
        count: 9,
        ms: 40.5,
        slots: 17,
    };
    let counted = Counted {
        decode: passes,
        prompt: Passes::default(),
    };
    let fleet = Fleet {
        workers: vec![FleetWorker {
            name: "gpu-3-1f2e".into(),
            standing: WorkerStanding::Draining,
            sessions: 7,
            devices: vec![Health::default()],
            gauges: vec![(0, gauges)],
            passes: vec![(0, counted)],
        }],
        waiting: 2,
        running: 3,
        longest_wait_ms: 1500.0,
        pictures: Some((1 << 20, 4 << 30)),
    };
    reports.push(("fleet", Report::Fleet(Box::new(fleet))));
    reports.push(("gauges", measured(Measured::Gauges(gauges))));
    reports.push(("pass", measured(Measured::Pass(pass))));
    reports
}

/// With GLIMPSE_WRITE_FIXTURES=1 what has no fixture yet gets one; those that are there stay as they are.
fn fixture<T: Serialize>(name: &str, message: &T) -> Vec<u8> {
    let path = folder().join(format!("{name}.msgpack"));
    if !path.exists() && std::env::var_os("GLIMPSE_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, encode(message).unwrap()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[track_caller]
fn assert_reads<T>(messages: Vec<(&str, T)>)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    for (name, message) in messages {
        assert_eq!(
            decode(&encode(&message).unwrap()).as_ref(),
            Ok(&message),
            "{name}"
        );
        assert_eq!(
            decode(&fixture(name, &message)).as_ref(),
            Ok(&message),
            "{name}"
        );
    }
}

#[test]
fn what_was_written_is_read() {
    assert_reads(commands());
    assert_reads(reports());
    let written = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(written, commands().len() + reports().len());
}

#[test]
fn a_square_of_pixels_is_one_run_of_bytes() {
    let picture = Picture {
        asker: asker(),
        key: key(),
        pixels: Pixels::new(100, vec![200; 30_000]),
        system: String::new(),
        secret: None,
        traceparent: None,
    };
    let bytes = encode(&Command::Picture(picture)).unwrap();
    assert!(bytes.len() < 30_300, "{}", bytes.len());
}

#[test]
fn what_a_reader_does_not_know_it_passes_over() {
    let session = asker().session;
    let bytes = rmp_serde::to_vec_named(&json!({
        "version": 7,
        "shape": [1, 2],
        "message": { "credit": {
            "session": vec![0; 16],
            "priority": { "of": "a later version" },
            "request": vec![255; 16],
            "events": 3,
        } },
    }))
    .unwrap();
    let credit = Command::Credit {
        session: SessionId::new(0),
        request: RequestId::new(u128::MAX),
        events: 3,
    };
    assert_eq!(decode(&bytes), Ok(credit));
    // What has no default, and a command that there is none of.
    for (version, is_newer) in [(1, false), (2, true)] {
        for message in [
            json!({ "credit": {} }),
            json!({ "dance": { "session": 1 } }),
        ] {
            let bytes = json!({ "version": version, "message": message });
            let bytes = rmp_serde::to_vec_named(&bytes).unwrap();
            match decode::<Command>(&bytes) {
                Err(DecodeError::Newer(2)) => assert!(is_newer),
                Err(DecodeError::Malformed(_)) => assert!(!is_newer),
                other => panic!("{other:?}"),
            }
        }
    }
    let end = encode(&Command::EndSession { session }).unwrap();
    for length in 0..end.len() {
        assert!(decode::<Command>(&end[..length]).is_err());
    }
}

#[test]
fn pixels_are_as_many_as_they_say() {
    let pixels = |size: u32, data: usize| {
        let bytes = rmp_serde::to_vec_named(&json!({ "size": size, "data": vec![0; data] }));
        rmp_serde::from_slice::<Pixels>(&bytes.unwrap())
    };
    assert!(pixels(2, 12).is_ok());
    assert!(pixels(2, 11).is_err());
    // Whose bytes are a multiple of 2^32.
    assert!(pixels(1 << 16, 0).is_err());
    assert!(pixels(u32::MAX, 3).is_err());
}

#[test]
fn ids_are_unlike() {
    let ids: std::collections::HashSet<_> = (0..1000).map(|_| RequestId::random()).collect();
    assert_eq!(ids.len(), 1000);
    assert_eq!(SessionId::new(0xab).to_string(), format!("{:0>32}", "ab"));
}
