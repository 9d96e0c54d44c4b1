//! `glimpse gateway`, `worker`, `drain` and `fleet`: a server on many machines.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use cluster::worker::{self, Ended};
use cluster::{Fleet, GatewaySettings, Load, Members, Started};
use engine::Reports;
use gateway::doors;
use tokio::sync::mpsc::unbounded_channel;

use crate::config::{DrainArgs, FleetArgs, GatewayArgs, NatsArgs, WorkerArgs};
use crate::serve::{self, Computing, invalid, start_engine};
use crate::spans::traced;

fn nats(settings: &NatsArgs) -> cluster::Settings {
    cluster::Settings {
        servers: settings.nats.clone(),
        credentials: settings.nats_credentials.clone(),
        authorities: settings.nats_ca.clone(),
        replicas: settings.nats_replicas.into(),
        pictures: settings.nats_pictures.0,
    }
}

/// Serves clients until SIGTERM or Ctrl-C; others compute.
///
/// # Errors
/// Settings that contradict each other or another gateway's, NATS or an address that can't be had.
pub fn gateway(settings: &GatewayArgs) -> io::Result<doors::Ended> {
    let limits = settings.doors.limits.wire().map_err(invalid)?;
    let limits = serde_json::to_string(&limits).map_err(|problem| invalid(problem.to_string()))?;
    let Started {
        fleet,
        tokens,
        status,
        reports,
    } = Fleet::start(GatewaySettings {
        nats: nats(&settings.nats),
        limits,
        secret: secret(settings.fleet_secret.as_deref())?,
    })?;
    let computing = Computing {
        log: Some(fleet.clone()),
        engine: fleet,
        tokens,
        status,
        reports,
    };
    serve::with_engine(&settings.doors, &settings.pictures, true, computing)
}

/// What is in the file that the fleet's gateways have in common.
fn secret(file: Option<&Path>) -> io::Result<Option<Vec<u8>>> {
    /// Fewer could be guessed.
    const LEAST: usize = 16;
    let Some(file) = file else {
        return Ok(None);
    };
    let shown = file.display();
    let secret = std::fs::read(file)
        .map_err(|problem| invalid(format!("--fleet-secret {shown} can't be read ({problem})")))?;
    let secret = secret.trim_ascii().to_vec();
    if secret.len() < LEAST {
        return Err(invalid(format!(
            "--fleet-secret {shown} has fewer than {LEAST} characters, which can be guessed: `openssl rand -hex 32` makes a good one"
        )));
    }
    Ok(Some(secret))
}

/// Computes for gateways until SIGTERM or Ctrl-C, `glimpse drain`, or the device's loss.
///
/// # Errors
/// A checkpoint with something missing, a device, a name or NATS that can't be had.
pub fn worker(settings: &WorkerArgs) -> io::Result<Ended> {
    let (told, reports) = unbounded_channel();
    let told = Reports::new(move |report| drop(told.send(report)));
    let engine = start_engine(&settings.model, &settings.engine, told)?;
    let (status, engine) = (engine.status(), Arc::new(engine));
    let name = settings.name.clone().unwrap_or_else(own_name);
    let engine = worker::Engine {
        compute: engine.clone(),
        tokens: engine,
        status,
        reports,
    };
    let engine = traced(engine, &name)?;
    worker::run(nats(&settings.nats), name, engine, |name| {
        // Nobody may be there to read it, which is no reason to panic.
        let _ = writeln!(io::stdout(), "worker {name} is ready");
    })
}

/// The machine's name, and a number for each of its workers.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let good = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let host: String = host.trim().chars().filter(good).take(40).collect();
    let host = if host.is_empty() { "worker" } else { &host };
    let number = api::random_seed() & 0xffff;
    format!("{host}-{number:04x}")
}

/// Has a worker finish what it has, and waits for its end.
///
/// # Errors
/// NATS that can't be had; a worker that is not there.
pub fn drain(settings: &DrainArgs) -> io::Result<()> {
    cluster::drain(nats(&settings.nats), &settings.worker, |open, sessions| {
        let _ = writeln!(
            io::stdout(),
            "{open} questions and {sessions} sessions left"
        );
    })
}

/// Who is in the fleet, as a table or as JSON.
///
/// # Errors
/// NATS that can't be had.
pub fn members(settings: &FleetArgs) -> io::Result<String> {
    let members = cluster::members(nats(&settings.nats))?;
    match settings.json {
        true => Ok(serde_json::to_string_pretty(&members)? + "\n"),
        false => Ok(table(&members)),
    }
}

/// Lines of columns, each as wide as its widest word.
fn table(members: &Members) -> String {
    let heads = [
        "WORKER", "STATE", "MODEL", "NUMBERS", "SESSIONS", "OPEN", "WAITING", "CACHE", "MS/TOKEN",
    ];
    let mut lines = vec![heads.map(str::to_owned)];
    for worker in &members.workers {
        let shown = |what: &dyn Fn(&Load) -> String| worker.load.as_ref().map_or("-".into(), what);
        let state = match &worker.load {
            None => "silent",
            Some(load) if load.trouble.is_some() => "in trouble",
            Some(_) if worker.draining => "draining",
            Some(_) => "ready",
        };
        let numbers = match worker.quantization.as_str() {
            "none" => &worker.dtype,
            quantized => quantized,
        };
        lines.push([
            worker.name.clone(),
            state.to_owned(),
            worker.model.clone(),
            numbers.to_owned(),
            shown(&|it| it.sessions.to_string()),
            shown(&|it| it.open.to_string()),
            shown(&|it| it.waiting.to_string()),
            shown(&|it| {
                format!(
                    "{:.0} %",
                    100.0 * it.used_pages as f64 / it.pages.max(1) as f64
                )
            }),
            shown(&|it| format!("{:.1}", it.token_ms)),
        ]);
    }
    let widths = std::array::from_fn::<_, 9, _>(|column| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or_default()
    });
    let mut said = String::new();
    for line in &lines {
        let padded = line.iter().zip(widths);
        let padded: Vec<String> = padded.map(|(it, width)| format!("{it:width$}")).collect();
        said += padded.join("  ").trim_end();
        said.push('\n');
    }
    let troubles = members.workers.iter().filter_map(|worker| {
        let trouble = worker.load.as_ref()?.trouble.as_ref()?;
        Some(format!("{}: {trouble}\n", worker.name))
    });
    said.extend(troubles);
    let alive = members.gateways.iter().filter(|it| it.alive).count();
    said + &format!("{alive} of {} gateways are there\n", members.gateways.len())
}
