//! The decoder's side: decodes one picture after the other until its parent is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::memory::View;
use super::messages::{Order, Reply, receive, send};
use super::sandbox;
use crate::{Header, Options, Pixels, Stop, decode_into, probe};

/// A picture that was looked at.
struct Open {
    view: View,
    header: Header,
    size: u32,
    options: Options,
}

/// Runs a decoder: its parent speaks through standard input. Call it in a process with no other thread, for it gives up
/// opening files for good.
///
/// # Errors
/// If standard input is no such socket.
pub fn run() -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // What a decoder panics about is that picture's fault, and its parent is told.
    std::panic::set_hook(Box::new(|_| {}));
    let sandbox = sandbox::enter();
    send(&socket, &Reply::Ready { sandbox }, None)?;
    let mut open = None;
    while let Some((order, memory)) = receive(&socket)? {
        let reply = match (order, memory) {
            (
                Order::Probe {
                    file,
                    pixels_at,
                    size,
                    options,
                },
                Some(memory),
            ) => {
                open = None;
                look(memory, file, pixels_at, size, options, &mut open)
            }
            (Order::Decode, _) => match open.take() {
                Some(open) => decode(open),
                None => Reply::Failed("nothing was looked at before".into()),
            },
            (Order::Probe { .. }, None) => Reply::Failed("no memory came along".into()),
        };
        send(&socket, &reply, None)?;
        tidy();
    }
    Ok(())
}

fn look(
    memory: OwnedFd,
    file: usize,
    pixels_at: usize,
    size: u32,
    options: Options,
    open: &mut Option<Open>,
) -> Reply {
    let view = match View::new(memory, file, (pixels_at, Pixels::bytes(size))) {
        Ok(view) => view,
        Err(problem) => return Reply::Failed(problem.to_string()),
    };
    let probed = probe(&view.file, &options);
    if let Ok(header) = probed {
        *open = Some(Open {
            view,
            header,
            size,
            options,
        });
    }
    Reply::Probed(probed)
}

fn decode(open: Open) -> Reply {
    let Open {
        mut view,
        header,
        size,
        options,
    } = open;
    // Whoever wants it to end, ends the process.
    let stop = Stop::default();
    let View { file, pixels } = &mut view;
    Reply::Decoded(decode_into(pixels, file, header, size, &options, &stop))
}

/// Gives memory back that was needed for this picture alone, while nobody waits.
fn tidy() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no more than a hint to the allocator.
    unsafe {
        libc::malloc_trim(0);
    }
}
