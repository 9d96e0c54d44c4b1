//! `/metrics`, for Prometheus.

use std::fmt::Write;

use actix_web::{HttpResponse, web};
use wire::State;

use crate::session::Hub;

pub async fn show(hub: web::Data<Hub>) -> HttpResponse {
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
