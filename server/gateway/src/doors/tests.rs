//! What an operator is told, held against every state that a server can be in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;
use wire::{FinishReason, State, close};

use super::{Ended, Page, healthz, metrics, readyz};
use crate::access::{Access, GuestLimits, Guests, Proxies};
use crate::session::{Hub, Options, Phase, Shared};
use crate::stand_in::{limits, stand_in};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::metrics::check::{conventions, parse};
use api::{
    Command, Compute, Conversation, Event, Failure, Gauges, Measured, Report, Status, Tokens,
};

fn hub(state: State) -> web::Data<Hub> {
    let (_, status) = watch::channel(Status {
        state,
        ..Status::default()
    });
    hub_of(status)
}

fn hub_of(status: watch::Receiver<Status>) -> web::Data<Hub> {
    let (engine, reports, _) = stand_in();
    hub_with(engine, status, reports)
}

fn hub_with(
    engine: Arc<dyn Compute>,
    status: watch::Receiver<Status>,
    reports: Receiver<Report>,
) -> web::Data<Hub> {
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
        session_memory: 1 << 30,
        message_memory: 1 << 30,
        max_sessions: 1,
    };
    let shared = Shared::new(engine, None, status, reports, limits(), options);
    web::Data::new(Hub::new(shared.unwrap()))
}

/// Counts nothing.
struct Wordless;

impl Tokens for Wordless {
    fn encode(&self, _: &str, _: bool) -> Result<Vec<u32>, Failure> {
        Ok(Vec::new())
    }

    fn prompt(&self, _: &Conversation<'_>) -> Result<Vec<u32>, Failure> {
        Ok(Vec::new())
    }

    fn bytes(&self, _: &[u32]) -> Result<Vec<Vec<u8>>, Failure> {
        Ok(Vec::new())
    }
}

fn options() -> super::Options {
    super::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        threads: 1,
        drain: Duration::from_secs(60),
        access: Access::new(&[], &[], Proxies::new(Vec::new())).unwrap(),
        patience: Duration::from_secs(30),
        guests: Guests::new(Vec::new(), GuestLimits::default(), 10, false),
        keys: None,
        tls: None,
        page: Page::new(&[]).unwrap(),
        api: super::openai::Options::default(),
        tokens: Arc::new(Wordless),
        fetch_hosts: super::Hosts::default(),
        #[cfg(feature = "mcp")]
        root: None,
    }
}

/// A server whose device is lost ends by itself, so that a supervisor starts another.
#[actix_web::test]
async fn a_lost_device_ends_the_server() {
    let (tell, status) = watch::channel(Status::default());
    let hub = hub_of(status).into_inner();
    let serving = super::serve(hub, options(), |_| {
        tell.send_modify(|status| {
            status.state = State::Failed;
            status.lost = true;
        });
    });
    let ended = tokio::time::timeout(Duration::from_secs(300), serving).await;
    assert_eq!(ended.unwrap().unwrap(), Ended::Lost);
}

/// However much is still to be sent when the server closes, it goes before the close frame.
#[actix_web::test]
async fn the_end_does_not_overtake_what_was_said() {
    const TOKENS: usize = 2000;
    let (tell, status) = watch::channel(Status {
        state: State::Ready,
        ..Status::default()
    });
    let (engine, reports, player) = stand_in();
    let hub = hub_with(engine, status, reports).into_inner();
    let (bound, address) = oneshot::channel();
    let serving = actix_web::rt::spawn(super::serve(hub.clone(), options(), |address| {
        bound.send(address).unwrap();
    }));
    let url = format!("ws://{}/ws", address.await.unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let ask = r#"{"type":"ask","request":"a","text":"?"}"#;
    socket.send(Message::text(ask)).await.unwrap();
    let answer = move || {
        let Ok(Command::Ask(ask)) = player.commands.recv() else {
            panic!("no question was given");
        };
        let (session, request, attempt) = (ask.asker.session, ask.request, ask.attempt);
        for token in 0..TOKENS as u32 {
            let event = Event::Tokens {
                request,
                attempt,
                first: token.into(),
                ids: vec![token],
                text: "word ".into(),
                logprobs: Vec::new(),
            };
            player.tell(session, event);
        }
        let event = Event::Done {
            request,
            attempt,
            finish_reason: FinishReason::Stop,
            usage: wire::Usage::default(),
            timings: wire::AnswerTimings::default(),
        };
        player.tell(session, event);
    };
    tokio::task::spawn_blocking(answer).await.unwrap();
    hub.shared.set_phase(Phase::Closing);
    let (mut tokens, mut done, mut code) = (0, 0, None);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if text.contains(r#""type":"token""#) => tokens += 1,
            Message::Text(text) if text.contains(r#""type":"done""#) => done += 1,
            Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
            _ => {}
        }
    }
    assert_eq!((tokens, done, code), (TOKENS, 1, Some(close::DRAINING)));
    tell.send_modify(|status| status.lost = true);
    serving.await.unwrap().unwrap();
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
    let gauges = Gauges {
        memory_size: 1 << 30,
        ..Gauges::default()
    };
    METRICS.measured(u32::MAX, Measured::Gauges(gauges));
    let families = parse(&metrics::text(&hub(State::Ready))).unwrap();
    let dashboard = include_str!("../../../../docs/grafana.json");
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
