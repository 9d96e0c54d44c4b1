//! A question's span, `request`, with `queue`, `prefill` and `decode` inside, and what is counted of it.

use std::sync::Arc;

use tracing::field::Empty;
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use wire::{AnswerTimings, ErrorCode, FinishReason, Usage};

use super::metrics::METRICS;
use super::{SPANS, number, part_of, traceparent};

/// A question, from the moment it is taken to its end. Dropped before that, it counts as cancelled, unless the engine has it:
/// how it ends there is still told, and counted then.
pub struct Question {
    session: Arc<str>,
    request: String,
    stage: Span,
    whole: Span,
    progress: Progress,
}

/// How far a question is.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Waiting,
    Given,
    Decoding,
    Over,
}

impl Question {
    /// A question is taken, as a part of the trace that its client names, if any. With it its span, as W3C Trace Context
    /// writes it: what computing the answer is a part of. `session` is the session's tag, `request` the client's id.
    pub fn taken(
        session: Arc<str>,
        request: String,
        parent: Option<&str>,
    ) -> (Self, Option<String>) {
        let tag = &*session;
        let whole = debug_span!(
            target: SPANS,
            parent: None,
            "request",
            session = tag,
            // The client chose the id: quoted, so that it can't pretend to be a line of its own.
            ?request,
            finish_reason = Empty,
            prompt_tokens = Empty,
            cached_tokens = Empty,
            completion_tokens = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        let parent = parent.map(part_of);
        // Where no collector is, no span is written anywhere, and the client's own goes on to who computes.
        let context = match parent {
            Some(parent) if whole.set_parent(parent.clone()).is_err() => parent,
            _ => whole.context(),
        };
        let question = Question {
            stage: debug_span!(target: SPANS, parent: &whole, "queue", session = tag, ?request),
            whole,
            progress: Progress::Waiting,
            request,
            session,
        };
        (question, traceparent(&context))
    }

    /// The engine has it from now on.
    pub fn given(&mut self) {
        self.progress = Progress::Given;
    }

    /// The engine is at it.
    pub fn started(&mut self) {
        let (session, request) = (&*self.session, &self.request);
        self.stage = debug_span!(target: SPANS, parent: &self.whole, "prefill", session, ?request);
    }

    /// A token of the answer is there.
    pub fn token(&mut self) {
        if self.progress != Progress::Decoding {
            self.progress = Progress::Decoding;
            let (session, request) = (&*self.session, &self.request);
            self.stage =
                debug_span!(target: SPANS, parent: &self.whole, "decode", session, ?request);
        }
    }

    /// The question has ended with an answer.
    pub fn done(&mut self, reason: FinishReason, usage: &Usage, timings: &AnswerTimings) {
        METRICS.answered(reason, usage, timings);
        self.whole.record("finish_reason", reason.as_str());
        self.whole
            .record("prompt_tokens", number(usage.prompt_tokens));
        self.whole
            .record("cached_tokens", number(usage.cached_tokens));
        self.whole
            .record("completion_tokens", number(usage.completion_tokens));
        self.over();
    }

    /// The question has ended without an answer.
    pub fn failed(&mut self, code: ErrorCode) {
        METRICS.request_ended(code.as_str());
        self.whole.record("error", code.as_str());
        self.whole.record("otel.status_code", "ERROR");
        self.over();
    }

    /// Ends the question's spans, though what is known of it may be kept for a while.
    fn over(&mut self) {
        self.progress = Progress::Over;
        self.stage = Span::none();
        self.whole = Span::none();
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.progress == Progress::Waiting {
            METRICS.request_ended(FinishReason::Cancelled.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::format::FmtSpan;

    use super::*;

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

    #[test]
    fn stages_are_told_with_their_request_and_in_order() {
        let log = Log::default();
        let out = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
            .with_writer(move || out.clone())
            .finish();
        let request = "one\ntwo".to_owned();
        tracing::subscriber::with_default(subscriber, || {
            let (mut question, trace) = Question::taken("0123abcd".into(), request, None);
            assert_eq!(trace, None);
            question.given();
            question.started();
            for _ in 0..3 {
                question.token();
            }
            let timings = AnswerTimings::default();
            question.done(FinishReason::Stop, &Usage::default(), &timings);
        });
        let log = String::from_utf8(log.0.lock().clone()).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        // Four spans that begin and end.
        assert_eq!(lines.len(), 8, "{log}");
        for line in &lines {
            assert!(line.contains("session=\"0123abcd\""), "{line}");
            assert!(line.contains(r#"request="one\ntwo""#), "{line}");
        }
        for stage in ["queue", "prefill", "decode"] {
            assert_eq!(log.matches(&format!(":{stage}{{")).count(), 2, "{log}");
        }
    }

    #[test]
    fn a_trace_goes_on_behind_the_gateway_unless_it_is_none() {
        let asked = |parent| Question::taken("0123abcd".into(), "r1".into(), Some(parent)).1;
        let traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(asked(traced).as_deref(), Some(traced));
        for none in [
            "",
            "00",
            "Bearer 0af7651916cd43dd8448eb211c80319c",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx: y",
            &"0".repeat(100_000),
        ] {
            assert_eq!(asked(none), None, "{none:.80}");
        }
    }
}
