//! Who sends a request, by the connection or as a trusted proxy tells, and how far that lets them in.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};
use api::Failure;
use wire::ErrorCode;

use super::guests::Guests;
use super::hosts::Access;
use super::permit::{ConnectionPermit, Passed};
use crate::intake::Client;

/// Where the socket is, which tells its clients itself why they can't be served.
pub const SOCKET: &str = "/ws";

/// Why a request was refused before any door: with the response, for doors whose clients read it in a form of their own.
#[derive(Debug)]
pub struct Refused {
    /// Stable.
    pub code: &'static str,
    pub message: String,
    pub retry_after_ms: Option<f64>,
}

/// Who sent a request.
#[derive(Clone)]
pub struct Caller {
    pub client: Client,
    /// Whether the limits of addresses hold.
    pub limited: bool,
    /// Why the request is refused: its sender has too many connections already.
    pub refusal: Option<Failure>,
}

/// Finds out who sends a request, and refuses it if they have too many connections already; the socket tells its clients
/// so itself.
pub async fn count<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse, Error> {
    let (caller, passed) = caller(request.request());
    let refusal = caller.as_ref().and_then(|caller| caller.refusal.clone());
    if let Some(refusal) = refusal.filter(|_| request.path() != SOCKET) {
        return Ok(request.into_response(busy(&refusal)));
    }
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = next.call(request).await?;
    Ok(match passed {
        None => response.map_into_boxed_body(),
        Some(passed) => response.map_body(|_, body| {
            Counted {
                body: body.boxed(),
                _passed: passed,
            }
            .boxed()
        }),
    })
}

fn busy(refusal: &Failure) -> HttpResponse {
    let status = match refusal.code {
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let wait = (refusal.retry_after_ms.unwrap_or_default() / 1e3).ceil() as u64;
    let mut response = HttpResponse::build(status)
        .insert_header((RETRY_AFTER, wait))
        .force_close()
        .content_type("text/plain; charset=utf-8")
        .body(format!("{}\n", refusal.message));
    response.extensions_mut().insert(Refused {
        code: refusal.code.as_str(),
        message: refusal.message.clone(),
        retry_after_ms: refusal.retry_after_ms,
    });
    response
}

fn caller(request: &HttpRequest) -> (Option<Caller>, Option<Passed>) {
    let (Some(access), Some(guests), Some(peer)) = (
        request.app_data::<web::Data<Access>>(),
        request.app_data::<web::Data<Guests>>(),
        request.peer_addr(),
    ) else {
        return (None, None);
    };
    let peer = peer.ip();
    let place = request.conn_data::<Arc<ConnectionPermit>>();
    let refusal = place.and_then(|place| place.refusal());
    let Some(address) = access.passed_on(peer, request.headers()) else {
        let caller = Caller {
            client: Client::at(peer),
            limited: guests.limits_apply(peer),
            refusal,
        };
        return (Some(caller), None);
    };
    let client = Client::at(address);
    if let Some(place) = place {
        place.seen_as(client);
    }
    let (passed, refusal) = match (refusal, guests.clone().into_inner().pass(client)) {
        (Some(refusal), _) | (None, Err(refusal)) => (None, Some(refusal)),
        (None, Ok(passed)) => (Some(passed), None),
    };
    let caller = Caller {
        client,
        limited: true,
        refusal,
    };
    (Some(caller), passed)
}

/// An answer that counts as one of its client's connections until it is sent.
struct Counted {
    body: BoxBody,
    _passed: Passed,
}

impl MessageBody for Counted {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<web::Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
