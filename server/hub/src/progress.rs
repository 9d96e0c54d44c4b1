//! How far a download is.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Hears how a download goes; from several threads.
pub trait Watch: Sync {
    /// What there is to know of the model lies whole in `folder`, and the disk holds the rest, which comes now: its weights,
    /// `files`.
    fn described(&self, folder: &Path, files: &[FileProgress]) {
        let _ = (folder, files);
    }

    /// A file lies whole at its place, now or since earlier: it may be used.
    fn whole(&self, file: &str, path: &Path) {
        let _ = (file, path);
    }

    /// Several times a second, from the thread that asked for the download.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }

    /// A sentence for whoever wonders why nothing happens.
    fn note(&self, note: &str) {
        let _ = note;
    }
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Bytes that are here, those of earlier downloads among them.
    pub bytes: u64,
    pub total: u64,
    /// What came in the last seconds.
    pub bytes_per_second: f64,
    /// What is left of the time at this pace; none while nothing comes.
    pub left: Option<Duration>,
    pub files: Vec<FileProgress>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileProgress {
    pub name: String,
    pub bytes: u64,
    pub size: u64,
    /// The file has been checked and lies at its place.
    pub whole: bool,
}

/// What is counted of one file while it comes.
#[derive(Default)]
pub(crate) struct Count {
    /// Bytes that are here.
    pub here: AtomicU64,
    /// Bytes that came in this download, those that were thrown away again among them.
    pub came: AtomicU64,
}

impl Count {
    pub fn at(&self, bytes: u64) {
        self.here.store(bytes, Ordering::Relaxed);
    }

    pub fn add(&self, bytes: usize) {
        self.here.fetch_add(bytes as u64, Ordering::Relaxed);
        self.came.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The pace of the last seconds.
pub(crate) struct Pace(VecDeque<(Instant, u64)>);

/// A pace over less than that says nothing, over more nothing of now.
const WINDOW: Duration = Duration::from_secs(8);

impl Pace {
    pub fn new(now: Instant) -> Self {
        Pace([(now, 0)].into())
    }

    /// Bytes per second, where `came` bytes have come up to `now`.
    pub fn at(&mut self, now: Instant, came: u64) -> f64 {
        self.0.push_back((now, came));
        // One that is older stays, so that the pace is over the whole window.
        while self.0.len() > 2
            && self
                .0
                .get(1)
                .is_some_and(|(then, _)| now.duration_since(*then) > WINDOW)
        {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front() else {
            return 0.0;
        };
        let seconds = now.duration_since(*then).as_secs_f64();
        match seconds > 0.0 {
            true => came.saturating_sub(*before) as f64 / seconds,
            false => 0.0,
        }
    }
}

pub(crate) fn left(bytes: u64, total: u64, pace: f64) -> Option<Duration> {
    let rest = total.saturating_sub(bytes) as f64;
    if rest == 0.0 {
        return Some(Duration::ZERO);
    }
    // By nothing it would be infinite, which is no duration.
    Duration::try_from_secs_f64(rest / pace).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut pace = Pace::new(start);
        assert_eq!(pace.at(start, 0), 0.0);
        for second in 1..=20u32 {
            assert_eq!(pace.at(at(second.into()), u64::from(second) * 100), 100.0);
        }
        // Then nothing comes: half of the window is from before.
        assert!((20.0..80.0).contains(&pace.at(at(24.0), 2000)));
        assert!(pace.at(at(33.0), 2000) < 40.0);
        assert_eq!(pace.at(at(42.0), 2000), 0.0);
    }

    #[test]
    fn the_time_left_follows_the_pace() {
        assert_eq!(left(50, 100, 10.0), Some(Duration::from_secs(5)));
        assert_eq!(left(100, 100, 0.0), Some(Duration::ZERO));
        assert_eq!(left(0, 100, 0.0), None);
    }
}
