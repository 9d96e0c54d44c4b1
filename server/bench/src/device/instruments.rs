//! What is too short to be seen from outside, timed alone in this process, many times over: counting and tracing, all that the
//! server does of it for a token and for an answer; and drawing a token from a full-size vocabulary, freely and held to a format.

use std::hint::black_box;
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tracing_subscriber::layer::SubscriberExt;
use wire::{AnswerTimings, FinishReason, Usage};

use crate::report::Instruments;
use api::{Gauges, Measured, Pass, SamplingParams};
use gateway::telemetry::Question;
use gateway::telemetry::metrics::METRICS;
use model::text::Sampler;

use super::formats;

/// As many as GLM-4V-9B's scores have.
const VOCABULARY: usize = 151_552;
const DRAWS: u32 = 20;
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
    let (format, format_alone) = formats::measure(VOCABULARY).unwrap_or_default();
    Instruments {
        format,
        format_alone,
        token,
        answer,
        token_exported,
        answer_exported,
        sampling: sampling(),
    }
}

/// Milliseconds for drawing a token with the published settings and a repetition penalty, after a prompt of 2,000 tokens.
fn sampling() -> Vec<f64> {
    let params = SamplingParams {
        temperature: 0.8,
        top_p: 0.8,
        repetition_penalty: 1.1,
        seed: 1,
        ..SamplingParams::default()
    };
    let prompt: Vec<u32> = (0..2000).map(|i| i * 71).collect();
    let mut sampler = Sampler::new(&params, &prompt);
    let mut rng = StdRng::seed_from_u64(4);
    let logits: Vec<f32> = (0..VOCABULARY).map(|_| 6.0 * rng.random::<f32>()).collect();
    (0..BATCHES)
        .map(|_| {
            let mut took = Duration::ZERO;
            for _ in 0..DRAWS {
                let mut logits = logits.clone();
                let started = Instant::now();
                let _ = black_box(sampler.sample(&mut logits));
                took += started.elapsed();
            }
            took.as_secs_f64() * 1e3 / f64::from(DRAWS)
        })
        .collect()
}

/// Milliseconds for a token, and for all of an answer but its tokens.
fn batches() -> (Vec<f64>, Vec<f64>) {
    (0..BATCHES)
        .map(|_| {
            let mut question = begin();
            let started = Instant::now();
            for _ in 0..TOKENS {
                token(&mut question);
            }
            let tokens = started.elapsed();
            end(question);
            let started = Instant::now();
            for _ in 0..ANSWERS {
                end(begin());
            }
            let answers = started.elapsed();
            let ms = |time: Duration, n: f64| time.as_secs_f64() * 1e3 / n;
            (ms(tokens, TOKENS as f64), ms(answers, f64::from(ANSWERS)))
        })
        .unzip()
}

fn begin() -> Question {
    let (session, request) = (black_box("01234567").into(), black_box("request").into());
    let (mut question, _) = Question::taken(session, request, None);
    question.given();
    question.started();
    question
}

/// Of a token: the pass that made it, how the queue stands, and that it is there.
fn token(question: &mut Question) {
    let pass = Pass {
        ms: black_box(1.0),
        slots: 1,
        decode: true,
    };
    METRICS.measured(0, Measured::Pass(pass));
    let gauges = Gauges {
        waiting: black_box(0),
        running: 1,
        cache_used: black_box(1 << 20),
        cache_size: 1 << 30,
        ..Gauges::default()
    };
    METRICS.measured(0, Measured::Gauges(gauges));
    black_box(question).token();
}

fn end(mut question: Question) {
    let (usage, timings) = (Usage::default(), AnswerTimings::default());
    question.done(FinishReason::Stop, black_box(&usage), black_box(&timings));
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
    fn all_of_it_is_timed() {
        let found = measure();
        for values in [
            &found.token,
            &found.answer,
            &found.token_exported,
            &found.answer_exported,
            &found.sampling,
        ] {
            assert_eq!(values.len(), BATCHES);
            assert!(values.iter().all(|ms| *ms > 0.0), "{values:?}");
        }
        for values in [&found.format, &found.format_alone] {
            assert!(values.len() > BATCHES && values.iter().all(|ms| *ms > 0.0));
        }
        // Exporting costs more than not exporting, each at its best.
        let least = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min);
        assert!(least(&found.answer_exported) > least(&found.answer));
    }
}
