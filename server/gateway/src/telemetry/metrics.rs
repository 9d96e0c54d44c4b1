//! What an operator counts, for `/metrics`: one set for the whole process. Counting is an atomic addition or a few.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use api::{Fleet, Gauges, Health, Measured, Pass};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    Opts, Registry, TextEncoder,
};
use wire::{AnswerTimings, EncodeTimings, FinishReason, ImageTimings, State, Usage};

/// Upper bounds of the histograms' buckets, in seconds.
const SECONDS: [f64; 17] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// The outcome of an upload that nothing was wrong with.
pub const RECEIVED: &str = "received";

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

macro_rules! stages {
    ($($name:ident)*) => {
        /// How long the stages of pictures and answers take.
        #[derive(Debug)]
        struct Stages { $($name: Histogram,)* }

        impl Stages {
            fn new(all: &HistogramVec) -> Self {
                Stages { $($name: all.with_label_values(&[stringify!($name)]),)* }
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
    registry: Registry,
    stages: Stages,
    decode_step: Histogram,
    prompt_pass: Histogram,
    /// Forward passes by how many slots they served: 1, 2.
    passes: [IntCounter; 2],
    pub upload_bytes: IntCounter,
    prompt_tokens: IntCounter,
    cached_tokens: IntCounter,
    completion_tokens: IntCounter,
    pictures_encoded: IntCounter,
    pictures_cached: IntCounter,
    /// By outcome: few, since they are finish reasons and error codes.
    requests: IntCounterVec,
    uploads: IntCounterVec,
    /// Questions that wait in sessions.
    waiting: AtomicI64,
    /// Answers that went on elsewhere.
    pub answers_moved: IntCounter,
    /// The fleet as it stands, where this is a gateway of one.
    fleet: Mutex<Option<Fleet>>,
    /// Each worker by its number, as it told last.
    workers: Mutex<BTreeMap<u32, (Health, Gauges)>>,
}

/// What is looked up when somebody wants to see it, rather than counted.
pub struct Snapshot(Registry);

impl Snapshot {
    pub fn new() -> Self {
        Snapshot(Registry::new())
    }

    pub fn gauge(&self, name: &str, help: &str, value: f64) {
        registered(&self.0, Gauge::new(name, help)).set(value);
    }

    /// One for each of several labels' values: counters, or else gauges.
    pub fn table<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([String; N], f64)>,
    ) {
        let options = Opts::new(name, help);
        let rows = rows.into_iter();
        if name.ends_with("_total") {
            let all = registered(&self.0, CounterVec::new(options, &labels));
            rows.for_each(|(row, number)| all.with_label_values(&row).inc_by(number.max(0.0)));
        } else {
            let all = registered(&self.0, GaugeVec::new(options, &labels));
            rows.for_each(|(row, number)| all.with_label_values(&row).set(number));
        }
    }

    /// One for each value of a label.
    pub fn gauges<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        let all = registered(&self.0, GaugeVec::new(Opts::new(name, help), &[label]));
        for (value, number) in values {
            all.with_label_values(&[value]).set(number);
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers what all of this program's own names and labels make, so that nothing but a slip in them can fail: which the
/// first test shows.
fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("a metric has a good name, and labels");
    let registered = registry.register(Box::new(metric.clone()));
    registered.expect("a metric's name is its own");
    metric
}

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| registered(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, label: &str| {
            registered(
                &registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let seconds =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let histogram =
            |name, help| registered(&registry, Histogram::with_opts(seconds(name, help)));
        let stages = seconds("glimpse_stage_seconds", "Stages of pictures and answers.");
        let stages = registered(&registry, HistogramVec::new(stages, &["stage"]));
        let passes = counters(
            "glimpse_forward_passes_total",
            "Forward passes, by how many slots they served.",
            "slots",
        );
        let pictures = counters(
            "glimpse_pictures_total",
            "Pictures asked for, by whether they were in the cache.",
            "cached",
        );
        let requests = counters(
            "glimpse_requests_total",
            "Questions that ended, by how.",
            "outcome",
        );
        let uploads = counters(
            "glimpse_uploads_total",
            "Pictures that arrived or failed, by how.",
            "outcome",
        );
        // The usual outcomes are there from the start, so that the first of each is seen as a step.
        for outcome in ["stop", "length", "cancelled", "timeout"] {
            requests.with_label_values(&[outcome]);
        }
        uploads.with_label_values(&[RECEIVED]);
        Metrics {
            stages: Stages::new(&stages),
            decode_step: histogram(
                "glimpse_decode_step_seconds",
                "Forward passes in which every slot had one token.",
            ),
            prompt_pass: histogram(
                "glimpse_prompt_pass_seconds",
                "Forward passes over pieces of prompts, without the pictures'.",
            ),
            passes: ["1", "2"].map(|slots| passes.with_label_values(&[slots])),
            upload_bytes: counter(
                "glimpse_upload_bytes_total",
                "Bytes of pictures that arrived.",
            ),
            prompt_tokens: counter(
                "glimpse_prompt_tokens_total",
                "Tokens of prompts, the pictures' included.",
            ),
            cached_tokens: counter(
                "glimpse_prompt_tokens_cached_total",
                "Tokens of prompts that came from the cache.",
            ),
            completion_tokens: counter("glimpse_completion_tokens_total", "Tokens of answers."),
            pictures_encoded: pictures.with_label_values(&["false"]),
            pictures_cached: pictures.with_label_values(&["true"]),
            requests,
            uploads,
            answers_moved: counter(
                "glimpse_answers_moved_total",
                "Answers that went on with another worker.",
            ),
            waiting: AtomicI64::new(0),
            fleet: Mutex::new(None),
            workers: Mutex::new(BTreeMap::new()),
            registry,
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
        self.passes[slots.clamp(1, self.passes.len()) - 1].inc();
        let kind = match pass.decode {
            true => &self.decode_step,
            false => &self.prompt_pass,
        };
        kind.observe(pass.ms / 1e3);
    }

    /// How the fleet stands from now on.
    pub fn fleet(&self, fleet: Fleet) {
        *self.fleet.lock() = Some(fleet);
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
            waiting: u64::try_from(self.waiting.load(Relaxed)).unwrap_or(0),
            ..Gauges::default()
        };
        let fleet = self.fleet.lock();
        if let Some(fleet) = &*fleet {
            sum.waiting += fleet.waiting;
            sum.running += fleet.running;
        }
        let in_fleet = fleet.iter().flat_map(fleet::memory);
        let here = self.workers.lock();
        let here = here.values().map(|(_, gauges)| *gauges);
        for gauges in here.chain(in_fleet) {
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
        self.requests.with_label_values(&[outcome]).inc();
    }

    /// A question is over that was taken, whether or not somebody is there to be told.
    pub fn answered(&self, finish_reason: FinishReason, usage: &Usage, t: &AnswerTimings) {
        let stages = &self.stages;
        self.request_ended(finish_reason.as_str());
        self.prompt_tokens.inc_by(usage.prompt_tokens);
        self.cached_tokens.inc_by(usage.cached_tokens);
        self.completion_tokens.inc_by(usage.completion_tokens);
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
        self.uploads.with_label_values(&[outcome]).inc();
    }

    /// A session's picture is decoded.
    pub fn decoded(&self, t: &ImageTimings) {
        observe(&self.stages.upload, t.upload_ms);
        observe(&self.stages.picture_decode, t.decode_ms);
        observe(&self.stages.picture_preprocess, t.preprocess_ms);
    }

    /// The model has looked at a session's picture, or (`cached`) had.
    pub fn encoded(&self, t: &EncodeTimings, cached: bool) {
        if cached {
            self.pictures_cached.inc();
            return;
        }
        self.pictures_encoded.inc();
        observe(&self.stages.picture_queue, t.queue_ms);
        observe(&self.stages.vision, t.vision_ms);
        observe(&self.stages.picture_prefill, t.prefill_ms);
    }

    /// All that is counted, and what was looked up for it, in Prometheus' text format, version 0.0.4.
    pub fn text(&self, snapshot: Snapshot) -> String {
        self.look_up(&snapshot);
        let mut families = snapshot.0.gather();
        let is_fleet = self.fleet.lock().is_some();
        let own = self.registry.gather();
        // What computes is elsewhere, and tells its passes otherwise.
        families.extend(
            own.into_iter()
                .filter(|it| !is_fleet || !fleet::ELSEWHERE.contains(&it.name())),
        );
        let text = TextEncoder::new().encode_to_string(&families);
        text.unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics could not be written");
            String::new()
        })
    }

    fn look_up(&self, snapshot: &Snapshot) {
        let now = self.gauges();
        for (name, help, value) in [
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
        ] {
            snapshot.gauge(name, help, value as f64);
        }
        // There is none where the device has no memory of its own.
        if now.memory_size > 0 {
            let (used, size) = (now.memory_used as f64, now.memory_size as f64);
            let name = "glimpse_device_memory_used_bytes";
            snapshot.gauge(name, "Memory of the GPU in use, by anyone.", used);
            let name = "glimpse_device_memory_size_bytes";
            snapshot.gauge(name, "Memory of the GPU.", size);
        }
        match &*self.fleet.lock() {
            Some(fleet) => fleet::look_up(fleet, snapshot),
            None => self.look_up_workers(snapshot),
        }
    }

    fn look_up_workers(&self, snapshot: &Snapshot) {
        let workers = self.workers.lock();
        for (name, help, value) in OF_DEVICES {
            let each = workers.iter();
            let rows = each.map(|(n, (health, _))| ([n.to_string()], value(health)));
            snapshot.table(name, help, ["worker"], rows);
        }
    }
}

/// Something that a device tells of itself: the metric's name, its help, and its value.
type OfDevice = (&'static str, &'static str, fn(&Health) -> f64);

/// What each tells, be it this machine's or a fleet's.
const OF_DEVICES: [OfDevice; 4] = [
    (
        "glimpse_worker_turns_total",
        "Turns of a worker's loop: one that has questions and makes none hangs.",
        |it| it.turn as f64,
    ),
    (
        "glimpse_worker_pages",
        "Pages of a worker's KV cache.",
        |it| it.pages as f64,
    ),
    (
        "glimpse_worker_used_pages",
        "Pages in use, by answers or what is kept for later ones.",
        |it| it.used_pages as f64,
    ),
    (
        "glimpse_worker_token_seconds",
        "Mean time of one token for every answer that runs, lately; 0 before the first.",
        |it| it.token_ms / 1e3,
    ),
];

fn observe(stage: &Histogram, ms: f64) {
    stage.observe(ms / 1e3);
}

/// A session's share of the questions that wait, which it takes back when it ends.
#[derive(Debug, Default)]
pub struct Waiting(i64);

impl Waiting {
    pub fn set(&mut self, now: usize) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now != self.0 {
            METRICS.waiting.fetch_add(now - self.0, Relaxed);
            self.0 = now;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(0);
    }
}

mod fleet;

#[cfg(test)]
pub mod check;
#[cfg(test)]
mod tests;
