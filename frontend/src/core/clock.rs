//! Joins the server's clock to the page's.

use std::collections::VecDeque;

/// How many pings are remembered.
const KEPT: usize = 16;

/// What one ping told: the page's time less the server's, and by how much that may be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offset {
    /// Add it to the server's `at` for the page's `performance.now()`, both in milliseconds.
    pub shift: f64,
    /// Half of the round trip, in milliseconds: the offset is within ± this.
    pub uncertainty: f64,
}

/// The best of the last pings: the quickest says most.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    samples: VecDeque<Offset>,
}

impl Clock {
    /// Takes in a ping sent at `sent` and answered at `received` (the page's time) by a pong stamped `at` (the server's).
    pub fn sample(&mut self, sent: f64, received: f64, at: f64) {
        if received < sent {
            return;
        }
        self.samples.truncate(KEPT - 1);
        self.samples.push_front(Offset {
            shift: (sent + received) / 2.0 - at,
            uncertainty: (received - sent) / 2.0,
        });
    }

    /// Forgets all: a new session has a clock of its own.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    pub fn best(&self) -> Option<Offset> {
        self.samples
            .iter()
            .copied()
            .min_by(|a, b| a.uncertainty.total_cmp(&b.uncertainty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_ping_counts() {
        let mut clock = Clock::default();
        assert_eq!(clock.best(), None);
        clock.sample(100.0, 140.0, 20.0);
        clock.sample(200.0, 204.0, 102.0);
        clock.sample(300.0, 390.0, 240.0);
        let best = clock.best().unwrap();
        assert_eq!((best.shift, best.uncertainty), (100.0, 2.0));
        for i in 0..KEPT {
            clock.sample(i as f64, i as f64 + 10.0, 0.0);
        }
        assert_eq!(clock.best().unwrap().uncertainty, 5.0);
    }
}
