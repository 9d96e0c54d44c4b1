//! Spans for the log: a picture's and a question's stages, from what their client is told.
//!
//! A question is `request`, with `queue`, `prefill` and `decode` inside; a picture `upload`, `decode` and `encode`. Of
//! the session there is its tag (the id would resume it); of texts and pictures nothing.

use std::collections::HashMap;

use tracing::{Span, debug_span};
use wire::ServerMessage;

/// One session's open spans.
pub struct Spans {
    tag: String,
    requests: HashMap<String, Request>,
    uploads: HashMap<u32, Span>,
    images: HashMap<String, Span>,
}

struct Request {
    whole: Span,
    /// The stage that it is in.
    stage: Span,
    decoding: bool,
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
                    request.stage = debug_span!(parent: &request.whole, "decode");
                }
            }
            ServerMessage::Queued(queued) => {
                self.requests
                    .entry(queued.request.clone())
                    .or_insert_with(|| {
                        // The client chose the id: quoted, so that it can't pretend to be a line of its own.
                        let id = queued.request.as_str();
                        let whole = debug_span!(parent: None, "request", session, request = ?id);
                        let stage = debug_span!(parent: &whole, "queue");
                        Request {
                            whole,
                            stage,
                            decoding: false,
                        }
                    });
            }
            ServerMessage::Started(started) => {
                if let Some(request) = self.requests.get_mut(&started.request) {
                    request.stage = debug_span!(parent: &request.whole, "prefill");
                }
            }
            ServerMessage::Done(done) => {
                self.requests.remove(&done.request);
            }
            ServerMessage::UploadAccepted(accepted) => {
                let upload = accepted.upload;
                self.uploads
                    .entry(upload)
                    .or_insert_with(|| debug_span!(parent: None, "upload", session, upload));
            }
            ServerMessage::UploadReceived(received) => {
                self.uploads.remove(&received.upload);
                if !received.cached {
                    let image = received.image.as_str();
                    let span = debug_span!(parent: None, "decode", session, image);
                    self.images.insert(received.image.clone(), span);
                }
            }
            ServerMessage::ImageReady(ready) => {
                if let Some(stage) = self.images.get_mut(&ready.image) {
                    let image = ready.image.as_str();
                    *stage = debug_span!(parent: None, "encode", session, image);
                }
            }
            ServerMessage::ImageEncoded(encoded) => {
                self.images.remove(&encoded.image);
            }
            ServerMessage::Forgotten(forgotten) => {
                if let Some(image) = &forgotten.image {
                    self.images.remove(image);
                }
            }
            ServerMessage::Error(error) => {
                if let Some(request) = &error.request {
                    self.requests.remove(request);
                }
                if let Some(upload) = &error.upload {
                    self.uploads.remove(upload);
                }
                if let Some(image) = &error.image {
                    self.images.remove(image);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::format::FmtSpan;
    use wire::{Done, FinishReason, Queued, Started, Token};

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
            spans.told(&ServerMessage::Queued(Queued {
                request: request.clone(),
                conversation: "c".into(),
                position: None,
            }));
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
            assert_eq!(log.matches(&format!(":{stage}: ")).count(), 2, "{log}");
        }
        assert!(!log.contains("secret"));
    }
}
