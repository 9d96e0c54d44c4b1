//! Memory for the pictures that sessions keep: their pixels, of all sessions together.
//!
//! A file is dropped once it is decoded, but its pixels stay as long as its session keeps the picture, since the model
//! may have to look at it again. They are as many for a small file as for a big one, so the sizes of files bound
//! nothing here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How long to wait for what is being freed before looking again for a picture to let go.
const PAUSE: Duration = Duration::from_millis(50);

/// How much there is of it, and who has what.
pub struct PictureMemory {
    most: u64,
    /// Sessions share pictures, so that what one lets go may stay for another.
    shared: bool,
    sums: Mutex<Sums>,
    freed: Condvar,
}

#[derive(Default)]
struct Sums {
    used: u64,
    /// Of each client; without those that none of its sessions keeps any more.
    clients: HashMap<u128, u64>,
    /// Of that, what no session keeps any more and the engine has yet to free.
    leaving: u64,
}

impl Sums {
    /// The client no longer keeps this.
    fn lose(&mut self, place: &PictureReservation) {
        if let Some(bytes) = self.clients.get_mut(&place.client) {
            *bytes -= place.bytes;
            if *bytes == 0 {
                self.clients.remove(&place.client);
            }
        }
    }
}

/// One picture's memory, counted until nobody has it any more.
pub struct PictureReservation {
    memory: Arc<PictureMemory>,
    bytes: u64,
    client: u128,
    leaving: AtomicBool,
}

/// A session's picture, which keeps its memory. Dropped, the memory is on its way to be free, unless it is shared.
pub struct Retained(Arc<PictureReservation>);

impl PictureMemory {
    pub fn new(bytes: u64, shared: bool) -> Arc<Self> {
        Arc::new(PictureMemory {
            most: bytes,
            shared,
            sums: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    /// Bytes of pixels in memory.
    pub fn used(&self) -> u64 {
        self.sums.lock().used
    }

    /// Memory for `bytes` of this client's. Where it is short, `evict` is to let another picture go: it is told how much each
    /// client keeps, this one with what it asks for, and tells whether one went. Waits until what went is freed; `None` if
    /// that takes too long.
    pub fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        client: u128,
        patience: Duration,
        evict: impl Fn(&HashMap<u128, u64>) -> bool,
    ) -> Option<Arc<PictureReservation>> {
        let end = Instant::now() + patience;
        loop {
            let kept = {
                let mut sums = self.sums.lock();
                if sums.used == 0 || sums.used + bytes <= self.most {
                    sums.used += bytes;
                    *sums.clients.entry(client).or_default() += bytes;
                    return Some(Arc::new(PictureReservation {
                        memory: self.clone(),
                        bytes,
                        client,
                        leaving: AtomicBool::new(false),
                    }));
                }
                let short = sums.used - sums.leaving + bytes > self.most;
                short.then(|| {
                    let mut kept = sums.clients.clone();
                    *kept.entry(client).or_default() += bytes;
                    kept
                })
            };
            if kept.is_some_and(|kept| evict(&kept)) && !self.shared {
                continue;
            }
            if Instant::now() >= end {
                return None;
            }
            self.freed.wait_for(&mut self.sums.lock(), PAUSE);
        }
    }
}

impl Retained {
    pub fn new(place: Arc<PictureReservation>) -> Self {
        Retained(place)
    }
}

impl Drop for Retained {
    fn drop(&mut self) {
        let Retained(place) = self;
        if place.memory.shared {
            return;
        }
        let mut sums = place.memory.sums.lock();
        sums.leaving += place.bytes;
        sums.lose(place);
        drop(sums);
        place.leaving.store(true, Ordering::Relaxed);
    }
}

impl Drop for PictureReservation {
    fn drop(&mut self) {
        let mut sums = self.memory.sums.lock();
        sums.used -= self.bytes;
        match self.leaving.load(Ordering::Relaxed) {
            true => sums.leaving -= self.bytes,
            false => sums.lose(self),
        }
        drop(sums);
        self.memory.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(10);

    #[test]
    fn what_nobody_lets_go_is_waited_for_in_vain() {
        let memory = PictureMemory::new(100, false);
        // One alone may take more.
        let take = |bytes| memory.reserve(bytes, 1, PATIENCE, |_| false);
        let big = take(500);
        assert!(big.is_some() && take(1).is_none());
        drop(big);
        let (one, other) = (take(60), take(40));
        assert!(one.is_some() && other.is_some() && take(1).is_none());
        assert_eq!(memory.used(), 100);
        drop(one.map(Retained::new));
        assert!(take(61).is_none() && take(60).is_some());
        drop(other);
        assert!(memory.sums.lock().clients.is_empty());
    }

    #[test]
    fn memory_is_free_when_both_have_let_go() {
        let memory = PictureMemory::new(100, false);
        let place = memory.reserve(100, 1, PATIENCE, |_| false).unwrap();
        let hold = Retained::new(place.clone());
        drop(hold);
        assert_eq!((memory.used(), memory.sums.lock().leaving), (100, 100));
        let waiting = {
            let memory = memory.clone();
            std::thread::spawn(move || {
                let patience = Duration::from_secs(10);
                memory.reserve(100, 1, patience, |_| false).is_some()
            })
        };
        drop(place);
        assert!(waiting.join().unwrap());
        assert_eq!((memory.used(), memory.sums.lock().leaving), (0, 0));
    }
}
