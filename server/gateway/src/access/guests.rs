//! Who is connected, by key and by address, and how much of the server they may have.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Failure;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use wire::ErrorCode;

use super::guest::{Guest, Visit};
use super::keys::{GuestLimits, Key};
use super::permit::{CloseHandle, ConnectionPermit, Passed};
use super::rate::TokenBucket;
use crate::intake::{Client, KeyId, retry};

/// How much of the server one client has.
pub(super) struct Record {
    pub connections: u32,
    /// Connections that are told to go elsewhere.
    pub refused: u32,
    most: Option<u32>,
    pub connects: Option<TokenBucket>,
    pub asks: Option<TokenBucket>,
}

impl Record {
    pub fn new(limits: GuestLimits, now: Instant) -> Self {
        let bucket = |per_minute: Option<u32>| per_minute.map(|n| TokenBucket::new(n, now));
        Record {
            connections: 0,
            refused: 0,
            most: limits.connections,
            connects: bucket(limits.connects_per_minute),
            asks: bucket(limits.asks_per_minute),
        }
    }

    /// Replaces the limits; what was used up under the earlier ones stays used up.
    fn set(&mut self, limits: GuestLimits, now: Instant) {
        self.most = limits.connections;
        for (bucket, per_minute) in [
            (&mut self.connects, limits.connects_per_minute),
            (&mut self.asks, limits.asks_per_minute),
        ] {
            let used = bucket.as_mut().map_or(0.0, |bucket| bucket.used(now));
            *bucket = per_minute.map(|n| TokenBucket::with_used(n, used, now));
        }
    }

    pub fn is_full(&self) -> bool {
        self.most.is_some_and(|most| self.connections >= most)
    }

    fn is_idle(&self, now: Instant) -> bool {
        let full =
            |bucket: &Option<TokenBucket>| bucket.as_ref().is_none_or(|bucket| bucket.is_full(now));
        self.connections == 0 && self.refused == 0 && full(&self.connects) && full(&self.asks)
    }
}

/// Connections beyond a limit that are still told so, of one client and of all; more are closed without a word.
const REFUSED_OF_ONE: u32 = 8;
const REFUSED_OF_ALL: usize = 64;

/// All who are connected.
pub struct Guests {
    keys: RwLock<Arc<Vec<Key>>>,
    /// Of each address.
    limits: GuestLimits,
    /// Connections of all together.
    most: usize,
    limit_loopback: bool,
    pub(super) inner: Mutex<Inner>,
    /// Counts how often the keys were read anew.
    reloaded: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// Connections, but for those refused and those told to close.
    pub total: usize,
    /// Connections that are told to go elsewhere.
    pub refused: usize,
    next: u64,
    pub records: HashMap<Client, Record>,
    /// Connections that no session has yet, by client, in the order in which they came.
    strangers: HashMap<Client, BTreeMap<u64, Arc<CloseHandle>>>,
}

impl Inner {
    /// Closes the oldest connection that no session has, of the client that has most of those; false if there is none.
    fn make_room(&mut self) -> bool {
        let most = self
            .strangers
            .iter()
            .max_by_key(|(_, these)| (these.len(), Reverse(these.keys().next().copied())));
        let Some(client) = most.map(|(client, _)| *client) else {
            return false;
        };
        let Some((_, switch)) = self.take_first(client) else {
            return false;
        };
        switch.close();
        self.total -= 1;
        true
    }

    fn take_first(&mut self, client: Client) -> Option<(u64, Arc<CloseHandle>)> {
        let these = self.strangers.get_mut(&client)?;
        let first = these.pop_first();
        if these.is_empty() {
            self.strangers.remove(&client);
        }
        first
    }

    pub fn take(&mut self, client: Client, number: u64) -> Option<Arc<CloseHandle>> {
        let these = self.strangers.get_mut(&client)?;
        let switch = these.remove(&number);
        if these.is_empty() {
            self.strangers.remove(&client);
        }
        switch
    }

    pub fn put(&mut self, client: Client, number: u64, switch: Arc<CloseHandle>) {
        self.strangers
            .entry(client)
            .or_default()
            .insert(number, switch);
    }

    pub fn release(&mut self, client: Client) {
        if let Some(record) = self.records.get_mut(&client) {
            record.connections -= 1;
        }
    }
}

impl Guests {
    /// `keys`: empty, everyone may in.
    pub fn new(
        keys: Vec<Key>,
        limits: GuestLimits,
        most: usize,
        limit_loopback: bool,
    ) -> Arc<Self> {
        Arc::new(Guests {
            keys: RwLock::new(Arc::new(keys)),
            limits,
            most,
            limit_loopback,
            inner: Mutex::default(),
            reloaded: watch::Sender::new(0),
        })
    }

    pub fn needs_key(&self) -> bool {
        !self.keys.read().is_empty()
    }

    /// The id of the API key `token`, if it is a valid one. Takes as long for a wrong key as for a right one.
    pub fn owner(&self, token: &str) -> Option<KeyId> {
        let id = KeyId::of(token);
        self.has(id).then_some(id)
    }

    /// Whether this key may in.
    pub fn has(&self, id: KeyId) -> bool {
        let keys = self.keys.read().clone();
        keys.iter().filter(|key| key.id.is(&id)).count() > 0
    }

    pub(super) fn limits_of(&self, id: KeyId) -> Option<GuestLimits> {
        let keys = self.keys.read().clone();
        let key = keys.iter().find(|key| key.id == id);
        key.map(|key| key.limits)
    }

    /// Replaces the API keys and their limits; returns how many keys were added and how many removed.
    pub fn set_keys(&self, keys: Vec<Key>) -> (usize, usize) {
        let keys = Arc::new(keys);
        let before = std::mem::replace(&mut *self.keys.write(), keys.clone());
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for key in keys.iter() {
            if let Some(record) = inner.records.get_mut(&Client::Key(key.id)) {
                record.set(key.limits, now);
            }
        }
        drop(inner);
        self.reloaded.send_modify(|count| *count += 1);
        let missing = |from: &[Key], of: &[Key]| {
            let ids: HashSet<KeyId> = from.iter().map(|key| key.id).collect();
            of.iter().filter(|key| !ids.contains(&key.id)).count()
        };
        (missing(&before, &keys), missing(&keys, &before))
    }

    /// Tells when the keys were read anew.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.reloaded.subscribe()
    }

    /// Whether the limits of addresses hold for a connection from this one that no proxy made.
    pub fn limits_apply(&self, address: IpAddr) -> bool {
        self.limit_loopback || !address.to_canonical().is_loopback()
    }

    /// A connection from this address. `limited`: whether it counts for the address. `None`: there is not even room to
    /// tell it that there is none.
    pub fn connect(self: &Arc<Self>, address: IpAddr, limited: bool) -> Option<ConnectionPermit> {
        let client = Client::at(address);
        let mut inner = self.inner.lock();
        let mut refusal = None;
        if limited {
            let record = inner
                .records
                .entry(client)
                .or_insert_with(|| Record::new(self.limits, Instant::now()));
            refusal = record.is_full().then(crowded);
        }
        if refusal.is_none() && inner.total >= self.most && !inner.make_room() {
            refusal = Some(full());
        }
        let number = inner.next;
        inner.next += 1;
        let switch = Arc::new(CloseHandle::default());
        let record = inner.records.get_mut(&client).filter(|_| limited);
        if refusal.is_some() {
            if let Some(record) = record {
                if record.refused >= REFUSED_OF_ONE {
                    return None;
                }
                record.refused += 1;
            }
            // From here on dropping the place gives everything back.
            inner.refused += 1;
        } else {
            if let Some(record) = record {
                record.connections += 1;
            }
            inner.total += 1;
            inner.put(client, number, switch.clone());
        }
        let too_many = inner.refused > REFUSED_OF_ALL;
        drop(inner);
        let place = ConnectionPermit::new(self.clone(), number, (client, limited), refusal, switch);
        (!too_many).then_some(place)
    }

    /// A request that a proxy passes on for this client, which counts as one of its connections.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn pass(self: &Arc<Self>, client: Client) -> Result<Passed, Failure> {
        let mut inner = self.inner.lock();
        let record = inner
            .records
            .entry(client)
            .or_insert_with(|| Record::new(self.limits, Instant::now()));
        if record.is_full() {
            return Err(crowded());
        }
        record.connections += 1;
        Ok(Passed::new(self.clone(), client))
    }

    /// Somebody who wants something. `limited`: whether the limits of the address hold.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn enter(
        self: &Arc<Self>,
        client: Client,
        limited: bool,
        place: Option<Arc<ConnectionPermit>>,
        visit: Visit,
    ) -> Result<Guest, Failure> {
        let mut guest = Guest::new(self.clone(), place, client, visit);
        if limited {
            guest.join(client, self.limits, false)?;
        }
        Ok(guest)
    }

    /// Forgets those who are long gone.
    pub fn tick(&self, now: Instant) {
        self.inner
            .lock()
            .records
            .retain(|_, record| !record.is_idle(now));
    }
}

pub(super) fn crowded() -> Failure {
    limited(
        "There are too many connections from here: close one, then connect again.",
        Duration::from_secs(5),
    )
}

fn full() -> Failure {
    Failure::new(
        ErrorCode::Busy,
        "The server has as many connections as it takes: try again in a moment.",
    )
    .retry_after(retry::CONNECTIONS)
}

pub(super) fn limited(message: &str, wait: Duration) -> Failure {
    Failure::new(ErrorCode::RateLimited, message).retry_after((wait.as_secs_f64() * 1e3).ceil())
}

#[cfg(test)]
mod tests;
