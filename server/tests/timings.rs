//! The times that the wire tells, held against a client's own clock and against each other.

use std::path::Path;

use glimpse::bench::client::{About, Answer, Client, ms};
use glimpse::bench::server::Server;

/// How far two times may be apart.
const TOLERANCE: f64 = 0.05;

/// What a message may take between two processes of a busy machine; the shortest times are not much longer.
const WAY_MS: f64 = 2.0;

/// How far `told` is from `seen`, as a part of it.
fn error(told: f64, seen: f64) -> f64 {
    (told - seen).abs() / seen
}

fn sum_error(answer: &Answer) -> f64 {
    let t = answer.timings();
    let sum = t.image_wait_ms + t.queue_ms + t.prefill_ms + t.decode_ms;
    error(sum, t.total_ms)
}

#[test]
fn told_times_are_the_clients() {
    let program = Path::new(env!("CARGO_BIN_EXE_glimpse"));
    let server = Server::start(program, &["--warmup".into(), "off".into()]).unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../public/samples/shapes.jpg");
    let picture = std::fs::read(picture).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(&server.url).await.unwrap();
        client.until_ready().await.unwrap();
        let sent = client.upload(&picture).await.unwrap();
        // Asked before the picture is looked at: that wait is told as such.
        let about = About::Upload(sent.upload);
        let answer = client
            .ask(about, "What is in the picture?", 64)
            .await
            .unwrap();
        assert!(sum_error(&answer) <= TOLERANCE, "{:?}", answer.timings());
        let ready = client.image_ready().await.unwrap().timings;
        let (encoded_at, encoded) = client.image_encoded().await.unwrap();
        let t = encoded.timings;
        let told = ready.decode_ms + ready.preprocess_ms + t.queue_ms + t.vision_ms + t.prefill_ms;
        let seen = ms(sent.received, encoded_at);
        assert!(
            error(told, seen) <= TOLERANCE,
            "{told} ms told, {seen} ms seen"
        );
        let looked = t.vision_ms + t.prefill_ms;
        assert!(answer.timings().image_wait_ms >= 0.9 * looked);
        assert!(ready.upload_ms <= ms(sent.started, sent.received));

        // The client's clock includes the way, and how long this machine lets a woken process wait: in the best of some
        // answers what is left is the way.
        let mut best = [f64::MAX; 3];
        for _ in 0..20 {
            let answer = client
                .ask(about, "What is in the picture?", 64)
                .await
                .unwrap();
            let t = answer.timings();
            assert!(sum_error(&answer) <= TOLERANCE, "{t:?}");
            assert!(t.total_ms <= answer.total_ms(), "{t:?}");
            assert!(t.first_token_ms <= answer.first_token_ms(), "{t:?}");
            // The picture is there: all that is left is the way to the worker.
            assert!(t.image_wait_ms < looked / 2.0, "{t:?}");
            let decode = ms(answer.tokens[0], answer.finished);
            let usage = answer.done.as_ref().unwrap().usage;
            let told = (usage.completion_tokens - 1) as f64 / t.tokens_per_second * 1e3;
            assert!(error(told, t.decode_ms) <= TOLERANCE);
            for (best, (told, seen)) in best.iter_mut().zip([
                (t.total_ms, answer.total_ms()),
                (t.first_token_ms, answer.first_token_ms()),
                (t.decode_ms, decode),
            ]) {
                *best = best.min(error(told, seen).min((told - seen).abs() / WAY_MS * TOLERANCE));
            }
        }
        assert!(best.iter().all(|best| *best <= TOLERANCE), "{best:?}");
        client.close().await;
    });
}
