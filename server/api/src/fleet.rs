//! How a fleet stands, as one of its gateways sees it.

use serde::{Deserialize, Serialize};

use crate::{Counted, Gauges, Health};

/// How a fleet stands, as one of its gateways sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    pub workers: Vec<FleetWorker>,
    /// This gateway's own questions that wait for a worker, or at one for their turn; and those that are being answered.
    pub waiting: u64,
    pub running: u64,
    /// How long that one of them waits that waits longest.
    pub longest_wait_ms: f64,
    /// What the pictures' copies take, and may take, in bytes; nothing where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<(u64, u64)>,
}

/// A worker of a fleet, as it said last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetWorker {
    pub name: String,
    pub standing: WorkerStanding,
    /// Sessions of all gateways that are at home there.
    pub sessions: u64,
    /// Each of its devices, by its number there.
    pub devices: Vec<Health>,
    pub gauges: Vec<(u32, Gauges)>,
    pub passes: Vec<(u32, Counted)>,
}

/// What may be expected of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStanding {
    Ready,
    /// It finishes what it has, and takes nothing new.
    Draining,
    /// It can't tell what it has to tell.
    Trouble,
    /// It is silent, or stands still.
    Lost,
    /// It has another model, or speaks another version.
    Refused,
}

impl WorkerStanding {
    pub const ALL: [WorkerStanding; 5] = [
        WorkerStanding::Ready,
        WorkerStanding::Draining,
        WorkerStanding::Trouble,
        WorkerStanding::Lost,
        WorkerStanding::Refused,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            WorkerStanding::Ready => "ready",
            WorkerStanding::Draining => "draining",
            WorkerStanding::Trouble => "trouble",
            WorkerStanding::Lost => "lost",
            WorkerStanding::Refused => "refused",
        }
    }
}
