//! Tools by which agents without eyes ask about pictures, as the Model Context Protocol has them: at `/mcp`, and over a
//! process's standard input and output.

mod folder;
mod handler;
mod kept;
mod pictures;
mod tools;

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpMessage, web};
use parking_lot::Mutex;
use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::io::stdio_pipes;
use rmcp_actix_web::transport::{LocalSessionManager, StreamableHttpService};
use wire::{ErrorCode, State};

use super::body::{self, Body};
use super::fetch::{Fetcher, Hosts};
use super::in_use::InUse;
use super::openai::{self, Refusal};
use super::tick::tick;
use crate::access::{Guest, Guests, Login, Visit};
use crate::exchange::Exchanges;
use crate::intake::{Client, KeyId};
use crate::session::{Hub, seconds};
use api::Failure;
use handler::{Handler, Origin};
use kept::Kept;

pub use folder::Folder;

/// How often a stream says that it is still there, while nothing else is to be said.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How much of the memory for files those may take that are kept for later questions: one part in so many.
const KEPT_SHARE: u64 = 4;

/// What all calls share.
pub struct Mcp {
    exchanges: Arc<Exchanges>,
    fetcher: Arc<Fetcher>,
    root: Option<Folder>,
    kept: Kept,
}

impl Mcp {
    pub fn new(
        exchanges: Arc<Exchanges>,
        fetcher: Arc<Fetcher>,
        root: Option<Folder>,
    ) -> Arc<Self> {
        let shared = &exchanges.hub.shared;
        let most = shared.options.upload_memory / KEPT_SHARE;
        let patience = seconds(shared.limits.resume_seconds);
        Arc::new(Mcp {
            kept: Kept::new(most, patience),
            exchanges,
            fetcher,
            root,
        })
    }

    /// For a process that has no other doors.
    pub fn alone(hub: Arc<Hub>, fetch_hosts: Hosts, root: Option<Folder>) -> Arc<Self> {
        let fetcher = Arc::new(Fetcher::new(fetch_hosts));
        Self::new(Exchanges::new(hub), fetcher, root)
    }

    /// Lets go what was kept long enough. Call it every second or so.
    pub fn tick(&self, now: Instant) {
        self.kept.tick(now);
    }
}

/// Somebody who may call a tool, once: what their request brought along.
struct Visitor {
    guest: Mutex<Option<Guest>>,
    owner: Option<KeyId>,
    /// Its bytes were handed on.
    body: Body,
}

/// What speaks the protocol over HTTP. Every request stands alone: there are no sessions that a client could lose.
#[derive(Clone)]
pub struct Service(StreamableHttpService<Handler, LocalSessionManager>);

impl Service {
    pub fn new(mcp: Arc<Mcp>) -> Self {
        let longest = body::longest(&mcp.exchanges.hub.shared.limits);
        let handler = Handler::new(mcp, Origin::Request);
        let service = StreamableHttpService::builder()
            .service_factory(Arc::new(move || Ok(handler.clone())))
            .session_manager(Arc::default())
            .stateful_mode(false)
            .json_response(true)
            .sse_keep_alive(HEARTBEAT)
            .disable_sse_retry()
            .max_request_body_bytes(usize::try_from(longest).unwrap_or(usize::MAX))
            // Who gets here has passed our own check of names and pages.
            .allowed_hosts(Vec::new())
            .on_request_fn(|request, extensions| {
                if let Some(visitor) = request.extensions().get::<Arc<Visitor>>() {
                    extensions.insert(visitor.clone());
                }
            });
        Service(service.build())
    }

    /// Adds the door's route.
    pub fn route(self, config: &mut web::ServiceConfig) {
        let scope = web::scope("/mcp")
            .wrap(from_fn(let_in))
            .wrap(from_fn(openai::cors))
            .service(self.0.scope());
        config.service(scope);
    }
}

/// Asks for the key, and takes the body in as files are taken in, before the protocol is looked at.
async fn let_in<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse, Error> {
    let in_use = InUse::begin(request.request());
    match visitor(&mut request, &in_use).await {
        Ok(mut visitor) => {
            let bytes = std::mem::take(&mut visitor.body.bytes);
            request.set_payload(web::Bytes::from(bytes).into());
            request.extensions_mut().insert(Arc::new(visitor));
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        Err(failure) => {
            let refusal = Refusal::from(failure).response();
            Ok(request.into_response(refusal))
        }
    }
}

async fn visitor(request: &mut ServiceRequest, in_use: &InUse) -> Result<Visitor, Failure> {
    let payload = request.extract::<web::Payload>().await;
    let (Ok(payload), Some(guests), Some(hub)) = (
        payload,
        request.app_data::<web::Data<Guests>>(),
        request.app_data::<web::Data<Hub>>(),
    ) else {
        let message = "The server could not read the request: send it again.";
        return Err(Failure::new(ErrorCode::Internal, message));
    };
    let login = Login::of(request.request(), guests, in_use.place(), Visit::Request);
    let (guest, owner) = login.admit()?;
    let client = guest.client().number();
    let body = body::read(request.request(), payload, &hub.shared, client).await?;
    Ok(Visitor {
        guest: Mutex::new(Some(guest)),
        owner,
        body,
    })
}

/// Answers whoever started this process, over its standard input and output, until they close these.
///
/// # Errors
/// If the protocol does not begin as it should.
pub async fn serve_stdio(mcp: Arc<Mcp>, guests: Arc<Guests>) -> io::Result<()> {
    let hub = mcp.exchanges.hub.clone();
    let longest = body::longest(&hub.shared.limits);
    let (input, output) = stdio_pipes();
    let transport = AsyncRwTransport::new_server(input, output)
        .with_max_line_length(usize::try_from(longest).unwrap_or(usize::MAX));
    let kept = mcp.clone();
    let ticking = actix_web::rt::spawn(tick(hub, guests.clone(), move |now| kept.tick(now)));
    let handler = Handler::new(mcp, Origin::Process(guests));
    let ended = async {
        let running = handler.serve(transport).await.map_err(io::Error::other)?;
        running.waiting().await.map_err(io::Error::other)
    };
    let ended = ended.await;
    ticking.abort();
    ended.map(drop)
}

/// Whoever started this process.
async fn owner_of_process(guests: &Arc<Guests>, hub: &Hub) -> Result<Visitor, Failure> {
    // The first question may come before the model is there, and nobody else waits.
    let mut status = hub.shared.engine_status();
    let begins = [State::Loading, State::Warming];
    let begun = status.wait_for(|status| !begins.contains(&status.state));
    // An engine that is gone is told of by the question.
    let _ = begun.await;
    let client = Client::at(Ipv4Addr::LOCALHOST.into());
    let guest = guests.enter(client, false, None, Visit::Request)?;
    Ok(Visitor {
        guest: Mutex::new(Some(guest)),
        owner: None,
        body: Body::empty(&hub.shared, client.number()),
    })
}
