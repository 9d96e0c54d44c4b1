//! `glimpse bench`: drives a server through its socket as a client does, and tells how long everything took.
//!
//! [`stages`] measures the model without a server, [`agreement`] what smaller weights do to its answers. [`rounds`] measures
//! servers side by side, [`lengths`] the first questions of their lengths, [`overhead`] what users cost each other,
//! [`instruments`] what counting and tracing cost, [`load`] many users; [`report`] is what they found, [`targets`] what it
//! should be, [`markdown`] and [`html`] how it is told, [`compare`] what got slower.

mod agreement;
pub mod client;
mod compare;
mod html;
mod instruments;
mod lengths;
mod load;
mod markdown;
mod overhead;
mod picture;
mod plot;
mod report;
mod rounds;
pub mod server;
mod stages;
mod stats;
mod targets;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{Before, BenchArgs};
use client::{Client, Failure};
use load::Kind;
use model::checkpoint;
use picture::Pictures;
use report::{Machine, Overhead, Report};
use rounds::{Measured, Script, cold_starts, side_by_side, start};
use server::Server;

/// Measures, prints the tables and writes the report. False if `--compare` found something slower, or rounds failed.
///
/// # Errors
/// If nothing can be measured: no picture, no server, no place for the report.
pub fn run(args: &BenchArgs) -> Result<bool, String> {
    if args.stages {
        return stages::run(args).map(|()| true);
    }
    if let Some(questions) = &args.agreement {
        return agreement::run(args, questions).map(|()| true);
    }
    // Before minutes are spent.
    let old = args.compare.as_deref().map(read).transpose()?;
    fs::create_dir_all(&args.out).map_err(|e| format!("--out {}: {e}", args.out.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("no client can be started: {e}"))?;
    let report = runtime.block_on(measure(args))?;

    let text = markdown::report(&report);
    let json = serde_json::to_string(&report).map_err(|e| e.to_string())?;
    for (name, content) in [
        ("report.md", &text),
        ("report.json", &json),
        ("report.html", &html::report(&report)),
    ] {
        let path = args.out.join(name);
        fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("{text}");
    eprintln!("Written to {}.", args.out.join("report.html").display());

    let slower = old.map_or_else(Vec::new, |old| compare::slower(&old, &report));
    for found in &slower {
        println!(
            "SLOWER  {}: {:.1} ms, was {:.1} ms",
            found.what, found.new_ms, found.old_ms
        );
    }
    if args.compare.is_some() && slower.is_empty() {
        println!("Nothing got slower.");
    }
    let failed: u64 = report
        .variants
        .iter()
        .chain(&report.cold)
        .map(|variant| variant.failures.total())
        .sum();
    if failed > 0 {
        println!("{failed} rounds failed: the tables tell how.");
    }
    Ok(slower.is_empty() && failed == 0)
}

fn read(path: &Path) -> Result<Report, String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("--compare {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| {
        format!(
            "--compare {} is not a report.json of this program ({e})",
            path.display()
        )
    })
}

async fn measure(args: &BenchArgs) -> Result<Report, String> {
    let mut script = Script {
        pictures: Pictures::choose(args.image.as_deref())?,
        sent: 0,
        prompt: args.prompt.clone(),
        max_new_tokens: args.max_new_tokens,
    };
    let mut machine = Machine::here();
    let mut flags = args.model.flags();
    flags.extend(args.serve.iter().cloned());
    let started_here = args.url.is_none();

    let cold_kinds = match args.before.contains(&Before::Warmup) {
        true => vec![Before::None, Before::Warmup],
        false => vec![Before::None],
    };
    let bar = progress("{prefix} {bar:30} {pos}/{len} {msg} · {eta} left");
    let cold = if started_here && args.cold > 0 {
        bar.set_prefix("Cold starts");
        bar.set_length(u64::from(args.cold) * cold_kinds.len() as u64);
        cold_starts(&cold_kinds, &flags, &mut script, args.cold, &bar).await?
    } else {
        Vec::new()
    };

    let mut servers = servers(args, &flags, started_here)?;
    let model = model(&servers[0].server)
        .await
        .map_err(|failure| format!("the server can't be measured: {failure}"))?;

    let mut answer = None;
    let mut overhead = None;
    let mut lengths = Vec::new();
    if args.runs > 0 {
        // First of all: afterwards questions of these lengths may have been asked.
        match lengths::measure(&servers[0].server, &mut script).await {
            Ok(measured) => lengths = measured,
            Err(failure) => {
                eprintln!("The first questions of their lengths could not be measured: {failure}");
            }
        }
        bar.reset();
        bar.set_prefix("Rounds");
        bar.set_length(u64::from(args.runs) * servers.len() as u64);
        answer = side_by_side(&mut servers, &mut script, args.runs, &bar).await;
        match overheads(args, &servers[0].server, &model, &mut script, &bar).await {
            Ok(measured) => overhead = Some(measured),
            Err(problem) => eprintln!("Overheads could not be measured: {problem}"),
        }
    }
    let variants = match args.runs {
        0 => Vec::new(),
        _ => servers
            .iter()
            .map(|server| server.variant.clone())
            .collect(),
    };
    // The others are no longer needed, nor their memory.
    servers.truncate(1);
    let kinds = args.users.iter().map(|users| Kind::Users(*users));
    let kinds = kinds.chain(args.rate.iter().map(|rate| Kind::Rate(*rate)));
    let duration = Duration::from_secs_f64(args.duration);
    let mut loads = Vec::new();
    for kind in kinds {
        bar.reset();
        bar.set_prefix("Load");
        bar.set_message(format!("{kind:?}"));
        bar.set_length(duration.as_secs());
        loads.push(load::run(&servers[0].server, &mut script, kind, duration, &bar).await);
    }
    bar.finish_and_clear();
    machine.load_after = report::load();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").into(),
        date: report::now(),
        command: command(),
        machine,
        model,
        picture: script.pictures.what.clone(),
        prompt: script.prompt,
        answer,
        runs: args.runs,
        variants,
        cold,
        lengths,
        overhead,
        loads,
    })
}

/// What users cost each other. The demo's answers are too short for that: the same shapes with random weights, which
/// never come to an end, take its place.
async fn overheads(
    args: &BenchArgs,
    server: &Server,
    model: &wire::Model,
    script: &mut Script,
    bar: &ProgressBar,
) -> Result<Overhead, String> {
    /// Enough for a picture to be encoded meanwhile.
    const LONG: u64 = 400;
    let runs = args.runs.div_ceil(10).max(args.runs.min(5));
    bar.reset();
    bar.set_prefix("Overheads");
    bar.set_length(u64::from(runs));
    let here = args.url.is_none();
    let (long, config);
    let (server, tokens) = if here && model.demo {
        config = TemporaryFile::new("config.json", &demo_config()?)?;
        let mut flags: Vec<OsString> = vec!["--random-weights".into(), "1".into()];
        flags.extend(["--config".into(), config.0.clone().into()]);
        flags.extend(args.model.flags());
        flags.extend(args.serve.iter().cloned());
        long = start(&flags, Before::None)?;
        (&long, LONG)
    } else {
        (server, args.max_new_tokens)
    };
    let prompt = script.prompt.clone();
    let plan = overhead::Plan {
        server,
        prompt: &prompt,
        tokens,
        runs,
        here,
    };
    overhead::measure(&plan, script, bar)
        .await
        .map_err(|failure| failure.to_string())
}

fn demo_config() -> Result<Vec<u8>, String> {
    let file = checkpoint::DEMO.file("config.json");
    file.map(|bytes| bytes.to_vec()).map_err(|e| e.to_string())
}

/// A file that goes when this does.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, content: &[u8]) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("glimpse-{}-{name}", std::process::id()));
        fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(TemporaryFile(path))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The server as it comes, then one for each thing switched off.
fn servers(
    args: &BenchArgs,
    flags: &[OsString],
    started_here: bool,
) -> Result<Vec<Measured>, String> {
    if let Some(url) = &args.url {
        let url = match url.strip_prefix("http") {
            Some(rest) => format!("ws{}/ws", rest.trim_end_matches('/')),
            None => url.clone(),
        };
        return Ok(vec![Measured::new(Server::at(&url), Before::None)]);
    }
    let mut kinds = vec![Before::None];
    if started_here && args.runs > 0 {
        kinds.extend(args.before.iter().filter(|before| **before != Before::None));
    }
    kinds
        .into_iter()
        .map(|kind| Ok(Measured::new(start(flags, kind)?, kind)))
        .collect()
}

/// What a server that is ready serves.
async fn model(server: &Server) -> Result<wire::Model, Failure> {
    let mut client = Client::connect(&server.url).await?;
    client.until_ready().await?;
    client.close().await;
    // Whoever came while it loaded may have been told less.
    let client = Client::connect(&server.url).await?;
    let model = client.welcome.model.clone();
    client.close().await;
    Ok(model)
}

fn progress(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The command line, without the folder of this program.
fn command() -> String {
    let arguments = std::env::args().skip(1);
    let words = arguments.map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word,
    });
    std::iter::once("glimpse".into())
        .chain(words)
        .collect::<Vec<String>>()
        .join(" ")
}
