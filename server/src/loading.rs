//! Tells how far loading is: a bar with bytes and time left on a terminal, lines in the log elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use api::{Loaded, Status};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

/// Between two lines in the log.
const EVERY: Duration = Duration::from_secs(5);

/// How far loading is, in bytes as stored.
pub struct Loading {
    what: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    told: Instant,
}

impl Loading {
    /// `what` is done: "loading".
    pub fn new(what: &'static str) -> Self {
        let look = "{msg} {bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let bar = bar(look, |bar| bar.with_message(what));
        let now = Instant::now();
        Loading {
            what,
            bar,
            started: now,
            told: now,
        }
    }

    /// `done` bytes of `total` are on the device.
    pub fn at(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let left = left(self.started.elapsed(), done, total);
            tracing::info!(
                "{}: {} of {}, {} s left",
                self.what,
                HumanBytes(done),
                HumanBytes(total),
                left.as_secs()
            );
        }
    }

    /// Everything is on the device.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        tracing::debug!("loaded in {:.1} s", self.started.elapsed().as_secs_f64());
    }
}

/// A bar that looks so and says `what` it is of, on a terminal; none elsewhere.
pub fn bar(look: &str, what: impl FnOnce(ProgressBar) -> ProgressBar) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        // Shown last: setting anything draws.
        let mut bar = ProgressBar::hidden();
        if let Ok(style) = ProgressStyle::with_template(look) {
            bar = bar.with_style(style);
        }
        let bar = what(bar);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar
    })
}

/// Shows how far loading is until it is over.
pub async fn show(mut status: watch::Receiver<Status>) {
    let mut shown: Option<Loading> = None;
    loop {
        let now = {
            let status = status.borrow_and_update();
            // What is told of a download tells enough.
            status.loaded.filter(|_| status.download.is_none())
        };
        match now {
            Some(Loaded { done, total }) => shown
                .get_or_insert_with(|| Loading::new("loading"))
                .at(done, total),
            // One that is loaded loads no more.
            None if shown.is_some() => break,
            None => {}
        }
        if status.changed().await.is_err() {
            break;
        }
    }
    if let Some(shown) = shown {
        shown.finish();
    }
}

/// What is left of the time, if the rest takes as long as what is done did.
fn left(elapsed: Duration, done: u64, total: u64) -> Duration {
    let rest = total.saturating_sub(done) as f64 / done.max(1) as f64;
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_pace() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(minute, 1 << 30, 3 << 30), Duration::from_secs(120));
        assert_eq!(left(minute, 5, 5), Duration::ZERO);
        assert!(left(minute, 0, 28_000_000_000) > minute);
        assert_eq!(left(Duration::MAX, 0, u64::MAX), Duration::MAX);
    }
}
