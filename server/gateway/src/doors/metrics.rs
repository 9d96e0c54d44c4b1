//! `/metrics`, for Prometheus.

use actix_web::{HttpRequest, HttpResponse, web};
use wire::State;

use crate::access::{Guests, has_key};
use crate::session::Hub;
use crate::telemetry::metrics::{METRICS, Snapshot};

/// `GET /metrics`; asks for an API key where the server has any.
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
    let shared = &hub.shared;
    let snapshot = Snapshot::new();
    let status = shared.status();
    let states = [
        (State::Loading, "loading"),
        (State::Warming, "warming"),
        (State::Ready, "ready"),
        (State::Draining, "draining"),
        (State::Failed, "failed"),
    ];
    snapshot.gauges(
        "glimpse_state",
        "1 for the state that the server is in.",
        "state",
        states.map(|(state, label)| (label, f64::from(u8::from(status.state == state)))),
    );
    snapshot.gauges(
        "glimpse_build_info",
        "1, with the version.",
        "version",
        [(env!("CARGO_PKG_VERSION"), 1.0)],
    );
    let (sessions, connected) = hub.count();
    let (waiting, running, memory) = shared.decoding();
    snapshot.gauges(
        "glimpse_decodes",
        "Pictures to decode.",
        "state",
        [("waiting", waiting as f64), ("running", running as f64)],
    );
    for (name, help, value) in [
        (
            "glimpse_sessions",
            "Sessions, with or without a connection.",
            sessions as u64,
        ),
        (
            "glimpse_connections",
            "Sessions with a connection.",
            connected as u64,
        ),
        (
            "glimpse_upload_buffer_bytes",
            "Memory of files on their way.",
            shared.budget.used(),
        ),
        (
            "glimpse_picture_memory_bytes",
            "Memory of the pictures that sessions keep.",
            shared.pictures.used(),
        ),
        (
            "glimpse_decode_memory_bytes",
            "Memory that pictures being decoded may take.",
            memory,
        ),
        (
            "glimpse_session_memory_bytes",
            "Memory of histories, open questions, and messages that are unsent or kept for a resume.",
            shared.session_memory(),
        ),
        (
            "glimpse_message_buffer_bytes",
            "Memory of messages on their way.",
            shared.message_memory(),
        ),
    ] {
        snapshot.gauge(name, help, value as f64);
    }
    if let Some(download) = status.download {
        let help = "Bytes of the model that have come from its hub, while they come.";
        snapshot.gauge("glimpse_download_bytes", help, download.bytes as f64);
        let help = "Bytes of the model that is coming.";
        snapshot.gauge("glimpse_download_size_bytes", help, download.total as f64);
    }
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        snapshot.gauge(name, "Resident memory of the process.", bytes);
    }
    METRICS.text(snapshot)
}

/// Memory of this process that is not swapped out.
fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
