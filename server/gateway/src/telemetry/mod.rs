//! What whoever runs the server sees of it: counts and times for `/metrics`, and spans for the log and for OpenTelemetry.
//!
//! A picture and a question each have one object here from the moment they are taken to their end, whatever door they came
//! through, which is told by what happens to them and not by what their client is told. Of the session there is its tag (the
//! id would resume it); of texts and pictures nothing. Stages repeat whose they are: a line of JSON has the fields of its
//! own span only.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;

pub mod metrics;
mod picture;
mod question;

pub use picture::Picture;
pub use question::Question;

/// What all spans are told apart by, in the log's filter and for OpenTelemetry: a part of `glimpse_gateway::session`, whose
/// filter shows what becomes of a session's questions.
pub const SPANS: &str = "glimpse_gateway::session::spans";

/// A count as OpenTelemetry takes it, which knows no unsigned numbers and would write them as text.
pub fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

const TRACEPARENT: &str = "traceparent";

/// What a span is a part of, from what W3C Trace Context writes: nothing where that is none.
pub fn part_of(traceparent: &str) -> Context {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// A span as W3C Trace Context writes it, where there is a trace.
pub fn traceparent(span: &Context) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(span, &mut carrier);
    carrier.remove(TRACEPARENT)
}
