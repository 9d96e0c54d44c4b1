//! A worker's entry in the registry.

use std::io;
use std::time::Duration;

use api::encoding::decode;
use async_nats::jetstream::kv::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::message::Registration;
use crate::nats::{chain, worker_key, written};

/// An entry, which a task of its own keeps there: JetStream may take seconds, and meanwhile the worker's heart has to beat.
pub struct Entry {
    registry: Store,
    told: watch::Sender<Registration>,
    keeper: JoinHandle<io::Error>,
}

impl Entry {
    /// # Errors
    /// If the registry takes nothing.
    pub async fn put(registry: Store, registration: Registration) -> io::Result<Self> {
        put(&registry, &registration)
            .await
            .map_err(|why| io::Error::other(format!("the worker can't be registered: {why}")))?;
        let (told, changes) = watch::channel(registration);
        let keeper = tokio::spawn(keep(registry.clone(), changes));
        Ok(Entry {
            registry,
            told,
            keeper,
        })
    }

    pub fn is_draining(&self) -> bool {
        self.told.borrow().draining
    }

    /// Says that the worker takes nothing new. True if that is news.
    pub fn drain(&self) -> bool {
        self.told
            .send_if_modified(|it| !std::mem::replace(&mut it.draining, true))
    }

    /// Waits until another worker has taken the name, which is an error.
    pub async fn taken(&mut self) -> io::Error {
        match (&mut self.keeper).await {
            Ok(problem) => problem,
            Err(problem) => io::Error::other(problem),
        }
    }

    /// Takes it out, unless it is another's by now.
    pub async fn remove(self) {
        self.keeper.abort();
        let (name, instance) = {
            let own = self.told.borrow();
            (own.name.clone(), own.instance.clone())
        };
        if let Ok(Some(there)) = get(&self.registry, &name).await
            && there.instance == instance
        {
            let _ = self.registry.delete(worker_key(&name)).await;
        }
    }
}

/// Sees that it stays as it is told, until another worker has taken the name.
async fn keep(registry: Store, mut changes: watch::Receiver<Registration>) -> io::Error {
    const PAUSE: Duration = Duration::from_secs(5);
    loop {
        let _ = tokio::time::timeout(PAUSE, changes.changed()).await;
        let own = changes.borrow_and_update().clone();
        match get(&registry, &own.name).await {
            Ok(Some(there)) if there.instance != own.instance => {
                return io::Error::other(format!(
                    "another worker has taken the name {}: give each one of its own (--name)",
                    own.name
                ));
            }
            Ok(Some(there)) if there == own => {}
            // What can't be read is none of its own. Where it can't be written it is tried again.
            Ok(_) => drop(put(&registry, &own).await),
            Err(why) => {
                tracing::debug!(why, "the registry can't be read");
                changes.mark_changed();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn get(registry: &Store, name: &str) -> Result<Option<Registration>, String> {
    let value = registry.get(worker_key(name)).await;
    let value = value.map_err(|it| chain(&it))?;
    Ok(value.and_then(|bytes| decode(&bytes).ok()))
}

async fn put(registry: &Store, registration: &Registration) -> Result<(), String> {
    let key = worker_key(&registration.name);
    let put = registry.put(key, written(registration)).await;
    put.map(drop).map_err(|it| chain(&it))
}
