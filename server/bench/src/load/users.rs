//! Many users: so many at once (closed loop), or so many a second whether or not answers keep up (open loop).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::rounds::Script;
use super::server::{Server, metric};
use crate::report::stats::{Samples, Stage};
use crate::report::{Failures, Load, Memory};
use client::{About, Client, Failure, ms};

/// What all users share.
struct Crowd {
    url: String,
    script: Script,
    sent: AtomicU64,
    results: Mutex<Results>,
    bar: ProgressBar,
}

#[derive(Default)]
struct Results {
    answers: u64,
    tokens: u64,
    samples: Samples,
    failures: Failures,
}

impl Crowd {
    fn picture(&self) -> Vec<u8> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.script.pictures.nth(number)
    }

    /// A picture and at once a question about it. Times count from `due`.
    async fn visit(&self, client: &mut Client, due: Instant) -> Result<(), Failure> {
        let sent = client.upload(&self.picture()).await?;
        let (prompt, most) = (&self.script.prompt, self.script.max_new_tokens);
        let answer = client.ask(About::Upload(sent.upload), prompt, most).await?;
        client.acknowledge().await?;
        let mut results = self.results.lock();
        results.answers += 1;
        results.tokens += answer
            .done
            .as_ref()
            .map_or(0, |done| done.usage.completion_tokens);
        let first = *answer.tokens.first().unwrap_or(&answer.finished);
        let samples = &mut results.samples;
        samples.add(Stage::Upload, ms(sent.started, sent.received));
        samples.add(Stage::DropToFirst, ms(due, first));
        samples.add(Stage::Total, ms(due, answer.finished));
        if let Some(token) = answer.per_token_ms() {
            samples.add(Stage::Token, token);
        }
        Ok(())
    }

    fn failed(&self, failure: &Failure) {
        self.results.lock().failures.add(failure);
    }

    /// A user who asks again when answered, until `end`.
    async fn user(&self, end: Instant) {
        let mut client = None;
        while Instant::now() < end {
            let visit = async {
                let client = match &mut client {
                    Some(client) => client,
                    none => none.insert(Client::connect(&self.url).await?),
                };
                self.visit(client, Instant::now()).await
            };
            if let Err(failure) = visit.await {
                self.failed(&failure);
                client = None;
                let wait = failure.retry_after().unwrap_or(Duration::from_secs(1));
                tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
            }
        }
        if let Some(client) = client {
            client.close().await;
        }
    }

    /// A user who comes once.
    async fn guest(&self, due: Instant) {
        let visit = async {
            let mut client = Client::connect(&self.url).await?;
            self.visit(&mut client, due).await?;
            client.close().await;
            Ok(())
        };
        if let Err(failure) = visit.await {
            self.failed(&failure);
        }
    }
}

/// How users come.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Users(u32),
    Rate(f64),
}

/// Measures a server under one load. Whoever has begun when the time is over is waited for and counts.
pub async fn run(
    server: &Server,
    script: &mut Script,
    kind: Kind,
    duration: Duration,
    bar: &ProgressBar,
) -> Load {
    let crowd = Arc::new(Crowd {
        url: server.url.clone(),
        sent: AtomicU64::new(script.sent),
        script: script.clone(),
        results: Mutex::default(),
        bar: bar.clone(),
    });
    let begin = Instant::now();
    let end = begin + duration;
    let mut all = JoinSet::new();
    let everyone = async {
        match kind {
            Kind::Users(users) => {
                for _ in 0..users {
                    let crowd = crowd.clone();
                    all.spawn(async move { crowd.user(end).await });
                }
            }
            Kind::Rate(rate) => {
                let mut number = 0_u32;
                loop {
                    let due = begin + Duration::from_secs_f64(f64::from(number) / rate);
                    if due >= end {
                        break;
                    }
                    tokio::time::sleep_until(due.into()).await;
                    let crowd = crowd.clone();
                    all.spawn(async move { crowd.guest(due).await });
                    number += 1;
                }
            }
        }
        while all.join_next().await.is_some() {}
    };
    let mut memory = Vec::new();
    tokio::select! {
        () = everyone => {}
        () = watch(server, begin, &crowd.bar, &mut memory) => {}
    }
    let seconds = begin.elapsed().as_secs_f64();
    let results = std::mem::take(&mut *crowd.results.lock());
    script.sent = crowd.sent.load(Ordering::Relaxed);
    let (users, rate) = match kind {
        Kind::Users(users) => (Some(users), None),
        Kind::Rate(rate) => (None, Some(rate)),
    };
    Load {
        users,
        rate,
        seconds,
        answers: results.answers,
        tokens: results.tokens,
        samples: results.samples,
        failures: results.failures,
        memory,
    }
}

/// Notes the server's memory as time goes by.
async fn watch(server: &Server, begin: Instant, bar: &ProgressBar, memory: &mut Vec<Memory>) {
    // Fine at first, and few enough points for hours.
    let mut pause = Duration::from_millis(500);
    loop {
        let seconds = begin.elapsed().as_secs_f64();
        if let Some(text) = server.metrics().await
            && let Some(resident) = metric(&text, "process_resident_memory_bytes")
        {
            memory.push(Memory {
                seconds,
                resident_bytes: resident,
                device_bytes: metric(&text, "glimpse_device_memory_used_bytes"),
            });
        }
        bar.set_position(seconds as u64);
        if memory.len().is_multiple_of(600) && !memory.is_empty() {
            pause *= 2;
        }
        tokio::time::sleep(pause).await;
    }
}
