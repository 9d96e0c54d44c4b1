//! A picture's span, with `upload`, `decode` and `encode` inside, and what is counted of it.

use std::sync::Arc;

use tracing::field::Empty;
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use wire::{EncodeTimings, ErrorCode, ImageTimings};

use super::metrics::METRICS;
use super::{SPANS, number, traceparent};

/// A picture on its way to the model, from its announcement on. Dropped, its span ends.
pub struct Picture {
    session: Arc<str>,
    image: String,
    stage: Span,
    whole: Span,
}

impl Picture {
    /// A picture whose upload is announced and whose bytes may come. `session` is the session's tag.
    pub fn announced(session: Arc<str>, upload: u32) -> Self {
        let (tag, upload) = (&*session, i64::from(upload));
        let whole = debug_span!(
            target: SPANS,
            parent: None,
            "picture",
            session = tag,
            upload,
            image = Empty,
            bytes = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        Picture {
            stage: debug_span!(target: SPANS, parent: &whole, "upload", session = tag, upload),
            whole,
            image: String::new(),
            session,
        }
    }

    /// The whole file is there and waits to be decoded. How that ends is counted where it is decoded, since the session may
    /// be over by then.
    pub fn arrived(&mut self, image: &str, bytes: u64) {
        let session = &*self.session;
        self.whole.record("image", image);
        self.whole.record("bytes", number(bytes));
        self.stage = debug_span!(target: SPANS, parent: &self.whole, "decode", session, image);
        image.clone_into(&mut self.image);
    }

    /// The picture is decoded, and waits to be encoded. What comes back is that span, as W3C Trace Context writes it.
    pub fn decoded(&mut self, timings: &ImageTimings) -> Option<String> {
        METRICS.decoded(timings);
        self.stage = debug_span!(
            target: SPANS,
            parent: &self.whole,
            "encode",
            session = &*self.session,
            image = self.image.as_str(),
            vision_ms = Empty,
            prefill_ms = Empty,
        );
        traceparent(&self.stage.context())
    }

    /// The model has encoded the picture, or (`cached`) had before.
    pub fn encoded(self, timings: &EncodeTimings, cached: bool) {
        METRICS.encoded(timings, cached);
        self.stage.record("vision_ms", timings.vision_ms);
        self.stage.record("prefill_ms", timings.prefill_ms);
    }

    /// The upload, the decoding or the encoding failed.
    pub fn failed(self, code: ErrorCode) {
        if self.image.is_empty() {
            METRICS.upload_ended(code.as_str());
        }
        self.whole.record("error", code.as_str());
        self.whole.record("otel.status_code", "ERROR");
    }
}
