//! Spans for the log and for OpenTelemetry: a picture's and a question's stages, from what their client is told.
//!
//! A question is `request`, with `queue`, `prefill` and `decode` inside; a picture is `picture`, with `upload`, `decode`
//! and `encode`. Of the session there is its tag (the id would resume it); of texts and pictures nothing. Stages repeat
//! whose they are: a line of JSON has the fields of its own span only.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::field::Empty;
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use wire::ServerMessage;

const TRACEPARENT: &str = "traceparent";

/// One session's open spans.
pub struct Spans {
    tag: String,
    requests: HashMap<String, Work>,
    uploads: HashMap<u32, Work>,
    images: HashMap<String, Work>,
}

/// A span and, inside of it, the stage that it is in.
struct Work {
    whole: Span,
    stage: Span,
    decoding: bool,
}

impl Work {
    fn new(whole: Span, stage: impl FnOnce(&Span) -> Span) -> Self {
        Work {
            stage: stage(&whole),
            whole,
            decoding: false,
        }
    }

    /// It ends with an error.
    fn failed(self, error: &wire::Error) {
        self.whole.record("error", error.failure.code.as_str());
        self.whole.record("otel.status_code", "ERROR");
    }
}

impl Spans {
    pub fn new(tag: String) -> Self {
        Spans {
            tag,
            requests: HashMap::new(),
            uploads: HashMap::new(),
            images: HashMap::new(),
        }
    }

    /// A question is taken, as a part of the trace that its client names, if any. Its span, as W3C Trace Context writes it:
    /// what computing the answer is a part of.
    pub fn asked(&mut self, id: &str, parent: Option<&str>) -> Option<String> {
        let session = self.tag.as_str();
        let whole = debug_span!(
            parent: None,
            "request",
            session,
            // The client chose the id: quoted, so that it can't pretend to be a line of its own.
            request = ?id,
            finish_reason = Empty,
            prompt_tokens = Empty,
            cached_tokens = Empty,
            completion_tokens = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        let parent = parent.map(|parent| {
            let carrier = HashMap::from([(TRACEPARENT.to_owned(), parent.to_owned())]);
            TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
        });
        // Where no collector is, no span is written anywhere, and the client's own goes on to who computes.
        let context = match parent {
            Some(parent) if whole.set_parent(parent.clone()).is_err() => parent,
            _ => whole.context(),
        };
        let work = Work::new(
            whole,
            |whole| debug_span!(parent: whole, "queue", session, request = ?id),
        );
        self.requests.insert(id.to_owned(), work);
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        carrier.remove(TRACEPARENT)
    }

    /// Everything that was open ends with the session.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.uploads.clear();
        self.images.clear();
    }

    /// A stage ends and the next begins with what the client is told.
    pub fn told(&mut self, message: &ServerMessage) {
        let session = self.tag.as_str();
        match message {
            ServerMessage::Token(token) => {
                if let Some(request) = self.requests.get_mut(&token.request)
                    && !request.decoding
                {
                    request.decoding = true;
                    let id = &token.request;
                    request.stage =
                        debug_span!(parent: &request.whole, "decode", session, request = ?id);
                }
            }
            ServerMessage::Started(started) => {
                if let Some(request) = self.requests.get_mut(&started.request) {
                    let id = &started.request;
                    request.stage =
                        debug_span!(parent: &request.whole, "prefill", session, request = ?id);
                }
            }
            ServerMessage::Done(done) => {
                if let Some(Work { whole, .. }) = self.requests.remove(&done.request) {
                    whole.record("finish_reason", done.finish_reason.as_str());
                    whole.record("prompt_tokens", number(done.usage.prompt_tokens));
                    whole.record("cached_tokens", number(done.usage.cached_tokens));
                    whole.record("completion_tokens", number(done.usage.completion_tokens));
                }
            }
            ServerMessage::UploadAccepted(accepted) => self.upload(accepted.upload),
            ServerMessage::UploadReceived(received) => {
                if let Some(mut picture) = self.uploads.remove(&received.upload)
                    && !received.cached
                {
                    let image = received.image.as_str();
                    picture.whole.record("image", image);
                    picture.whole.record("bytes", number(received.bytes));
                    picture.stage = debug_span!(parent: &picture.whole, "decode", session, image);
                    self.images.insert(received.image.clone(), picture);
                }
            }
            ServerMessage::ImageReady(ready) => {
                if let Some(picture) = self.images.get_mut(&ready.image) {
                    picture.stage = debug_span!(
                        parent: &picture.whole,
                        "encode",
                        session,
                        image = ready.image.as_str(),
                        vision_ms = Empty,
                        prefill_ms = Empty,
                    );
                }
            }
            ServerMessage::ImageEncoded(encoded) => {
                if let Some(Work { stage, .. }) = self.images.remove(&encoded.image) {
                    stage.record("vision_ms", encoded.timings.vision_ms);
                    stage.record("prefill_ms", encoded.timings.prefill_ms);
                }
            }
            ServerMessage::Forgotten(forgotten) => {
                if let Some(image) = &forgotten.image {
                    self.images.remove(image);
                }
            }
            ServerMessage::Error(error) => {
                let request = error.request.as_ref();
                let request = request.and_then(|id| self.requests.remove(id));
                let upload = error.upload.and_then(|number| self.uploads.remove(&number));
                let image = error.image.as_ref();
                let image = image.and_then(|id| self.images.remove(id));
                for ended in [request, upload, image].into_iter().flatten() {
                    ended.failed(error);
                }
            }
            _ => {}
        }
    }

    fn upload(&mut self, upload: u32) {
        let session = self.tag.as_str();
        self.uploads.entry(upload).or_insert_with(|| {
            let upload = i64::from(upload);
            let whole = debug_span!(
                parent: None,
                "picture",
                session,
                upload,
                image = Empty,
                bytes = Empty,
                error = Empty,
                otel.status_code = Empty,
            );
            Work::new(
                whole,
                |whole| debug_span!(parent: whole, "upload", session, upload),
            )
        });
    }
}

/// As OpenTelemetry counts, which knows no unsigned numbers and would write them as text.
fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::format::FmtSpan;
    use wire::{Done, FinishReason, Started, Token};

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
    fn stages_are_told_with_their_request_and_without_text() {
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
            let mut spans = Spans::new("0123abcd".into());
            assert_eq!(spans.asked(&request, None), None);
            spans.told(&ServerMessage::Started(Started {
                request: request.clone(),
            }));
            for index in 0..3 {
                spans.told(&ServerMessage::Token(Token {
                    request: request.clone(),
                    index,
                    text: "secret".into(),
                }));
            }
            spans.told(&ServerMessage::Done(Box::new(Done {
                request: request.clone(),
                conversation: "c".into(),
                finish_reason: FinishReason::Stop,
                usage: wire::Usage::default(),
                timings: wire::AnswerTimings::default(),
            })));
            assert!(spans.requests.is_empty());
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
        assert!(!log.contains("secret"));
    }

    #[test]
    fn a_trace_goes_on_behind_the_gateway_unless_it_is_none() {
        let mut spans = Spans::new("0123abcd".into());
        let mut asked = |parent| spans.asked("r1", Some(parent));
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
