//! What users cost each other, and what the server costs beside the model: on long answers, one after the other in each
//! run, so that a machine that gets slower meanwhile slows all alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::rounds::Script;
use super::server::{Server, metric};
use crate::device::instruments;
use crate::report::Overhead;
use crate::report::stats::Summary;
use client::{About, Answer, Client, Failure, ms};

/// What is asked of a server, and how.
pub struct Plan<'a> {
    pub server: &'a Server,
    pub prompt: &'a str,
    /// Tokens of each answer.
    pub tokens: u64,
    pub runs: u32,
    /// The server is on this machine: a thread can be busy beside it.
    pub here: bool,
}

/// Token gaps of one user alone, with a thread busy beside, while another's picture is encoded, and of two who are
/// answered at once, in turn; and, for the one alone, what was not the model's time.
///
/// # Errors
/// If a round failed.
pub async fn measure(
    plan: &Plan<'_>,
    script: &mut Script,
    bar: &ProgressBar,
) -> Result<Overhead, Failure> {
    let mut overhead = Overhead::default();
    let mut user = Client::connect(&plan.server.url).await?;
    let mut other = Client::connect(&plan.server.url).await?;
    user.until_ready().await?;
    other.until_ready().await?;
    let upload = user.upload(&script.picture()).await?.upload;
    user.image_encoded().await?;
    let others = other.upload(&script.picture()).await?.upload;
    other.image_encoded().await?;
    let (about, prompt, tokens) = (About::Upload(upload), plan.prompt, plan.tokens);
    for run in 0..=plan.runs {
        // The first is to get used to it.
        let counts = run > 0;
        let mut found = Overhead::default();
        bar.set_message("one user alone");
        let before = passes(plan.server).await;
        let answer = user.ask(about, prompt, tokens).await?;
        let after = passes(plan.server).await;
        found.alone.extend(answer.gaps_ms());
        found.answer_alone.push(answer.total_ms());
        if let (Some(before), Some(after)) = (before, after) {
            beside_the_model(&mut found, &answer, &before, &after);
        }

        if plan.here {
            bar.set_message("one user, a thread busy beside");
            let busy = Busy::start();
            let answer = user.ask(about, prompt, tokens).await?;
            drop(busy);
            found.beside_busy.extend(answer.gaps_ms());
        }

        bar.set_message("one user, while another's picture is encoded");
        let picture = script.picture();
        let (answer, looked) = tokio::join!(user.ask(about, prompt, tokens), async {
            // Until the answer has begun.
            tokio::time::sleep(Duration::from_millis(30)).await;
            other.upload(&picture).await?;
            other.image_ready().await?;
            let ready = Instant::now();
            Ok::<_, Failure>((ready, other.image_encoded().await?.0))
        });
        let (answer, (ready, encoded)) = (answer?, looked?);
        found
            .beside_encoding
            .extend(between(&answer, ready, encoded));
        let whole: Vec<f64> = answer.gaps_ms().collect();
        if let (Some(beside), Some(whole)) =
            (Summary::of(&found.beside_encoding), Summary::of(&whole))
        {
            found.encoding_ratio.push(beside.max / whole.median);
        }

        bar.set_message("two users");
        let (one, two) = tokio::join!(
            user.ask(about, prompt, tokens),
            other.ask(About::Upload(others), prompt, tokens)
        );
        for answer in [one?, two?] {
            found.together.extend(answer.gaps_ms());
            found.answer_together.push(answer.total_ms());
        }
        user.acknowledge().await?;
        other.acknowledge().await?;
        if let (Some(busy), Some(alone)) =
            (Summary::of(&found.beside_busy), Summary::of(&found.alone))
        {
            found.busy_ratio.push(busy.p95 / alone.p95);
        }
        if counts {
            overhead.append(found);
            bar.inc(1);
        }
    }
    user.close().await;
    other.close().await;
    overhead.instruments = instruments::measure();
    Ok(overhead)
}

/// Splits what the client waited into the model's time and the rest, and the rest into what each token adds and what
/// there is once.
fn beside_the_model(found: &mut Overhead, answer: &Answer, before: &Passes, after: &Passes) {
    let (Some(first), Some(last)) = (answer.tokens.first(), answer.tokens.last()) else {
        return;
    };
    let prompt = (after.prompt - before.prompt) * 1e3;
    let decode = (after.decode - before.decode) * 1e3;
    let steps = after.steps - before.steps;
    let gaps = (answer.tokens.len() - 1) as f64;
    if steps > 0.0 && gaps > 0.0 {
        let step = decode / steps;
        let per_token = ms(*first, *last) / gaps - step;
        found.step.push(step);
        found.per_token.push(per_token);
        let rest = answer.total_ms() - prompt - decode;
        found.per_request.push(rest - per_token * gaps);
    }
}

/// The gaps that lie between two times.
fn between(answer: &Answer, begin: Instant, end: Instant) -> impl Iterator<Item = f64> {
    answer
        .tokens
        .windows(2)
        .filter(move |pair| begin <= pair[0] && pair[1] <= end)
        .map(|pair| ms(pair[0], pair[1]))
}

/// The device's time so far, in seconds.
struct Passes {
    /// Over prompts.
    prompt: f64,
    /// Of one token each.
    decode: f64,
    steps: f64,
}

async fn passes(server: &Server) -> Option<Passes> {
    let text = server.metrics().await?;
    Some(Passes {
        prompt: metric(&text, "glimpse_prompt_pass_seconds_sum")?,
        decode: metric(&text, "glimpse_decode_step_seconds_sum")?,
        steps: metric(&text, "glimpse_decode_step_seconds_count")?,
    })
}

/// A thread that computes without a pause until this is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Busy {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
