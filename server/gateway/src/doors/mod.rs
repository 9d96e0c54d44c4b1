//! The routes: the page, the socket, and what an operator looks at.

mod body;
mod data_url;
mod fetch;
mod in_use;
mod incoming;
#[cfg(feature = "mcp")]
pub mod mcp;
mod metrics;
pub mod openai;
mod page;
mod stream;
#[cfg(test)]
mod tests;
mod tick;
mod tls;
pub mod ws;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, KeepAlive};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::{App, Error, HttpResponse, web};
use api::{Loaded, Tokens};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use wire::State;

pub use fetch::Hosts;
pub use page::{File, Page};
pub use tls::Tls;

use crate::access::{self, Access, Guests, KeyFile, SOCKET};
use crate::exchange::Exchanges;
use crate::session::{Hub, Phase};
use fetch::Fetcher;
#[cfg(feature = "mcp")]
use mcp::Mcp;
use stream::{Stream, Watched};
use tick::tick;

/// Connections that the kernel keeps until they are looked at.
const BACKLOG: i32 = 1024;
/// How long a client may take to send what a request begins with, or to agree on TLS.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// How a server listens and ends.
pub struct Options {
    pub listen: SocketAddr,
    pub threads: usize,
    /// How long running answers may go on after the signal.
    pub drain: Duration,
    /// How long a client may take nothing of what is there for it.
    pub patience: Duration,
    pub access: Access,
    pub guests: Arc<Guests>,
    /// Read anew on SIGHUP.
    pub keys: Option<KeyFile>,
    /// `None` is plain http; read anew on SIGHUP.
    pub tls: Option<Tls>,
    pub page: Page,
    pub api: openai::Options,
    /// Counts text as the model does.
    pub tokens: Arc<dyn Tokens>,
    /// Where pictures are fetched from.
    pub fetch_hosts: Hosts,
    /// Whose pictures tools may name by their paths.
    #[cfg(feature = "mcp")]
    pub root: Option<mcp::Folder>,
}

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// SIGTERM or Ctrl-C.
    Asked,
    /// The device is lost: only a new process may get it back.
    Lost,
}

/// What every new connection passes.
struct Acceptor {
    access: Arc<Access>,
    guests: Arc<Guests>,
    tls: Option<Arc<Tls>>,
    patience: Duration,
}

impl Acceptor {
    /// Counts a connection, and agrees on TLS.
    async fn open(&self, io: TcpStream) -> io::Result<(Stream, SocketAddr)> {
        let peer = io.peer_addr()?;
        let address = peer.ip();
        // A proxy's connections are many clients': those are counted by what they ask for.
        let limited = !self.access.proxies().trusts(address) && self.guests.limits_apply(address);
        let place = self.guests.connect(address, limited);
        let place = place.ok_or(io::ErrorKind::ConnectionRefused)?;
        let io = Watched::new(io, place, self.patience)?;
        let Some(tls) = &self.tls else {
            return Ok((Stream::Plain(io), peer));
        };
        let accepted = TlsAcceptor::from(tls.current()).accept(io);
        let io = tokio::time::timeout(HEAD_PATIENCE, accepted).await??;
        Ok((Stream::Tls(Box::new(io)), peer))
    }
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
) -> io::Result<Ended> {
    let access = Arc::new(options.access);
    let page = web::Data::new(options.page);
    let exchanges = Exchanges::new(hub.clone());
    let fetcher = Arc::new(Fetcher::new(options.fetch_hosts));
    let api = openai::Api::new(
        exchanges.clone(),
        fetcher.clone(),
        options.tokens,
        options.api,
    );
    let api = web::Data::from(api);
    #[cfg(feature = "mcp")]
    let mcp = Mcp::new(exchanges, fetcher, options.root);
    #[cfg(feature = "mcp")]
    let mcp_service = mcp::Service::new(mcp.clone());
    let tls = options.tls.map(Arc::new);
    let (app_hub, guests) = (hub.clone(), options.guests.clone());
    let acceptor = Arc::new(Acceptor {
        access: access.clone(),
        guests: guests.clone(),
        tls: tls.clone(),
        patience: options.patience,
    });
    let listener = listen(options.listen)?;
    let address = listener.local_addr()?;
    let server = Server::build();
    let shutdown = server.graceful_shutdown_signal();
    let server = server
        .workers(options.threads)
        // What there is room for the guests decide: here nothing must wait unseen.
        .max_concurrent_connections(usize::MAX >> 1)
        .disable_signals()
        .shutdown_timeout(3)
        .listen("http", listener, move || {
            let app = App::new()
                .app_data(web::Data::from(app_hub.clone()))
                .app_data(web::Data::from(access.clone()))
                .app_data(web::Data::from(guests.clone()))
                .app_data(page.clone())
                .app_data(api.clone())
                .wrap(from_fn(access::count))
                .wrap(from_fn(access::check))
                .wrap(from_fn(openai::shape))
                .wrap(from_fn(page::security_headers))
                .route(SOCKET, web::get().to(ws::open))
                .route("/healthz", web::get().to(healthz))
                .route("/healthz", web::head().to(healthz))
                .route("/health", web::get().to(healthz))
                .route("/readyz", web::get().to(readyz))
                .route("/readyz", web::head().to(readyz))
                .route("/metrics", web::get().to(metrics::show))
                .route("/metrics", web::head().to(metrics::show))
                .configure(openai::routes)
                .configure(|_config| {
                    #[cfg(feature = "mcp")]
                    mcp_service.clone().route(_config);
                })
                .default_service(web::to(page::show))
                .into_factory()
                .map_err(|error: Error| error.error_response());
            let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
            let http = HttpService::build()
                // The stream closes what is idle: it knows whether the last answer has left.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(HEAD_PATIENCE)
                // To actix every WebSocket's end leaves a request unread, after which it would wait for the client to
                // close first. WebSocket clients wait for us, and the socket has waited for their close frame already.
                .client_disconnect_timeout(Duration::ZERO)
                .graceful_shutdown_signal(move || {
                    let shutdown = shutdown.clone();
                    async move { shutdown.notified().await }
                })
                .on_connect_ext(|io: &Stream, data: &mut Extensions| {
                    data.insert(io.place().clone());
                })
                .h1(map_config(app, |()| AppConfig::default()));
            fn_service(move |io: TcpStream| {
                let acceptor = acceptor.clone();
                async move {
                    let (io, peer) = acceptor.open(io).await.map_err(DispatchError::Io)?;
                    Ok((io, Some(peer)))
                }
            })
            .and_then(http)
        })?
        .run();
    let handle = server.handle();
    let [mut terminate, mut interrupt] = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ];
    let hangup = signal(SignalKind::hangup())?;
    let serving = actix_web::rt::spawn(server);
    let ticking = actix_web::rt::spawn(tick(hub.clone(), options.guests.clone(), move |_now| {
        #[cfg(feature = "mcp")]
        mcp.tick(_now);
    }));
    let reloading = actix_web::rt::spawn(reload(
        hangup,
        hub.clone(),
        options.guests,
        options.keys.map(Arc::new),
        tls,
    ));
    bound(address);

    let ended = tokio::select! {
        _ = terminate.recv() => Ended::Asked,
        _ = interrupt.recv() => Ended::Asked,
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
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    if !finished {
        tracing::warn!("answers were cut off: --drain-seconds ran out, or a second signal came");
    }
    // What waits for its client ends in any case. The engine needs a step for each that it has.
    hub.cancel_all();
    hub.finish(Duration::from_secs(1)).await;
    hub.shared.set_phase(Phase::Closing);
    ticking.abort();
    reloading.abort();
    // The connections' close frames leave meanwhile.
    handle.stop(true).await;
    serving.await.map_err(std::io::Error::other)??;
    Ok(ended)
}

/// Waits until the device is lost, if it ever is.
async fn lost(hub: &Hub) {
    let mut status = hub.shared.engine_status.clone();
    if status.wait_for(|status| status.lost).await.is_err() {
        std::future::pending().await
    }
}

/// Listens like `std::net::TcpListener::bind`, but with a longer queue of connections that wait to be accepted.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Reads keys and certificates anew at each SIGHUP.
async fn reload(
    mut hangup: Signal,
    hub: Arc<Hub>,
    guests: Arc<Guests>,
    keys: Option<Arc<KeyFile>>,
    tls: Option<Arc<Tls>>,
) {
    while hangup.recv().await.is_some() {
        if keys.is_none() && tls.is_none() {
            tracing::info!("SIGHUP: there are no keys and no certificates to read anew");
        }
        if let Some(keys) = keys.clone() {
            match read(move || keys.read()).await {
                Ok(keys) => {
                    let (added, removed) = guests.set_keys(keys);
                    hub.end_without_key(|owner| guests.has(owner));
                    tracing::info!(added, removed, "SIGHUP: the keys were read anew");
                }
                Err(problem) => {
                    tracing::error!("SIGHUP: {problem}: the keys stay what they were");
                }
            }
        }
        if let Some(tls) = tls.clone() {
            match read(move || tls.reload()).await {
                Ok(()) => tracing::info!("SIGHUP: the certificates were read anew"),
                Err(problem) => {
                    tracing::error!("SIGHUP: {problem}: the certificates stay what they were");
                }
            }
        }
    }
}

/// Reads files beside what is served.
async fn read<T: Send + 'static>(
    files: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let reading = tokio::task::spawn_blocking(files).await;
    reading.unwrap_or_else(|problem| Err(problem.to_string()))
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
            "progress": status.loaded.map(Loaded::progress),
            "download": status.download,
            "model": status.model.name,
            "error": status.error,
        }))
}
