//! `glimpse bench`: servers under load, with `--stages` and `--agreement` the model alone, or with `--fleet` a fleet in virtual time.

use std::error::Error;
use std::path::Path;

use bench::device::agreement::{self, Questions};
use bench::device::stages::{self, Peer};
use bench::load;

use crate::config::BenchArgs;
use model::device::{Target, settle_threads};

/// Measures and tells. False if something got slower, or failed.
///
/// # Errors
/// A sentence for the user.
pub fn run(args: &BenchArgs) -> Result<bool, String> {
    if args.simulation.fleet {
        return simulate(args).map(|()| true);
    }
    if args.stages {
        return measure_stages(args).map(|()| true);
    }
    if let Some(questions) = &args.agreement {
        let told = |e: Box<dyn Error>| format!("--agreement {}: {e}", questions.display());
        return measure_agreement(args, questions)
            .map_err(told)
            .map(|()| true);
    }
    load::run(&args.load()?)
}

fn measure_stages(args: &BenchArgs) -> Result<(), String> {
    let peer = args.peer.as_deref().map(Peer::read).transpose()?;
    settle_threads(args.model.threads.map(usize::from));
    let checkpoint = args.model.checkpoint().map_err(|e| e.to_string())?;
    let target = Target::choose(args.model.device, args.model.dtype).map_err(|e| e.to_string())?;
    let quantize = checkpoint
        .quantize(args.model.quantize, &target)
        .map_err(|e| e.to_string())?;
    stages::run(&checkpoint, &target, quantize, &peer.unwrap_or_default())
}

fn measure_agreement(args: &BenchArgs, questions: &Path) -> Result<(), Box<dyn Error>> {
    settle_threads(args.model.threads.map(usize::from));
    let questions = Questions::read(questions)?;
    let checkpoint = args.model.checkpoint()?;
    let target = Target::choose(args.model.device, args.model.dtype)?;
    agreement::run(&questions, &checkpoint, &target)
}

/// Prints what a fleet in virtual time comes to, and writes it into the report's folder: `fleet.json`, of the last number of
/// sessions; of several a plot, `fleet.svg`.
fn simulate(args: &BenchArgs) -> Result<(), String> {
    let (mut kept, mut brought) = (Vec::new(), Vec::new());
    let mut text = String::new();
    for sessions in &args.simulation.sessions {
        let (load, machine, list) = args.simulation.load(*sessions, args.duration)?;
        let results = simulation::run(&load, &machine, &list);
        println!("{}", results.table(&load, &machine.card));
        let each = f64::from(*sessions) / f64::from(load.workers);
        kept.push((each, results.kept_p50));
        brought.push((each, results.brought_p50));
        text = serde_json::to_string_pretty(&results).map_err(|e| e.to_string())? + "\n";
    }
    let line = |name: &str, points, series| bench::Line {
        name: name.into(),
        points,
        series,
    };
    let lines = [
        line("picture sent before", kept, 1),
        line("with a new picture", brought, 2),
    ];
    let title = format!("First words, by sessions for each {}", args.simulation.card);
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(&args.out)?;
        std::fs::write(args.out.join("fleet.json"), text)?;
        match lines[0].points.len() {
            0 | 1 => Ok(()),
            _ => {
                let units = ("sessions for each worker, a question a minute", "ms");
                let plot = bench::drawing(&title, units, &lines);
                std::fs::write(args.out.join("fleet.svg"), plot)
            }
        }
    };
    written().map_err(|e| format!("--out {}: {e}", args.out.display()))
}
