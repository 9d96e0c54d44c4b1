//! The command line.

use std::process::ExitCode;

use clap::Parser;
use glimpse::config::{Cli, Command};
use glimpse::device::settle_threads;
use glimpse::{bench, generate, inspect, quantize, serve, telemetry};

fn main() -> ExitCode {
    settle_memory();
    let cli = Cli::parse();
    let (usual, collector) = match &cli.command {
        Command::Serve(args) => (
            "info,actix_server=warn",
            telemetry::collector(args.otlp_endpoint.as_deref()),
        ),
        // What it says is its answer.
        _ => ("warn", None),
    };
    let ended = telemetry::start(&cli.log, usual, collector).and_then(|telemetry| {
        let code = run(cli.command);
        telemetry.finish();
        code
    });
    match ended {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("glimpse: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve(args) => {
            settle_threads(args.model.threads.map(usize::from));
            serve::run(&args).map_err(|problem| problem.to_string())?;
        }
        Command::Generate(args) => {
            settle_threads(args.model.threads.map(usize::from));
            generate::run(&args)?;
        }
        Command::Inspect(args) => {
            if !inspect::run(&args)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Quantize(args) => {
            settle_threads(args.threads.map(usize::from));
            quantize::run(&args)?;
        }
        Command::Bench(args) => {
            if !bench::run(&args)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// By default glibc gives each thread a heap of its own, and what one frees another cannot use: memory then creeps up
/// with every picture that another thread happens to decode.
fn settle_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called before any other thread starts.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
