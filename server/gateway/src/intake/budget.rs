//! Memory that clients share: how much there is, who has what of it, and who gives way when it is short.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// A bound on what all clients hold together. Beyond it the client that holds most gives way, never one that holds less.
pub struct Budget<T> {
    most: u64,
    table: Mutex<Table<T>>,
}

struct Table<T> {
    used: u64,
    /// Of that, what was asked back and has yet to be given.
    asked: u64,
    clients: HashMap<u128, u64>,
    places: HashMap<u64, Entry<T>>,
    next: u64,
}

/// What is held in one place.
struct Entry<T> {
    client: u128,
    bytes: u64,
    touched: Instant,
    /// It was asked back.
    asked: bool,
    holder: T,
}

/// Memory that somebody holds, counted as long as this lives.
pub struct Reservation<T> {
    budget: Arc<Budget<T>>,
    number: u64,
}

/// A place that may have to give way.
pub struct EvictionCandidate<'a, T> {
    pub bytes: u64,
    /// When it last was of use.
    pub touched: Instant,
    pub holder: &'a T,
}

impl<T> Table<T> {
    /// Counts a place anew, as so many bytes of this client.
    fn count(&mut self, number: u64, client: u128, bytes: u64) {
        let Some(held) = self.places.get_mut(&number) else {
            return;
        };
        let (before, owner) = (held.bytes, held.client);
        (held.bytes, held.client) = (bytes, client);
        self.used = self.used - before + bytes;
        if held.asked {
            self.asked = self.asked - before + bytes;
        }
        if let Some(sum) = self.clients.get_mut(&owner) {
            *sum -= before;
            if *sum == 0 {
                self.clients.remove(&owner);
            }
        }
        if bytes > 0 {
            *self.clients.entry(client).or_default() += bytes;
        }
    }
}

impl<T: Clone> Budget<T> {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Budget {
            most: bytes,
            table: Mutex::new(Table {
                used: 0,
                asked: 0,
                clients: HashMap::new(),
                places: HashMap::new(),
                next: 0,
            }),
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.table.lock().used
    }

    /// A place of this client's, with nothing in it. `holder` is who is asked to give it back.
    pub fn place(self: &Arc<Self>, client: u128, holder: T) -> Reservation<T> {
        let mut table = self.table.lock();
        let number = table.next;
        table.next += 1;
        table.places.insert(
            number,
            Entry {
                client,
                bytes: 0,
                touched: Instant::now(),
                asked: false,
                holder,
            },
        );
        Reservation {
            budget: self.clone(),
            number,
        }
    }

    /// Who has to give way for `more` bytes: of the client that holds most, the places that come first by `order`. Each is
    /// asked once, and some beyond need, so that the next shortage is not there at once. Nobody if there is enough, counting
    /// what was asked back and is yet to be given, or if that client has been asked for all that it has.
    pub fn pick_victims<K: Ord>(
        &self,
        more: u64,
        order: impl Fn(EvictionCandidate<'_, T>) -> K,
    ) -> Vec<T> {
        let mut table = self.table.lock();
        let mut giving = Vec::new();
        let left = table.used - table.asked + more;
        if left <= self.most {
            return giving;
        }
        let Table {
            clients,
            places,
            asked,
            ..
        } = &mut *table;
        let Some((&greediest, _)) = clients.iter().max_by_key(|(_, bytes)| **bytes) else {
            return giving;
        };
        let mut own: Vec<_> = places
            .values_mut()
            .filter(|held| held.client == greediest && !held.asked && held.bytes > 0)
            .collect();
        own.sort_by_key(|held| {
            order(EvictionCandidate {
                bytes: held.bytes,
                touched: held.touched,
                holder: &held.holder,
            })
        });
        let mut needed = left.saturating_sub(self.most - self.most / 16);
        for held in own {
            if needed == 0 {
                break;
            }
            needed = needed.saturating_sub(held.bytes);
            held.asked = true;
            *asked += held.bytes;
            giving.push(held.holder.clone());
        }
        giving
    }
}

impl<T> Reservation<T> {
    /// Holds so many bytes from now on, even beyond the bound: whoever calls this then asks who has to give way.
    pub fn set(&self, bytes: u64) {
        let mut table = self.budget.table.lock();
        if let Some(held) = table.places.get(&self.number) {
            let client = held.client;
            table.count(self.number, client, bytes);
        }
    }

    /// Holds so many bytes more; false, and no more than before, if that is beyond the bound. Memory that was asked back and
    /// is yet to be given counts as given, but for the client that holds most.
    pub fn try_grow(&self, bytes: u64) -> bool {
        let mut table = self.budget.table.lock();
        let Some(held) = table.places.get(&self.number) else {
            return true;
        };
        let (client, sum) = (held.client, held.bytes + bytes);
        let of = |client: &u128| table.clients.get(client).copied().unwrap_or(0);
        let is_greediest = table.clients.values().all(|other| *other <= of(&client));
        let asked = if is_greediest { 0 } else { table.asked };
        if table.used.saturating_add(bytes) > self.budget.most.saturating_add(asked) {
            return false;
        }
        table.count(self.number, client, sum);
        true
    }

    /// Holds so many bytes less.
    pub fn shrink(&self, bytes: u64) {
        let mut table = self.budget.table.lock();
        if let Some(held) = table.places.get(&self.number) {
            let (client, left) = (held.client, held.bytes.saturating_sub(bytes));
            table.count(self.number, client, left);
        }
    }

    pub fn bytes(&self) -> u64 {
        let table = self.budget.table.lock();
        table.places.get(&self.number).map_or(0, |held| held.bytes)
    }

    /// Notes that what is held is of use just now.
    pub fn touch(&self, now: Instant) {
        if let Some(held) = self.budget.table.lock().places.get_mut(&self.number) {
            held.touched = now;
        }
    }

    /// Counts as this client's from now on.
    pub fn set_client(&self, client: u128) {
        let bytes = self.bytes();
        self.budget.table.lock().count(self.number, client, bytes);
    }

    /// Tells that the holder has freed what it could: it may be asked again.
    pub fn reclaimed(&self) {
        let mut table = self.budget.table.lock();
        let Some(held) = table.places.get_mut(&self.number) else {
            return;
        };
        if std::mem::take(&mut held.asked) {
            let bytes = held.bytes;
            table.asked -= bytes;
        }
    }
}

impl<T> Drop for Reservation<T> {
    fn drop(&mut self) {
        self.set(0);
        self.budget.table.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Named = Arc<Budget<&'static str>>;

    fn stalest(candidate: EvictionCandidate<'_, &'static str>) -> Instant {
        candidate.touched
    }

    fn held(
        budget: &Named,
        client: u128,
        name: &'static str,
        bytes: u64,
    ) -> Reservation<&'static str> {
        let place = budget.place(client, name);
        place.set(bytes);
        place
    }

    #[test]
    fn whoever_holds_most_gives_way_its_stalest_first() {
        let budget: Named = Budget::new(160);
        let now = Instant::now();
        let old = held(&budget, 1, "old", 40);
        let new = held(&budget, 1, "new", 40);
        let small = held(&budget, 2, "small", 60);
        for (place, age) in [(&old, 2), (&new, 1), (&small, 9)] {
            place.touch(now - Duration::from_secs(age));
        }
        assert!(budget.pick_victims(20, stalest).is_empty());
        assert_eq!(budget.pick_victims(21, stalest), ["old"]);
        // It was asked already.
        assert!(budget.pick_victims(21, stalest).is_empty());
        drop(old);
        assert_eq!(budget.used(), 100);
        // Now the other holds most.
        assert_eq!(budget.pick_victims(61, stalest), ["small"]);
    }

    #[test]
    fn a_small_client_never_pays_for_what_a_big_one_cannot_give() {
        let budget: Named = Budget::new(100);
        let _big = held(&budget, 1, "big", 90);
        let _small = held(&budget, 2, "small", 10);
        assert_eq!(budget.pick_victims(5, stalest), ["big"]);
        assert!(budget.pick_victims(99, stalest).is_empty());
    }

    #[test]
    fn a_thousand_places_of_one_client_are_one_client() {
        let budget: Named = Budget::new(1600);
        let many: Vec<_> = (0..1000).map(|_| held(&budget, 1, "many", 1)).collect();
        let _one = held(&budget, 2, "one", 500);
        // What is short, and a sixteenth more.
        assert_eq!(budget.pick_victims(200, stalest), ["many"; 200]);
        drop(many);
        assert_eq!(budget.used(), 500);
    }

    #[test]
    fn what_is_held_is_counted_once_and_given_back() {
        let budget: Named = Budget::new(100);
        let place = held(&budget, 1, "one", 60);
        assert!(!place.try_grow(41) && place.try_grow(40));
        assert_eq!((place.bytes(), budget.used()), (100, 100));
        let other = held(&budget, 2, "other", 10);
        assert_eq!(budget.pick_victims(0, stalest), ["one"]);
        place.set(50);
        place.reclaimed();
        // The key was told: both are one client's.
        other.set_client(1);
        place.touch(Instant::now() + Duration::from_secs(1));
        assert_eq!(budget.pick_victims(41, stalest), ["other"]);
        drop((place, other));
        let table = budget.table.lock();
        assert_eq!((table.used, table.asked), (0, 0));
        assert!(table.clients.is_empty() && table.places.is_empty());
    }

    #[test]
    fn what_was_asked_back_counts_as_given_for_others() {
        let budget: Named = Budget::new(100);
        let greedy = held(&budget, 1, "greedy", 90);
        let modest = budget.place(2, "modest");
        assert!(!modest.try_grow(20));
        assert_eq!(budget.pick_victims(20, stalest), ["greedy"]);
        // It takes a while until a process has ended that decodes it.
        assert!(modest.try_grow(20) && !greedy.try_grow(1));
        drop(greedy);
        assert_eq!(budget.used(), 20);
    }
}
