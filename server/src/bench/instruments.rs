//! What counting and tracing cost, timed alone: all that the server does of it for a token and for an answer, many
//! times over, in this process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;
use wire::{AnswerTimings, Done, FinishReason, Queued, ServerMessage, Started, Token, Usage};

use super::report::Instruments;
use crate::metrics::{METRICS, Share};
use crate::session::Spans;

const BATCHES: usize = 20;
const TOKENS: u64 = 2000;
const ANSWERS: u32 = 200;

/// Times it with the export off and on.
pub fn measure() -> Instruments {
    let (token, answer) = batches();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Nowhere)
        .build();
    let tracer = provider.tracer("glimpse");
    let subscriber =
        tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    let (token_exported, answer_exported) = tracing::subscriber::with_default(subscriber, batches);
    let _ = provider.shutdown_with_timeout(Duration::from_secs(1));
    Instruments {
        token,
        answer,
        token_exported,
        answer_exported,
    }
}

/// Milliseconds for a token, and for all of an answer but its tokens.
fn batches() -> (Vec<f64>, Vec<f64>) {
    let mut spans = Spans::new("01234567".into());
    let mut gauges = Share::default();
    (0..BATCHES)
        .map(|_| {
            begin(&mut spans);
            let started = Instant::now();
            for index in 0..TOKENS {
                token(&mut spans, &mut gauges, index);
            }
            let tokens = started.elapsed();
            end(&mut spans);
            let started = Instant::now();
            for _ in 0..ANSWERS {
                begin(&mut spans);
                end(&mut spans);
            }
            let answers = started.elapsed();
            let ms = |time: Duration, n: f64| time.as_secs_f64() * 1e3 / n;
            (ms(tokens, TOKENS as f64), ms(answers, f64::from(ANSWERS)))
        })
        .unzip()
}

fn told(spans: &mut Spans, message: &ServerMessage) {
    METRICS.told(black_box(message));
    spans.told(black_box(message));
}

fn begin(spans: &mut Spans) {
    let request = "request".to_owned();
    let queued = Queued {
        request: request.clone(),
        conversation: "conversation".into(),
        position: Some(0),
    };
    told(spans, &ServerMessage::Queued(queued));
    told(spans, &ServerMessage::Started(Started { request }));
}

/// Of a token: the pass that made it, how the queue stands, and what the client is told.
fn token(spans: &mut Spans, gauges: &mut Share, index: u64) {
    METRICS.forward(Duration::from_micros(black_box(1000)), 1, true);
    gauges.change(|now| {
        now.waiting = black_box(0);
        now.running = 1;
        now.cache_used = black_box(1 << 20);
        now.cache_size = 1 << 30;
    });
    let token = Token {
        request: "request".into(),
        index,
        text: String::new(),
    };
    told(spans, &ServerMessage::Token(token));
}

fn end(spans: &mut Spans) {
    let done = Done {
        request: "request".into(),
        conversation: "conversation".into(),
        finish_reason: FinishReason::Stop,
        usage: Usage::default(),
        timings: AnswerTimings::default(),
    };
    told(spans, &ServerMessage::Done(Box::new(done)));
}

/// A collector that costs nothing: what is measured is this process.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        drop(batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_counted_and_traced_in_microseconds() {
        let found = measure();
        for values in [
            &found.token,
            &found.answer,
            &found.token_exported,
            &found.answer_exported,
        ] {
            assert_eq!(values.len(), BATCHES);
            let least = values.iter().copied().fold(f64::MAX, f64::min);
            // A token takes a millisecond at the very least.
            assert!(least > 0.0 && least < 0.1, "{least} ms");
        }
        let least = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min);
        assert!(least(&found.token_exported) < 0.01, "{found:?}");
    }
}
