//! A client's TCP connection, plain or with TLS, under time-outs that no slow or silent client gets around.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::access::ConnectionPermit;

/// What the kernel holds for one client at most (it doubles this for its own needs), and how much of that it takes
/// before it was sent.
const SEND_BUFFER: usize = 256 << 10;
const UNSENT: u32 = 64 << 10;
/// What may be left to the kernel when a connection closes.
const LEFT: u64 = 16 << 10;
/// How long the kernel then tries.
const LEFT_PATIENCE: Duration = Duration::from_secs(10);
/// The least that a client has to take, in bytes a second.
const LEAST_RATE: f64 = 1024.0;
/// What a client may send before it has an answer: a request's head, and what it sends after that unasked. More than actix reads
/// ahead, 128 KiB, before whoever takes a body has been asked.
const UNANSWERED: usize = 192 << 10;
/// The longest time between two looks at how much a client has taken.
const LOOK: Duration = Duration::from_secs(5);
/// The longest time between two such looks while a connection closes.
const CLOSING_LOOK: Duration = Duration::from_millis(100);

/// Counts and bounds a TCP connection. While nobody uses it who sees to its time-outs, it ends with an error
/// - if the client takes less than [`LEAST_RATE`] of what is there for it,
/// - if nothing was written for the patience: it is idle, or sends a request without end,
/// - if the client sends more than [`UNANSWERED`],
/// - if its place is given to somebody else.
pub struct Watched {
    io: TcpStream,
    place: Arc<ConnectionPermit>,
    patience: Duration,
    look: Pin<Box<Sleep>>,
    written: u64,
    wrote: Instant,
    /// Read since then, while no WebSocket had it.
    unanswered: usize,
    /// Since when the client is behind, and what it had taken by then.
    behind: Option<(Instant, u64)>,
    closing: bool,
    failed: bool,
}

impl Watched {
    pub fn new(io: TcpStream, place: ConnectionPermit, patience: Duration) -> io::Result<Self> {
        io.set_nodelay(true)?;
        let socket = SockRef::from(&io);
        socket.set_send_buffer_size(SEND_BUFFER)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT)?;
        Ok(Watched {
            io,
            place: Arc::new(place),
            patience,
            look: Box::pin(tokio::time::sleep(look(patience))),
            written: 0,
            wrote: Instant::now(),
            unanswered: 0,
            behind: None,
            closing: false,
            failed: false,
        })
    }

    pub fn place(&self) -> &Arc<ConnectionPermit> {
        &self.place
    }

    /// Fails if the connection is to end. Wakes the task when it has to be asked again.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.failed && self.place.is_closed(context) {
            self.fail();
        }
        while !self.failed && self.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if self.place.in_use() {
                // Whoever uses it writes when there is something to say.
                self.wrote = now;
                self.behind = None;
            } else if self.is_over(now) {
                self.fail();
            }
            let next = if self.closing {
                CLOSING_LOOK
            } else {
                look(self.patience)
            };
            self.look.as_mut().reset((now + next).into());
        }
        if self.failed {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Ends it so that the kernel forgets at once what the client has not taken.
    fn fail(&mut self) {
        self.failed = true;
        let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let pending = pending(&self.io);
        if pending == 0 {
            self.behind = None;
            return now.saturating_duration_since(self.wrote) >= self.patience;
        }
        let taken = self.written.saturating_sub(pending);
        let (since, before) = *self.behind.get_or_insert((now, taken));
        let passed = now.saturating_duration_since(since);
        if passed < self.patience {
            return false;
        }
        self.behind = Some((now, taken));
        (taken.saturating_sub(before) as f64) < LEAST_RATE * passed.as_secs_f64()
    }
}

fn look(patience: Duration) -> Duration {
    (patience / 4).clamp(Duration::from_millis(10), LOOK)
}

/// Bytes written that the client's machine has not acknowledged.
#[cfg(target_os = "linux")]
fn pending(io: &TcpStream) -> u64 {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `io`; TIOCOUTQ writes one int.
    let status = unsafe { libc::ioctl(io.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if status == 0 {
        u64::try_from(bytes).unwrap_or(0)
    } else {
        0
    }
}

/// Bytes written that the client's machine has not acknowledged: told on Linux alone.
#[cfg(not(target_os = "linux"))]
fn pending(_: &TcpStream) -> u64 {
    0
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.place.in_use() {
            self.unanswered = 0;
        } else if self.unanswered > UNANSWERED {
            self.fail();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let read = std::task::ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        let count = buffer.filled().len() - before;
        if room && count == 0 {
            self.place.set_gone();
        }
        self.unanswered += count;
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = std::task::ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.written += written as u64;
        self.wrote = Instant::now();
        self.unanswered = 0;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Says that nothing more comes, and waits until the client has taken all but a little: a connection that the kernel
    /// still holds much for still counts.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            if pending(&self.io) <= LEFT {
                // Before the client sees the end: it may connect again at once.
                self.place.leave();
            }
            std::task::ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.closing = true;
            self.look
                .as_mut()
                .reset((Instant::now() + CLOSING_LOOK).into());
        }
        self.check(context)?;
        if pending(&self.io) > LEFT {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&self.io).set_tcp_user_timeout(Some(LEFT_PATIENCE));
        self.place.leave();
    }
}

/// A client's connection, with TLS or without.
pub enum Stream {
    Plain(Watched),
    Tls(Box<TlsStream<Watched>>),
}

impl Stream {
    pub fn place(&self) -> &Arc<ConnectionPermit> {
        match self {
            Stream::Plain(io) => io.place(),
            Stream::Tls(io) => io.get_ref().0.place(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Stream::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Stream::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_flush(context),
            Stream::Tls(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_shutdown(context),
            Stream::Tls(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}
