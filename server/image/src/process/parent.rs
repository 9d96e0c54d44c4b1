//! The parent's side: a decoder process, its picture, and its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::memory::{Place, Places};
use super::messages::{Order, Reply, receive, send};
use crate::{FileBuffer, Header, ImageError, Options, Picture, Pixels};

/// Beside what a picture's header explains: libraries' tables, and what an allocator holds in reserve.
const SLACK: u64 = 32 << 20;
/// How long a new process may take until it is ready, on a machine that has much else to do.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Buffers that a process may keep for its next picture; one that has more is not asked again.
const KEPT: u64 = 192 << 20;
/// How often a process that decodes is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// A process may take so many times its processor time by the clock: a machine may be busy, but not stand still.
const BUSY: u32 = 6;

/// Why there is no picture.
#[derive(Debug)]
pub enum Failure {
    /// The picture's own fault.
    Picture(ImageError),
    /// It took more processor time than it was given, or next to none came by for very long. The process is gone.
    TooLong,
    /// The process ended: it asked for more memory than it was given, was killed, or its decoder broke.
    Died(Option<ExitStatus>),
    /// What it takes to speak with it could not be had, or it did not make sense.
    Broken(io::Error),
}

impl Failure {
    /// Whether the process can be given another picture.
    pub fn leaves_it_running(&self) -> bool {
        matches!(self, Failure::Picture(_))
    }
}

impl From<io::Error> for Failure {
    fn from(problem: io::Error) -> Self {
        Failure::Broken(problem)
    }
}

/// A decoder process, ready for a picture. Dropped, it ends.
pub struct Process {
    child: Child,
    socket: OwnedFd,
    alive: Arc<Mutex<Option<Pid>>>,
    sandbox: bool,
    /// The address space that it had before its first picture, in bytes.
    bare: u64,
    /// The most address space that the system lets any process of ours have, if there is a bound.
    most: Option<u64>,
    places: Places,
    /// S: the size that pixels were last asked for.
    size: Option<u32>,
}

/// Ends a decoder process from another thread, if it is still there.
#[derive(Clone)]
pub struct Killer(Arc<Mutex<Option<Pid>>>);

impl Killer {
    pub fn kill(&self) {
        let mut alive = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // While it is in there it was not waited for, so that its number is nobody else's.
        if let Some(pid) = alive.take() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A picture whose header was read: what is left of it is [`Process::decode`].
pub struct Probed {
    pub header: Header,
    /// The address space that the process had before it, in bytes.
    before: u64,
}

impl Process {
    /// Starts `program`, which must call [`run`](super::run), and waits until it is ready.
    ///
    /// # Errors
    /// If it can't be started, or ends at once.
    pub fn start(program: &mut Command) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let child = program
            .env_clear()
            // Where the system's libraries are is the one thing that it must know.
            .envs(std::env::vars_os().filter(|(name, _)| name == "LD_LIBRARY_PATH"))
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The command holds the child's end of the socket, whose closing tells of the child's.
        program.stdin(Stdio::null());
        let pid = Pid::from_child(&child);
        // From here on it ends with this, whatever goes wrong.
        let mut process = Process {
            child,
            socket,
            alive: Arc::new(Mutex::new(Some(pid))),
            sandbox: false,
            bare: 0,
            most: getrlimit(Resource::As).maximum,
            places: Places::default(),
            size: None,
        };
        let ready = readable(&process.socket, START_PATIENCE)?;
        let reply = if ready {
            receive(&process.socket)?
        } else {
            None
        };
        let Some((Reply::Ready { sandbox }, _)) = reply else {
            return Err(io::Error::other(match process.died() {
                Failure::Died(Some(how)) => {
                    format!("a decoder process ended before it was ready ({how})")
                }
                _ => "a decoder process was never ready".into(),
            }));
        };
        process.sandbox = sandbox;
        process.bare = address_space(pid)?;
        Ok(process)
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it is fit for another picture: it is there, and has given back what the ones before took.
    pub fn is_fit(&mut self) -> bool {
        let is_alive = self.alive.lock().is_ok_and(|alive| alive.is_some());
        let has_ended = !matches!(self.child.try_wait(), Ok(None));
        if has_ended {
            self.gone();
        }
        // Of one that is just ending it is 0.
        let space = address_space(self.pid());
        is_alive && !has_ended && space.is_ok_and(|now| (1..=self.bare + KEPT).contains(&now))
    }

    /// Whether the system lets it do nothing but decode.
    pub fn is_sandboxed(&self) -> bool {
        self.sandbox
    }

    pub fn killer(&self) -> Killer {
        Killer(self.alive.clone())
    }

    /// Has the header of a whole `file` read.
    ///
    /// # Errors
    /// [`Failure`]; `time` is the processor time that it may take.
    pub fn probe(
        &mut self,
        file: &mut FileBuffer,
        options: &Options,
        time: Duration,
    ) -> Result<Probed, Failure> {
        let (memory, length) = file.shared()?;
        let order = Order::Probe {
            file: length,
            options: *options,
        };
        let before = address_space(self.pid())?;
        // Some kinds are put in order first, as a copy.
        self.allow(before, 2 * length as u64)?;
        let until = self.processor_time()? + time;
        send(&self.socket, &order, Some(memory.as_fd()))?;
        match self.reply(until)? {
            Reply::Probed(Ok(header)) => Ok(Probed { header, before }),
            Reply::Probed(Err(fault)) => Err(Failure::Picture(fault)),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the picture decoded that was just [`probe`](Self::probe)d, for a model that sees `size` × `size`, within the
    /// memory that its header asked for.
    ///
    /// # Errors
    /// [`Failure`]; `time` is the processor time that it may take.
    pub fn decode(
        &mut self,
        file: &FileBuffer,
        probed: Probed,
        size: u32,
        time: Duration,
    ) -> Result<Picture, Failure> {
        let Probed { header, before } = probed;
        let pixels = Pixels::bytes(size);
        let shared = file.bytes().len() + pixels;
        self.allow(before, shared as u64 + header.memory)?;
        let until = self.processor_time()? + time;
        self.size = Some(size);
        let place = self.place(size)?;
        send(&self.socket, &Order::Decode, None)?;
        match self.reply(until)? {
            Reply::Decoded(Ok(picture)) => {
                Ok(picture.with(Pixels::new(size, Bytes::from_owner(place))))
            }
            Reply::Decoded(Err(fault)) => Err(Failure::Picture(fault)),
            other => Err(unexpected(&other)),
        }
    }

    /// Finds memory for the next picture's pixels, while nobody waits: the last one's are still being read.
    ///
    /// # Errors
    /// If the system has none, or the process is gone.
    pub fn prepare(&mut self) -> io::Result<()> {
        match self.size {
            Some(size) if !self.places.has_free(Pixels::bytes(size)) => self.place(size).map(drop),
            _ => Ok(()),
        }
    }

    /// Where pixels go: S × S × 3 bytes.
    fn place(&self, size: u32) -> io::Result<Place> {
        let announce =
            |memory: BorrowedFd<'_>| send(&self.socket, &Order::Place { size }, Some(memory));
        self.places.take(Pixels::bytes(size), announce)
    }

    /// Lets it have so many bytes of address space beside what it had before.
    fn allow(&self, before: u64, bytes: u64) -> io::Result<()> {
        let wanted = before.saturating_add(bytes).saturating_add(SLACK);
        let limit = Rlimit {
            current: Some(wanted.min(self.most.unwrap_or(u64::MAX))),
            maximum: self.most,
        };
        prlimit(Some(self.pid()), Resource::As, limit)?;
        Ok(())
    }

    /// Waits for an answer until the process has had `until` of processor time.
    fn reply(&mut self, until: Duration) -> Result<Reply, Failure> {
        let start = Instant::now();
        let patience = until.saturating_sub(self.processor_time()?) * BUSY;
        loop {
            if readable(&self.socket, GLANCE)? {
                return match receive(&self.socket) {
                    Ok(Some((reply, _))) => Ok(reply),
                    Ok(None) => Err(self.died()),
                    Err(problem) => Err(problem.into()),
                };
            }
            if self.processor_time()? >= until || start.elapsed() >= patience {
                return Err(Failure::TooLong);
            }
        }
    }

    fn died(&mut self) -> Failure {
        // It may have closed its side and gone on; one that is ending keeps its own status.
        let _ = self.child.kill();
        // As long as a killer may find its number, that must be nobody else's.
        self.gone();
        let status = self.child.wait();
        Failure::Died(status.ok())
    }

    /// From now on its number may be another's.
    fn gone(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Processor time that it has had so far.
    ///
    /// # Errors
    /// If the system can't tell.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let pid = self.pid().as_raw_nonzero().get();
        let mut clock = 0;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both calls write what they are given the address of.
        let problem = unsafe {
            match libc::clock_getcpuclockid(pid, &mut clock) {
                0 if libc::clock_gettime(clock, &mut time) == 0 => 0,
                0 => return Err(io::Error::last_os_error()),
                problem => problem,
            }
        };
        if problem != 0 {
            return Err(io::Error::from_raw_os_error(problem));
        }
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Ok(Duration::new(
            seconds,
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.gone();
        let _ = self.child.wait();
    }
}

fn unexpected(reply: &Reply) -> Failure {
    Failure::Broken(io::Error::other(match reply {
        Reply::Failed(what) => what.clone(),
        _ => "the decoder process answered something else".into(),
    }))
}

/// Waits until there is something to read, or the other side is gone; false if that takes too long.
fn readable(socket: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut sockets = [PollFd::new(socket, PollFlags::IN)];
        match poll(&mut sockets, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
}

/// A process's address space, in bytes.
fn address_space(pid: Pid) -> io::Result<u64> {
    let path = format!("/proc/{}/statm", pid.as_raw_nonzero());
    let statm = std::fs::read_to_string(path)?;
    let pages: Option<u64> = statm.split(' ').next().and_then(|pages| pages.parse().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}
