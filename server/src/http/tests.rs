//! What an operator is told, held against every state that a server can be in.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use tokio::sync::watch;
use wire::State;

use super::{Access, Ended, Proxies, healthz, metrics, readyz};
use crate::config::LimitArgs;
use crate::engine::{Engine, Status};
use crate::metrics::METRICS;
use crate::metrics::check::{conventions, parse};
use crate::session::{GuestLimits, Guests, Hub, Options, Phase, Shared};

fn hub(state: State) -> web::Data<Hub> {
    let (_, status) = watch::channel(Status {
        state,
        ..Status::default()
    });
    hub_of(status)
}

fn hub_of(status: watch::Receiver<Status>) -> web::Data<Hub> {
    let (commands, _) = mpsc::channel();
    let options = Options {
        share_pictures: false,
        decode: crate::intake::decode::Settings {
            image: glimpse_image::Options::default(),
            in_process: false,
            decoders: 1,
            memory: 1 << 20,
            time: Duration::from_secs(60),
            warm_up: false,
        },
        upload_memory: 1 << 20,
        picture_memory: 1 << 20,
        max_sessions: 1,
    };
    let limits = LimitArgs::default().wire().unwrap();
    let engine = Engine::stand_in(commands, status);
    web::Data::new(Hub::new(Shared::new(engine, limits, options).unwrap()))
}

/// A server whose device is lost ends by itself, so that a supervisor starts another.
#[actix_web::test]
async fn a_lost_device_ends_the_server() {
    let (tell, status) = watch::channel(Status::default());
    let hub = hub_of(status).into_inner();
    let options = super::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        threads: 1,
        drain: Duration::from_secs(60),
        access: Access::new(&[], &[], Proxies::new(Vec::new())).unwrap(),
        patience: Duration::from_secs(30),
        guests: Guests::new(Vec::new(), GuestLimits::default(), 10, false),
        keys: None,
        tls: None,
    };
    let serving = super::serve(hub, options, |_| {
        tell.send_modify(|status| {
            status.state = State::Failed;
            status.lost = true;
        });
    });
    let ended = tokio::time::timeout(Duration::from_secs(300), serving).await;
    assert_eq!(ended.unwrap().unwrap(), Ended::Lost);
}

/// Whether it is alive, and whether it is ready.
async fn health(hub: &web::Data<Hub>) -> [bool; 2] {
    let answers = [healthz(hub.clone()).await, readyz(hub.clone()).await];
    answers.map(|answer| answer.status() == StatusCode::OK)
}

#[actix_web::test]
async fn health_is_told_as_it_is() {
    for (state, expected) in [
        (State::Loading, [true, false]),
        (State::Warming, [true, false]),
        (State::Ready, [true, true]),
        (State::Failed, [false, false]),
    ] {
        let hub = hub(state);
        assert_eq!(health(&hub).await, expected, "{state:?}");
        hub.shared.set_phase(Phase::Draining);
        // A server that drains is as alive as before, and takes no more.
        assert_eq!(health(&hub).await, [expected[0], false], "draining");
    }
}

#[test]
fn metrics_keep_to_the_conventions_and_tell_the_state() {
    for state in [State::Loading, State::Ready, State::Failed] {
        let families = parse(&metrics::text(&hub(state))).unwrap();
        conventions(&families).unwrap();
        let states = &families["glimpse_state"].samples;
        let is: Vec<_> = states
            .iter()
            .filter(|(_, _, value)| *value == 1.0)
            .collect();
        assert_eq!(is.len(), 1);
        assert_eq!(is[0].1[0].1, format!("{state:?}").to_lowercase());
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    // Told only where there is a GPU.
    METRICS.device_memory_size_bytes.add(1 << 30);
    let families = parse(&metrics::text(&hub(State::Ready))).unwrap();
    let dashboard = include_str!("../../../docs/grafana.json");
    let _: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let names: BTreeSet<&str> = dashboard
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("glimpse_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let base = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(families.contains_key(base), "{name}");
    }
}
