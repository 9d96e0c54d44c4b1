//! Workers on several threads: each thread makes its own, and runs them up to the end of a window.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Scope, ScopedJoinHandle};

use crate::card::{Card, StageTimes};
use crate::worker::{Done, Message, Report, Worker};

/// How often a thread looks for the next window before it sleeps: most come sooner than a sleeper wakes. After some looks
/// whoever else waits for this core goes first.
const LOOKS: u32 = 5_000;
const HASTY_LOOKS: u32 = 500;
/// What the calling thread has of an equal share of the workers, since the fleet's own part is computed on it too.
const HERE: f64 = 0.94;

/// Messages for workers, each with its time.
pub type Mail = Vec<(u32, u64, Message)>;

/// What a shard's workers came to in a window.
struct Window {
    reports: Vec<Report>,
    /// When the next of them has something to do.
    next: u64,
}

/// Some of the workers.
struct Shard {
    first: u32,
    /// Of the last window.
    end: u64,
    workers: Vec<Worker>,
    next: Vec<u64>,
}

impl Shard {
    fn done(&mut self) -> Vec<Done> {
        let end = self.end;
        self.workers.iter_mut().map(|it| it.done(end)).collect()
    }

    fn run(&mut self, end: u64, mail: Mail) -> Window {
        self.end = end;
        for (worker, at, message) in mail {
            let place = (worker - self.first) as usize;
            self.workers[place].send(at, message);
            self.next[place] = self.next[place].min(at);
        }
        let mut reports = Vec::new();
        for (worker, next) in self.workers.iter_mut().zip(&mut self.next) {
            if *next < end {
                worker.run(end);
                worker.take_reports(&mut reports);
                *next = worker.next().unwrap_or(u64::MAX);
            }
        }
        let next = self.next.iter().copied().min().unwrap_or(u64::MAX);
        Window { reports, next }
    }
}

/// How workers are made.
#[derive(Clone)]
pub struct Made {
    pub card: Arc<Card>,
    pub jumps: bool,
    /// The sessions whose pictures they have looked at: `workers` of them take turns.
    pub warm: Option<(u32, u32)>,
}

impl Made {
    fn shard(&self, first: u32, end: u32) -> Shard {
        let times = Arc::new(StageTimes::new(&self.card));
        let make = |index| {
            let mut worker = Worker::new(index, &self.card, times.clone(), self.jumps);
            if let Some((sessions, workers)) = self.warm {
                worker.warm((index..sessions).step_by(workers as usize));
            }
            worker
        };
        let workers: Vec<Worker> = (first..end).map(make).collect();
        Shard {
            first,
            end: 0,
            next: vec![u64::MAX; workers.len()],
            workers,
        }
    }
}

/// What comes next; `None` if nothing does any more.
fn receive<T>(from: &Receiver<T>) -> Option<T> {
    for look in 0..LOOKS {
        match from.try_recv() {
            Ok(next) => return Some(next),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if look < HASTY_LOOKS => std::hint::spin_loop(),
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    from.recv().ok()
}

/// All workers: some on the calling thread, the others on threads of their own.
pub struct Shards<'scope> {
    here: Shard,
    threads: Vec<Thread<'scope>>,
}

struct Thread<'scope> {
    /// The first of its workers.
    first: u32,
    windows: Sender<(u64, Mail)>,
    done: Receiver<Window>,
    thread: ScopedJoinHandle<'scope, Vec<Done>>,
}

impl<'scope> Shards<'scope> {
    pub fn new<'env>(
        scope: &'scope Scope<'scope, 'env>,
        made: &Made,
        workers: u32,
        threads: u32,
    ) -> Self {
        let threads = threads.clamp(1, workers.max(1));
        // The calling thread has other things to do too.
        let others = threads - 1;
        let here = match others {
            0 => workers,
            _ => (f64::from(workers) * HERE / f64::from(threads)).round() as u32,
        };
        let here = here.clamp(workers.min(1), workers - others.min(workers));
        let end = |shard: u32| here + (workers - here) * shard / others.max(1);
        let spawn = |shard: u32| {
            let (windows, inbox) = channel::<(u64, Mail)>();
            let (outbox, done) = channel();
            let (made, first, end) = (made.clone(), end(shard - 1), end(shard));
            let thread = scope.spawn(move || {
                let mut shard = made.shard(first, end);
                while let Some((end, mail)) = receive(&inbox) {
                    // Nobody who waits for it is gone before the windows end.
                    let _ = outbox.send(shard.run(end, mail));
                }
                shard.done()
            });
            Thread {
                first,
                windows,
                done,
                thread,
            }
        };
        let threads: Vec<Thread> = (1..threads).map(spawn).collect();
        Shards {
            here: made.shard(0, here),
            threads,
        }
    }

    /// Runs all workers up to `end`, and `beside` meanwhile; what they tell, each in its order, and when the next has something to
    /// do.
    pub fn run(&mut self, end: u64, mail: Mail, beside: impl FnOnce()) -> (Vec<Report>, u64) {
        let mut own = Mail::new();
        let mut parts: Vec<Mail> = self.threads.iter().map(|_| Mail::new()).collect();
        for one in mail {
            match self.threads.iter().rposition(|it| it.first <= one.0) {
                Some(thread) => parts[thread].push(one),
                None => own.push(one),
            }
        }
        for (thread, part) in self.threads.iter().zip(parts) {
            let _ = thread.windows.send((end, part));
        }
        beside();
        let mut all = self.here.run(end, own);
        for thread in &self.threads {
            if let Some(window) = receive(&thread.done) {
                all.reports.extend(window.reports);
                all.next = all.next.min(window.next);
            }
        }
        (all.reports, all.next)
    }

    /// What each worker did.
    pub fn end(mut self) -> Vec<Done> {
        let mut done = self.here.done();
        for Thread {
            windows, thread, ..
        } in self.threads
        {
            drop(windows);
            done.extend(thread.join().unwrap_or_default());
        }
        done
    }
}
