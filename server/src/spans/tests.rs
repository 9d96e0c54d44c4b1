use std::io::Write;

use api::{AnswerTimings, Asker, ConversationId, ErrorCode, Failure, Pixels, SamplingParams};
use tracing_subscriber::fmt::format::FmtSpan;

use super::*;

const SESSION: SessionId = SessionId::new(7);
const ASKER: Asker = Asker {
    client: 1,
    session: SESSION,
};
const KEY: PictureKey = PictureKey {
    session: None,
    sha256: [9; 32],
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The spans that were begun and those that ended, in order, and what is left at work.
fn told(act: impl FnOnce(&mut Spans)) -> (Vec<String>, usize) {
    let log = Log::default();
    let out = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_ansi(false)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_writer(move || out.clone())
        .finish();
    let left = tracing::subscriber::with_default(subscriber, || {
        let mut spans = Spans {
            worker: "one".into(),
            questions: HashMap::new(),
            pictures: HashMap::new(),
        };
        act(&mut spans);
        spans.questions.len() + spans.pictures.len()
    });
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    let line = |line: &str| {
        let (scope, what) = line.split_once(": glimpse::spans: ").unwrap();
        // Without the spans' fields.
        let mut depth = 0;
        let plain: String = scope
            .chars()
            .filter(|c| {
                let inside = depth > 0;
                depth += i32::from(*c == '{') - i32::from(*c == '}');
                !inside && depth == 0
            })
            .collect();
        let name = plain.rsplit([' ', ':']).next().unwrap();
        format!("{name} {}", what.split(' ').next().unwrap())
    };
    (log.lines().map(line).collect(), left)
}

fn ask(request: u128, attempt: u32) -> Command {
    Command::Ask(Box::new(Ask {
        asker: ASKER,
        conversation: ConversationId::new(1),
        request: RequestId::new(request),
        attempt,
        system: String::new(),
        pictures: Vec::new(),
        history: Vec::new(),
        question: "?".into(),
        sampling: SamplingParams::default(),
        format: None,
        logprobs: None,
        background: false,
        so_far: Vec::new(),
        credit: 1,
        waited_ms: 0.0,
        left_ms: 1000.0,
        traceparent: None,
    }))
}

fn event(event: Event) -> Report {
    Report::Session {
        session: SESSION,
        event,
    }
}

fn started(attempt: u32) -> Report {
    let request = RequestId::new(1);
    event(Event::Started { request, attempt })
}

fn tokens(first: u64) -> Report {
    event(Event::Tokens {
        request: RequestId::new(1),
        attempt: 1,
        first,
        ids: vec![1],
        text: "a".into(),
        logprobs: Vec::new(),
    })
}

fn done() -> Report {
    event(Event::Done {
        request: RequestId::new(1),
        attempt: 1,
        finish_reason: FinishReason::Stop,
        usage: Usage::default(),
        timings: AnswerTimings::default(),
    })
}

#[test]
fn an_answer_s_stages_follow_each_other_and_leave_nothing() {
    let (lines, left) = told(|spans| {
        // The later attempt is the one that is told of; a repetition is no news.
        for attempt in [0, 1, 1, 0] {
            spans.asked(&ask(1, attempt));
        }
        for report in [started(0), started(1), tokens(0), tokens(1), done()] {
            spans.told(&report);
        }
    });
    assert_eq!(left, 0);
    let began: Vec<&str> = lines
        .iter()
        .filter_map(|it| it.strip_suffix(" new"))
        .collect();
    let stages = ["compute", "queue", "compute", "queue", "prefill", "decode"];
    assert_eq!(began, stages, "{lines:?}");
    assert_eq!(lines.len(), 2 * stages.len(), "{lines:?}");
}

#[test]
fn what_fails_or_is_freed_leaves_nothing() {
    let picture = || {
        Command::Picture(Picture {
            asker: ASKER,
            key: KEY,
            pixels: Pixels::new(1, vec![0; 3]),
            system: String::new(),
            traceparent: None,
            secret: None,
        })
    };
    let failure = || Failure::new(ErrorCode::OutOfMemory, "No.");
    let encoded = |cached| Event::Encoded {
        key: KEY,
        tokens: 4,
        timings: EncodeTimings::default(),
        cached,
    };
    let failed = Event::PictureFailed {
        key: KEY,
        failure: failure(),
    };
    for end in [
        encoded(false),
        encoded(true),
        failed,
        Event::Freed(Freed::Picture(KEY)),
        Event::Freed(Freed::Session),
    ] {
        let (lines, left) = told(|spans| {
            spans.asked(&picture());
            spans.asked(&picture());
            spans.told(&event(end));
        });
        assert_eq!(
            (lines, left),
            (vec!["look new".into(), "look close".into()], 0)
        );
    }
    let (lines, left) = told(|spans| {
        spans.asked(&ask(1, 0));
        spans.asked(&ask(2, 0));
        spans.told(&event(Event::Failed {
            request: RequestId::new(1),
            attempt: 0,
            failure: failure(),
        }));
        spans.told(&event(Event::Freed(Freed::Session)));
    });
    assert_eq!((lines.len(), left), (8, 0), "{lines:?}");
}
