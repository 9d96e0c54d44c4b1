//! The report as Markdown: what is printed, and what the README shows.

use std::fmt::Write;

use super::stats::{Samples, Stage, Summary};
use super::targets::targets;
use super::{Failures, LOADS, Length, Load, Report, Variant};

/// The stages of a round.
pub const ROUND: [Stage; 13] = [
    Stage::Connect,
    Stage::Upload,
    Stage::Decode,
    Stage::Vision,
    Stage::Prefill,
    Stage::Look,
    Stage::FirstToken,
    Stage::Token,
    Stage::Answer,
    Stage::Total,
    Stage::NextFirstToken,
    Stage::HttpNextFirstToken,
    Stage::Pair,
];

/// What is compared side by side.
pub const SIDE_BY_SIDE: [Stage; 8] = [
    Stage::Decode,
    Stage::Look,
    Stage::FirstToken,
    Stage::Token,
    Stage::Answer,
    Stage::Total,
    Stage::NextFirstToken,
    Stage::Pair,
];

pub const COLD: [Stage; 8] = [
    Stage::Listening,
    Stage::Loaded,
    Stage::Upload,
    Stage::Decode,
    Stage::Vision,
    Stage::Prefill,
    Stage::FirstToken,
    Stage::Total,
];

/// Milliseconds with as many digits as mean something.
pub fn number(ms: f64) -> String {
    match ms.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{ms:.0}"),
        size if size >= 10.0 => format!("{ms:.1}"),
        size if size >= 0.1 => format!("{ms:.2}"),
        size if size >= 0.01 => format!("{ms:.3}"),
        _ => format!("{ms:.5}"),
    }
}

pub fn report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_report(&mut out, report);
    out
}

/// What was measured, on what, in one paragraph's facts.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let (machine, model) = (&report.machine, &report.model);
    let name = if model.demo {
        "the demo checkpoint"
    } else {
        model.name.as_str()
    };
    let mut facts = vec![
        ("Date", format!("{} UTC", report.date)),
        ("Command", report.command.clone()),
        (
            "Machine",
            format!(
                "{}, {} cores, {} GB, {}",
                machine.processor, machine.cores, machine.memory_gb, machine.system
            ),
        ),
        (
            "Other work on it",
            format!(
                "load average {:.1} before, {:.1} after",
                machine.load_before, machine.load_after
            ),
        ),
        (
            "Model",
            format!(
                "{name} on {}, {}, quantization {}, Glimpse {}",
                model.device, model.dtype, model.quantization, report.version
            ),
        ),
        ("Picture", report.picture.clone()),
        ("Question", report.prompt.clone()),
    ];
    if let Some(answer) = &report.answer {
        facts.push(("Answer", answer.clone()));
    }
    facts
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "# Glimpse: how long everything takes\n")?;
    for (name, value) in facts(report) {
        let value = if name == "Command" {
            format!("`{value}`")
        } else {
            value
        };
        writeln!(out, "- {name}: {value}")?;
    }
    writeln!(out, "\nAll times in milliseconds.")?;
    if let Some(first) = report.variants.first() {
        writeln!(out, "\n## Each stage, {} rounds\n", report.runs)?;
        table(out, "Stage", &ROUND, &first.samples)?;
        errors(out, std::slice::from_ref(first))?;
    }
    let targets = targets(report);
    if !targets.is_empty() {
        writeln!(out, "\n## Against the targets\n")?;
        writeln!(out, "| | measured | target | |\n|---|---:|---:|---|")?;
        for target in &targets {
            writeln!(
                out,
                "| {} | {}{} | {} | {} |",
                target.what,
                number(target.measured),
                target.unit,
                target.bound(),
                if target.is_held() {
                    "held"
                } else {
                    "**missed**"
                }
            )?;
        }
    }
    if report.variants.len() > 1 {
        writeln!(out, "\n## Before and after, in turn: medians\n")?;
        side_by_side(out, &report.variants)?;
        errors(out, &report.variants[1..])?;
    }
    for cold in &report.cold {
        let starts = cold.samples.of(Stage::Loaded).len();
        writeln!(out, "\n## Cold starts ({starts}), {}\n", cold.name)?;
        table(out, "Stage", &COLD, &cold.samples)?;
        errors(out, std::slice::from_ref(cold))?;
    }
    lengths(out, &report.lengths)?;
    if let Some(overhead) = &report.overhead {
        writeln!(
            out,
            "\n## What users cost each other, and the server itself\n"
        )?;
        head(out, "")?;
        for (title, summary) in overhead.rows() {
            row(out, title, &summary)?;
        }
    }
    loads(out, &report.loads)?;
    if !report.variants.is_empty() || !report.cold.is_empty() {
        writeln!(out, "\n## What the stages are\n")?;
        for stage in Stage::ALL {
            writeln!(out, "- {}: {}.", stage.title(), stage.meaning())?;
        }
    }
    Ok(())
}

fn head(out: &mut String, first: &str) -> std::fmt::Result {
    writeln!(out, "| {first} | median | p95 | p99 | max | n |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|")
}

fn row(out: &mut String, title: &str, s: &Summary) -> std::fmt::Result {
    let [median, p95, p99, max] = [s.median, s.p95, s.p99, s.max].map(number);
    writeln!(
        out,
        "| {title} | {median} | {p95} | {p99} | {max} | {} |",
        s.n
    )
}

fn table(out: &mut String, first: &str, stages: &[Stage], samples: &Samples) -> std::fmt::Result {
    head(out, first)?;
    for stage in stages {
        if let Some(summary) = samples.summary(*stage) {
            row(out, stage.title(), &summary)?;
        }
    }
    Ok(())
}

fn side_by_side(out: &mut String, variants: &[Variant]) -> std::fmt::Result {
    let names: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
    writeln!(out, "| | {} |", names.join(" | "))?;
    writeln!(out, "|---|{}", "---:|".repeat(names.len()))?;
    for stage in SIDE_BY_SIDE {
        let cells: Vec<String> = variants
            .iter()
            .map(|variant| {
                variant
                    .samples
                    .summary(stage)
                    .map_or_else(|| "–".into(), |summary| number(summary.median))
            })
            .collect();
        writeln!(out, "| {} | {} |", stage.title(), cells.join(" | "))?;
    }
    Ok(())
}

fn errors(out: &mut String, variants: &[Variant]) -> std::fmt::Result {
    for variant in variants {
        if variant.failures.total() > 0 {
            writeln!(
                out,
                "\nFailed, {}: {}.",
                variant.name,
                list(&variant.failures)
            )?;
        }
    }
    Ok(())
}

/// Failures in words.
pub fn list(failures: &Failures) -> String {
    let each: Vec<String> = failures
        .0
        .iter()
        .map(|(code, count)| format!("{count} × {code}"))
        .collect();
    each.join(", ")
}

fn lengths(out: &mut String, lengths: &[Length]) -> std::fmt::Result {
    if lengths.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## First token of the first question of a length\n")?;
    writeln!(out, "| words | the first | later: median | max |")?;
    writeln!(out, "|---:|---:|---:|---:|")?;
    for length in lengths {
        if let Some(later) = Summary::of(&length.later) {
            let [first, median, max] = [length.first, later.median, later.max].map(number);
            writeln!(out, "| {} | {first} | {median} | {max} |", length.words)?;
        }
    }
    Ok(())
}

fn loads(out: &mut String, loads: &[Load]) -> std::fmt::Result {
    if loads.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Load\n\n{LOADS}\n")?;
    writeln!(
        out,
        "| | answers | a minute | tokens/s | first word: median | p95 | p99 | last word: median | p95 | p99 | longest gap over median: median | p95 | failed |"
    )?;
    writeln!(out, "|---|{}", "---:|".repeat(12))?;
    for load in loads {
        let (first, last) = load.stages();
        let cells = |stage| match load.samples.summary(stage) {
            Some(s) => [s.median, s.p95, s.p99].map(number).join(" | "),
            None => "– | – | –".into(),
        };
        writeln!(
            out,
            "| {} | {} | {:.1} | {:.1} | {} | {} | {} | {} |",
            load.title(),
            load.answers,
            load.answers as f64 * 60.0 / load.seconds,
            load.tokens_per_second,
            cells(first),
            cells(last),
            load.gap_cells().join(" | "),
            match load.failures.total() {
                0 => "0".into(),
                _ => list(&load.failures),
            }
        )?;
    }
    writeln!(out, "\nMemory of the server, in MB:\n")?;
    writeln!(
        out,
        "| | at first | at most | at last |\n|---|---:|---:|---:|"
    )?;
    for load in loads {
        let resident = load.memory.iter().map(|point| point.resident_bytes / 1e6);
        let (first, last) = (resident.clone().next(), resident.clone().next_back());
        if let (Some(first), Some(last)) = (first, last) {
            let most = resident.fold(0.0, f64::max);
            writeln!(
                out,
                "| {} | {first:.0} | {most:.0} | {last:.0} |",
                load.title()
            )?;
        }
    }
    Ok(())
}
