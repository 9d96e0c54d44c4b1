//! Servers under load, as their clients see them.
//!
//! [`rounds`] measures servers side by side, [`lengths`] the first questions of their lengths, [`overhead`] what users cost
//! each other, [`users`] many of them at once.

mod http;
mod lengths;
mod overhead;
mod picture;
mod rounds;
mod server;
mod settings;
mod users;

use std::ffi::OsString;
use std::fs;
use std::iter::once;
use std::path::PathBuf;

use indicatif::ProgressBar;

use crate::progress::progress;
use crate::report::compare::slower;
use crate::report::{self, Machine, Overhead, Report};
use client::{Client, Failure};
use model::checkpoint;
use picture::Pictures;
use rounds::{Measured, Script, cold_starts, side_by_side};
use settings::AS_IT_COMES;

pub use server::Server;
pub use settings::{Launch, Servers, Settings, Way};
pub use users::Kind;

/// Measures, prints the tables and writes the report. False if something is slower than in the earlier report, or rounds
/// failed.
///
/// # Errors
/// If nothing can be measured: no picture, no server, no place for the report.
pub fn run(settings: &Settings) -> Result<bool, String> {
    // Before minutes are spent.
    let old = settings.compare.as_deref().map(Report::read).transpose()?;
    let out = &settings.out;
    fs::create_dir_all(out).map_err(|e| format!("--out {}: {e}", out.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("no client can be started: {e}"))?;
    let report = runtime.block_on(measure(settings))?;
    let text = report.write(out)?;
    println!("{text}");
    eprintln!("Written to {}.", out.join("report.html").display());

    let compared = old.is_some();
    let slower = old.map_or_else(Vec::new, |old| slower(&old, &report));
    for found in &slower {
        println!(
            "SLOWER  {}: {:.1} ms, was {:.1} ms",
            found.what, found.new_ms, found.old_ms
        );
    }
    if compared && slower.is_empty() {
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

async fn measure(settings: &Settings) -> Result<Report, String> {
    let mut script = Script {
        pictures: Pictures::choose(settings.image.as_deref())?,
        sent: 0,
        prompt: settings.prompt.clone(),
        max_new_tokens: settings.max_new_tokens,
    };
    let mut machine = Machine::here();
    let bar = progress("{prefix} {bar:30} {pos}/{len} {msg} · {eta} left");
    let cold = match &settings.servers {
        Servers::Started(launch) if launch.cold > 0 => {
            bar.set_prefix("Cold starts");
            bar.set_length(u64::from(launch.cold) * (1 + launch.cold_before.len() as u64));
            cold_starts(launch, &mut script, &bar).await?
        }
        _ => Vec::new(),
    };

    let mut servers = servers(settings)?;
    let model = model(&servers[0].server)
        .await
        .map_err(|failure| format!("the server can't be measured: {failure}"))?;

    let mut answer = None;
    let mut overhead = None;
    let mut lengths = Vec::new();
    if settings.runs > 0 {
        // First of all: afterwards questions of these lengths may have been asked.
        match lengths::measure(&servers[0].server, &mut script).await {
            Ok(measured) => lengths = measured,
            Err(failure) => {
                eprintln!("The first questions of their lengths could not be measured: {failure}");
            }
        }
        bar.reset();
        bar.set_prefix("Rounds");
        bar.set_length(u64::from(settings.runs) * servers.len() as u64);
        answer = side_by_side(&mut servers, &mut script, settings.runs, &bar).await;
        match overheads(settings, &servers[0].server, &model, &mut script, &bar).await {
            Ok(measured) => overhead = Some(measured),
            Err(problem) => eprintln!("Overheads could not be measured: {problem}"),
        }
    }
    let variants = match settings.runs {
        0 => Vec::new(),
        _ => servers
            .iter()
            .map(|server| server.variant.clone())
            .collect(),
    };
    // The others are no longer needed, nor their memory.
    servers.truncate(1);
    let mut loads = Vec::new();
    for kind in &settings.loads {
        bar.reset();
        bar.set_prefix("Load");
        bar.set_message(format!("{kind:?}"));
        bar.set_length(settings.duration.as_secs());
        let server = &servers[0].server;
        loads.push(users::run(server, &mut script, *kind, settings.duration, &bar).await);
    }
    bar.finish_and_clear();
    machine.load_after = report::load();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").into(),
        date: report::now(),
        command: settings.command.clone(),
        machine,
        model,
        picture: script.pictures.what.clone(),
        prompt: script.prompt,
        answer,
        runs: settings.runs,
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
    settings: &Settings,
    server: &Server,
    model: &wire::Model,
    script: &mut Script,
    bar: &ProgressBar,
) -> Result<Overhead, String> {
    /// Enough for a picture to be encoded meanwhile.
    const LONG: u64 = 400;
    let runs = settings.runs.div_ceil(10).max(settings.runs.min(5));
    bar.reset();
    bar.set_prefix("Overheads");
    bar.set_length(u64::from(runs));
    let (long, config);
    let (server, tokens) = match &settings.servers {
        Servers::Started(launch) if model.demo => {
            config = TemporaryFile::new("config.json", &demo_config()?)?;
            let mut flags: Vec<OsString> = vec!["--random-weights".into(), "1".into()];
            flags.extend(["--config".into(), config.0.clone().into()]);
            flags.extend(launch.flags.iter().cloned());
            long = Server::start(&launch.program, &flags)?;
            (&long, LONG)
        }
        _ => (server, settings.max_new_tokens),
    };
    let prompt = script.prompt.clone();
    let plan = overhead::Plan {
        server,
        prompt: &prompt,
        tokens,
        runs,
        here: matches!(settings.servers, Servers::Started(_)),
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
fn servers(settings: &Settings) -> Result<Vec<Measured>, String> {
    let launch = match &settings.servers {
        Servers::Running(url) => {
            return Ok(vec![Measured::new(Server::at(url), &AS_IT_COMES)]);
        }
        Servers::Started(launch) => launch,
    };
    // Without rounds there is nothing to compare.
    let before = launch.before.iter().filter(|_| settings.runs > 0);
    once(&AS_IT_COMES)
        .chain(before)
        .map(|way| Measured::start(launch, way))
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
