//! A worker's spans: what computing a question or a picture consists of, as parts of what its gateway tells of the same. An engine
//! knows nothing of them: what it is asked and what it tells is looked at on the way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::{
    Ask, Command, Compute, EncodeTimings, Event, FinishReason, Freed, Picture, PictureKey, Report,
    RequestId, SessionId, Usage,
};
use cluster::worker::Engine;
use gateway::telemetry::{number, part_of};
use opentelemetry::trace::{Span as _, Tracer};
use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;
use tracing::field::Empty;
use tracing::{Level, Span, debug_span, enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What they are told apart by, in the log's filter and for OpenTelemetry.
pub const SPANS: &str = "glimpse::spans";

/// The engine of the worker of that name, with spans for whoever wants them: else it stays as it is.
///
/// # Errors
/// If a thread can't be had.
pub fn traced(engine: Engine, worker: &str) -> std::io::Result<Engine> {
    if !enabled!(target: SPANS, Level::DEBUG) {
        return Ok(engine);
    }
    let Engine {
        compute,
        tokens,
        status,
        mut reports,
    } = engine;
    let spans = Arc::new(Mutex::new(Spans {
        worker: worker.to_owned(),
        questions: HashMap::new(),
        pictures: HashMap::new(),
    }));
    let (told, inbox) = unbounded_channel();
    let known = spans.clone();
    std::thread::Builder::new()
        .name("spans".into())
        .spawn(move || {
            while let Some(report) = reports.blocking_recv() {
                known.lock().told(&report);
                if told.send(report).is_err() {
                    return;
                }
            }
        })?;
    Ok(Engine {
        compute: Arc::new(Traced { compute, spans }),
        tokens,
        status,
        reports: inbox,
    })
}

struct Traced {
    compute: Arc<dyn Compute>,
    spans: Arc<Mutex<Spans>>,
}

impl Compute for Traced {
    fn command(&self, command: Command) {
        // Before the engine has it, which may tell of it at once.
        self.spans.lock().asked(&command);
        self.compute.command(command);
    }
}

/// What is at work.
struct Spans {
    worker: String,
    questions: HashMap<RequestId, Question>,
    pictures: HashMap<(SessionId, PictureKey), Span>,
}

/// A question's span, `compute`, and the one inside of what it is at: `queue`, `prefill`, `decode`.
struct Question {
    session: SessionId,
    attempt: u32,
    stage: Span,
    decoding: bool,
    whole: Span,
}

impl Spans {
    fn asked(&mut self, command: &Command) {
        match command {
            Command::Ask(ask) => {
                let known = self.questions.get(&ask.request);
                // A repetition is no news; a later attempt takes its place.
                if known.is_none_or(|known| known.attempt < ask.attempt) {
                    let question = Question::taken(ask, &self.worker);
                    self.questions.insert(ask.request, question);
                }
            }
            Command::Picture(picture) => {
                let key = (picture.asker.session, picture.key);
                if let Entry::Vacant(entry) = self.pictures.entry(key) {
                    entry.insert(look(picture, &self.worker));
                }
            }
            _ => {}
        }
    }

    fn told(&mut self, report: &Report) {
        let Report::Session { session, event } = report else {
            return;
        };
        match event {
            Event::Started { request, attempt } => {
                if let Some(question) = self.question(*request, *attempt) {
                    question.stage = debug_span!(target: SPANS, parent: &question.whole, "prefill");
                }
            }
            Event::Tokens {
                request, attempt, ..
            } => {
                if let Some(question) = self.question(*request, *attempt)
                    && !std::mem::replace(&mut question.decoding, true)
                {
                    question.stage = debug_span!(target: SPANS, parent: &question.whole, "decode");
                }
            }
            Event::Done {
                request,
                attempt,
                finish_reason,
                usage,
                ..
            } => {
                if let Some(question) = self.take(*request, *attempt) {
                    question.done(*finish_reason, usage);
                }
            }
            Event::Failed {
                request,
                attempt,
                failure,
            } => {
                if let Some(question) = self.take(*request, *attempt) {
                    fail(&question.whole, failure.code.as_str());
                }
            }
            Event::Encoded {
                key,
                timings,
                cached,
                ..
            } => {
                if let Some(span) = self.pictures.remove(&(*session, *key)) {
                    looked(&span, timings, *cached);
                }
            }
            Event::PictureFailed { key, failure } => {
                if let Some(span) = self.pictures.remove(&(*session, *key)) {
                    fail(&span, failure.code.as_str());
                }
            }
            Event::Freed(Freed::Picture(key)) => drop(self.pictures.remove(&(*session, *key))),
            Event::Freed(Freed::Session) => {
                self.questions.retain(|_, it| it.session != *session);
                self.pictures.retain(|(of, _), _| of != session);
            }
            Event::Queued { .. } | Event::Moved { .. } | Event::Freed(Freed::Conversation(_)) => {}
        }
    }

    fn question(&mut self, request: RequestId, attempt: u32) -> Option<&mut Question> {
        let question = self.questions.get_mut(&request);
        question.filter(|it| it.attempt == attempt)
    }

    fn take(&mut self, request: RequestId, attempt: u32) -> Option<Question> {
        self.question(request, attempt)?;
        self.questions.remove(&request)
    }
}

/// Makes a span a part of the gateway's, if that tells of one: another process's, which never ends here.
fn join(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        // Without a collector there is no trace, only the log.
        let _ = span.set_parent(part_of(traceparent));
    }
}

fn fail(span: &Span, code: &str) {
    span.record("error", code);
    span.record("otel.status_code", "ERROR");
}

impl Question {
    fn taken(ask: &Ask, worker: &str) -> Self {
        let whole = debug_span!(
            target: SPANS,
            parent: None,
            "compute",
            worker,
            request = %ask.request,
            attempt = number(ask.attempt.into()),
            // Where an earlier attempt had come to.
            tokens_before = number(ask.so_far.len() as u64),
            finish_reason = Empty,
            cached_tokens = Empty,
            completion_tokens = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        join(&whole, ask.traceparent.as_deref());
        Question {
            session: ask.asker.session,
            attempt: ask.attempt,
            stage: debug_span!(target: SPANS, parent: &whole, "queue"),
            decoding: false,
            whole,
        }
    }

    fn done(self, reason: FinishReason, usage: &Usage) {
        self.whole.record("finish_reason", reason.as_str());
        self.whole
            .record("cached_tokens", number(usage.cached_tokens));
        self.whole
            .record("completion_tokens", number(usage.completion_tokens));
    }
}

/// A picture's span.
fn look(picture: &Picture, worker: &str) -> Span {
    let span = debug_span!(
        target: SPANS,
        parent: None,
        "look",
        worker,
        cached = Empty,
        vision_ms = Empty,
        prefill_ms = Empty,
        error = Empty,
        otel.status_code = Empty,
    );
    join(&span, picture.traceparent.as_deref());
    span
}

/// A picture was looked at. An engine tells only then how long it waited in line and what it took, one behind the other: so these
/// spans are written when they are over.
fn looked(span: &Span, timings: &EncodeTimings, cached: bool) {
    span.record("cached", cached);
    if cached {
        return;
    }
    span.record("vision_ms", timings.vision_ms);
    span.record("prefill_ms", timings.prefill_ms);
    let tracer = opentelemetry::global::tracer("glimpse");
    let context = span.context();
    let mut end = SystemTime::now();
    for (name, ms) in [
        ("prefill", timings.prefill_ms),
        ("vision", timings.vision_ms),
        ("queue", timings.queue_ms),
    ] {
        let took = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        let start = end.checked_sub(took).unwrap_or(end);
        let builder = tracer.span_builder(name).with_start_time(start);
        tracer
            .build_with_context(builder, &context)
            .end_with_timestamp(end);
        end = start;
    }
}

#[cfg(test)]
mod tests;
