//! What gateways that were killed leave behind: their places in the registry, and the copies of their pictures.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Store;
use async_nats::jetstream::object_store::ObjectStore;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::nats::{Nats, from_hex, gateway_key};
use crate::pictures::delete;
use crate::sessions::Sessions;
use crate::state::LOGGED;

/// How long a gateway may be silent before it is struck off.
const SILENCE: Duration = Duration::from_secs(600);
/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(60);

/// Strikes off gateways that are gone, and deletes what nobody will ask for any more. `beats` are those of all gateways, each by
/// its id.
pub async fn sweep(
    nats: Nats,
    registry: Store,
    pictures: ObjectStore,
    mut beats: UnboundedReceiver<(String, Bytes)>,
    sessions: Sessions,
) {
    let mut heard: HashMap<String, Instant> = HashMap::new();
    let mut ended = HashSet::new();
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            beat = beats.recv() => match beat {
                Some((gateway, _)) => drop(heard.insert(gateway, Instant::now())),
                None => return,
            },
            _ = ticks.tick() => {
                heard.retain(|_, at| at.elapsed() < SILENCE * 2);
                if let Err(why) = sweep_once(&nats, &registry, &pictures, &mut heard, &sessions, &mut ended).await {
                    tracing::debug!(why, "nothing could be swept");
                }
            }
        }
    }
}

async fn sweep_once(
    nats: &Nats,
    registry: &Store,
    pictures: &ObjectStore,
    heard: &mut HashMap<String, Instant>,
    sessions: &Sessions,
    ended: &mut HashSet<String>,
) -> Result<(), String> {
    // Before the registry is: whoever comes in between has no picture in this list.
    let mut names = Vec::new();
    let mut list = pictures.list().await.map_err(|it| it.to_string())?;
    while let Some(object) = list.next().await {
        names.push(object.map_err(|it| it.to_string())?.name);
    }
    let mut known = Vec::new();
    let mut keys = registry.keys().await.map_err(|it| it.to_string())?;
    while let Some(key) = keys.next().await {
        let key = key.map_err(|it| it.to_string())?;
        let Some(gateway) = key.strip_prefix("gateway.") else {
            continue;
        };
        let last = heard.entry(gateway.to_owned()).or_insert_with(Instant::now);
        if last.elapsed() >= SILENCE {
            tracing::info!(gateway, "a gateway is gone");
            let _ = registry.delete(gateway_key(gateway)).await;
            continue;
        }
        known.push(gateway.to_owned());
    }
    let of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let (kept, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with(LOGGED));
    for name in others.iter().filter(|name| !known.contains(&of(name))) {
        delete(nats, pictures, name).await;
    }
    // Of sessions that are kept. What is missing may be on its way: twice, it is not.
    let before = std::mem::take(ended);
    for owner in kept.iter().map(|name| of(name)).collect::<HashSet<_>>() {
        let name = owner.strip_prefix(LOGGED).and_then(from_hex);
        let lives = match name {
            Some(name) => sessions.is_kept(&name).await?,
            None => false,
        };
        if lives {
            continue;
        }
        if !before.contains(&owner) {
            ended.insert(owner);
            continue;
        }
        for name in kept.iter().filter(|name| of(name) == owner) {
            delete(nats, pictures, name).await;
        }
    }
    Ok(())
}
