//! What is seen of a fleet. Workers are known by their names, so that all gateways tell the same of them: whoever adds up takes
//! one gateway's word for each (`max by (worker, device)`).

use api::{Fleet, FleetWorker, Gauges, Passes, WorkerStanding};

use super::{OF_DEVICES, OfDevice, Snapshot};

/// What only a process that computes has to tell.
pub const ELSEWHERE: [&str; 3] = [
    "glimpse_decode_step_seconds",
    "glimpse_forward_passes_total",
    "glimpse_prompt_pass_seconds",
];

/// Those of whom something may be expected: what a lost one said last is no news.
fn there(fleet: &Fleet) -> impl Iterator<Item = &FleetWorker> {
    let gone = [WorkerStanding::Lost, WorkerStanding::Refused];
    let there = move |it: &&FleetWorker| !gone.contains(&it.standing);
    fleet.workers.iter().filter(there)
}

/// The memory of all devices. Their questions are of all gateways.
pub fn memory(fleet: &Fleet) -> Vec<Gauges> {
    let gauges = there(fleet).flat_map(|it| it.gauges.iter());
    let memory = gauges.map(|(_, gauges)| Gauges {
        waiting: 0,
        running: 0,
        ..*gauges
    });
    memory.collect()
}

pub fn look_up(fleet: &Fleet, snapshot: &Snapshot) {
    let standing = WorkerStanding::ALL.map(|standing| {
        let so = fleet.workers.iter().filter(|it| it.standing == standing);
        (standing.as_str(), so.count() as f64)
    });
    let name = "glimpse_fleet_workers";
    snapshot.gauges(name, "Workers, by how they stand.", "standing", standing);
    let name = "glimpse_queue_wait_seconds";
    let help = "How long the question of this gateway waits for its turn that waits longest.";
    snapshot.gauge(name, help, fleet.longest_wait_ms / 1e3);
    if let Some((used, size)) = fleet.pictures {
        let name = "glimpse_picture_store_used_bytes";
        snapshot.gauge(name, "What pictures' copies take at NATS.", used as f64);
        let name = "glimpse_picture_store_size_bytes";
        snapshot.gauge(name, "What they may take.", size as f64);
    }
    let sessions = there(fleet).map(|it| ([it.name.clone()], it.sessions as f64));
    let name = "glimpse_worker_sessions";
    let help = "Sessions of all gateways that are at home with a worker.";
    snapshot.table(name, help, ["worker"], sessions);
    devices(fleet, snapshot);
    passes(fleet, snapshot);
}

fn devices(fleet: &Fleet, snapshot: &Snapshot) {
    // One process tells of its own questions as such.
    let open: OfDevice = (
        "glimpse_worker_open_requests",
        "Questions of all gateways that a worker has accepted and not yet answered.",
        |it| it.open as f64,
    );
    for (name, help, value) in OF_DEVICES.into_iter().chain([open]) {
        let rows = there(fleet).flat_map(|it| {
            let devices = it.devices.iter();
            devices.map(move |device| ([it.name.clone(), device.worker.to_string()], value(device)))
        });
        snapshot.table(name, help, ["worker", "device"], rows);
    }
}

fn passes(fleet: &Fleet, snapshot: &Snapshot) {
    let each = |name: &str, help: &str, value: fn(&Passes) -> f64| {
        let rows = there(fleet).flat_map(|it| {
            let rows = it.passes.iter().flat_map(|(device, counted)| {
                let kinds = [("decode", counted.decode), ("prompt", counted.prompt)];
                kinds.map(|(kind, passes)| {
                    let row = [it.name.clone(), device.to_string(), kind.to_owned()];
                    (row, value(&passes))
                })
            });
            rows.collect::<Vec<_>>()
        });
        snapshot.table(name, help, ["worker", "device", "kind"], rows);
    };
    each(
        "glimpse_worker_passes_total",
        "Forward passes: of one token for each question, or over pieces of prompts.",
        |it| it.count as f64,
    );
    each(
        "glimpse_worker_pass_seconds_total",
        "What these passes took.",
        |it| it.ms / 1e3,
    );
    each(
        "glimpse_worker_pass_slots_total",
        "Questions that these passes served.",
        |it| it.slots as f64,
    );
}
