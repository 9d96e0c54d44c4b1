//! `/v1`, the HTTP API that most programs speak: OpenAI's, with what vLLM's users know beside it.
//!
//! Requests are read leniently: what would not change the answer is passed over, what would is refused by its name.

mod answer;
mod call;
mod chat;
mod document;
mod formats;
mod messages;
mod models;
mod pictures;
mod refusal;
mod request;
mod responses;
mod tokenization;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, Route, web};
use serde_json::json;

use crate::access::Refused;
use crate::doors::fetch::Fetcher;
use crate::exchange::Exchanges;
use api::Tokens;

pub use pictures::EarlierPictures;
pub use refusal::Refusal;

/// How the API is served.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names that the model is served under; empty, it has its own.
    pub served_names: Vec<String>,
    pub earlier_pictures: EarlierPictures,
}

/// What all requests share.
pub struct Api {
    exchanges: Arc<Exchanges>,
    fetcher: Arc<Fetcher>,
    tokens: Arc<dyn Tokens>,
    options: Options,
    /// In seconds since 1970.
    since: u64,
}

impl Api {
    pub fn new(
        exchanges: Arc<Exchanges>,
        fetcher: Arc<Fetcher>,
        tokens: Arc<dyn Tokens>,
        options: Options,
    ) -> Arc<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Arc::new(Api {
            exchanges,
            fetcher,
            tokens,
            options,
            since: now.map_or(0, |now| now.as_secs()),
        })
    }

    /// The names that the model is served under.
    fn names(&self) -> Vec<String> {
        if !self.options.served_names.is_empty() {
            return self.options.served_names.clone();
        }
        vec![self.exchanges.hub.shared.status().model.name]
    }

    /// The name to answer under: the one asked for, or without one the first.
    ///
    /// # Errors
    /// `model_not_found`.
    fn model(&self, asked: Option<&str>) -> Result<String, Refusal> {
        let names = self.names();
        match asked.filter(|name| !name.is_empty()) {
            Some(asked) if names.iter().any(|name| name == asked) => Ok(asked.to_owned()),
            Some(asked) => Err(Refusal::no_model(asked)),
            None => Ok(names.into_iter().next().unwrap_or_default()),
        }
    }
}

impl Refusal {
    fn no_model(name: &str) -> Self {
        let message =
            format!("There is no model {name:?} here: GET /v1/models tells which there are.");
        Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message).of("model")
    }
}

/// The API's routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::scope("/v1")
                .wrap(from_fn(cors))
                .service(
                    web::resource("/chat/completions")
                        .route(web::post().to(chat::complete))
                        .default_service(other_than("POST")),
                )
                .service(
                    web::resource("/responses")
                        .route(web::post().to(responses::respond))
                        .default_service(other_than("POST")),
                )
                .service(
                    web::resource("/models")
                        .route(web::get().to(models::list))
                        .default_service(other_than("GET")),
                )
                .service(
                    web::resource("/models/{name:.+}")
                        .route(web::get().to(models::show))
                        .default_service(other_than("GET")),
                )
                .default_service(web::to(nothing_here)),
        )
        .service(
            web::resource("/tokenize")
                .wrap(from_fn(cors))
                .route(web::post().to(tokenization::tokenize))
                .default_service(other_than("POST")),
        )
        .service(
            web::resource("/detokenize")
                .wrap(from_fn(cors))
                .route(web::post().to(tokenization::detokenize))
                .default_service(other_than("POST")),
        )
        .route("/version", web::get().to(version))
        .route("/openapi.json", web::get().to(document::show));
}

/// Refusals that came before any door, in the API's own shape: here, and where programs find tools.
pub async fn shape<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse, Error> {
    let is_below = |scope| {
        let rest = request.path().strip_prefix(scope);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let scopes = ["/v1", "/mcp", "/tokenize", "/detokenize"];
    let is_ours = scopes.into_iter().any(is_below);
    let mut response = next.call(request).await?.map_into_boxed_body();
    let refused = response.response_mut().extensions_mut().remove::<Refused>();
    let Some(refused) = refused.filter(|_| is_ours) else {
        return Ok(response);
    };
    let refusal = Refusal::before(response.status(), refused);
    Ok(response.into_response(refusal.response()))
}

/// Lets pages of the allowed origins read the answers: who gets here has passed that check.
pub async fn cors<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse, Error> {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let asked = request
        .headers()
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .cloned();
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        let mut granted = HttpResponse::NoContent();
        granted.insert_header((ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"));
        granted.insert_header((ACCESS_CONTROL_MAX_AGE, "600"));
        if let Some(asked) = asked {
            granted.insert_header((ACCESS_CONTROL_ALLOW_HEADERS, asked));
        }
        request.into_response(granted.finish())
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("retry-after, retry-after-ms, server-timing, x-request-id"),
    );
    headers.append(VARY, HeaderValue::from_static("Origin"));
    Ok(response)
}

async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn nothing_here(request: HttpRequest) -> HttpResponse {
    let message = format!("There is nothing at {} here.", request.path());
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).response()
}

/// Answers whoever comes with another method than the one that a path is for.
fn other_than(method: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        let message = format!("{} is not for {}.", request.method(), request.path());
        let refusal = Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        );
        let mut response = refusal.response();
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(method));
        response
    })
}
