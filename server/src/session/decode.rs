//! The threads that decode pictures: as many as there are cores, within a bound on their memory together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// A picture to decode: what it will take in memory, and the work.
struct Job {
    bytes: u64,
    work: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    in_use: u64,
    closed: bool,
}

struct Inner {
    queue: Mutex<Queue>,
    changed: Condvar,
    most: u64,
}

/// Runs jobs in order of arrival. Dropped, it finishes what runs and drops the rest.
pub struct DecodePool(Arc<Inner>);

impl DecodePool {
    /// `memory`: the most bytes that running jobs say they take together; one alone may take more.
    ///
    /// # Errors
    /// If the system has no threads left.
    pub fn new(threads: usize, memory: u64) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            queue: Mutex::default(),
            changed: Condvar::new(),
            most: memory,
        });
        for _ in 0..threads.max(1) {
            let inner = inner.clone();
            thread::Builder::new()
                .name("decode".into())
                .spawn(move || inner.run())?;
        }
        Ok(DecodePool(inner))
    }

    /// Queues `work`, which will take about `bytes` of memory.
    pub fn submit(&self, bytes: u64, work: impl FnOnce() + Send + 'static) {
        let work = Box::new(work);
        self.0.queue.lock().jobs.push_back(Job { bytes, work });
        self.0.changed.notify_one();
    }
}

impl Drop for DecodePool {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Inner {
    fn run(&self) {
        while let Some(job) = self.next() {
            (job.work)();
            self.queue.lock().in_use -= job.bytes;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            let room = self.most.saturating_sub(queue.in_use);
            let fits = |job: &Job| job.bytes <= room || queue.in_use == 0;
            if queue.jobs.front().is_some_and(fits)
                && let Some(job) = queue.jobs.pop_front()
            {
                queue.in_use += job.bytes;
                return Some(job);
            }
            self.changed.wait(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn memory_together_is_bounded_and_all_run() {
        let pool = DecodePool::new(4, 100).unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let (done, results) = mpsc::channel();
        for bytes in [60, 60, 500, 30, 30, 30] {
            let (running, done) = (running.clone(), done.clone());
            pool.submit(bytes, move || {
                let together = running.fetch_add(bytes as usize, Ordering::SeqCst) + bytes as usize;
                std::thread::sleep(Duration::from_millis(20));
                running.fetch_sub(bytes as usize, Ordering::SeqCst);
                done.send((bytes as usize, together)).unwrap();
            });
        }
        for _ in 0..6 {
            let (bytes, together) = results.recv_timeout(Duration::from_secs(5)).unwrap();
            assert!(together <= 100.max(bytes), "{together} bytes at once");
        }
    }
}
