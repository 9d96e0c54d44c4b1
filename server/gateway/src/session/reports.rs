//! Hands what the engine tells to whom it is for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;

use super::registry::Registry;
use crate::telemetry::metrics::METRICS;
use api::{Event, Report, SessionId};

/// Hands on one report after the other, until nobody is left to tell any. A panic over one costs that one alone.
pub fn dispatch(reports: &Receiver<Report>, registry: &Registry) {
    for report in reports {
        let handed = catch_unwind(AssertUnwindSafe(|| match report {
            Report::Session { session, event } => tell(registry, session, event),
            Report::Health(health) => METRICS.health(health),
            Report::Measured { worker, measured } => METRICS.measured(worker, measured),
            Report::Kept { session } => {
                if let Some(session) = registry.get(session) {
                    session.kept();
                }
            }
            Report::Unkept { session } => {
                if let Some(session) = registry.get(session) {
                    session.unkept();
                }
            }
            Report::Missing { session } => {
                if let Some(session) = registry.get(session) {
                    session.missing();
                }
            }
            Report::Taken { session } => {
                if let Some(session) = registry.get(session) {
                    session.give_up();
                }
            }
            Report::Fleet(fleet) => METRICS.fleet(*fleet),
        }));
        if handed.is_err() {
            tracing::error!("what the engine told led to a panic: it is passed over");
        }
    }
}

fn tell(registry: &Registry, session: SessionId, event: Event) {
    if matches!(event, Event::Moved { .. }) {
        METRICS.answers_moved.inc();
    }
    let mut event = Some(event);
    if let Some(session) = registry.get(session) {
        event.as_ref().inspect(|event| session.log(event));
        let is_move = matches!(event, Some(Event::Moved { .. }));
        session.event(&mut event);
        if is_move {
            let status = session.shared.told_status();
            session.with(|state| state.tell_moving(status));
        }
    }
    // The session is over, so nobody is told: what it took is counted all the same.
    match event {
        Some(Event::Done {
            finish_reason,
            usage,
            timings,
            ..
        }) => METRICS.answered(finish_reason, &usage, &timings),
        Some(Event::Failed { failure, .. }) => METRICS.request_ended(failure.code.as_str()),
        _ => {}
    }
}
