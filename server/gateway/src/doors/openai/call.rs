//! A request's way from its bytes to its answer, whichever of the API's forms it has.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use serde::Serialize;
use tokio::time::timeout;

use super::Api;
use super::refusal::Refusal;
use crate::access::{Guests, Login, Visit};
use crate::doors::body::{self, Body};
use crate::doors::in_use::InUse;
use crate::exchange::{Asker, Dialogue, Event, Exchange, Settings};
use crate::session::seconds;
use api::RequestId;

/// How often a stream says that it is still there, while nothing else is to be said: at the latest halfway to where a connection
/// counts as stalled. It is also how a client is found to be gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A body of more bytes is read beside what serves the network.
const LONG: usize = 16 << 10;

/// A request for an answer.
pub struct Call {
    api: Arc<Api>,
    guests: Arc<Guests>,
    /// Unlike any other's.
    pub id: RequestId,
    /// In seconds since 1970.
    pub created: u64,
    in_use: InUse,
}

/// A request that was understood. `wanted` is what it asks for beside its answer.
pub struct Prepared<W> {
    pub model: String,
    pub user: Option<String>,
    pub stream: bool,
    pub wanted: W,
    /// Pictures that the model is not shown, since it sees one.
    pub dropped: usize,
    pub settings: Settings,
    pub dialogue: Dialogue,
}

/// An answer in the form that its request asked for, piece by piece or whole.
pub trait Form {
    /// What a stream's client is told of an event.
    fn tell(&mut self, event: Event, out: &mut Vec<Bytes>);
    /// What it is told when all answers are over.
    fn end(&mut self, out: &mut Vec<Bytes>);
    /// What it is told when there will be no more of them.
    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<Bytes>);
    /// Takes an event in, for [`Form::whole`].
    fn collect(&mut self, event: Event);
    /// The whole of it, when all answers are over.
    fn whole(&mut self) -> HttpResponse;
}

impl Call {
    pub fn begin(request: &HttpRequest, api: Arc<Api>, guests: Arc<Guests>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Call {
            api,
            guests,
            id: RequestId::random(),
            created: now.map_or(0, |now| now.as_secs()),
            in_use: InUse::begin(request),
        }
    }

    /// Lets the client in, reads the request, asks, and answers.
    ///
    /// # Errors
    /// Whatever is known before anything of the answer has left.
    pub async fn answer<W, F>(
        self,
        request: &HttpRequest,
        payload: web::Payload,
        prepare: fn(&Arc<Body>, &Api) -> Result<Prepared<W>, Refusal>,
        form: fn(&Call, String, W, usize) -> F,
    ) -> Result<HttpResponse, Refusal>
    where
        W: Send + 'static,
        F: Form + 'static,
    {
        let place = self.in_use.place();
        let (guest, owner) = Login::of(request, &self.guests, place, Visit::Request).admit()?;
        let exchanges = self.api.exchanges.clone();
        let shared = &exchanges.hub.shared;
        // Before a body is taken that nothing would become of.
        shared.terms()?;
        let client = guest.client().number();
        let body = Arc::new(body::read(request, payload, shared, client).await?);
        let eviction = body.share.eviction.clone();
        let prepared = if body.bytes.len() <= LONG && !self.api.fetcher.is_on() {
            prepare(&body, &self.api)?
        } else {
            let api = self.api.clone();
            body::apart(move || prepare(&body, &api)).await?
        };
        let mut settings = prepared.settings;
        settings.traceparent = header(request, "traceparent");
        let namespace = exchanges.namespace(client, prepared.user.as_deref());
        let asker = Asker {
            guest,
            owner,
            namespace,
        };
        let mut form = form(&self, prepared.model, prepared.wanted, settings.choices);
        let mut exchange = exchanges.ask(asker, prepared.dialogue, &settings, eviction)?;
        // What is wrong is known by then, mostly, and can still be said by the status.
        exchange.begun(HEARTBEAT).await?;
        let mut response = if prepared.stream {
            self.stream(exchange, form)
        } else {
            while let Some(event) = exchange.next().await {
                form.collect(event?);
            }
            form.whole()
        };
        if prepared.dropped > 0 {
            let name = HeaderName::from_static("x-glimpse-dropped-pictures");
            response.headers_mut().insert(name, prepared.dropped.into());
        }
        let id = header(request, "x-request-id");
        let id = id.unwrap_or_else(|| self.id.to_string());
        if let Ok(id) = HeaderValue::from_str(&id) {
            let name = HeaderName::from_static("x-request-id");
            response.headers_mut().insert(name, id);
        }
        Ok(response)
    }

    /// The answer as server-sent events.
    fn stream(&self, exchange: Exchange, form: impl Form + 'static) -> HttpResponse {
        let stalled = seconds(self.api.exchanges.hub.shared.limits.stall_seconds);
        let state = Streaming {
            heartbeat: HEARTBEAT.min(stalled / 2),
            exchange: Some(exchange),
            form,
            out: Vec::new(),
        };
        let pieces = stream::unfold(state, |mut state| async move {
            let piece = state.next().await?;
            Some((Ok::<_, Infallible>(piece), state))
        });
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
            .insert_header((CACHE_CONTROL, "no-cache"))
            // Proxies would hold it back.
            .insert_header(("X-Accel-Buffering", "no"))
            .streaming(pieces)
    }
}

/// An answer that leaves as it comes.
struct Streaming<F> {
    heartbeat: Duration,
    /// `None` once it is over.
    exchange: Option<Exchange>,
    form: F,
    out: Vec<Bytes>,
}

impl<F: Form> Streaming<F> {
    /// What leaves next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while self.out.is_empty() {
            let exchange = self.exchange.as_mut()?;
            let Ok(next) = timeout(self.heartbeat, exchange.next()).await else {
                return Some(Bytes::from_static(b": waiting\n\n"));
            };
            match next {
                Some(Ok(event)) => {
                    self.form.tell(event, &mut self.out);
                }
                Some(Err(failure)) => {
                    self.exchange = None;
                    self.form.fail(&failure.into(), &mut self.out);
                }
                None => {
                    self.exchange = None;
                    self.form.end(&mut self.out);
                }
            }
        }
        let out = std::mem::take(&mut self.out);
        Some(out.concat().into())
    }
}

/// A server-sent event without a name.
pub fn event(data: &impl Serialize) -> Bytes {
    written(String::new(), data)
}

/// A server-sent event.
pub fn named_event(name: &str, data: &impl Serialize) -> Bytes {
    written(format!("event: {name}\n"), data)
}

fn written(head: String, data: &impl Serialize) -> Bytes {
    let mut text = head.into_bytes();
    text.extend_from_slice(b"data: ");
    // Plain data: it can always be written.
    let _ = serde_json::to_writer(&mut text, data);
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// A header's value, if it is one that can be shown.
fn header(request: &HttpRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= 128).then(|| value.to_owned())
}
