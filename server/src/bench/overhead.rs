//! What users cost each other, and what the server costs beside the model.

use indicatif::ProgressBar;

use super::client::{About, Answer, Client, Failure, ms};
use super::report::Overhead;
use super::rounds::Script;
use super::server::{Server, metric};
use super::stats::Summary;

/// Token gaps of one user alone, of one while another's picture is encoded, and of two who are answered at once, in
/// turn; and, for the one alone, what was not the model's time.
///
/// # Errors
/// If a round failed.
pub async fn measure(
    server: &Server,
    script: &mut Script,
    runs: u32,
    bar: &ProgressBar,
) -> Result<Overhead, Failure> {
    let mut overhead = Overhead::default();
    let mut user = Client::connect(&server.url).await?;
    let upload = user.upload(&script.picture()).await?.upload;
    user.image_encoded().await?;
    let mut other = Client::connect(&server.url).await?;
    let others = other.upload(&script.picture()).await?.upload;
    other.image_encoded().await?;
    for _ in 0..runs {
        let about = About::Upload(upload);
        bar.set_message("one user alone");
        let before = forward_seconds(server).await;
        let answer = user
            .ask(about, &script.prompt, script.max_new_tokens)
            .await?;
        let after = forward_seconds(server).await;
        overhead.alone.extend(answer.gaps_ms());
        let timings = answer.timings();
        overhead
            .per_request
            .push(answer.total_ms() - timings.total_ms);
        let steps = answer.tokens.len().saturating_sub(1);
        if let (Some(before), Some(after)) = (before, after)
            && steps > 0
        {
            // Of the decode steps alone: passes over a prompt are counted apart.
            let model = (after.0 - before.0) * 1e3;
            let passes = (after.1 - before.1).max(1.0);
            let gap = answer.gaps_ms().sum::<f64>() / steps as f64;
            overhead.per_token.push(gap - model / passes);
            overhead.step.push(model / passes);
        }

        bar.set_message("one user, while another's picture is encoded");
        other.upload(&script.picture()).await?;
        other.image_ready().await?;
        let (answer, encoded) = tokio::join!(
            user.ask(about, &script.prompt, script.max_new_tokens),
            other.image_encoded()
        );
        let (answer, (encoded, _)) = (answer?, encoded?);
        overhead.beside_encoding.extend(until(&answer, encoded));

        bar.set_message("two users");
        let (one, two) = tokio::join!(
            user.ask(about, &script.prompt, script.max_new_tokens),
            other.ask(About::Upload(others), &script.prompt, script.max_new_tokens)
        );
        for answer in [one?, two?] {
            overhead.together.extend(answer.gaps_ms());
        }
        user.acknowledge().await?;
        other.acknowledge().await?;
        bar.inc(1);
    }
    user.close().await;
    other.close().await;
    Ok(overhead)
}

/// The gaps that ended before `end`.
fn until(answer: &Answer, end: std::time::Instant) -> impl Iterator<Item = f64> {
    answer
        .tokens
        .windows(2)
        .filter(move |pair| pair[1] <= end)
        .map(|pair| ms(pair[0], pair[1]))
}

/// The time that decode steps took on the device so far, in seconds, and how many there were.
async fn forward_seconds(server: &Server) -> Option<(f64, f64)> {
    let text = server.metrics().await?;
    Some((
        metric(&text, "glimpse_decode_step_seconds_sum")?,
        metric(&text, "glimpse_decode_step_seconds_count")?,
    ))
}

impl Overhead {
    /// The rows of its table, in ms.
    pub fn rows(&self) -> Vec<(&'static str, Summary)> {
        let rows = [
            ("Token gap, one user alone", &self.alone),
            (
                "Token gap while another's picture is encoded",
                &self.beside_encoding,
            ),
            ("Token gap of each of two users", &self.together),
            ("Forward pass of a decode step", &self.step),
            ("Per token outside of the forward pass", &self.per_token),
            ("Per request outside of the server", &self.per_request),
        ];
        rows.into_iter()
            .filter_map(|(title, values)| Some((title, Summary::of(values)?)))
            .collect()
    }
}
