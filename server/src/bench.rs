//! `glimpse bench`: servers under load, or with `--stages` and `--agreement` the model alone.

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
