//! The report as one HTML file that needs nothing beside it.

use std::fmt::Write;

use super::markdown::{COLD, ROUND, SIDE_BY_SIDE, facts, list, number};
use super::plot::{Fall, Line, Part, Width, escape, lines, strips, waterfall};
use super::stats::{Samples, Stage, Summary};
use super::targets::targets;
use super::{LOADS, Memory, Report, Variant};

const STYLE: &str = include_str!("report.css");

pub fn report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Glimpse: how long everything takes</title><style>{STYLE}</style><main>\
         <header><h1>How long everything takes</h1><p>Glimpse {} · {} UTC</p></header>",
        escape(&report.version),
        escape(&report.date)
    )?;
    figures(out, report)?;
    write!(out, "<dl>")?;
    for (name, value) in facts(report) {
        write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value))?;
    }
    write!(out, "</dl>")?;
    against_targets(out, report)?;
    rounds(out, report)?;
    cold(out, report)?;
    lengths(out, report)?;
    overhead(out, report)?;
    loads(out, report)?;
    write!(out, "<h2>What the stages are</h2><dl>")?;
    for stage in Stage::ALL {
        let meaning = escape(stage.meaning()).replace('`', "");
        write!(out, "<dt>{}</dt><dd>{meaning}</dd>", stage.title())?;
    }
    write!(out, "</dl></main></html>")
}

/// The few numbers that one came for.
fn figures(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(first) = report.variants.first() else {
        return Ok(());
    };
    write!(out, "<section class=\"figures\">")?;
    for (stage, words) in [
        (Stage::Upload, "until “received”"),
        (Stage::FirstToken, "from question to first token"),
        (Stage::Token, "a token"),
        (Stage::Total, "from drop to last word"),
    ] {
        if let Some(s) = first.samples.summary(stage) {
            write!(
                out,
                "<div><b>{}</b><i>ms</i><p>{words}</p><small>95% within {} ms</small></div>",
                number(s.median),
                number(s.p95)
            )?;
        }
    }
    write!(out, "</section>")
}

fn against_targets(out: &mut String, report: &Report) -> std::fmt::Result {
    let targets = targets(report);
    if targets.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<h2>Against the targets</h2><div class=\"wide\"><table class=\"words\"><tr><th><th>measured<th>target<th></tr>"
    )?;
    for target in &targets {
        let (class, word) = match target.is_held() {
            true => ("held", "held"),
            false => ("slow", "missed"),
        };
        write!(
            out,
            "<tr><td>{}<td><b>{}{}</b><td>{}<td class=\"{class}\">{word}</tr>",
            escape(target.what),
            number(target.measured),
            target.unit,
            target.bound()
        )?;
    }
    write!(out, "</table></div>")
}

fn rounds(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(first) = report.variants.first() else {
        return Ok(());
    };
    write!(out, "<h2>Each stage, {} rounds</h2>", report.runs)?;
    table(out, "Stage", &stage_rows(&first.samples, &ROUND))?;
    failures(out, first)?;

    write!(
        out,
        "<h2>Where the time goes</h2><p>Medians, from the picture’s drop to the answer’s last word. The question comes as \
         soon as nothing more can be done without it.</p>"
    )?;
    let ends: Vec<&Variant> = match report.variants.last() {
        Some(last) if report.variants.len() > 1 => vec![first, last],
        _ => vec![first],
    };
    let falls: Vec<Fall> = ends.iter().map(|variant| fall(variant)).collect();
    legend(out, &falls[0].parts)?;
    figure(out, |width| waterfall(width, "Where the time goes", &falls))?;

    if report.variants.len() > 1 {
        write!(
            out,
            "<h2>Before and after</h2><p>The same server with each optimisation switched off, alone and all together, \
             measured in turn, round by round. Medians in milliseconds.</p>"
        )?;
        side_by_side(out, &report.variants)?;
    }
    write!(
        out,
        "<p class=\"key\"><span class=\"m\">median</span> <span class=\"p\">95th percentile</span></p>"
    )?;
    for stage in [
        Stage::FirstToken,
        Stage::NextFirstToken,
        Stage::HttpNextFirstToken,
        Stage::Token,
        Stage::Pair,
        Stage::Total,
    ] {
        let rows: Vec<(&str, &[f64])> = report
            .variants
            .iter()
            .map(|v| (v.name.as_str(), v.samples.of(stage)))
            .filter(|(_, values)| !values.is_empty())
            .collect();
        if !rows.is_empty() {
            write!(out, "<h3>{}</h3>", stage.title())?;
            figure(out, |width| strips(width, stage.title(), &rows))?;
        }
    }
    Ok(())
}

/// The medians of a server's rounds, one after another.
fn fall(variant: &Variant) -> Fall {
    let ms = |stage| variant.samples.median(stage);
    let look = [Stage::Vision, Stage::Prefill].map(ms);
    let before = ms(Stage::Upload) + ms(Stage::Decode);
    let between = |whole: f64| (whole - look[0] - look[1]).max(0.0);
    // What is asked before the picture is encoded waits for that too.
    let (waiting, first) = match variant.eager {
        true => (between(ms(Stage::Look) - before), ms(Stage::FirstToken)),
        false => (0.0, between(ms(Stage::FirstToken))),
    };
    let part = |name, ms, series| Part { name, ms, series };
    Fall {
        name: variant.name.clone(),
        parts: vec![
            part("upload", ms(Stage::Upload), 1),
            part("decode and preprocess", ms(Stage::Decode) + waiting, 2),
            part("vision tower", look[0], 3),
            part("prefill of the picture", look[1], 4),
            part("first token", first, 5),
            part(
                "rest of the answer",
                (ms(Stage::Answer) - ms(Stage::FirstToken)).max(0.0),
                6,
            ),
        ],
        asked_ms: match variant.eager {
            true => ms(Stage::Look),
            false => before,
        },
    }
}

fn cold(out: &mut String, report: &Report) -> std::fmt::Result {
    for cold in &report.cold {
        let starts = cold.samples.of(Stage::Loaded).len();
        write!(
            out,
            "<h2>Cold starts ({starts}), {}</h2>",
            escape(&cold.name)
        )?;
        table(out, "Stage", &stage_rows(&cold.samples, &COLD))?;
        failures(out, cold)?;
    }
    Ok(())
}

fn lengths(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.lengths.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<h2>First token of the first question of a length</h2><div class=\"wide\"><table>\
         <tr><th>words<th>the first<th>later: median<th>max</tr>"
    )?;
    for length in &report.lengths {
        if let Some(later) = Summary::of(&length.later) {
            let [first, median, max] = [length.first, later.median, later.max].map(number);
            write!(
                out,
                "<tr><td>{}<td><b>{first}</b><td>{median}<td>{max}</tr>",
                length.words
            )?;
        }
    }
    write!(out, "</table></div>")
}

fn overhead(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(overhead) = &report.overhead else {
        return Ok(());
    };
    write!(out, "<h2>What users cost each other</h2>")?;
    let rows: Vec<(String, Summary)> = overhead
        .rows()
        .into_iter()
        .map(|(title, summary)| (title.to_owned(), summary))
        .collect();
    table(out, "", &rows)?;
    write!(out, "<h3>From one token to the next</h3>")?;
    let rows: Vec<(&str, &[f64])> = [
        ("one user alone", &overhead.alone[..]),
        ("beside a busy thread", &overhead.beside_busy),
        ("beside an encoding", &overhead.beside_encoding),
        ("two users", &overhead.together),
    ]
    .into_iter()
    .filter(|(_, values)| !values.is_empty())
    .collect();
    figure(out, |width| {
        strips(width, "From one token to the next", &rows)
    })
}

fn loads(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.loads.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<h2>Load</h2><p>{LOADS}</p><div class=\"wide\">\
         <table class=\"stacked\"><tr><th><th>answers<th>a minute<th>tokens/s<th>first word: median<th>p95<th>p99\
         <th>last word: median<th>p95<th>p99<th>longest gap over median: median<th>p95<th>failed</tr>"
    )?;
    for load in &report.loads {
        write!(
            out,
            "<tr><td>{}<td data-is=\"answers\">{}<td data-is=\"a minute\">{:.1}<td data-is=\"tokens/s\">{:.1}",
            load.title(),
            load.answers,
            load.answers as f64 * 60.0 / load.seconds,
            load.tokens_per_second
        )?;
        let (first, last) = load.stages();
        for (word, stage) in [("first", first), ("last", last)] {
            let summary = load.samples.summary(stage);
            let values = match &summary {
                Some(s) => [s.median, s.p95, s.p99].map(number),
                None => [(); 3].map(|()| "–".to_owned()),
            };
            for (name, value) in ["median", "p95", "p99"].into_iter().zip(values) {
                write!(out, "<td data-is=\"{word} word: {name}\">{value}")?;
            }
        }
        for (name, value) in ["median", "p95"].into_iter().zip(load.gap_cells()) {
            write!(
                out,
                "<td data-is=\"longest gap over median: {name}\">{value}"
            )?;
        }
        let failed = match load.failures.total() {
            0 => "0".into(),
            _ => escape(&list(&load.failures)),
        };
        write!(out, "<td data-is=\"failed\">{failed}</tr>")?;
    }
    write!(out, "</table></div>")?;

    let closed: Vec<_> = report.loads.iter().filter(|l| l.users.is_some()).collect();
    if closed.len() > 1 {
        let line = |name: &str, series, last: bool, pick: fn(&Summary) -> f64| Line {
            name: name.into(),
            points: closed
                .iter()
                .filter_map(|load| {
                    let stages = load.stages();
                    let stage = if last { stages.1 } else { stages.0 };
                    let summary = load.samples.summary(stage)?;
                    Some((f64::from(load.users?), pick(&summary) / 1e3))
                })
                .collect(),
            series,
        };
        write!(out, "<h3>Latency against users</h3>")?;
        let all = [
            line("first word, median", 5, false, |s| s.median),
            line("first word, p95", 4, false, |s| s.p95),
            line("last word, median", 1, true, |s| s.median),
            line("last word, p95", 3, true, |s| s.p95),
        ];
        let units = ("users at once", "s");
        figure(out, |width| {
            lines(width, "Latency against users", units, &all, true)
        })?;
    }
    let memory: Vec<Line> = report
        .loads
        .iter()
        .enumerate()
        .filter(|(_, load)| load.memory.len() > 1)
        .flat_map(|(index, load)| {
            let of = |name: String, pick: fn(&Memory) -> Option<f64>, series| Line {
                name,
                points: load
                    .memory
                    .iter()
                    .filter_map(|point| Some((point.seconds, pick(point)? / 1e6)))
                    .collect(),
                series,
            };
            [
                of(load.title(), |p| Some(p.resident_bytes), index % 6 + 1),
                of(
                    format!("{}, device", load.title()),
                    |p| p.device_bytes,
                    (index + 3) % 6 + 1,
                ),
            ]
        })
        .filter(|line| line.points.len() > 1)
        .collect();
    if !memory.is_empty() {
        write!(out, "<h3>Memory over time</h3>")?;
        let units = ("seconds", "MB");
        figure(out, |width| {
            lines(width, "Memory over time", units, &memory, false)
        })?;
    }
    Ok(())
}

fn stage_rows(samples: &Samples, stages: &[Stage]) -> Vec<(String, Summary)> {
    stages
        .iter()
        .filter_map(|stage| Some((stage.title().to_owned(), samples.summary(*stage)?)))
        .collect()
}

fn table(out: &mut String, first: &str, rows: &[(String, Summary)]) -> std::fmt::Result {
    write!(
        out,
        "<div class=\"wide\"><table><tr><th>{first}<th>median<th>p95<th>p99<th>max<th>n</tr>"
    )?;
    for (title, s) in rows {
        let [median, p95, p99, max] = [s.median, s.p95, s.p99, s.max].map(number);
        write!(
            out,
            "<tr><td>{}<td><b>{median}</b><td>{p95}<td>{p99}<td>{max}<td>{}</tr>",
            escape(title),
            s.n
        )?;
    }
    write!(out, "</table></div>")
}

fn side_by_side(out: &mut String, variants: &[Variant]) -> std::fmt::Result {
    write!(out, "<div class=\"wide\"><table class=\"stacked\"><tr><th>")?;
    for variant in variants {
        write!(
            out,
            "<th title=\"{}\">{}",
            escape(&variant.flags),
            escape(&variant.name)
        )?;
    }
    write!(out, "</tr>")?;
    for stage in SIDE_BY_SIDE {
        write!(out, "<tr><td>{}", stage.title())?;
        let base = variants.first().and_then(|v| v.samples.summary(stage));
        for variant in variants {
            let name = escape(&variant.name);
            match (variant.samples.summary(stage), base) {
                (Some(s), Some(base)) if s.median > base.median * 1.1 => {
                    let times = s.median / base.median.max(1e-9);
                    write!(
                        out,
                        "<td class=\"slow\" data-is=\"{name}\">{} <small>×{times:.1}</small>",
                        number(s.median)
                    )?;
                }
                (Some(s), _) => write!(out, "<td data-is=\"{name}\">{}", number(s.median))?,
                (None, _) => write!(out, "<td data-is=\"{name}\">–")?,
            }
        }
        write!(out, "</tr>")?;
    }
    write!(out, "</table></div>")?;
    for variant in &variants[1..] {
        failures(out, variant)?;
    }
    Ok(())
}

fn failures(out: &mut String, variant: &Variant) -> std::fmt::Result {
    match variant.failures.total() {
        0 => Ok(()),
        _ => write!(
            out,
            "<p class=\"failed\">Failed, {}: {}.</p>",
            escape(&variant.name),
            escape(&list(&variant.failures))
        ),
    }
}

fn legend(out: &mut String, parts: &[Part]) -> std::fmt::Result {
    write!(out, "<p class=\"key\">")?;
    for part in parts {
        write!(
            out,
            "<span class=\"s{}\">{}</span> ",
            part.series, part.name
        )?;
    }
    write!(out, "</p>")
}

/// A plot for screens and one for phones, of which the style sheet shows one.
fn figure(out: &mut String, plot: impl Fn(Width) -> String) -> std::fmt::Result {
    let (broad, slim) = (plot(Width::Broad), plot(Width::Slim));
    write!(
        out,
        "<figure class=\"broad\">{broad}</figure><figure class=\"slim\">{slim}</figure>"
    )
}
