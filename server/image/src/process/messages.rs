//! What the two sides say to each other: one JSON object a packet.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Header, ImageError, Options, Picture};

/// The longest message: a picture's fault is a sentence.
const LONGEST: usize = 16 << 10;

/// A message to a decoder process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Write pixels, S × S × 3 bytes, into the memory that comes along, until another comes.
    Place { size: u32 },
    /// Read the header of the file, of so many bytes, in the memory that comes along.
    Probe { file: usize, options: Options },
    /// Decode the file whose header was read last.
    Decode,
}

/// A message from a decoder process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The decoder may be given pictures; what it may do itself is limited as `sandbox` says.
    Ready {
        sandbox: bool,
    },
    Probed(Result<Header, ImageError>),
    Decoded(Result<Picture<()>, ImageError>),
    /// The decoder could not even look at the memory.
    Failed(String),
}

/// Sends a message, and a file descriptor along if there is one.
///
/// # Errors
/// If the other side is gone.
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    along: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let message = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let along = along.as_slice();
    if !along.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(along));
    }
    let message = [IoSlice::new(&message)];
    rustix::net::sendmsg(socket, &message, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message and what comes along with it; `None` if the other side is gone.
///
/// # Errors
/// If what comes is no message.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // A process that ended with a message unread resets the connection.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    let along = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match received.bytes {
        0 => Ok(None),
        length => Ok(Some((serde_json::from_slice(&bytes[..length])?, along))),
    }
}
