//! Many users: so many at once (closed loop), or so many a second whether or not answers keep up (open loop). Each brings a
//! picture with every question, or one for all of them.

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
use client::{About, Answer, Client, Failure, ms};

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
    in_time: u64,
    samples: Samples,
    gap_ratios: Vec<f64>,
    failures: Failures,
}

impl Crowd {
    fn picture(&self) -> Vec<u8> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.script.pictures.nth(number)
    }

    /// A picture and at once a question about it. Times count from `due`.
    async fn visit(&self, client: &mut Client, due: Instant, end: Instant) -> Result<(), Failure> {
        let sent = client.upload(&self.picture()).await?;
        let answer = self.ask(client, sent.upload, end).await?;
        let first = *answer.tokens.first().unwrap_or(&answer.finished);
        let samples = &mut self.results.lock().samples;
        samples.add(Stage::Upload, ms(sent.started, sent.received));
        samples.add(Stage::DropToFirst, ms(due, first));
        samples.add(Stage::Total, ms(due, answer.finished));
        Ok(())
    }

    /// A question about a picture that was sent.
    async fn ask(&self, client: &mut Client, upload: u32, end: Instant) -> Result<Answer, Failure> {
        let (prompt, most) = (&self.script.prompt, self.script.max_new_tokens);
        let answer = client.ask(About::Upload(upload), prompt, most).await?;
        client.acknowledge().await?;
        let mut results = self.results.lock();
        results.answers += 1;
        results.tokens += answer
            .done
            .as_ref()
            .map_or(0, |done| done.usage.completion_tokens);
        results.in_time += answer.tokens.iter().filter(|at| **at <= end).count() as u64;
        results.gap_ratios.extend(answer.gap_ratio());
        let samples = &mut results.samples;
        samples.add(Stage::FirstToken, answer.first_token_ms());
        samples.add(Stage::Answer, answer.total_ms());
        if let Some(token) = answer.per_token_ms() {
            samples.add(Stage::Token, token);
        }
        Ok(answer)
    }

    /// Counts a failure, and waits as long as the server asks for.
    async fn failed(&self, failure: &Failure) {
        self.results.lock().failures.add(failure);
        let wait = failure.retry_after().unwrap_or(Duration::from_secs(1));
        tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
    }

    /// A user who asks again when answered, until `end`, each time about a new picture.
    async fn user(&self, end: Instant) {
        let mut client = None;
        while Instant::now() < end {
            let visit = async {
                let client = match &mut client {
                    Some(client) => client,
                    none => none.insert(Client::connect(&self.url).await?),
                };
                self.visit(client, Instant::now(), end).await
            };
            if let Err(failure) = visit.await {
                self.failed(&failure).await;
                client = None;
            }
        }
        if let Some(client) = client {
            client.close().await;
        }
    }

    /// A user whose picture the model has seen.
    async fn arrive(&self) -> Result<(Client, u32), Failure> {
        let mut client = Client::connect(&self.url).await?;
        let sent = client.upload(&self.picture()).await?;
        client.image_encoded().await?;
        Ok((client, sent.upload))
    }

    /// A user who asks again when answered, until `end`, always about the same picture.
    async fn asker(&self, (mut client, upload): (Client, u32), end: Instant) {
        while Instant::now() < end {
            if let Err(failure) = self.ask(&mut client, upload, end).await {
                self.failed(&failure).await;
            }
        }
        client.close().await;
    }

    /// A user who comes once.
    async fn guest(&self, due: Instant, end: Instant) {
        let visit = async {
            let mut client = Client::connect(&self.url).await?;
            self.visit(&mut client, due, end).await?;
            client.close().await;
            Ok(())
        };
        if let Err(failure) = visit.await {
            self.results.lock().failures.add(&failure);
        }
    }
}

/// How users come.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// So many at once, with a picture for every question.
    Users(u32),
    /// So many at once, each with one picture that the model has seen before time counts.
    Asking(u32),
    /// So many a second.
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
    let mut known = Vec::new();
    if let Kind::Asking(users) = kind {
        for _ in 0..users {
            match crowd.arrive().await {
                Ok(user) => known.push(user),
                Err(failure) => crowd.failed(&failure).await,
            }
        }
    }
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
            Kind::Asking(_) => {
                for user in known {
                    let crowd = crowd.clone();
                    all.spawn(async move { crowd.asker(user, end).await });
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
                    all.spawn(async move { crowd.guest(due, end).await });
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
        Kind::Users(users) | Kind::Asking(users) => (Some(users), None),
        Kind::Rate(rate) => (None, Some(rate)),
    };
    Load {
        users,
        rate,
        seconds,
        answers: results.answers,
        tokens: results.tokens,
        one_picture: matches!(kind, Kind::Asking(_)),
        tokens_per_second: results.in_time as f64 / duration.as_secs_f64(),
        samples: results.samples,
        gap_ratios: results.gap_ratios,
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
