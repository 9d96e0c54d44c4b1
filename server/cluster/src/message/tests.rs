//! What every version said stays readable: `fixtures/v1` is what version 1 wrote, and is never written again.

use std::path::PathBuf;

use api::encoding::{decode, encode};
use api::{ConversationId, ErrorCode, Failure, Passes, RequestId, SessionId, State, Turn};
use serde::de::DeserializeOwned;

use super::*;

const SESSION: SessionId = SessionId::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const INSTANCE: &str = "000102030405060708090a0b0c0d0e0f";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
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

/// How many there are.
#[track_caller]
fn assert_reads<T>(messages: &[(&str, T)]) -> usize
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    for (name, message) in messages {
        let written = encode(message).unwrap();
        assert_eq!(decode(&written).as_ref(), Ok(message), "{name}");
        let kept = fixture(name, message);
        assert_eq!(decode(&kept).as_ref(), Ok(message), "{name}");
        // Another build has a field more wherever it can have one, or has not yet those that came later.
        let more = rewritten(&kept, &[], true);
        assert!(more.len() > kept.len(), "{name}");
        assert_eq!(decode(&more).as_ref(), Ok(message), "{name}");
        let fewer = decode::<T>(&rewritten(&kept, LATER, false));
        assert!(fewer.is_ok(), "{name}: {fewer:?}");
    }
    messages.len()
}

/// Fields that were not there from the start.
const LATER: &[&str] = &[
    "at_ms",
    "draining",
    "longest_turn_ms",
    "passes",
    "traceparent",
    "trouble",
];

/// A message as another build writes it: without some fields, or with one more in each map that is a struct's (a map of one entry
/// is a variant's).
fn rewritten(message: &[u8], without: &[&str], more: bool) -> Vec<u8> {
    let (mut rest, mut out) = (message, Vec::new());
    rewrite(&mut rest, &mut out, without, more);
    assert!(rest.is_empty());
    out
}

/// Copies one value: <https://github.com/msgpack/msgpack/blob/master/spec.md>.
fn rewrite(rest: &mut &[u8], out: &mut Vec<u8>, without: &[&str], more: bool) {
    let whole = *rest;
    let head = whole[0];
    let number = |bytes: usize| {
        whole[1..=bytes]
            .iter()
            .fold(0, |sum, &b| (sum << 8) | usize::from(b))
    };
    // Bytes of the head, bytes behind it, and values behind it.
    let (length, bytes, values) = match head {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (1, 0, 0),
        0x80..=0x8f => (1, 0, 2 * usize::from(head & 15)),
        0x90..=0x9f => (1, 0, usize::from(head & 15)),
        0xa0..=0xbf => (1, usize::from(head & 31), 0),
        0xc4 | 0xd9 => (2, number(1), 0),
        0xc5 | 0xda => (3, number(2), 0),
        0xca | 0xce | 0xd2 => (5, 0, 0),
        0xcb | 0xcf | 0xd3 => (9, 0, 0),
        0xcc | 0xd0 => (2, 0, 0),
        0xcd | 0xd1 => (3, 0, 0),
        0xdc => (3, 0, number(2)),
        0xde => (3, 0, 2 * number(2)),
        _ => panic!("{head:#x} is written by nobody here"),
    };
    *rest = &whole[length + bytes..];
    if !matches!(head, 0x80..=0x8f | 0xde) {
        out.extend(&whole[..length + bytes]);
        for _ in 0..values {
            rewrite(rest, out, without, more);
        }
        return;
    }
    let (mut count, mut inside) = (0_u16, Vec::new());
    let mut is_struct = values > 2;
    for _ in 0..values / 2 {
        let (key, mut pair) = (rest[0], Vec::new());
        let is_text = matches!(key, 0xa0..=0xbf);
        is_struct &= is_text;
        let name = if is_text {
            &rest[1..=usize::from(key & 31)]
        } else {
            &[]
        };
        let dropped = without.iter().any(|it| it.as_bytes() == name);
        rewrite(rest, &mut pair, without, more);
        rewrite(rest, &mut pair, without, more);
        if !dropped {
            count += 1;
            inside.extend(pair);
        }
    }
    if is_struct && more {
        count += 1;
        // "later": [1, {}]
        inside.extend([0xa5, b'l', b'a', b't', b'e', b'r', 0x92, 1, 0x80]);
    }
    out.push(0xde);
    out.extend(count.to_be_bytes());
    out.extend(inside);
}

fn registrations() -> Vec<(&'static str, Registration)> {
    let registration = Registration {
        name: "gpu-3-1f2e".into(),
        instance: INSTANCE.into(),
        api: 1,
        fingerprint: "0123abcd".into(),
        model: Model {
            name: "glm-4v-9b".into(),
            demo: false,
            image_size: 1120,
            max_positions: 8192,
            device: "cuda:0".into(),
            dtype: "bf16".into(),
            quantization: "q8".into(),
        },
        sampling: Defaults::default(),
        pages: 400,
        half: None,
        draining: false,
    };
    let draining = Registration {
        draining: true,
        ..registration.clone()
    };
    vec![
        ("registration", registration),
        ("registration_draining", draining),
    ]
}

fn beats() -> Vec<(&'static str, Beat)> {
    let health = Health {
        worker: 0,
        state: State::Ready,
        model: "0123abcd".into(),
        open: 2,
        pages: 400,
        used_pages: 60,
        turn: 1 << 40,
        token_ms: 4.86,
        longest_turn_ms: 31.5,
    };
    let gauges = Gauges {
        waiting: 1,
        running: 1,
        cache_used: 1 << 20,
        cache_size: 1 << 30,
        memory_used: 1 << 33,
        memory_size: 1 << 36,
    };
    let beat = Beat {
        instance: INSTANCE.into(),
        at_ms: 1234.5,
        devices: vec![health],
        gauges: vec![(0, gauges)],
        passes: Vec::new(),
        sessions: 7,
        trouble: None,
    };
    let troubled = Beat {
        trouble: Some("JetStream takes nothing (no space left on device).".into()),
        ..beat.clone()
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
    let counting = Beat {
        passes: vec![(0, counted)],
        ..beat.clone()
    };
    vec![
        ("beat", beat),
        ("beat_troubled", troubled),
        ("beat_counting", counting),
    ]
}

fn to_worker() -> Vec<(&'static str, Vec<ToWorker>)> {
    let given = Given {
        asker: Asker {
            client: 1 << 100 | 7,
            session: SESSION,
        },
        key: PictureKey {
            session: Some(SESSION),
            sha256: std::array::from_fn(|i| i as u8),
        },
        system: String::new(),
        secret: None,
        side: 1120,
        object: format!("{INSTANCE}.{SESSION}.00"),
        straight: true,
        traceparent: None,
    };
    let traced = Given {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..given.clone()
    };
    let behind_system = Given {
        system: "Answer in JSON.".into(),
        straight: false,
        ..given.clone()
    };
    let cancel = Command::Cancel {
        session: SESSION,
        request: RequestId::new(u128::MAX - 1),
    };
    vec![
        // What comes together goes in one message.
        (
            "to_worker",
            vec![ToWorker::Picture(given), ToWorker::Command(cancel)],
        ),
        (
            "to_worker_behind_system",
            vec![ToWorker::Picture(behind_system)],
        ),
        ("to_worker_traced", vec![ToWorker::Picture(traced)]),
        (
            "to_worker_taken",
            vec![ToWorker::Taken {
                session: SESSION,
                epoch: 1 << 40,
            }],
        ),
    ]
}

fn to_gateway() -> Vec<(&'static str, Vec<ToGateway>)> {
    let report = Report::Session {
        session: SESSION,
        event: api::Event::Freed(api::Freed::Conversation(ConversationId::new(5))),
    };
    vec![
        ("to_gateway", vec![ToGateway::Report(report)]),
        ("to_gateway_lost", vec![ToGateway::Lost]),
    ]
}

fn asked() -> Vec<(&'static str, TokensAsked)> {
    let turn = Turn {
        question: "Was ist das?".into(),
        answer: "\n一只猫 🐈".into(),
        answer_ids: Some(vec![198, 151_336]),
    };
    let text = "一只猫 🐈".to_owned();
    vec![
        ("tokens_encode", TokensAsked::Encode { text, begins: true }),
        (
            "tokens_prompt",
            TokensAsked::Prompt {
                system: "Answer in JSON.".into(),
                history: vec![turn],
                question: "And now?".into(),
                picture: Some(1),
            },
        ),
        (
            "tokens_bytes",
            TokensAsked::Bytes {
                ids: vec![9, 70_000],
            },
        ),
    ]
}

fn told() -> Vec<(&'static str, TokensTold)> {
    let failure = Failure::new(ErrorCode::Loading, "Later.").retry_after(1000.0);
    vec![
        ("tokens_told_ids", TokensTold::Ids(vec![9, 70_000])),
        (
            "tokens_told_bytes",
            TokensTold::Bytes(vec![vec![0xe7], vec![0x8c, 0xab]]),
        ),
        ("tokens_told_failed", TokensTold::Failed(failure)),
    ]
}

#[test]
fn what_was_written_is_read() {
    let gateway = Gateway {
        instance: INSTANCE.into(),
        limits: r#"{"images":16}"#.into(),
    };
    let draining = Draining {
        open: 3,
        sessions: 12,
    };
    let all = [
        assert_reads(&registrations()),
        assert_reads(&[("gateway", gateway)]),
        assert_reads(&beats()),
        assert_reads(&to_worker()),
        assert_reads(&to_gateway()),
        assert_reads(&asked()),
        assert_reads(&told()),
        assert_reads(&[("draining", draining)]),
    ];
    let written = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(written, all.iter().sum::<usize>());
}
