//! `/ws`, the socket that speaks `glimpse.v1`: from the HTTP request to the WebSocket.

pub mod codec;
mod ending;
pub mod frames;
mod guard;
mod socket;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::error::PayloadError;
use actix_web::http::header::SEC_WEBSOCKET_PROTOCOL;
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, rt, web};
use futures_util::Stream;
use tokio::sync::oneshot;
use wire::{PROTOCOL, frame};

use crate::access::{ConnectionPermit, Guests, Login, Visit};
use crate::session::Hub;
use guard::GuardedPayload;
use socket::{HELLO_BYTES, Socket};

pub use socket::LATE;

type BoxedPayloadStream = Pin<Box<dyn Stream<Item = Result<web::Bytes, PayloadError>>>>;

pub async fn open(
    request: HttpRequest,
    payload: web::Payload,
    hub: web::Data<Hub>,
    guests: web::Data<Guests>,
) -> Result<HttpResponse, actix_web::Error> {
    let mut offered = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_some() && !offered.any(|protocol| protocol == PROTOCOL) {
        return Ok(HttpResponse::BadRequest()
            .content_type("text/plain; charset=utf-8")
            .body(format!(
                "This server speaks {PROTOCOL}: offer that, or no subprotocol.\n"
            )));
    }
    let hub = hub.into_inner();
    let place = request.conn_data::<Arc<ConnectionPermit>>().cloned();
    let guests = guests.into_inner();
    let keys = guests.watch();
    let login = Login::of(&request, &guests, place.clone(), Visit::Session);
    let message_bytes = hub.shared.limits.message_bytes;
    let messages = hub.shared.messages.clone();
    let (guarded, verdict) = GuardedPayload::new(
        payload.into_inner(),
        message_bytes,
        messages,
        login.client(),
    );
    if matches!(login, Login::NeedsKey(_)) {
        verdict.set_message_bytes(HELLO_BYTES);
    }
    let stream: BoxedPayloadStream = Box::pin(guarded);
    let mut guarded = dev::Payload::Stream { payload: stream };
    let payload = web::Payload::from_request(&request, &mut guarded).await?;
    let (response, ws, stream) = actix_ws::handle_with_protocols(&request, payload, &[PROTOCOL])?;
    let most = usize::try_from(message_bytes)
        .unwrap_or(usize::MAX)
        .max(frame::HEADER + frame::MAX_PAYLOAD);
    let stream = stream
        .max_frame_size(most)
        .aggregate_continuations()
        .max_continuation_size(most);
    let (hold, released) = oneshot::channel();
    let response = response.map_body(|_, body| Held { body, released }.boxed());
    if let Some(place) = &place {
        place.set_in_use(true);
    }
    rt::spawn(async move {
        Socket::serve(hub, ws, stream, verdict, login, keys).await;
        if let Some(place) = &place {
            place.set_in_use(false);
        }
        drop(hold);
    });
    Ok(response)
}

/// The socket's outgoing bytes, whose end, and so TCP's, comes only when the socket has seen the client's close frame
/// or given up on it.
struct Held {
    body: BoxBody,
    released: oneshot::Receiver<()>,
}

impl MessageBody for Held {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<web::Bytes, Self::Error>>> {
        match Pin::new(&mut self.body).poll_next(context) {
            Poll::Ready(None) => Pin::new(&mut self.released).poll(context).map(|_| None),
            other => other,
        }
    }
}
