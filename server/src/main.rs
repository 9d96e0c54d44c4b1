//! The command line.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use glimpse::config::{Cli, Command, LogArgs, LogFormat};
use glimpse::device::settle_threads;
use glimpse::http::Ended;
use glimpse::{bench, generate, inspect, quantize, serve};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

fn main() -> ExitCode {
    settle_memory();
    let cli = Cli::parse();
    match log(&cli.log).and_then(|()| run(cli.command)) {
        Ok(code) => code,
        Err(problem) => {
            tell(&format!("glimpse: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// How `serve` exits when the device is lost: EX_TEMPFAIL of sysexits.h, "try again".
const DEVICE_LOST: u8 = 75;

/// A line on stderr; one that can't be written (a full disk) is no reason to panic.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve(args) => {
            settle_threads(args.model.threads.map(usize::from));
            match serve::run(&args).map_err(|problem| problem.to_string())? {
                Ended::Asked => {}
                Ended::Lost => {
                    tell(
                        "glimpse: the device is lost, and only a new process can get it back: start again (a supervisor \
                         does on status 75; see docs/operations.md)",
                    );
                    return Ok(ExitCode::from(DEVICE_LOST));
                }
            }
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
        // A log that can't be written (a full disk) must not end the server, as saying so on stderr would.
        .log_internal_errors(false)
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
