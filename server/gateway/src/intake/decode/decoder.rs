//! What decodes one picture after the other: a process, or this thread.

#[cfg(target_os = "linux")]
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

#[cfg(target_os = "linux")]
use glimpse_image::process::{self, Killer, Process};
use glimpse_image::{FileBuffer, ImageError, Options, Picture, Stop};
use wire::ErrorCode;

use crate::intake::retry;
use api::Failure;

/// Ends what a decoder does, from another thread.
#[derive(Clone)]
pub enum End {
    #[cfg(target_os = "linux")]
    Process(Killer),
    Thread(Stop),
}

impl End {
    pub fn now(&self) {
        match self {
            #[cfg(target_os = "linux")]
            End::Process(killer) => killer.kill(),
            End::Thread(stop) => stop.now(),
        }
    }
}

/// Decodes one picture after the other.
pub enum Decoder {
    #[cfg(target_os = "linux")]
    Process(Option<Process>),
    Thread(Stop),
}

/// How a picture is decoded.
pub struct Task<'a> {
    pub options: &'a Options,
    /// S: the model sees S × S.
    pub size: u32,
    /// Processor time that the picture may take.
    pub time: Duration,
}

impl Decoder {
    /// # Errors
    /// If a process is wanted and can't be started.
    pub fn start(in_process: bool) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        if in_process {
            return Ok(Decoder::Process(Some(start()?)));
        }
        let _ = in_process;
        Ok(Decoder::Thread(Stop::default()))
    }

    /// Whether it can do nothing but decode, or was not meant to be kept from it.
    pub fn is_confined(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Decoder::Process(process) => process.as_ref().is_none_or(Process::is_sandboxed),
            Decoder::Thread(_) => true,
        }
    }

    /// Whether it can be given a picture: a process may have ended while it had none.
    pub fn is_ready(&mut self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Decoder::Process(process) => process.as_mut().is_some_and(Process::is_fit),
            Decoder::Thread(_) => true,
        }
    }

    /// Makes it ready for a picture, which it may not be after the last one.
    pub fn renew(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Decoder::Process(process) => {
                let is_ready =
                    |process: &mut Process| process.is_fit() && process.prepare().is_ok();
                if !process.as_mut().is_some_and(is_ready) {
                    *process = None;
                    *process = start()
                        .inspect_err(|problem| tracing::error!(%problem, "no decoder process"))
                        .ok();
                }
            }
            Decoder::Thread(stop) => *stop = Stop::default(),
        }
    }

    /// `None` if there is nothing to end.
    pub fn end(&self) -> Option<End> {
        match self {
            #[cfg(target_os = "linux")]
            Decoder::Process(process) => process.as_ref().map(|p| End::Process(p.killer())),
            Decoder::Thread(stop) => Some(End::Thread(stop.clone())),
        }
    }

    /// Decodes a file, once `grant` has found the memory that its header asks for.
    ///
    /// # Errors
    /// For the person who sent it. What `grant` says is said as it is.
    pub fn decode(
        &mut self,
        file: &mut FileBuffer,
        task: &Task<'_>,
        grant: impl FnOnce(u64) -> Result<(), Failure>,
    ) -> Result<Picture, Failure> {
        match self {
            #[cfg(target_os = "linux")]
            Decoder::Process(slot) => {
                let Some(process) = slot else {
                    return Err(unavailable());
                };
                let result = in_process(process, file, task, grant);
                if result.as_ref().is_err_and(|(_, over)| *over) {
                    *slot = None;
                }
                result.map_err(|(problem, _)| problem)
            }
            Decoder::Thread(stop) => {
                let header = glimpse_image::probe(file.bytes(), task.options).map_err(fault)?;
                grant(header.memory)?;
                let bytes = file.bytes();
                let decoded = glimpse_image::decode(bytes, header, task.size, task.options, stop);
                match stop.is_asked() {
                    true => Err(too_long(task.time)),
                    false => decoded.map_err(fault),
                }
            }
        }
    }
}

/// Decodes in a process. With an error comes whether the process is over.
#[cfg(target_os = "linux")]
fn in_process(
    process: &mut Process,
    file: &mut FileBuffer,
    task: &Task<'_>,
    grant: impl FnOnce(u64) -> Result<(), Failure>,
) -> Result<Picture, (Failure, bool)> {
    let told = |failure: process::Failure| {
        let over = !failure.leaves_it_running();
        let problem = match failure {
            process::Failure::Picture(problem) => fault(problem),
            process::Failure::TooLong => too_long(task.time),
            // Not its own doing: the system had no memory left, say.
            process::Failure::Died(Some(how)) if how.signal() == Some(libc::SIGKILL) => {
                unavailable().detail(how.to_string())
            }
            process::Failure::Died(how) => Failure::new(
                ErrorCode::ImageBroken,
                "This picture can't be decoded: its decoder fails over it, or it asks for more memory than its size explains. \
                 Save it anew with another program, or send another copy of it.",
            )
            .detail(how.map_or_else(String::new, |how| how.to_string())),
            process::Failure::Broken(problem) => unavailable().detail(problem.to_string()),
        };
        (problem, over)
    };
    let probed = process.probe(file, task.options, task.time).map_err(told)?;
    grant(probed.header.memory).map_err(|problem| (problem, false))?;
    process
        .decode(file, probed, task.size, task.time)
        .map_err(told)
}

/// Starts this program as a decoder process.
#[cfg(target_os = "linux")]
fn start() -> std::io::Result<Process> {
    use std::os::unix::process::CommandExt;
    // Not by its path: the file there may be another by now.
    let mut program = std::process::Command::new("/proc/self/exe");
    program.arg0("glimpse").arg("decoder");
    Process::start(&mut program)
}

fn fault(problem: ImageError) -> Failure {
    Failure::new(problem.code(), problem.to_string())
}

fn too_long(time: Duration) -> Failure {
    Failure::new(
        ErrorCode::ImageTooLarge,
        format!(
            "This picture takes longer to decode than the {} s that it is given here: make it smaller, or save it anew with another program.",
            time.as_secs_f64()
        ),
    )
}

#[cfg(target_os = "linux")]
fn unavailable() -> Failure {
    let message = "The server could not decode the picture just now: send it again in a moment.";
    Failure::new(ErrorCode::Busy, message).retry_after(retry::DECODERS)
}
