//! What the figures should be at most, or at least, and whether they are.

use super::stats::{Stage, Summary};
use super::{Length, Report, Variant};

/// A figure and its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub what: &'static str,
    pub measured: f64,
    pub unit: &'static str,
    pub bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub fn is_held(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.measured <= most,
            Bound::AtLeast(least) => self.measured >= least,
        }
    }

    /// The bound in words.
    pub fn bound(&self) -> String {
        let (words, value) = match self.bound {
            Bound::AtMost(most) => ("at most", most),
            Bound::AtLeast(least) => ("at least", least),
        };
        format!("{words} {value}{}", self.unit)
    }
}

/// The bounds of what was measured.
pub fn targets(report: &Report) -> Vec<Target> {
    let mut all = Vec::new();
    let mut target = |what, measured: Option<f64>, bound, unit| {
        if let Some(measured) = measured {
            all.push(Target {
                what,
                measured,
                unit,
                bound,
            });
        }
    };
    use Bound::{AtLeast, AtMost};
    let on_cpu = report.model.device == "cpu";
    let first = report.variants.first();
    let of = |stage| first.and_then(|variant| variant.samples.summary(stage));

    let failed = |variants: &[Variant]| variants.iter().map(|v| v.failures.total()).sum::<u64>();
    let failed = failed(&report.variants) + failed(&report.cold);
    target(
        "Rounds that failed",
        first.map(|_| failed as f64),
        AtMost(0.0),
        "",
    );
    target(
        "Drop to last word: 95th percentile over median",
        of(Stage::Total).map(|s| s.p95 / s.median),
        AtMost(1.15),
        "",
    );
    if report.model.demo && on_cpu {
        let looked =
            |v: &Variant| v.samples.median(Stage::Vision) + v.samples.median(Stage::Prefill);
        target(
            "Picture encoded, median",
            first.map(looked),
            AtMost(250.0),
            " ms",
        );
        target(
            "First token after the question, median",
            of(Stage::FirstToken).map(|s| s.median),
            AtMost(120.0),
            " ms",
        );
        target(
            "Tokens a second",
            of(Stage::Token).map(|s| 1e3 / s.median),
            AtLeast(40.0),
            "",
        );
    }
    let over_http = of(Stage::HttpNextFirstToken).zip(of(Stage::NextFirstToken));
    target(
        "First token of the next question: over HTTP, beyond the socket's",
        over_http.map(|(http, socket)| http.median - socket.median),
        AtMost(if on_cpu { 5.0 } else { 3.0 }),
        " ms",
    );
    let with_system = of(Stage::SystemFirstToken).zip(of(Stage::FirstToken));
    target(
        "First token behind a system turn, beyond one without",
        with_system.map(|(with, without)| with.median - without.median),
        AtMost(1.0),
        " ms",
    );
    let cold = report.cold.first();
    for (what, stage) in [
        (
            "First question after a start: first token over the steady median",
            Stage::FirstToken,
        ),
        (
            "First picture after a start: last word over the steady median",
            Stage::Total,
        ),
    ] {
        let cold = cold.and_then(|cold| cold.samples.summary(stage));
        let ratio = cold
            .zip(of(stage))
            .map(|(cold, steady)| cold.median / steady.median);
        target(what, ratio, AtMost(1.2), "");
    }
    let median = |values: &[f64]| Summary::of(values).map(|s| s.median);
    let ratios: Vec<f64> = report.lengths.iter().filter_map(Length::ratio).collect();
    target(
        "First question of a length: first token over later ones', median of the lengths",
        median(&ratios),
        AtMost(1.2),
        "",
    );
    let Some(overhead) = &report.overhead else {
        return all;
    };
    target(
        "Longest token gap while another's picture is encoded, over that answer's median",
        median(&overhead.encoding_ratio),
        AtMost(if on_cpu { 3.0 } else { 2.0 }),
        "",
    );
    target(
        "95th percentile of token gaps, a thread busy beside over alone",
        median(&overhead.busy_ratio),
        AtMost(2.0),
        "",
    );
    target(
        "Beside the model, per request",
        median(&overhead.per_request),
        AtMost(5.0),
        " ms",
    );
    target(
        "Beside the model, per token",
        median(&overhead.per_token),
        AtMost(0.2),
        " ms",
    );
    let token = median(&overhead.alone).filter(|token| *token > 0.0);
    let share = |values: &[f64]| Some(median(values)? / token? * 100.0);
    target(
        "Metrics and spans, of a token's time",
        share(&overhead.instruments.token_exported),
        AtMost(1.0),
        " %",
    );
    target(
        "Drawing a token of 151,552",
        median(&overhead.instruments.sampling),
        AtMost(0.2),
        " ms",
    );
    let format = Summary::of(&overhead.instruments.format);
    target(
        "Held to a format, more per token of 151,552",
        format.map(|format| format.median),
        AtMost(0.2),
        " ms",
    );
    target(
        "Held to a format, 99th percentile",
        format.map(|format| format.p99),
        AtMost(1.0),
        " ms",
    );
    all
}
