//! What an operator counts, for `/metrics`: one set for the whole process. Counting is an atomic addition or a few.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use api::{Gauges, Health, Measured, Pass};
use parking_lot::Mutex;
use wire::{AnswerTimings, FinishReason, ServerMessage, State, Usage};

/// Upper bounds of the histograms' buckets, in seconds.
const SECONDS: [f64; 17] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// The outcome of an upload that nothing was wrong with.
pub const RECEIVED: &str = "received";

/// This process's.
pub static METRICS: Metrics = Metrics::new();

#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts durations by their size.
#[derive(Debug)]
pub struct Histogram {
    /// Not cumulative; the last is for all that are longer.
    buckets: [AtomicU64; SECONDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    const fn new() -> Self {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; SECONDS.len() + 1],
            nanoseconds: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, seconds: f64) {
        let bucket = SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add((seconds * 1e9) as u64, Relaxed);
    }

    fn write(&self, out: &mut Text, name: &str, label: &str) {
        let comma = if label.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            sum += count.load(Relaxed);
            let bound = SECONDS
                .get(bucket)
                .map_or_else(|| "+Inf".into(), f64::to_string);
            let labels = format!("{label}{comma}le=\"{bound}\"");
            out.sample(&format!("{name}_bucket"), &labels, sum as f64);
        }
        let total = self.nanoseconds.load(Relaxed) as f64 / 1e9;
        out.sample(&format!("{name}_sum"), label, total);
        out.sample(&format!("{name}_count"), label, sum as f64);
    }
}

macro_rules! stages {
    ($($name:ident)*) => {
        /// How long the stages of pictures and answers take.
        #[derive(Debug)]
        struct Stages { $($name: Histogram,)* }

        impl Stages {
            const fn new() -> Self {
                Stages { $($name: Histogram::new(),)* }
            }

            fn all(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
                [$((stringify!($name), &self.$name),)*].into_iter()
            }
        }
    };
}

stages! {
    upload picture_decode picture_preprocess picture_queue vision picture_prefill
    picture_wait queue prefill first_token decode answer
}

#[derive(Debug)]
pub struct Metrics {
    stages: Stages,
    /// A forward pass in which every slot had one token.
    decode_step: Histogram,
    /// A forward pass over a piece of a prompt, or several, without the pictures'.
    prompt_pass: Histogram,
    /// Forward passes by how many slots they served: 1, 2.
    passes: [Counter; 2],
    pub upload_bytes: Counter,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    completion_tokens: Counter,
    pictures_encoded: Counter,
    pictures_cached: Counter,
    /// By outcome: few, since they are finish reasons and error codes.
    requests: Mutex<BTreeMap<&'static str, u64>>,
    uploads: Mutex<BTreeMap<&'static str, u64>>,
    /// Questions that wait in sessions.
    waiting: Counter,
    /// Each worker by its number, as it told last.
    workers: Mutex<BTreeMap<u32, (Health, Gauges)>>,
}

impl Metrics {
    const fn new() -> Self {
        Metrics {
            stages: Stages::new(),
            decode_step: Histogram::new(),
            prompt_pass: Histogram::new(),
            passes: [Counter::new(), Counter::new()],
            upload_bytes: Counter::new(),
            prompt_tokens: Counter::new(),
            cached_tokens: Counter::new(),
            completion_tokens: Counter::new(),
            pictures_encoded: Counter::new(),
            pictures_cached: Counter::new(),
            requests: Mutex::new(BTreeMap::new()),
            uploads: Mutex::new(BTreeMap::new()),
            waiting: Counter::new(),
            workers: Mutex::new(BTreeMap::new()),
        }
    }

    /// What a worker counts.
    pub fn measured(&self, worker: u32, measured: Measured) {
        match measured {
            Measured::Gauges(gauges) => self.workers.lock().entry(worker).or_default().1 = gauges,
            Measured::Pass(pass) => self.pass(pass),
        }
    }

    fn pass(&self, pass: Pass) {
        let slots = usize::try_from(pass.slots).unwrap_or(usize::MAX);
        self.passes[slots.clamp(1, self.passes.len()) - 1].add(1);
        let kind = match pass.decode {
            true => &self.decode_step,
            false => &self.prompt_pass,
        };
        kind.observe(pass.ms / 1e3);
    }

    /// How a worker stands from now on. Of one that has failed nothing is left.
    pub fn health(&self, health: Health) {
        let mut workers = self.workers.lock();
        let (now, gauges) = workers.entry(health.worker).or_default();
        if health.state == State::Failed {
            *gauges = Gauges::default();
        }
        *now = health;
    }

    /// All workers together.
    fn gauges(&self) -> Gauges {
        let mut sum = Gauges {
            waiting: self.waiting.get(),
            ..Gauges::default()
        };
        for (_, gauges) in self.workers.lock().values() {
            sum.waiting += gauges.waiting;
            sum.running += gauges.running;
            sum.cache_used += gauges.cache_used;
            sum.cache_size += gauges.cache_size;
            sum.memory_used += gauges.memory_used;
            sum.memory_size += gauges.memory_size;
        }
        sum
    }

    /// A question is over.
    pub fn request_ended(&self, outcome: &'static str) {
        count(&self.requests, outcome);
    }

    /// A question is over that the engine had, whether or not somebody is there to be told.
    pub fn answered(&self, finish_reason: FinishReason, usage: &Usage, t: &AnswerTimings) {
        let stages = &self.stages;
        let observe = |stage: &Histogram, ms: f64| stage.observe(ms / 1e3);
        self.request_ended(finish_reason.as_str());
        self.prompt_tokens.add(usage.prompt_tokens);
        self.cached_tokens.add(usage.cached_tokens);
        self.completion_tokens.add(usage.completion_tokens);
        observe(&stages.picture_wait, t.image_wait_ms);
        observe(&stages.queue, t.queue_ms);
        observe(&stages.answer, t.total_ms);
        if usage.completion_tokens > 0 {
            observe(&stages.prefill, t.prefill_ms);
            observe(&stages.first_token, t.first_token_ms);
            observe(&stages.decode, t.decode_ms);
        }
    }

    /// An upload is over, and its picture decoded if it has arrived. Each is counted once.
    pub fn upload_ended(&self, outcome: &'static str) {
        count(&self.uploads, outcome);
    }

    /// Counts what a client is told. A picture that has arrived whole is counted when it is decoded, and what ends with
    /// its session where it ends.
    pub fn told(&self, message: &ServerMessage) {
        let stages = &self.stages;
        let observe = |stage: &Histogram, ms: f64| stage.observe(ms / 1e3);
        match message {
            // The session had it: it is not decoded again.
            ServerMessage::UploadReceived(received) if received.cached => {
                self.upload_ended(RECEIVED);
            }
            ServerMessage::ImageReady(ready) if !ready.cached => {
                observe(&stages.upload, ready.timings.upload_ms);
                observe(&stages.picture_decode, ready.timings.decode_ms);
                observe(&stages.picture_preprocess, ready.timings.preprocess_ms);
            }
            ServerMessage::ImageEncoded(encoded) if encoded.cached => self.pictures_cached.add(1),
            ServerMessage::ImageEncoded(encoded) => {
                self.pictures_encoded.add(1);
                observe(&stages.picture_queue, encoded.timings.queue_ms);
                observe(&stages.vision, encoded.timings.vision_ms);
                observe(&stages.picture_prefill, encoded.timings.prefill_ms);
            }
            ServerMessage::Done(done) => {
                self.answered(done.finish_reason, &done.usage, &done.timings);
            }
            ServerMessage::Error(error) if error.request.is_some() => {
                self.request_ended(error.failure.code.as_str());
            }
            ServerMessage::Error(error) if error.upload.is_some() && error.image.is_none() => {
                self.upload_ended(error.failure.code.as_str());
            }
            _ => {}
        }
    }

    /// All that is counted here, in Prometheus' text format.
    pub fn write(&self, out: &mut Text) {
        let name = "glimpse_requests_total";
        out.head(name, "counter", "Questions that ended, by how.");
        by_outcome(
            out,
            name,
            &self.requests,
            &["stop", "length", "cancelled", "timeout"],
        );
        let name = "glimpse_uploads_total";
        out.head(name, "counter", "Pictures that arrived or failed, by how.");
        by_outcome(out, name, &self.uploads, &[RECEIVED]);
        for (name, help, counter) in [
            (
                "glimpse_upload_bytes_total",
                "Bytes of pictures that arrived.",
                &self.upload_bytes,
            ),
            (
                "glimpse_prompt_tokens_total",
                "Tokens of prompts, the pictures' included.",
                &self.prompt_tokens,
            ),
            (
                "glimpse_prompt_tokens_cached_total",
                "Tokens of prompts that came from the cache.",
                &self.cached_tokens,
            ),
            (
                "glimpse_completion_tokens_total",
                "Tokens of answers.",
                &self.completion_tokens,
            ),
        ] {
            out.head(name, "counter", help);
            out.sample(name, "", counter.get() as f64);
        }
        let name = "glimpse_pictures_total";
        out.head(
            name,
            "counter",
            "Pictures asked for, by whether they were in the cache.",
        );
        out.sample(name, "cached=\"false\"", self.pictures_encoded.get() as f64);
        out.sample(name, "cached=\"true\"", self.pictures_cached.get() as f64);
        let name = "glimpse_forward_passes_total";
        out.head(
            name,
            "counter",
            "Forward passes, by how many slots they served.",
        );
        for (slots, counter) in self.passes.iter().enumerate() {
            let label = format!("slots=\"{}\"", slots + 1);
            out.sample(name, &label, counter.get() as f64);
        }
        let now = self.gauges();
        for (name, help, gauge) in [
            (
                "glimpse_requests_waiting",
                "Questions that wait for their picture, their turn or a slot.",
                now.waiting,
            ),
            (
                "glimpse_requests_running",
                "Questions that are being answered.",
                now.running,
            ),
            (
                "glimpse_cache_used_bytes",
                "KV cache in use, by answers or what is kept for later ones.",
                now.cache_used,
            ),
            (
                "glimpse_cache_size_bytes",
                "KV cache in all.",
                now.cache_size,
            ),
            (
                "glimpse_device_memory_used_bytes",
                "Memory of the GPU in use, by anyone.",
                now.memory_used,
            ),
            (
                "glimpse_device_memory_size_bytes",
                "Memory of the GPU.",
                now.memory_size,
            ),
        ] {
            // There is none where the device has no memory of its own.
            if name.contains("device") && now.memory_size == 0 {
                continue;
            }
            out.head(name, "gauge", help);
            out.sample(name, "", gauge as f64);
        }
        self.write_workers(out);
        let name = "glimpse_decode_step_seconds";
        out.head(name, "histogram", "Forward passes of one token each.");
        self.decode_step.write(out, name, "");
        let name = "glimpse_prompt_pass_seconds";
        out.head(name, "histogram", "Forward passes over prompts.");
        self.prompt_pass.write(out, name, "");
        let name = "glimpse_stage_seconds";
        out.head(name, "histogram", "Stages of pictures and answers.");
        for (stage, histogram) in self.stages.all() {
            histogram.write(out, name, &format!("stage=\"{stage}\""));
        }
    }

    fn write_workers(&self, out: &mut Text) {
        let workers = self.workers.lock();
        let mut each = |name: &str, kind: &str, help: &str, value: fn(&Health) -> f64| {
            out.head(name, kind, help);
            for (worker, (health, _)) in &*workers {
                out.sample(name, &format!("worker=\"{worker}\""), value(health));
            }
        };
        each(
            "glimpse_worker_turns_total",
            "counter",
            "Turns of a worker's loop: one that has questions and makes none hangs.",
            |health| health.turn as f64,
        );
        each(
            "glimpse_worker_pages",
            "gauge",
            "Pages of a worker's KV cache.",
            |health| health.pages as f64,
        );
        each(
            "glimpse_worker_used_pages",
            "gauge",
            "Pages in use, by answers or what is kept for later ones.",
            |health| health.used_pages as f64,
        );
        each(
            "glimpse_worker_token_seconds",
            "gauge",
            "Mean time of one token for every answer that runs, lately; 0 before the first.",
            |health| health.token_ms / 1e3,
        );
    }
}

/// A session's share of the questions that wait, which it takes back when it ends.
#[derive(Debug, Default)]
pub struct Waiting(u64);

impl Waiting {
    pub fn set(&mut self, now: u64) {
        // Down as well: the addition wraps.
        METRICS.waiting.add(now.wrapping_sub(self.0));
        self.0 = now;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn count(outcomes: &Mutex<BTreeMap<&'static str, u64>>, outcome: &'static str) {
    *outcomes.lock().entry(outcome).or_default() += 1;
}

/// The `usual` outcomes are there from the start, so that the first of each is seen as a step.
fn by_outcome(
    out: &mut Text,
    name: &str,
    outcomes: &Mutex<BTreeMap<&'static str, u64>>,
    usual: &[&'static str],
) {
    let mut all: BTreeMap<_, _> = usual.iter().map(|outcome| (*outcome, 0)).collect();
    all.extend(outcomes.lock().iter());
    for (outcome, count) in all {
        out.sample(name, &format!("outcome=\"{outcome}\""), count as f64);
    }
}

/// Prometheus' text format, version 0.0.4. Writing to a String can't fail.
#[derive(Default)]
pub struct Text(pub String);

impl Text {
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }
}

#[cfg(test)]
pub mod check;
#[cfg(test)]
mod tests;
