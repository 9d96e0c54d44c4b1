//! The command line.

use std::process::ExitCode;

use clap::Parser;
use glimpse::config::{Cli, Command, LogArgs, LogFormat};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(problem) = log(&cli.log) {
        eprintln!("glimpse: {problem}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

/// Logs go to stderr: stdout is for answers.
fn log(settings: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|problem| format!("--log {:?}: {problem}", settings.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
