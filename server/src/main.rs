//! The command line.

use std::io::Write;
use std::process::ExitCode;

use gateway::doors::Ended;
use glimpse::config::{self, Command};
#[cfg(feature = "cluster")]
use glimpse::fleet;
#[cfg(feature = "mcp")]
use glimpse::mcp;
use glimpse::telemetry::Export;
use glimpse::{bench, check, generate, inspect, pull, quantize, serve, telemetry};
use model::device::settle_threads;

fn main() -> ExitCode {
    settle_memory();
    let cli = config::parse();
    if matches!(cli.command, Command::Decoder) {
        return decode();
    }
    let (usual, export) = match &cli.command {
        Command::Serve(args) => (
            "info,actix_server=warn",
            Export::of(&args.doors.export, "glimpse"),
        ),
        #[cfg(feature = "cluster")]
        Command::Gateway(args) => (
            "info,actix_server=warn",
            Export::of(&args.doors.export, "glimpse-gateway"),
        ),
        #[cfg(feature = "cluster")]
        Command::Worker(args) => ("info", Export::of(&args.export, "glimpse-worker")),
        // What it says is its answer.
        _ => ("warn", None),
    };
    let ended = telemetry::start(&cli.log, usual, export).and_then(|telemetry| {
        let code = run(cli.command);
        telemetry.finish();
        code
    });
    match ended {
        Ok(code) => code,
        Err(problem) => {
            tell(&format!("glimpse: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves another Glimpse as its decoder. Whatever is wrong, that one is told or sees it.
fn decode() -> ExitCode {
    #[cfg(target_os = "linux")]
    if glimpse_image::process::run().is_ok() {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// How `serve` exits when the device is lost: EX_TEMPFAIL of sysexits.h, "try again".
const DEVICE_LOST: u8 = 75;

fn device_lost() -> ExitCode {
    tell(
        "glimpse: the device is lost, and only a new process can get it back: start again (a supervisor does on status 75; \
         see docs/operations.md)",
    );
    ExitCode::from(DEVICE_LOST)
}

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
                Ended::Lost => return Ok(device_lost()),
            }
        }
        #[cfg(feature = "cluster")]
        Command::Gateway(args) => {
            fleet::gateway(&args).map_err(|problem| problem.to_string())?;
        }
        #[cfg(feature = "cluster")]
        Command::Worker(args) => {
            use cluster::worker::Ended;
            settle_threads(args.model.threads.map(usize::from));
            match fleet::worker(&args).map_err(|problem| problem.to_string())? {
                Ended::Asked | Ended::Drained => {}
                Ended::Lost => return Ok(device_lost()),
            }
        }
        #[cfg(feature = "cluster")]
        Command::Drain(args) => fleet::drain(&args).map_err(|problem| problem.to_string())?,
        #[cfg(feature = "cluster")]
        Command::Fleet(args) => {
            end_with_reader();
            print!(
                "{}",
                fleet::members(&args).map_err(|problem| problem.to_string())?
            );
        }
        #[cfg(feature = "mcp")]
        Command::Mcp(args) => {
            settle_threads(args.model.threads.map(usize::from));
            mcp::run(&args).map_err(|problem| problem.to_string())?;
        }
        Command::Generate(args) => {
            end_with_reader();
            settle_threads(args.model.threads.map(usize::from));
            generate::run(&args)?;
        }
        Command::Inspect(args) => {
            end_with_reader();
            if !inspect::run(&args)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Check(args) => {
            end_with_reader();
            settle_threads(args.model.threads.map(usize::from));
            if !check::run(&args)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Pull(args) => pull::run(&args.name)?,
        Command::Models(args) => {
            end_with_reader();
            pull::models(args.remove.as_deref())?;
        }
        Command::Quantize(args) => {
            settle_threads(args.threads.map(usize::from));
            quantize::run(&args)?;
        }
        // Before anything else was set up.
        Command::Decoder => {}
        Command::Bench(args) => {
            if !bench::run(&args)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever reads stdout (`| head`) may have enough before it is all written: the process then ends without a word, as
/// is usual, where Rust's own way is a panic.
fn end_with_reader() {
    #[cfg(unix)]
    // SAFETY: sets a signal's default action; no handler runs.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
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
