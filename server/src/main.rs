//! The command line.

use std::process::ExitCode;

use clap::Parser;
use glimpse::config::{Cli, Command, LogArgs, LogFormat};
use glimpse::device::settle_threads;
use glimpse::{bench, generate, inspect, quantize, serve};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

fn main() -> ExitCode {
    settle_memory();
    let cli = Cli::parse();
    match log(&cli.log).and_then(|()| run(cli.command)) {
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

/// Logs go to stderr: stdout is for answers.
fn log(settings: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|problem| format!("--log {:?}: {problem}", settings.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Each stage tells when it begins and how long it took: see session::spans.
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
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
