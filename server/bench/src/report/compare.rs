//! `--compare`: what got slower.

use super::Report;
use super::stats::{Stage, Summary};

/// How many times as long a median may take before that counts.
const MEDIAN: f64 = 1.10;
/// How many times as long a 95th percentile may take, which scatters more.
const P95: f64 = 1.25;
/// Milliseconds by which it must be slower as well.
const LEAST_MS: f64 = 0.2;

/// Something that takes longer than it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Slower {
    pub what: String,
    pub old_ms: f64,
    pub new_ms: f64,
}

/// Compares the servers of the same name, stage by stage, and loads of the same size.
pub fn slower(old: &Report, new: &Report) -> Vec<Slower> {
    let mut found = Vec::new();
    let olds = || old.variants.iter().chain(&old.cold);
    let news = new.variants.iter().chain(&new.cold);
    let pairs = news.enumerate().filter_map(|(index, variant)| {
        let cold = index >= new.variants.len();
        let same = olds().enumerate().find(|(place, other)| {
            other.name == variant.name && (*place >= old.variants.len()) == cold
        })?;
        let title = if cold { "cold start, " } else { "" };
        Some((
            format!("{title}{}", variant.name),
            &same.1.samples,
            &variant.samples,
        ))
    });
    let loads = new.loads.iter().filter_map(|load| {
        let same = old
            .loads
            .iter()
            .find(|other| other.title() == load.title())?;
        Some((load.title(), &same.samples, &load.samples))
    });
    for (title, before, after) in pairs.chain(loads) {
        for stage in Stage::ALL {
            if let (Some(old), Some(new)) = (before.summary(*stage), after.summary(*stage)) {
                let what = format!("{title}: {}", stage.title());
                found.extend(either(&what, &old, &new));
            }
        }
    }
    if let (Some(old), Some(new)) = (&old.overhead, &new.overhead) {
        let olds = old.rows();
        for (title, new) in new.rows() {
            if let Some((_, old)) = olds.iter().find(|(other, _)| *other == title) {
                found.extend(either(title, old, &new));
            }
        }
    }
    found
}

/// The median and the 95th percentile, if they rose by too much.
fn either<'a>(
    what: &'a str,
    old: &Summary,
    new: &Summary,
) -> impl Iterator<Item = Slower> + use<'a> {
    [
        ("median", old.median, new.median, MEDIAN),
        ("p95", old.p95, new.p95, P95),
    ]
    .into_iter()
    // What is a difference of two times may come out below 0.
    .map(|(name, old, new, most)| (name, old.max(0.0), new, most))
    .filter(|(_, old, new, most)| *new > old * most && new - old > LEAST_MS)
    .map(move |(name, old_ms, new_ms, _)| Slower {
        what: format!("{what}, {name}"),
        old_ms,
        new_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::super::stats::Samples;
    use super::super::{Failures, Machine, Variant};
    use super::*;

    fn report(first_token: &[f64]) -> Report {
        let mut samples = Samples::default();
        first_token
            .iter()
            .for_each(|ms| samples.add(Stage::FirstToken, *ms));
        Report {
            version: String::new(),
            date: String::new(),
            command: String::new(),
            machine: Machine::default(),
            model: wire::Model::default(),
            picture: String::new(),
            prompt: String::new(),
            answer: None,
            runs: 1,
            variants: vec![Variant {
                name: "everything on".into(),
                flags: String::new(),
                eager: true,
                samples,
                failures: Failures::default(),
            }],
            cold: vec![],
            lengths: vec![],
            overhead: None,
            loads: vec![],
        }
    }

    #[test]
    fn only_what_is_slower_is_told() {
        let old = report(&[10.0, 10.0, 10.0]);
        assert_eq!(slower(&old, &report(&[10.5, 10.5, 10.5])), []);
        assert_eq!(slower(&old, &report(&[5.0, 5.0, 5.0])), []);
        let found = slower(&old, &report(&[12.0, 12.0, 12.0]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].what, "everything on: First token, median");
        let found = slower(&old, &report(&[10.0, 10.0, 20.0]));
        assert_eq!(found[0].what, "everything on: First token, p95");
    }

    #[test]
    fn reports_come_back_from_their_files() {
        let new = report(&[1.0, 2.0]);
        let text = serde_json::to_string(&new).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.variants[0].samples.of(Stage::FirstToken), [1.0, 2.0]);
    }
}
