//! Memory for the pictures that sessions keep: their pixels, of all sessions together.
//!
//! A file is dropped once it is decoded, but its pixels stay as long as its session keeps the picture, since the model
//! may have to look at it again. They are as many for a small file as for a big one, so the sizes of files bound
//! nothing here.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Session;
use api::SessionId;

/// How long to wait for what is being freed before looking again for a picture to let go.
const PAUSE: Duration = Duration::from_millis(50);

/// The bound, and who keeps pictures within it.
pub struct Room {
    most: u64,
    /// Sessions share pictures, so that what one lets go may stay for another.
    shared: bool,
    sums: Mutex<Sums>,
    freed: Condvar,
    sessions: Mutex<HashMap<SessionId, Weak<Session>>>,
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
    fn lose(&mut self, place: &Place) {
        if let Some(bytes) = self.clients.get_mut(&place.client) {
            *bytes -= place.bytes;
            if *bytes == 0 {
                self.clients.remove(&place.client);
            }
        }
    }
}

/// One picture's memory, counted until nobody has it any more.
pub struct Place {
    room: Arc<Room>,
    bytes: u64,
    client: u128,
    leaving: AtomicBool,
}

/// A session's hold on its picture's place. Dropped, the memory is on its way to be free, unless it is shared.
pub struct Hold(Arc<Place>);

impl Room {
    pub fn new(bytes: u64, shared: bool) -> Arc<Self> {
        Arc::new(Room {
            most: bytes,
            shared,
            sums: Mutex::default(),
            freed: Condvar::new(),
            sessions: Mutex::default(),
        })
    }

    /// Bytes of pixels in memory.
    pub fn used(&self) -> u64 {
        self.sums.lock().used
    }

    pub fn enter(&self, id: SessionId, session: &Arc<Session>) {
        self.sessions.lock().insert(id, Arc::downgrade(session));
    }

    pub fn leave(&self, id: SessionId) {
        self.sessions.lock().remove(&id);
    }

    pub fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.lock().get(&id)?.upgrade()
    }

    /// A place for `bytes` of this client's; other pictures go for it: of the client that keeps most of those that would
    /// keep no less than this one, those of sessions without a connection first, then of those that keep most, then those
    /// used longest ago. Waits until they are freed; `None` if that takes too long, or all that could go are asked about.
    ///
    /// Call it without any session's lock.
    pub fn take(
        self: &Arc<Self>,
        bytes: u64,
        client: u128,
        patience: Duration,
    ) -> Option<Arc<Place>> {
        let end = Instant::now() + patience;
        loop {
            let short = {
                let mut sums = self.sums.lock();
                if sums.used == 0 || sums.used + bytes <= self.most {
                    sums.used += bytes;
                    *sums.clients.entry(client).or_default() += bytes;
                    return Some(Arc::new(Place {
                        room: self.clone(),
                        bytes,
                        client,
                        leaving: AtomicBool::new(false),
                    }));
                }
                sums.used - sums.leaving + bytes > self.most
            };
            if short && self.let_one_go(client, bytes) && !self.shared {
                continue;
            }
            if Instant::now() >= end {
                return None;
            }
            self.freed.wait_for(&mut self.sums.lock(), PAUSE);
        }
    }

    /// Lets go of the picture that should go for `more` bytes of this client's; false if there is none.
    fn let_one_go(&self, client: u128, more: u64) -> bool {
        let sessions: Vec<_> = self
            .sessions
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        let (kept, mine) = {
            let sums = self.sums.lock();
            let mine = sums.clients.get(&client).copied().unwrap_or(0) + more;
            (sums.clients.clone(), mine)
        };
        let spare = sessions.iter().filter_map(|session| {
            let owner = session.asker().client;
            let keeps = match owner == client {
                true => mine,
                false => kept.get(&owner).copied().unwrap_or(0),
            };
            let missed = session.spare_picture()?;
            (keeps >= mine).then_some(((Reverse(keeps), owner == client, missed), session))
        });
        let first = spare.min_by_key(|(order, _)| *order);
        first.is_some_and(|(_, session)| session.let_picture_go())
    }
}

impl Hold {
    pub fn new(place: Arc<Place>) -> Self {
        Hold(place)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Hold(place) = self;
        if place.room.shared {
            return;
        }
        let mut sums = place.room.sums.lock();
        sums.leaving += place.bytes;
        sums.lose(place);
        drop(sums);
        place.leaving.store(true, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sums = self.room.sums.lock();
        sums.used -= self.bytes;
        match self.leaving.load(Ordering::Relaxed) {
            true => sums.leaving -= self.bytes,
            false => sums.lose(self),
        }
        drop(sums);
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(10);

    #[test]
    fn what_nobody_lets_go_is_waited_for_in_vain() {
        let room = Room::new(100, false);
        // One alone may take more.
        let take = |bytes| room.take(bytes, 1, PATIENCE);
        let big = take(500);
        assert!(big.is_some() && take(1).is_none());
        drop(big);
        let (one, other) = (take(60), take(40));
        assert!(one.is_some() && other.is_some() && take(1).is_none());
        assert_eq!(room.used(), 100);
        drop(one.map(Hold::new));
        assert!(take(61).is_none() && take(60).is_some());
        drop(other);
        assert!(room.sums.lock().clients.is_empty());
    }

    #[test]
    fn memory_is_free_when_both_have_let_go() {
        let room = Room::new(100, false);
        let place = room.take(100, 1, PATIENCE).unwrap();
        let hold = Hold::new(place.clone());
        drop(hold);
        assert_eq!((room.used(), room.sums.lock().leaving), (100, 100));
        let waiting = {
            let room = room.clone();
            std::thread::spawn(move || room.take(100, 1, Duration::from_secs(10)).is_some())
        };
        drop(place);
        assert!(waiting.join().unwrap());
        assert_eq!((room.used(), room.sums.lock().leaving), (0, 0));
    }
}
