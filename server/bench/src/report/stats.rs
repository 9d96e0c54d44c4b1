//! Samples and what is told of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! stages {
    ($($name:ident, $title:literal, $from:literal;)*) => {
        /// What is measured, in order of time. All in milliseconds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Stage {
            $(#[doc = $title] $name,)*
        }

        impl Stage {
            pub const ALL: &[Stage] = &[$(Stage::$name,)*];

            pub fn title(self) -> &'static str {
                match self { $(Stage::$name => $title,)* }
            }

            /// What the stage measures: from when to when, and by whose clock.
            pub fn meaning(self) -> &'static str {
                match self { $(Stage::$name => $from,)* }
            }
        }
    };
}

stages! {
    Listening, "Listening", "from the process's start until it listens";
    Loaded, "Ready", "from the process's start until a question would be answered";
    Connect, "Connect", "from opening the socket to `welcome` (client)";
    Upload, "Upload and acknowledgement", "from `upload` to `upload_received` (client)";
    Decode, "Decode and preprocess", "decoding, resizing, normalizing (server)";
    Vision, "Vision tower", "the picture through the vision tower (server)";
    Prefill, "Prefill of the picture", "the picture's vectors into the KV cache (server)";
    Look, "Drop to ready for questions", "from `upload` to `image_encoded` (client)";
    FirstToken, "First token", "from `ask` to the first `token`, asked when nothing more happens without a question (client)";
    Token, "Each further token", "from the first `token` to the last, over their number, for each answer (client)";
    Answer, "Whole answer", "from `ask` to `done` (client)";
    Total, "Drop to last word", "from `upload` to `done` (client)";
    NextFirstToken, "First token of the next question", "in the same conversation (client)";
    HttpNextFirstToken, "First token of the next question, over HTTP", "in the same conversation, all of which is sent again with the picture (client)";
    SystemFirstToken, "First token, behind a system turn", "as the first token, of a conversation whose system turn came with the upload (client)";
    Pair, "Two questions at once", "from two `ask`s to both `done` (client)";
    DropToFirst, "Drop to first word", "asked at once with the upload: from `upload`, or from when it was due, to the first `token` (client)";
    Outside, "Outside the server", "`total_ms` of the server taken from the client's time for the answer";
}

/// Milliseconds by stage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(pub BTreeMap<Stage, Vec<f64>>);

impl Samples {
    pub fn add(&mut self, stage: Stage, ms: f64) {
        // A thousandth of a millisecond is enough, in a file that people read.
        let rounded = (ms * 1e3).round() / 1e3;
        self.0.entry(stage).or_default().push(rounded);
    }

    pub fn append(&mut self, other: Samples) {
        for (stage, mut values) in other.0 {
            self.0.entry(stage).or_default().append(&mut values);
        }
    }

    pub fn of(&self, stage: Stage) -> &[f64] {
        self.0.get(&stage).map_or(&[], Vec::as_slice)
    }

    pub fn summary(&self, stage: Stage) -> Option<Summary> {
        Summary::of(self.of(stage))
    }

    /// The median, or 0 where nothing was measured.
    pub fn median(&self, stage: Stage) -> f64 {
        self.summary(stage).map_or(0.0, |summary| summary.median)
    }
}

/// What a table tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub min: f64,
    pub median: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Summary {
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            n: sorted.len(),
            min: *sorted.first()?,
            median: percentile(&sorted, 50.0)?,
            p95: percentile(&sorted, 95.0)?,
            p99: percentile(&sorted, 99.0)?,
            max: *sorted.last()?,
        })
    }
}

/// The value that `percent` of all do not exceed (nearest rank; the median of an even number is the mean of the two).
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let n = sorted.len();
    if percent == 50.0 && n > 0 && n.is_multiple_of(2) {
        return Some((sorted[n / 2 - 1] + sorted[n / 2]) / 2.0);
    }
    let rank = (percent / 100.0 * n as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let summary = Summary::of(&values).unwrap();
        assert_eq!((summary.min, summary.max, summary.n), (1.0, 100.0, 100));
        assert_eq!(
            (summary.median, summary.p95, summary.p99),
            (50.5, 95.0, 99.0)
        );
        assert_eq!(Summary::of(&[3.0]).unwrap().p99, 3.0);
        assert_eq!(Summary::of(&[]), None);
    }
}
