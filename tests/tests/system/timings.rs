//! The times that the wire tells, held against a client's own clock and against each other.

use super::support::{binary, data};
use bench::load::Server;
use client::{About, Answer, Client, ms};

/// How far two times may be apart.
const TOLERANCE: f64 = 0.05;

/// What a message may take between two processes; the shortest times are not much longer.
const WAY_MS: f64 = 2.0;

/// The client's clock includes how long a busy machine lets a woken process wait: what is compared with it is the best
/// of at most so many rounds. Times that are told wrong are so in each.
const ROUNDS: u8 = 100;

/// How far `told` is from `seen`, as a part of it.
fn error(told: f64, seen: f64) -> f64 {
    (told - seen).abs() / seen
}

/// The same, but for the message's way.
fn error_but_the_way(told: f64, seen: f64) -> f64 {
    ((told - seen).abs() - WAY_MS).max(0.0) / seen
}

/// What holds on any machine: the stages are the whole, and the server's times lie within the client's.
fn check(answer: &Answer) {
    let t = answer.timings();
    let sum = t.image_wait_ms + t.queue_ms + t.prefill_ms + t.decode_ms;
    assert!(error(sum, t.total_ms) <= TOLERANCE, "{t:?}");
    assert!(t.total_ms <= answer.total_ms(), "{t:?}");
    assert!(t.first_token_ms <= answer.first_token_ms(), "{t:?}");
    let usage = answer.done.as_ref().unwrap().usage;
    let decode_ms = (usage.completion_tokens - 1) as f64 / t.tokens_per_second * 1e3;
    assert!(error(decode_ms, t.decode_ms) <= TOLERANCE, "{t:?}");
}

#[test]
fn told_times_are_the_clients() {
    const QUESTION: &str = "What is in the picture?";
    let program = binary();
    let server = Server::start(&program, &["--warmup".into(), "off".into()]).unwrap();
    let picture = data("../../public/samples/shapes.jpg");
    let picture = std::fs::read(picture).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(&server.url).await.unwrap();
        client.until_ready().await.unwrap();
        let mut best = [f64::MAX; 6];
        for round in 0..ROUNDS {
            // A picture never seen before: what follows its end is read by no decoder.
            let sent = client.upload(&[&picture[..], &[round]].concat()).await;
            let sent = sent.unwrap();
            let about = About::Upload(sent.upload);
            // Asked before the picture is looked at: that wait is told as such.
            let early = client.ask(about, QUESTION, 64).await.unwrap();
            check(&early);
            let ready = client.image_ready().await.unwrap().timings;
            assert!(ready.upload_ms <= ms(sent.started, sent.received));
            let (encoded_at, encoded) = client.image_encoded().await.unwrap();
            let t = encoded.timings;
            let looked = t.vision_ms + t.prefill_ms;
            let told = ready.decode_ms + ready.preprocess_ms + t.queue_ms + looked;
            // Asked when it is there.
            let late = client.ask(about, QUESTION, 64).await.unwrap();
            check(&late);
            let t = late.timings();
            let decode = ms(late.tokens[0], late.finished);
            let found = [
                error(told, ms(sent.received, encoded_at)),
                // Decoding comes before looking, and is waited for as well.
                (1.0 - early.timings().image_wait_ms / looked).max(0.0),
                // All that is left to wait for is the way to the worker.
                t.image_wait_ms / looked,
                error_but_the_way(t.total_ms, late.total_ms()),
                error_but_the_way(t.first_token_ms, late.first_token_ms()),
                error_but_the_way(t.decode_ms, decode),
            ];
            for (best, found) in best.iter_mut().zip(found) {
                *best = best.min(found);
            }
            if best.iter().all(|best| *best <= TOLERANCE) {
                break;
            }
        }
        assert!(best.iter().all(|best| *best <= TOLERANCE), "{best:?}");
        client.close().await;
    });
}
