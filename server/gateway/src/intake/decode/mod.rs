//! Decoding pictures, off the network's threads: in turns by client, within bounds on memory and time, each in a process
//! that a bad one takes down alone.

mod decoder;
mod queue;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use glimpse_image::{FileBuffer, Options, Picture, Region};
use parking_lot::{Condvar, Mutex, MutexGuard};
use wire::ErrorCode;

use api::{Failure, SessionId};
use decoder::{Decoder, End, Task};
use queue::{DecodeQueue, Memory};

pub use queue::{JobId, each_of};

/// How often the model's picture size is asked for while it is not known yet.
const SIZE_PAUSE: Duration = Duration::from_millis(20);
/// A decode on a thread is ended after so many times its processor time by the clock.
const BUSY: u32 = 4;
/// How long after a process could not be started it is tried again.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
/// How often threads' decodes are looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// How pictures are decoded.
#[derive(Clone, Debug)]
pub struct Settings {
    pub image: Options,
    /// Whether pictures are decoded in processes of their own; else on threads, with equal bounds as far as a thread can be
    /// held to them.
    pub in_process: bool,
    /// How many at once.
    pub decoders: usize,
    /// The most memory of all that run, in bytes.
    pub memory: u64,
    /// The most processor time of each.
    pub time: Duration,
    /// Decode something at the start, so that the first picture finds its buffers.
    pub warm_up: bool,
}

/// The model's picture size, or `None` while it is not known.
pub type Size = Box<dyn Fn() -> Option<u32> + Send + Sync>;

/// A file, and whom to tell; both go once it is decoded.
pub struct Job {
    pub file: Box<dyn HasFile>,
    /// The part of the picture that is meant; `None` is all of it.
    pub region: Option<Region>,
    pub done: Box<dyn FnOnce(Result<Picture, Failure>) + Send>,
}

/// Whatever has a file's bytes, and counts them for as long as it lives.
pub trait HasFile: Send {
    fn file(&mut self) -> &mut FileBuffer;
}

impl HasFile for FileBuffer {
    fn file(&mut self) -> &mut FileBuffer {
        self
    }
}

/// The decoders. Dropped, they finish what runs and drop the rest.
pub struct Decoders(Arc<Inner>);

struct Inner {
    settings: Settings,
    size: Size,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    line: DecodeQueue<Job>,
    /// What runs, by its number in the line.
    running: HashMap<u64, Running>,
    closed: bool,
}

struct Running {
    end: Option<End>,
    cancelled: bool,
    /// For those on threads, once they decode.
    deadline: Option<Instant>,
}

impl Decoders {
    /// # Errors
    /// If the system has no threads or processes left.
    pub fn start(settings: Settings, size: Size) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            state: Mutex::new(State {
                line: DecodeQueue::new(settings.decoders, settings.memory),
                running: HashMap::new(),
                closed: false,
            }),
            changed: Condvar::new(),
            size,
            settings,
        });
        let decoders = Decoders(inner.clone());
        for number in 0..inner.settings.decoders {
            let decoder = Decoder::start(inner.settings.in_process).map_err(|problem| {
                io::Error::new(
                    problem.kind(),
                    format!("decoder processes can't be started ({problem}): --image-process off does without them"),
                )
            })?;
            if number == 0 && !decoder.is_confined() {
                tracing::warn!(
                    "pictures are decoded in processes, but this system has no seccomp: these are bound in memory and time, not in what they may do"
                );
            }
            let inner = inner.clone();
            thread::Builder::new()
                .name("decode".into())
                .spawn(move || inner.run(decoder))?;
        }
        if !inner.settings.in_process {
            thread::Builder::new()
                .name("decode-watch".into())
                .spawn(move || inner.watch())?;
        }
        Ok(decoders)
    }

    /// Puts a picture in line.
    pub fn submit(&self, name: JobId, job: Job) {
        self.0.state.lock().line.push(name, job);
        self.0.changed.notify_all();
    }

    /// Lets go of a picture, whether it waits or runs. Its job is told so.
    pub fn cancel(&self, name: &JobId) {
        self.0.cancel(|other| other == name);
    }

    /// Lets go of all that a session has in line.
    pub fn end_session(&self, session: SessionId) {
        self.0.cancel(|name| name.asker.session == session);
    }

    /// How many pictures wait, how many run, and the memory that these have, in bytes.
    pub fn load(&self) -> (usize, usize, u64) {
        self.0.state.lock().line.load()
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Inner {
    fn run(&self, mut decoder: Decoder) {
        if self.settings.warm_up {
            self.warm_up(&mut decoder);
        }
        while let Some((number, job)) = self.next(&mut decoder) {
            let Job {
                mut file,
                region,
                done,
            } = job;
            let result = self.decode(&mut decoder, number, file.file(), region);
            drop(file);
            let mut state = self.state.lock();
            let running = state.running.remove(&number);
            state.line.free(number);
            drop(state);
            self.changed.notify_all();
            let cancelled = running.is_some_and(|running| running.cancelled);
            // It may take a while, as part of this client's turn.
            done(if cancelled { Err(forgotten()) } else { result });
            self.state.lock().line.end(number);
            self.changed.notify_all();
            decoder.renew();
        }
    }

    /// Waits for the next picture in turn.
    fn next(&self, decoder: &mut Decoder) -> Option<(u64, Job)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.line.load().0 > 0 && !decoder.is_ready() {
                MutexGuard::unlocked(&mut state, || decoder.renew());
                if !decoder.is_ready() {
                    // Others go on; what waits is not taken for nothing.
                    self.changed.wait_for(&mut state, RENEW_PAUSE);
                    continue;
                }
            }
            if let Some((number, _, job)) = state.line.start() {
                let running = Running {
                    end: decoder.end(),
                    cancelled: false,
                    deadline: None,
                };
                state.running.insert(number, running);
                return Some((number, job));
            }
            self.changed.wait(&mut state);
        }
    }

    fn decode(
        &self,
        decoder: &mut Decoder,
        number: u64,
        file: &mut FileBuffer,
        region: Option<Region>,
    ) -> Result<Picture, Failure> {
        // Known as soon as the configuration is read.
        let size = loop {
            if let Some(size) = (self.size)() {
                break size;
            }
            if self.is_over(&self.state.lock(), number) {
                return Err(forgotten());
            }
            thread::sleep(SIZE_PAUSE);
        };
        let options = Options {
            region,
            ..self.settings.image
        };
        let task = Task {
            options: &options,
            size,
            time: self.settings.time,
        };
        decoder.decode(file, &task, |bytes| self.grant(number, bytes))
    }

    /// Waits for memory.
    fn grant(&self, number: u64, bytes: u64) -> Result<(), Failure> {
        let mut state = self.state.lock();
        loop {
            if self.is_over(&state, number) {
                return Err(forgotten());
            }
            match state.line.ask_memory(number, bytes) {
                Memory::Granted => break,
                Memory::Never => {
                    let message = "Decoding this picture takes more memory than this server gives to pictures: make it smaller, or save it with fewer bits a pixel.";
                    return Err(Failure::new(ErrorCode::ImageTooLarge, message));
                }
                Memory::Wait => {
                    self.changed.wait(&mut state);
                }
            }
        }
        // What it waited for was no time of its own.
        if let Some(running) = state.running.get_mut(&number) {
            running.deadline = Some(Instant::now() + self.settings.time * BUSY);
        }
        drop(state);
        // The next in line for memory may find enough too.
        self.changed.notify_all();
        Ok(())
    }

    fn is_over(&self, state: &MutexGuard<'_, State>, number: u64) -> bool {
        let running = state.running.get(&number);
        state.closed || running.is_none_or(|running| running.cancelled)
    }

    fn cancel(&self, gone: impl Fn(&JobId) -> bool) {
        let mut state = self.state.lock();
        let (waited, run) = state.line.take(gone);
        for number in run {
            if let Some(running) = state.running.get_mut(&number) {
                running.cancelled = true;
                running.end.iter().for_each(End::now);
            }
        }
        drop(state);
        self.changed.notify_all();
        for (_, Job { file, done, .. }) in waited {
            drop(file);
            done(Err(forgotten()));
        }
    }

    /// Ends what takes too long on a thread, which nobody else can.
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            let now = Instant::now();
            let late = state.running.values();
            let late = late.filter(|running| running.deadline.is_some_and(|end| now >= end));
            late.flat_map(|running| &running.end).for_each(End::now);
            match state.running.is_empty() {
                true => self.changed.wait(&mut state),
                false => {
                    self.changed.wait_for(&mut state, GLANCE);
                }
            }
        }
    }

    fn warm_up(&self, decoder: &mut Decoder) {
        let Some(mut file) = glimpse_image::common_picture().map(FileBuffer::of) else {
            return;
        };
        let size = loop {
            if let Some(size) = (self.size)() {
                break size;
            }
            let state = self.state.lock();
            // Nobody waits for what only makes the first one quicker.
            if state.closed || state.line.load().0 > 0 {
                return;
            }
            drop(state);
            thread::sleep(SIZE_PAUSE);
        };
        let task = Task {
            options: &self.settings.image,
            size,
            time: self.settings.time,
        };
        // What would fail here fails with its reason at the first picture.
        let _ = decoder.decode(&mut file, &task, |_| Ok(()));
        decoder.renew();
    }
}

/// What a job is told whose picture nobody wants any more.
fn forgotten() -> Failure {
    Failure::new(
        ErrorCode::ImageGone,
        "The picture was forgotten: upload it again.",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use api::Asker;

    fn decoders(decoders: usize, memory: u64, time: Duration) -> Decoders {
        let settings = Settings {
            image: Options {
                raw: true,
                ..Options::default()
            },
            in_process: false,
            decoders,
            memory,
            time,
            warm_up: false,
        };
        Decoders::start(settings, Box::new(|| Some(8))).unwrap()
    }

    fn name(client: u128, image: &str) -> JobId {
        JobId {
            asker: Asker {
                client,
                session: SessionId::new(client),
            },
            image: image.into(),
        }
    }

    fn submit(
        decoders: &Decoders,
        name: JobId,
        file: Vec<u8>,
    ) -> Receiver<Result<Picture, Failure>> {
        let (done, result) = channel();
        let job = Job {
            file: Box::new(FileBuffer::of(file)),
            region: None,
            done: Box::new(move |result| done.send(result).unwrap()),
        };
        decoders.submit(name, job);
        result
    }

    fn jpeg(side: usize) -> Vec<u8> {
        glimpse_image::to_jpeg(&vec![100; side * side * 3], side, side, 80).unwrap()
    }

    #[test]
    fn everyone_hears_what_came_of_it() {
        let decoders = decoders(2, 1 << 30, Duration::from_secs(60));
        let good: Vec<_> = (0..5)
            .map(|i| submit(&decoders, name(i, "good"), jpeg(30)))
            .collect();
        let bad = submit(&decoders, name(9, "bad"), b"nothing".to_vec());
        for result in good {
            let picture = result.recv().unwrap().unwrap();
            assert_eq!((picture.width, picture.pixels.size()), (30, 8));
        }
        let problem = bad.recv().unwrap().unwrap_err();
        assert_eq!(problem.code, ErrorCode::ImageUnsupported);
    }

    #[test]
    fn a_picture_that_takes_more_than_there_is_is_refused() {
        let decoders = decoders(1, 1000, Duration::from_secs(60));
        let problem = submit(&decoders, name(1, "large"), jpeg(300));
        let problem = problem.recv().unwrap().unwrap_err();
        assert_eq!(problem.code, ErrorCode::ImageTooLarge);
        // Its turn is over once its client was told.
        while decoders.load() != (0, 0, 0) {
            thread::yield_now();
        }
    }

    #[test]
    fn what_is_forgotten_is_told_so_and_leaves_the_line() {
        let decoders = decoders(1, 1 << 30, Duration::from_secs(60));
        let running = submit(&decoders, name(1, "a"), jpeg(4000));
        let waiting = submit(&decoders, name(1, "b"), jpeg(30));
        decoders.cancel(&name(1, "b"));
        let problem = waiting.recv().unwrap().unwrap_err();
        assert_eq!(problem.code, ErrorCode::ImageGone);
        decoders.end_session(SessionId::new(1));
        // It may have been done by then.
        if let Err(problem) = running.recv().unwrap() {
            assert_eq!(problem.code, ErrorCode::ImageGone);
        }
        assert!(
            submit(&decoders, name(1, "c"), jpeg(30))
                .recv()
                .unwrap()
                .is_ok()
        );
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let decoders = decoders(1, 1 << 30, Duration::ZERO);
        // A PNG, which is read piece by piece, so that it can be ended in between.
        let mut file = Vec::new();
        let pixels: Vec<u8> = (0..4000 * 4000)
            .map(|i: u32| ((i * i) >> 9) as u8)
            .collect();
        image::GrayImage::from_raw(4000, 4000, pixels)
            .unwrap()
            .write_to(&mut io::Cursor::new(&mut file), image::ImageFormat::Png)
            .unwrap();
        let problem = submit(&decoders, name(1, "slow"), file)
            .recv()
            .unwrap()
            .unwrap_err();
        assert_eq!(problem.code, ErrorCode::ImageTooLarge);
    }
}
