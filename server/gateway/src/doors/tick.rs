//! What happens by the clock, whoever asks for what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::ws::LATE;
use crate::access::Guests;
use crate::session::Hub;

/// Ends what took too long, again and again. `others` does so where neither sessions nor guests are concerned.
pub async fn tick(hub: Arc<Hub>, guests: Arc<Guests>, others: impl Fn(Instant)) {
    let mut interval = tokio::time::interval(Duration::from_millis(500));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let late = interval.tick().await.elapsed();
        if late > LATE {
            hub.extend_deadlines(late, Instant::now());
        }
        let now = Instant::now();
        hub.tick(now);
        guests.tick(now);
        others(now);
    }
}
