//! `glimpse fleet`: who is there.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use api::encoding::decode;
use async_nats::jetstream::kv::Store;
use futures_util::StreamExt;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::message::{Beat, Gateway, Registration};
use crate::nats::{BEAT, GATEWAY_BEATS, Nats, Settings, WORKER_BEATS, chain};

/// Everybody in a fleet's registry, and what their heartbeats say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Members {
    pub workers: Vec<WorkerMember>,
    pub gateways: Vec<GatewayMember>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerMember {
    pub name: String,
    /// The model's name, and in which numbers it computes.
    pub model: String,
    pub dtype: String,
    pub quantization: String,
    /// It finishes what it has, and takes nothing new.
    pub draining: bool,
    /// None where no heartbeat came.
    pub load: Option<Load>,
}

/// How much a worker has to do, on all of its devices.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Sessions of all gateways that are at home there.
    pub sessions: u64,
    /// Questions accepted and not yet answered, and of these the ones that wait.
    pub open: u64,
    pub waiting: u64,
    /// Pages of the KV cache, and those in use or kept for later.
    pub pages: u64,
    pub used_pages: u64,
    /// The mean time of one token for everybody that runs, lately; 0 before the first.
    pub token_ms: f64,
    /// Why what it would tell can't be told, if so.
    pub trouble: Option<String>,
}

/// A gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatewayMember {
    pub instance: String,
    /// Its heartbeat came.
    pub alive: bool,
}

/// Looks who is registered, and listens for their heartbeats.
///
/// # Errors
/// If NATS can't be reached or used.
pub fn members(settings: Settings) -> io::Result<Members> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(look(settings))
}

async fn look(settings: Settings) -> io::Result<Members> {
    /// Heartbeats that may be late or lost.
    const BEATS: u32 = 4;
    let nats = Nats::connect(settings, "glimpse fleet").await?;
    let subject = |beats: &str| format!("{beats}.*");
    let subscribed = |it: async_nats::SubscribeError| io::Error::other(chain(&it));
    let client = &nats.client;
    let mut workers = client
        .subscribe(subject(WORKER_BEATS))
        .await
        .map_err(subscribed)?;
    let mut gateways = client
        .subscribe(subject(GATEWAY_BEATS))
        .await
        .map_err(subscribed)?;
    let registry = nats.registry().await?;
    let (registrations, known) = registered(&registry).await?;
    let until = Instant::now() + BEAT * BEATS;
    let (mut loads, mut alive) = (HashMap::new(), HashMap::new());
    while loads.len() < registrations.len() || alive.len() < known.len() {
        let next = async {
            tokio::select! {
                beat = workers.next() => beat.map(|it| (true, it)),
                beat = gateways.next() => beat.map(|it| (false, it)),
            }
        };
        let Ok(Some((of_worker, message))) = timeout_at(until, next).await else {
            break;
        };
        let instance = message.subject.rsplit('.').next().unwrap_or_default();
        if of_worker && registrations.iter().any(|it| it.instance == instance) {
            if let Ok(beat) = decode::<Beat>(&message.payload) {
                loads.insert(instance.to_owned(), load(beat));
            }
        } else if known.iter().any(|it| it.instance == instance) {
            alive.insert(instance.to_owned(), ());
        }
    }
    let workers = registrations.into_iter().map(|it| WorkerMember {
        load: loads.remove(&it.instance),
        name: it.name,
        model: it.model.name,
        dtype: it.model.dtype,
        quantization: it.model.quantization,
        draining: it.draining,
    });
    let gateways = known.into_iter().map(|it| GatewayMember {
        alive: alive.contains_key(&it.instance),
        instance: it.instance,
    });
    Ok(Members {
        workers: workers.collect(),
        gateways: gateways.collect(),
    })
}

/// All workers and gateways of the registry, by their names.
async fn registered(registry: &Store) -> io::Result<(Vec<Registration>, Vec<Gateway>)> {
    /// A registry that nobody answers for.
    const PATIENCE: Duration = Duration::from_secs(5);
    let unread = |problem: String| {
        io::Error::other(format!("JetStream's registry can't be read: {problem}"))
    };
    let until = Instant::now() + PATIENCE;
    let late = |_| unread("it does not answer".into());
    let keys = timeout_at(until, registry.keys()).await.map_err(late)?;
    let mut keys = keys.map_err(|it| unread(chain(&it)))?;
    let mut names = Vec::new();
    while let Some(Ok(key)) = timeout_at(until, keys.next()).await.map_err(late)? {
        names.push(key);
    }
    names.sort();
    let (mut workers, mut gateways) = (Vec::new(), Vec::new());
    for name in names {
        let value = registry.get(&name).await.map_err(|it| unread(chain(&it)))?;
        // What is gone meanwhile, or of another version, is nothing to show.
        let Some(value) = value else { continue };
        if name.starts_with("worker.") {
            workers.extend(decode::<Registration>(&value).ok());
        } else {
            gateways.extend(decode::<Gateway>(&value).ok());
        }
    }
    Ok((workers, gateways))
}

fn load(beat: Beat) -> Load {
    let devices = || beat.devices.iter();
    let token_ms: Vec<f64> = devices().map(|it| it.token_ms).collect();
    Load {
        sessions: beat.sessions,
        open: devices().map(|it| it.open).sum(),
        waiting: beat.gauges.iter().map(|(_, it)| it.waiting).sum(),
        pages: devices().map(|it| it.pages).sum(),
        used_pages: devices().map(|it| it.used_pages).sum(),
        token_ms: token_ms.iter().sum::<f64>() / token_ms.len().max(1) as f64,
        trouble: beat.trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Gauges, Health};

    #[test]
    fn a_load_is_that_of_all_devices() {
        let device = |worker, open, token_ms| Health {
            worker,
            open,
            pages: 100,
            used_pages: 10,
            token_ms,
            ..Health::default()
        };
        let gauges = |waiting| Gauges {
            waiting,
            ..Gauges::default()
        };
        let load = load(Beat {
            devices: vec![device(0, 3, 6.0), device(1, 2, 8.0)],
            gauges: vec![(0, gauges(2)), (1, gauges(1))],
            sessions: 7,
            ..Beat::default()
        });
        let whole = (load.open, load.waiting, load.pages, load.used_pages);
        assert_eq!(whole, (5, 3, 200, 20));
        assert_eq!((load.sessions, load.token_ms), (7, 7.0));
    }
}
