//! `glimpse drain`: has a worker finish what it has.

use std::io;
use std::time::Duration;

use api::encoding::decode;

use crate::message::Draining;
use crate::nats::{Nats, Settings, drain_subject, is_name, worker_key};

/// Has a worker finish what it has and take nothing new, and waits until it has ended. `tell` hears how many questions and
/// sessions it still has, each time that this changes.
///
/// # Errors
/// If NATS can't be reached, or no such worker is there.
pub fn drain(settings: Settings, worker: &str, tell: impl FnMut(u64, u64)) -> io::Result<()> {
    if !is_name(worker) {
        return Err(nobody(worker));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(wait(settings, worker, tell))
}

async fn wait(settings: Settings, worker: &str, mut tell: impl FnMut(u64, u64)) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(250);
    let nats = Nats::connect(settings, "glimpse drain").await?;
    let registry = nats.registry().await?;
    let is_there = async || matches!(registry.get(worker_key(worker)).await, Ok(Some(_)));
    if !is_there().await {
        return Err(nobody(worker));
    }
    let mut told = None;
    loop {
        let answer = nats
            .client
            .request(drain_subject(worker), bytes::Bytes::new())
            .await;
        match answer.map(|it| decode::<Draining>(&it.payload)) {
            Ok(Ok(Draining { open, sessions })) => {
                if told.replace((open, sessions)) != Some((open, sessions)) {
                    tell(open, sessions);
                }
            }
            // It has ended, or it is dead and still in the registry.
            _ if told.is_some() || !is_there().await => return Ok(()),
            _ => return Err(nobody(worker)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn nobody(worker: &str) -> io::Error {
    let problem = format!(
        "no worker {worker:?} answers: `glimpse worker` says at its start what it is called"
    );
    io::Error::new(io::ErrorKind::NotFound, problem)
}
