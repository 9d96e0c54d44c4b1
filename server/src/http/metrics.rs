//! `/metrics`, for Prometheus.

use std::fmt::Write;

use actix_web::{HttpRequest, HttpResponse, web};
use wire::State;

use super::socket::bearer;
use crate::session::{Guests, Hub};

/// With API keys it takes one.
pub async fn show(
    request: HttpRequest,
    hub: web::Data<Hub>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    if guests.needs_key()
        && bearer(&request)
            .and_then(|token| guests.owner(token))
            .is_none()
    {
        return HttpResponse::Unauthorized()
            .insert_header(("WWW-Authenticate", "Bearer"))
            .content_type("text/plain; charset=utf-8")
            .body("This takes an API key: Authorization: Bearer KEY.\n");
    }
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .insert_header(("Cache-Control", "no-store"))
        .body(text(&hub))
}

fn text(hub: &Hub) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, value: f64| {
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
        );
    };
    let (sessions, connected) = hub.count();
    let ready = hub.shared.status().state == State::Ready;
    gauge(
        "glimpse_ready",
        "1 if questions are answered.",
        f64::from(u8::from(ready)),
    );
    gauge(
        "glimpse_sessions",
        "Sessions, with or without a connection.",
        sessions as f64,
    );
    gauge(
        "glimpse_connections",
        "Sessions with a connection.",
        connected as f64,
    );
    gauge(
        "glimpse_upload_buffer_bytes",
        "Memory of files on their way.",
        hub.shared.budget.used() as f64,
    );
    out
}
