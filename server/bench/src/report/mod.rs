//! What a benchmark found: everything that the JSON file holds, and the tables and plots are made of.
//!
//! [`targets`] is what the figures should be, [`markdown`] and [`html`] how they are told, [`compare`] what got slower.

pub mod compare;
mod html;
mod markdown;
pub mod plot;
pub mod stats;
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use client::Failure;
use stats::{Samples, Stage, Summary};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub version: String,
    /// UTC, as `2026-01-31 12:00`.
    pub date: String,
    pub command: String,
    pub machine: Machine,
    pub model: wire::Model,
    pub picture: String,
    pub prompt: String,
    /// The first answer: whoever reads the figures should see that it was one.
    pub answer: Option<String>,
    pub runs: u32,
    /// The first is as it comes; the others have something switched off.
    pub variants: Vec<Variant>,
    pub cold: Vec<Variant>,
    #[serde(default)]
    pub lengths: Vec<Length>,
    pub overhead: Option<Overhead>,
    pub loads: Vec<Load>,
}

impl Report {
    /// Reads what an earlier benchmark wrote.
    ///
    /// # Errors
    /// It is not there, or no report.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|e| format!("--compare {}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| {
            format!(
                "--compare {} is not a report.json of this program ({e})",
                path.display()
            )
        })
    }

    /// Writes report.md, report.json and report.html; returns the first.
    ///
    /// # Errors
    /// The folder can't be written to.
    pub fn write(&self, folder: &Path) -> Result<String, String> {
        let text = markdown::report(self);
        let json = serde_json::to_string(self).map_err(|e| e.to_string())?;
        for (name, content) in [
            ("report.md", &text),
            ("report.json", &json),
            ("report.html", &html::report(self)),
        ] {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(text)
    }
}

/// One server's rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Variant {
    pub name: String,
    pub flags: String,
    /// Whether the picture was encoded before the question.
    pub eager: bool,
    pub samples: Samples,
    pub failures: Failures,
}

impl Variant {
    pub fn append(&mut self, other: Variant) {
        self.samples.append(other.samples);
        for (code, count) in other.failures.0 {
            *self.failures.0.entry(code).or_default() += count;
        }
    }
}

/// How often something went wrong, by code.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failures(pub BTreeMap<String, u64>);

impl Failures {
    pub fn add(&mut self, failure: &Failure) {
        *self.0.entry(failure.code().to_owned()).or_default() += 1;
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Questions of one length, from each to its first token, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Length {
    pub words: usize,
    /// The first question that the server was asked.
    pub first: f64,
    pub later: Vec<f64>,
}

impl Length {
    /// The first over the median of the later ones.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.first / Summary::of(&self.later)?.median)
    }
}

/// What users cost each other, and what the server costs beside the model. All in milliseconds, but for the two that are
/// ratios.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overhead {
    /// Milliseconds from token to token: of one user alone, with a thread busy beside, while another's picture is encoded, and
    /// of each of two users.
    pub alone: Vec<f64>,
    pub beside_busy: Vec<f64>,
    pub beside_encoding: Vec<f64>,
    pub together: Vec<f64>,
    /// Ratios of a run's 95th percentile of token gaps with a thread busy beside to that alone.
    pub busy_ratio: Vec<f64>,
    /// Ratios of a run's longest token gap while another's picture is encoded to that answer's median.
    pub encoding_ratio: Vec<f64>,
    /// Whole answers of the same length: of one user alone, and of each of two.
    pub answer_alone: Vec<f64>,
    pub answer_together: Vec<f64>,
    pub step: Vec<f64>,
    pub per_token: Vec<f64>,
    pub per_request: Vec<f64>,
    /// What counting costs: [`crate::device::instruments`].
    pub instruments: Instruments,
}

impl Overhead {
    pub fn append(&mut self, mut other: Overhead) {
        for (into, from) in [
            (&mut self.alone, &mut other.alone),
            (&mut self.beside_busy, &mut other.beside_busy),
            (&mut self.beside_encoding, &mut other.beside_encoding),
            (&mut self.together, &mut other.together),
            (&mut self.busy_ratio, &mut other.busy_ratio),
            (&mut self.encoding_ratio, &mut other.encoding_ratio),
            (&mut self.answer_alone, &mut other.answer_alone),
            (&mut self.answer_together, &mut other.answer_together),
            (&mut self.step, &mut other.step),
            (&mut self.per_token, &mut other.per_token),
            (&mut self.per_request, &mut other.per_request),
        ] {
            into.append(from);
        }
    }

    /// The rows of its table, in ms.
    pub fn rows(&self) -> Vec<(&'static str, Summary)> {
        let counted = &self.instruments;
        let rows = [
            ("Token gap, one user alone", &self.alone),
            ("Token gap, a thread busy beside", &self.beside_busy),
            (
                "Token gap while another's picture is encoded",
                &self.beside_encoding,
            ),
            ("Token gap of each of two users", &self.together),
            ("A long answer, one user alone", &self.answer_alone),
            ("A long answer, each of two users", &self.answer_together),
            ("Forward pass of a decode step", &self.step),
            ("Beside the model, per token", &self.per_token),
            ("Beside the model, per request", &self.per_request),
            ("Metrics and spans, per token", &counted.token),
            ("Metrics and spans, per answer", &counted.answer),
            ("… exported, per token", &counted.token_exported),
            ("… exported, per answer", &counted.answer_exported),
            ("Drawing a token of 151,552", &counted.sampling),
            ("… held to a format, more, beside a step", &counted.format),
            ("… held to a format, more, alone", &counted.format_alone),
        ];
        rows.into_iter()
            .filter_map(|(title, values)| Some((title, Summary::of(values)?)))
            .collect()
    }
}

/// What metrics and spans cost, in milliseconds (`exported`: with OpenTelemetry's export on), and drawing a token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Instruments {
    pub token: Vec<f64>,
    pub answer: Vec<f64>,
    pub token_exported: Vec<f64>,
    pub answer_exported: Vec<f64>,
    pub sampling: Vec<f64>,
    /// What holding a token to a format adds while the device works beside, and what it takes alone.
    pub format: Vec<f64>,
    pub format_alone: Vec<f64>,
}

/// A server under load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Closed loop.
    pub users: Option<u32>,
    /// Open loop.
    pub rate: Option<f64>,
    /// Seconds until the last who had begun was answered.
    pub seconds: f64,
    pub answers: u64,
    pub tokens: u64,
    /// Each user asked about one picture, which the model had seen before.
    #[serde(default)]
    pub one_picture: bool,
    /// Of those tokens that came before the time was over: while the last answers end, others wait for nobody.
    #[serde(default)]
    pub tokens_per_second: f64,
    pub samples: Samples,
    /// Each answer's longest gap between two tokens over its median.
    #[serde(default)]
    pub gap_ratios: Vec<f64>,
    pub failures: Failures,
    pub memory: Vec<Memory>,
}

impl Load {
    pub fn title(&self) -> String {
        let picture = if self.one_picture {
            ", one picture each"
        } else {
            ""
        };
        match (self.users, self.rate) {
            (Some(1), _) => format!("1 user{picture}"),
            (Some(users), _) => format!("{users} users{picture}"),
            (_, Some(rate)) => format!("{rate} a second"),
            _ => String::new(),
        }
    }

    /// What tells of its first words and of its last ones.
    pub fn stages(&self) -> (Stage, Stage) {
        match self.one_picture {
            true => (Stage::FirstToken, Stage::Answer),
            false => (Stage::DropToFirst, Stage::Total),
        }
    }

    /// What the longest gaps over their medians are: half of all answers', and most of them.
    pub fn gap_cells(&self) -> [String; 2] {
        match Summary::of(&self.gap_ratios) {
            Some(s) => [s.median, s.p95].map(|ratio| format!("{ratio:.1} ×")),
            None => [(); 2].map(|()| "–".into()),
        }
    }
}

/// What the tables of loads are about.
const LOADS: &str = "A new picture with every question, sent at once with it; where it says so, one for all questions of a user, \
                     seen before time counts: then words count from the question.";

/// The server's memory at one time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    pub seconds: f64,
    pub resident_bytes: f64,
    pub device_bytes: Option<f64>,
}

/// The machine that the measurement ran on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gb: f64,
    pub system: String,
    /// Runnable threads, averaged over a minute, before the benchmark added its own: more than 0 means that something
    /// else was running too.
    pub load_before: f64,
    pub load_after: f64,
}

impl Machine {
    pub fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(
                line.split_once([':', '='])?
                    .1
                    .trim()
                    .trim_matches('"')
                    .to_owned(),
            )
        };
        let memory_kb = field("/proc/meminfo", "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        Machine {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gb: (memory_kb.unwrap_or(0.0) * 1024.0 / 1e9).round(),
            system: field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "unknown".into()),
            load_before: load(),
            load_after: 0.0,
        }
    }
}

/// Runnable threads, averaged over the last minute.
pub fn load() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

/// The time in UTC, to the minute.
pub fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%d %H:%M")
        .to_string()
}
