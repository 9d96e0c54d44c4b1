//! So many a minute.

use std::time::{Duration, Instant};

/// A bucket that holds a minute's worth and fills steadily.
pub struct TokenBucket {
    full: f64,
    level: f64,
    since: Instant,
}

impl TokenBucket {
    pub fn new(per_minute: u32, now: Instant) -> Self {
        let full = f64::from(per_minute);
        TokenBucket {
            full,
            level: full,
            since: now,
        }
    }

    /// So much of it is gone already.
    pub fn with_used(per_minute: u32, used: f64, now: Instant) -> Self {
        let bucket = TokenBucket::new(per_minute, now);
        TokenBucket {
            level: (bucket.full - used).max(0.0),
            ..bucket
        }
    }

    /// Takes one, or tells how long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        self.level = (self.level + filled).min(self.full);
        self.since = now;
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.level) * 60.0 / self.full.max(f64::MIN_POSITIVE);
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(60)))
    }

    /// What was taken and is not filled up yet.
    pub fn used(&self, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        (self.full - self.level - filled).max(0.0)
    }

    pub fn is_full(&self, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        self.level + filled >= self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_minute() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(60, now);
        for _ in 0..60 {
            assert!(bucket.take(now).is_ok());
        }
        let wait = bucket.take(now).unwrap_err();
        assert_eq!(wait.as_secs_f64().round(), 1.0);
        assert!(!bucket.is_full(now));
        assert!(bucket.take(now + wait + Duration::from_millis(1)).is_ok());
        assert!(bucket.is_full(now + Duration::from_secs(100)));
        assert!(TokenBucket::new(0, now).take(now).is_err());
    }
}
