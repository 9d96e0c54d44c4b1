//! The routes: the page, the socket, and what an operator looks at.

mod access;
mod metrics;
mod page;
mod proxy;
mod socket;
#[cfg(test)]
mod tests;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use wire::State;

pub use access::Access;
pub use proxy::{Network, Proxies};

use crate::session::socket::LATE;
use crate::session::{Guests, Hub, Phase};

/// How a server listens and ends.
pub struct Options {
    pub listen: SocketAddr,
    pub threads: usize,
    /// How long running answers may go on after the signal.
    pub drain: Duration,
    pub access: Access,
    pub guests: Arc<Guests>,
    /// `None` is plain http.
    pub tls: Option<rustls::ServerConfig>,
}

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// SIGTERM or Ctrl-C.
    Asked,
    /// The device is lost: only a new process may get it back.
    Lost,
}

/// Serves until SIGTERM or Ctrl-C, then lets running answers finish; or until the device is lost.
///
/// `bound` is told the address, which is news if port 0 was asked for.
///
/// # Errors
/// If the address can't be had.
pub async fn serve(
    hub: Arc<Hub>,
    options: Options,
    bound: impl FnOnce(SocketAddr),
) -> std::io::Result<Ended> {
    let access = Arc::new(options.access);
    let (app_hub, guests) = (hub.clone(), options.guests.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(app_hub.clone()))
            .app_data(web::Data::from(access.clone()))
            .app_data(web::Data::from(guests.clone()))
            .wrap(from_fn(page::security_headers))
            .wrap(from_fn(access::check))
            .route("/ws", web::get().to(socket::open))
            .route("/healthz", web::get().to(healthz))
            .route("/healthz", web::head().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/readyz", web::head().to(readyz))
            .route("/metrics", web::get().to(metrics::show))
            .route("/metrics", web::head().to(metrics::show))
            .default_service(web::to(page::show))
    })
    .workers(options.threads)
    .client_request_timeout(Duration::from_secs(10))
    // To actix every WebSocket's end leaves a request unread, after which it would wait for the client to close first.
    // WebSocket clients wait for us, and the socket has waited for their close frame already.
    .client_disconnect_timeout(Duration::ZERO)
    .tcp_nodelay(true)
    .disable_signals()
    .shutdown_timeout(3);
    let server = match options.tls {
        None => server.bind(options.listen)?,
        Some(tls) => server.bind_rustls_0_23(options.listen, tls)?,
    };
    let address = server.addrs().first().copied().unwrap_or(options.listen);
    let server = server.run();
    let handle = server.handle();
    let serving = actix_web::rt::spawn(server);
    let ticking = actix_web::rt::spawn(tick(hub.clone(), options.guests));
    bound(address);

    let ended = tokio::select! {
        signalled = signalled() => {
            if let Err(problem) = &signalled {
                tracing::error!(%problem, "signals can't be heard: shutting down");
            }
            Ended::Asked
        }
        () = lost(&hub) => Ended::Lost,
    };
    let patience = options.drain;
    match ended {
        Ended::Asked => tracing::info!(
            ?patience,
            "shutting down: running answers finish, new ones are refused"
        ),
        Ended::Lost => {
            tracing::error!("shutting down: the device is lost, a new process is needed")
        }
    }
    hub.shared.set_phase(Phase::Draining);
    let finished = tokio::select! {
        finished = hub.finish(patience) => finished,
        // A second signal means now.
        _ = self::signalled() => false,
    };
    if !finished {
        tracing::warn!("answers were cut off: --drain-seconds ran out, or a second signal came");
    }
    // What waits for its client ends in any case. The engine needs a step for each that it has.
    hub.cut_off();
    hub.finish(Duration::from_secs(1)).await;
    hub.shared.set_phase(Phase::Closing);
    ticking.abort();
    // The connections' close frames leave meanwhile.
    handle.stop(true).await;
    serving.await.map_err(std::io::Error::other)??;
    Ok(ended)
}

/// Waits until the device is lost, if it ever is.
async fn lost(hub: &Hub) {
    let mut status = hub.shared.engine.status();
    if status.wait_for(|status| status.lost).await.is_err() {
        std::future::pending().await
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn tick(hub: Arc<Hub>, guests: Arc<Guests>) {
    let mut interval = tokio::time::interval(Duration::from_millis(500));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let late = interval.tick().await.elapsed();
        if late > LATE {
            hub.forgive(late, Instant::now());
        }
        hub.tick(Instant::now());
        guests.tick(Instant::now());
    }
}

/// Whether the process is alive and worth keeping.
async fn healthz(hub: web::Data<Hub>) -> HttpResponse {
    health(&hub, |state| state != State::Failed)
}

/// Whether a question would be answered now.
async fn readyz(hub: web::Data<Hub>) -> HttpResponse {
    health(&hub, |state| state == State::Ready)
}

fn health(hub: &Hub, good: impl Fn(State) -> bool) -> HttpResponse {
    let status = hub.shared.status();
    let code = if good(status.state) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    HttpResponse::build(code)
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({
            "state": status.state,
            "progress": status.progress,
            "model": status.model.name,
            "error": status.error,
        }))
}
