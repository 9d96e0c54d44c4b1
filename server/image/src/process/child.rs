//! The decoder's side: decodes one picture after the other until its parent is gone.

use std::io;
use std::os::fd::AsFd;

use memmap2::{Mmap, MmapMut};

use super::memory::{place, view};
use super::messages::{Order, Reply, receive, send};
use super::sandbox;
use crate::{Header, Options, Pixels, Stop, decode_into, probe};

/// Memory that the allocator may keep beside what is in use, in bytes.
#[cfg(target_env = "gnu")]
const KEPT: usize = 16 << 20;

/// Where pixels go.
struct Place {
    /// S: they are S × S × 3 bytes.
    size: u32,
    pixels: MmapMut,
}

/// A picture whose header was read.
struct Open {
    file: Mmap,
    header: Header,
    options: Options,
}

/// Runs a decoder: its parent speaks through standard input. Call it in a process with no other thread, for it gives up
/// opening files for good.
///
/// # Errors
/// If standard input is no such socket.
pub fn run() -> io::Result<()> {
    stay();
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // What a decoder panics about is that picture's fault, and its parent is told.
    std::panic::set_hook(Box::new(|_| {}));
    let sandbox = sandbox::enter();
    send(&socket, &Reply::Ready { sandbox }, None)?;
    let (mut to, mut open) = (None, None);
    while let Some((order, memory)) = receive(&socket)? {
        let reply = match (order, memory) {
            (Order::Place { size }, Some(memory)) => {
                let pixels = place(memory, Pixels::bytes(size))?;
                to = Some(Place { size, pixels });
                continue;
            }
            (Order::Probe { file, options }, Some(memory)) => {
                open = None;
                look(view(memory, file), options, &mut open)
            }
            (Order::Decode, _) => match (open.take(), &mut to) {
                (Some(open), Some(to)) => decode(open, to),
                _ => Reply::Failed("there is nothing to decode, or no place for it".into()),
            },
            _ => Reply::Failed("no memory came along".into()),
        };
        send(&socket, &reply, None)?;
        if let Reply::Decoded(_) = reply {
            tidy();
        }
    }
    Ok(())
}

fn look(file: io::Result<Mmap>, options: Options, open: &mut Option<Open>) -> Reply {
    let file = match file {
        Ok(file) => file,
        Err(problem) => return Reply::Failed(problem.to_string()),
    };
    let probed = probe(&file, &options);
    if let Ok(header) = probed {
        *open = Some(Open {
            file,
            header,
            options,
        });
    }
    Reply::Probed(probed)
}

fn decode(open: Open, to: &mut Place) -> Reply {
    let Open {
        file,
        header,
        options,
    } = open;
    let Place { size, pixels } = to;
    // Whoever wants it to end, ends the process.
    let stop = Stop::default();
    Reply::Decoded(decode_into(pixels, &file, header, *size, &options, &stop))
}

/// Ctrl-C goes to every process of a terminal, and a supervisor's SIGTERM to all of a service: how this one ends is its
/// parent's to say, who may have answers to finish first.
fn stay() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: sets a signal's action to none; no handler runs.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Gives memory back that was needed for this picture alone, while nobody waits.
fn tidy() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no more than a hint to the allocator, which may keep what one more picture of a common size takes.
    unsafe {
        libc::malloc_trim(KEPT);
    }
}
