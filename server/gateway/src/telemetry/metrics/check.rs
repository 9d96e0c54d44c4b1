//! What Prometheus would say to the text: a small parser of its format and its naming conventions.

use std::collections::HashMap;

/// A metric family as Prometheus reads it.
#[derive(Default)]
pub struct Family {
    pub kind: String,
    helped: bool,
    pub samples: Vec<Sample>,
}

/// Name with suffix, labels, value.
pub type Sample = (String, Vec<(String, String)>, f64);

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads the text, or says what is wrong with it, as `promtool check metrics` would.
pub fn parse(text: &str) -> Result<HashMap<String, Family>, String> {
    let mut families: HashMap<String, Family> = HashMap::new();
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without a text")?;
            let family = families.entry(name.into()).or_default();
            if std::mem::replace(&mut family.helped, true) || help.is_empty() {
                return Err(format!("{name}: one HELP, please"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without a type")?;
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(format!("{name}: no type {kind}"));
            }
            families.entry(name.into()).or_default().kind = kind.into();
        } else {
            let (id, value) = line.rsplit_once(' ').ok_or(format!("no value: {line}"))?;
            let value: f64 = value.parse().map_err(|e| format!("{line}: {e}"))?;
            let (name, labels) = match id.split_once('{') {
                None => (id, vec![]),
                Some((name, rest)) => {
                    let inside = rest.strip_suffix('}').ok_or(format!("no brace: {line}"))?;
                    let labels = inside.split(',').map(|pair| {
                        let (key, value) = pair.split_once('=')?;
                        let value = value.strip_prefix('"')?.strip_suffix('"')?;
                        is_name(key).then(|| (key.to_owned(), value.to_owned()))
                    });
                    let labels: Option<Vec<_>> = labels.collect();
                    (name, labels.ok_or(format!("bad labels: {line}"))?)
                }
            };
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|base| families.get(*base).is_some_and(|f| f.kind == "histogram"))
                .unwrap_or(name);
            let family = families
                .get_mut(base)
                .filter(|family| !family.kind.is_empty() && family.helped);
            let family = family.ok_or(format!("{name} comes before its HELP and TYPE"))?;
            family.samples.push((name.into(), labels, value));
        }
    }
    Ok(families)
}

/// <https://prometheus.io/docs/practices/naming/>
pub fn conventions(families: &HashMap<String, Family>) -> Result<(), String> {
    for (name, family) in families {
        let problem = |what: &str| Err(format!("{name}: {what}"));
        if !is_name(name) || name.to_lowercase() != *name {
            return problem("not a snake_case name");
        }
        if name.ends_with("_total") != (family.kind == "counter") {
            return problem("counters, and they alone, end in _total");
        }
        if family.kind == "histogram" {
            if !name.ends_with("_seconds") {
                return problem("durations are in seconds");
            }
            histogram(name, family)?;
        }
        for unit in ["_ms", "_milliseconds", "_mb", "_kb", "_percent"] {
            if name.contains(unit) {
                return problem("units are base units");
            }
        }
        let mut seen = Vec::new();
        for (sample, labels, value) in &family.samples {
            if seen.contains(&(sample, labels)) {
                return problem("a sample twice");
            }
            seen.push((sample, labels));
            if family.kind == "counter" && *value < 0.0 {
                return problem("a counter below 0");
            }
        }
    }
    Ok(())
}

fn histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut last: HashMap<Vec<(String, String)>, (f64, f64)> = HashMap::new();
    for (sample, labels, value) in &family.samples {
        if sample.ends_with("_bucket") {
            let mut labels = labels.clone();
            let (key, bound) = labels.pop().ok_or(format!("{name}: no le"))?;
            let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap();
            let (before, count) = last.get(&labels).copied().unwrap_or((0.0, 0.0));
            if key != "le" || bound <= before || *value < count {
                return Err(format!("{name}: buckets out of order"));
            }
            last.insert(labels, (bound, *value));
        } else if sample.ends_with("_count") && last.get(labels) != Some(&(f64::INFINITY, *value)) {
            return Err(format!("{name}: the count is not the last bucket's"));
        }
    }
    Ok(())
}
