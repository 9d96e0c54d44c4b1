//! What is done with what workers tell of themselves: it is counted for `/metrics`, and loading is shown.

use std::time::Duration;

use api::{Gauges, Observer};

use crate::loading::Loading;
use gateway::metrics::{METRICS, Share};

/// The observer of the worker with this number.
pub fn observer(worker: usize) -> Box<dyn Observer> {
    Box::new(Watch {
        gauges: Share::default(),
        // One bar for all: they load alike.
        shows: worker == 0,
        loading: None,
    })
}

struct Watch {
    gauges: Share,
    shows: bool,
    loading: Option<Loading>,
}

impl Observer for Watch {
    fn loading(&mut self, done: u64, total: u64) {
        if self.shows {
            let loading = self.loading.get_or_insert_with(|| Loading::new("loading"));
            loading.at(done, total);
        }
    }

    fn loaded(&mut self) {
        if let Some(loading) = self.loading.take() {
            loading.finish();
        }
    }

    fn forward(&mut self, took: Duration, slots: usize, decode: bool) {
        METRICS.forward(took, slots, decode);
    }

    fn gauges(&mut self, now: Gauges) {
        self.gauges.change(|gauges| *gauges = now);
    }
}
