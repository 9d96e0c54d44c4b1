//! How the fleet stands, for whoever watches.

use std::time::Duration;

use api::{FleetWorker, WorkerStanding};

use super::members::Member;
use super::{Fleet, Standing};

impl Fleet {
    /// How the fleet stands. What this gateway has to do is told apart from what workers have of all: so that it can be added up
    /// over gateways.
    pub fn standing(&self, now: Duration) -> api::Fleet {
        let mut told = api::Fleet {
            workers: self.members.all().map(|(_, it)| worker(it)).collect(),
            ..api::Fleet::default()
        };
        told.workers.sort_by(|a, b| a.name.cmp(&b.name));
        let open = self.sessions.values().flat_map(|it| it.asks.values());
        for open in open.filter(|it| !it.cancelled) {
            if open.started {
                told.running += 1;
            } else {
                told.waiting += 1;
                told.longest_wait_ms = told.longest_wait_ms.max(open.waited_ms(now));
            }
        }
        told
    }
}

fn worker(member: &Member) -> FleetWorker {
    let standing = match member.standing {
        Standing::Refused => WorkerStanding::Refused,
        Standing::Lost | Standing::Left => WorkerStanding::Lost,
        // One that was killed before this gateway came is in the registry still.
        Standing::Here if !member.is_heard() => WorkerStanding::Lost,
        Standing::Here if member.registration.draining => WorkerStanding::Draining,
        Standing::Here if member.beat.trouble.is_some() => WorkerStanding::Trouble,
        Standing::Here => WorkerStanding::Ready,
    };
    let beat = &member.beat;
    FleetWorker {
        name: member.registration.name.clone(),
        standing,
        sessions: beat.sessions,
        devices: beat.devices.clone(),
        gauges: beat.gauges.clone(),
        passes: beat.passes.clone(),
    }
}
