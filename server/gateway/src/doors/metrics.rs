//! `/metrics`, for Prometheus.

use actix_web::{HttpRequest, HttpResponse, web};
use wire::State;

use crate::access::{Guests, has_key};
use crate::metrics::{METRICS, Text};
use crate::session::Hub;

/// With API keys it takes one.
pub async fn show(
    request: HttpRequest,
    hub: web::Data<Hub>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    if !has_key(&request, &guests) {
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

pub(super) fn text(hub: &Hub) -> String {
    let mut out = Text::default();
    let status = hub.shared.status().state;
    let name = "glimpse_state";
    out.head(name, "gauge", "1 for the state that the server is in.");
    for (state, label) in [
        (State::Loading, "loading"),
        (State::Warming, "warming"),
        (State::Ready, "ready"),
        (State::Draining, "draining"),
        (State::Failed, "failed"),
    ] {
        let label = format!("state=\"{label}\"");
        out.sample(name, &label, f64::from(u8::from(status == state)));
    }
    let name = "glimpse_build_info";
    out.head(name, "gauge", "1, with the version.");
    let label = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    out.sample(name, &label, 1.0);
    let (sessions, connected) = hub.count();
    out.gauge(
        "glimpse_sessions",
        "Sessions, with or without a connection.",
        sessions as f64,
    );
    out.gauge(
        "glimpse_connections",
        "Sessions with a connection.",
        connected as f64,
    );
    out.gauge(
        "glimpse_upload_buffer_bytes",
        "Memory of files on their way.",
        hub.shared.budget.used() as f64,
    );
    out.gauge(
        "glimpse_picture_memory_bytes",
        "Memory of the pictures that sessions keep.",
        hub.shared.room.used() as f64,
    );
    let (waiting, running, memory) = hub.shared.decoding();
    let name = "glimpse_decodes";
    out.head(name, "gauge", "Pictures to decode.");
    out.sample(name, "state=\"waiting\"", waiting as f64);
    out.sample(name, "state=\"running\"", running as f64);
    out.gauge(
        "glimpse_decode_memory_bytes",
        "Memory that pictures being decoded may take.",
        memory as f64,
    );
    out.gauge(
        "glimpse_session_memory_bytes",
        "Memory of histories, open questions, and messages that are unsent or kept for a resume.",
        hub.shared.session_memory() as f64,
    );
    out.gauge(
        "glimpse_message_buffer_bytes",
        "Memory of messages on their way.",
        hub.shared.message_memory() as f64,
    );
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        out.gauge(name, "Resident memory of the process.", bytes);
    }
    METRICS.write(&mut out);
    out.0
}

/// Memory of this process that is not swapped out.
fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
