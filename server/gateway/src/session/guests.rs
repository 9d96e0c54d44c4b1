//! Who is connected, by key and by address, and how much of the server they may have.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use wire::ErrorCode;

use crate::intake::{Client, KeyId};
use api::Failure;

/// What is refused beyond; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GuestLimits {
    /// At once.
    pub connections: Option<u32>,
    pub connects_per_minute: Option<u32>,
    pub asks_per_minute: Option<u32>,
}

/// An API key of the key file.
#[derive(Debug)]
pub struct Key {
    id: KeyId,
    limits: GuestLimits,
}

impl Key {
    /// Reads a key file: a key a line, then what limits it, as `connections=4 connects=30 asks=60` (the latter two a
    /// minute); `#` begins a comment.
    ///
    /// # Errors
    /// A sentence that names the line, never the key.
    pub fn read_all(file: &str, defaults: GuestLimits) -> Result<Vec<Key>, String> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in file.lines().enumerate() {
            // A byte order mark may stand wherever files were joined.
            let line = line.trim_start_matches('\u{feff}');
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(key) = words.next() else { continue };
            let at = |problem: &str| format!("line {} of the key file {problem}", index + 1);
            if key.len() < 16 {
                return Err(at(
                    "has a key of fewer than 16 characters, which can be guessed: `openssl rand -hex 24` makes a good one",
                ));
            }
            if key.chars().any(|c| c.is_control() || c == '\u{feff}') {
                return Err(at("has a key that can't be typed: save the file as UTF-8"));
            }
            let mut limits = defaults;
            for word in words {
                let setting = word
                    .split_once('=')
                    .and_then(|(name, value)| Some((name, value.parse().ok()?)));
                match setting {
                    Some(("connections", most)) => limits.connections = Some(most),
                    Some(("connects", most)) => limits.connects_per_minute = Some(most),
                    Some(("asks", most)) => limits.asks_per_minute = Some(most),
                    _ => {
                        return Err(at(
                            "has a limit that is none of connections=N, connects=N, asks=N",
                        ));
                    }
                }
            }
            let id = KeyId::of(key);
            if keys.iter().any(|known| known.id == id) {
                return Err(at("repeats a key"));
            }
            keys.push(Key { id, limits });
        }
        if keys.is_empty() {
            return Err("the key file has no key: give it one a line".into());
        }
        Ok(keys)
    }
}

/// Where the keys are, and what limits those that bring no limits of their own.
pub struct KeyFile {
    pub path: PathBuf,
    pub defaults: GuestLimits,
}

impl KeyFile {
    /// # Errors
    /// A sentence about the file, or about a line of it.
    pub fn read(&self) -> Result<Vec<Key>, String> {
        let bytes = std::fs::read(&self.path).map_err(|problem| {
            let path = self.path.display();
            format!("--api-key-file {path} can't be read ({problem})")
        })?;
        Key::read_all(&text(&bytes)?, self.defaults)
    }
}

/// A file's text, whatever its editor put in front of it: a byte order mark is no part of it.
fn text(bytes: &[u8]) -> Result<String, String> {
    let utf16 = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..]
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => from([*a, *b]),
                // Half a character is none.
                _ => 0xd800,
            })
            .collect();
        String::from_utf16(&units).ok()
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => String::from_utf8(bytes.into()).ok(),
    };
    text.ok_or_else(|| "the key file is no text: save it as UTF-8".into())
}

/// A bucket that holds a minute's worth and fills steadily.
struct Bucket {
    full: f64,
    level: f64,
    since: Instant,
}

impl Bucket {
    fn new(per_minute: u32, now: Instant) -> Self {
        let full = f64::from(per_minute);
        Bucket {
            full,
            level: full,
            since: now,
        }
    }

    /// Takes one, or tells how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        self.level = (self.level + filled).min(self.full);
        self.since = now;
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.level) * 60.0 / self.full.max(f64::MIN_POSITIVE);
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(60)))
    }

    /// What was taken and is not filled up yet.
    fn used(&self, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        (self.full - self.level - filled).max(0.0)
    }

    fn is_full(&self, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        self.level + filled >= self.full
    }
}

/// How much of the server one client has.
struct Record {
    connections: u32,
    /// Connections that are told to go elsewhere.
    refused: u32,
    most: Option<u32>,
    connects: Option<Bucket>,
    asks: Option<Bucket>,
}

impl Record {
    fn new(limits: GuestLimits, now: Instant) -> Self {
        let bucket = |per_minute: Option<u32>| per_minute.map(|n| Bucket::new(n, now));
        Record {
            connections: 0,
            refused: 0,
            most: limits.connections,
            connects: bucket(limits.connects_per_minute),
            asks: bucket(limits.asks_per_minute),
        }
    }

    /// From now on these limits hold; what was used up under the earlier ones stays used up.
    fn set(&mut self, limits: GuestLimits, now: Instant) {
        self.most = limits.connections;
        for (bucket, per_minute) in [
            (&mut self.connects, limits.connects_per_minute),
            (&mut self.asks, limits.asks_per_minute),
        ] {
            let used = bucket.as_mut().map_or(0.0, |bucket| bucket.used(now));
            *bucket = per_minute.map(|n| {
                let mut bucket = Bucket::new(n, now);
                bucket.level = (bucket.full - used).max(0.0);
                bucket
            });
        }
    }

    fn is_full(&self) -> bool {
        self.most.is_some_and(|most| self.connections >= most)
    }

    fn is_idle(&self, now: Instant) -> bool {
        let full =
            |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(|bucket| bucket.is_full(now));
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
    inner: Mutex<Inner>,
    /// Counts how often the keys were read anew.
    reloaded: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// Connections, but for those refused and those told to close.
    total: usize,
    /// Connections that are told to go elsewhere.
    refused: usize,
    next: u64,
    records: HashMap<Client, Record>,
    /// Connections that no session has yet, by client, in the order in which they came.
    strangers: HashMap<Client, BTreeMap<u64, Arc<Switch>>>,
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

    fn take_first(&mut self, client: Client) -> Option<(u64, Arc<Switch>)> {
        let these = self.strangers.get_mut(&client)?;
        let first = these.pop_first();
        if these.is_empty() {
            self.strangers.remove(&client);
        }
        first
    }

    fn take(&mut self, client: Client, number: u64) -> Option<Arc<Switch>> {
        let these = self.strangers.get_mut(&client)?;
        let switch = these.remove(&number);
        if these.is_empty() {
            self.strangers.remove(&client);
        }
        switch
    }

    fn put(&mut self, client: Client, number: u64, switch: Arc<Switch>) {
        self.strangers
            .entry(client)
            .or_default()
            .insert(number, switch);
    }

    fn release(&mut self, client: Client) {
        if let Some(record) = self.records.get_mut(&client) {
            record.connections -= 1;
        }
    }
}

/// Ends a connection from outside.
#[derive(Default)]
pub struct Switch {
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl Switch {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection is to end; the task is woken when that changes.
    pub fn is_closed(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.closed.load(Ordering::Acquire)
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

    /// Whose key this is. Takes as long for a wrong key as for a right one.
    pub fn owner(&self, token: &str) -> Option<KeyId> {
        let id = KeyId::of(token);
        self.has(id).then_some(id)
    }

    /// Whether this key may in.
    pub fn has(&self, id: KeyId) -> bool {
        let keys = self.keys.read().clone();
        keys.iter().filter(|key| key.id.is(&id)).count() > 0
    }

    fn limits_of(&self, id: KeyId) -> Option<GuestLimits> {
        let keys = self.keys.read().clone();
        let key = keys.iter().find(|key| key.id == id);
        key.map(|key| key.limits)
    }

    /// From now on these keys hold, with their limits. How many were added and how many removed.
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
    pub fn connect(self: &Arc<Self>, address: IpAddr, limited: bool) -> Option<Place> {
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
        let switch = Arc::new(Switch::default());
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
        let place = Place {
            guests: self.clone(),
            number,
            client,
            limited,
            refused: refusal.is_some(),
            refusal: Mutex::new(refusal),
            seen_as: Mutex::new(Some(client)),
            left: AtomicBool::new(false),
            in_use: AtomicBool::new(false),
            switch,
        };
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
        Ok(Passed {
            guests: self.clone(),
            client,
        })
    }

    /// Somebody who wants a session. `limited`: whether the limits of the address hold.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn enter(
        self: &Arc<Self>,
        client: Client,
        limited: bool,
        place: Option<Arc<Place>>,
    ) -> Result<Guest, Failure> {
        let mut guest = Guest {
            guests: self.clone(),
            place,
            client,
            who: Vec::new(),
            key: None,
        };
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

/// A TCP connection's place among all; left or dropped, the place is free.
pub struct Place {
    guests: Arc<Guests>,
    number: u64,
    /// Whose connection it is, as far as the connection alone tells: a proxy's is the proxy's.
    client: Client,
    limited: bool,
    refused: bool,
    refusal: Mutex<Option<Failure>>,
    /// Under which client it stands among those that no session has.
    seen_as: Mutex<Option<Client>>,
    left: AtomicBool,
    in_use: AtomicBool,
    switch: Arc<Switch>,
}

impl Place {
    /// Why nothing is served here, if so.
    pub fn refusal(&self) -> Option<Failure> {
        self.refusal.lock().clone()
    }

    /// Whether the connection is to end.
    pub fn is_closed(&self, context: &Context<'_>) -> bool {
        self.switch.is_closed(context)
    }

    /// A proxy's connection carries this client's request now.
    pub fn seen_as(&self, client: Client) {
        let mut seen_as = self.seen_as.lock();
        let Some(before) = *seen_as else { return };
        if before == client {
            return;
        }
        let mut inner = self.guests.inner.lock();
        if let Some(switch) = inner.take(before, self.number) {
            inner.put(client, self.number, switch);
            *seen_as = Some(client);
        }
    }

    /// A session has it now: it is no longer among those that go first.
    fn settle(&self) {
        let mut seen_as = self.seen_as.lock();
        let mut inner = self.guests.inner.lock();
        // Told to close in this very moment, it stays so.
        if seen_as.is_some_and(|client| inner.take(client, self.number).is_some()) {
            *seen_as = None;
        }
    }

    /// Whether a WebSocket has the connection: it then sees to its own time-outs.
    pub fn in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    pub fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    /// The connection is as good as gone.
    pub fn leave(&self) {
        if self.left.swap(true, Ordering::Relaxed) {
            return;
        }
        let seen_as = self.seen_as.lock().take();
        let mut inner = self.guests.inner.lock();
        if self.refused {
            inner.refused -= 1;
            if self.limited
                && let Some(record) = inner.records.get_mut(&self.client)
            {
                record.refused -= 1;
            }
            return;
        }
        // Told to close to make room, it is no longer counted among all.
        let counted = seen_as.is_none_or(|client| inner.take(client, self.number).is_some());
        inner.total -= usize::from(counted);
        if self.limited {
            inner.release(self.client);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that a proxy passed on; dropped, it no longer counts for its client.
pub struct Passed {
    guests: Arc<Guests>,
    client: Client,
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.guests.inner.lock().release(self.client);
    }
}

/// Somebody who has a session, or wants one.
pub struct Guest {
    guests: Arc<Guests>,
    place: Option<Arc<Place>>,
    client: Client,
    /// Whose limits on questions hold.
    who: Vec<Client>,
    /// As one of whose connections it is counted.
    key: Option<Client>,
}

impl Guest {
    /// All who are connected.
    pub fn guests(&self) -> &Arc<Guests> {
        &self.guests
    }

    /// Whose share of the server this connection's sessions take: the key's, or without one the address's.
    pub fn client(&self) -> Client {
        self.client
    }

    /// The key was right: its own limits count too, and its share is taken from here on.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn identify(&mut self, owner: KeyId) -> Result<(), Failure> {
        self.client = Client::Key(owner);
        if let Some(limits) = self.guests.limits_of(owner) {
            self.join(self.client, limits, true)?;
            self.key = Some(self.client);
        }
        Ok(())
    }

    /// It has a session.
    pub fn settle(&self) {
        if let Some(place) = &self.place {
            place.settle();
        }
    }

    /// `count`: whether this is one of the client's connections that is not counted yet.
    fn join(&mut self, who: Client, limits: GuestLimits, count: bool) -> Result<(), Failure> {
        let now = Instant::now();
        let mut inner = self.guests.inner.lock();
        let record = inner
            .records
            .entry(who)
            .or_insert_with(|| Record::new(limits, now));
        if count && record.is_full() {
            return Err(crowded());
        }
        if let Some(bucket) = &mut record.connects {
            bucket.take(now).map_err(|wait| {
                limited("There were too many connections from here in a short time: wait, then connect again.", wait)
            })?;
        }
        record.connections += u32::from(count);
        drop(inner);
        self.who.push(who);
        Ok(())
    }

    /// A question is asked.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn ask(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut inner = self.guests.inner.lock();
        for who in &self.who {
            if let Some(bucket) = inner
                .records
                .get_mut(who)
                .and_then(|record| record.asks.as_mut())
            {
                bucket.take(now).map_err(|wait| {
                    limited("There were too many questions from here in a short time: wait, then ask again.", wait)
                })?;
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.guests.inner.lock().release(key);
        }
    }
}

fn crowded() -> Failure {
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
    .retry_after(5000.0)
}

fn limited(message: &str, wait: Duration) -> Failure {
    Failure::new(ErrorCode::RateLimited, message).retry_after((wait.as_secs_f64() * 1e3).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn guests(limits: GuestLimits, most: usize) -> Arc<Guests> {
        Guests::new(vec![], limits, most, false)
    }

    fn connections(most: u32) -> GuestLimits {
        GuestLimits {
            connections: Some(most),
            ..GuestLimits::default()
        }
    }

    /// A connection that is served, or why it is not.
    fn connect(guests: &Arc<Guests>, address: IpAddr) -> Result<Place, ErrorCode> {
        let limited = guests.limits_apply(address);
        let place = guests.connect(address, limited).expect("a place");
        match place.refusal() {
            None => Ok(place),
            Some(refusal) => Err(refusal.code),
        }
    }

    fn enter(guests: &Arc<Guests>, place: Place) -> Guest {
        let (client, place) = (place.client, Arc::new(place));
        let limited = place.limited;
        guests.enter(client, limited, Some(place)).unwrap()
    }

    fn is_closed(place: &Place) -> bool {
        place.is_closed(&Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn connections_are_counted_by_address() {
        let guests = guests(connections(2), 100);
        let first = connect(&guests, address(1)).unwrap();
        let _second = connect(&guests, address(1)).unwrap();
        assert_eq!(
            connect(&guests, address(1)).err(),
            Some(ErrorCode::RateLimited)
        );
        let _other = connect(&guests, address(2)).unwrap();
        let local: Vec<_> = (0..10).map(|_| connect(&guests, LOCAL).unwrap()).collect();
        drop(local);
        drop(first);
        assert!(connect(&guests, address(1)).is_ok());
        assert_eq!(guests.inner.lock().total, 2);
        assert_eq!(guests.inner.lock().refused, 0);
    }

    #[test]
    fn of_those_refused_few_are_told_so() {
        let guests = guests(connections(1), 1000);
        let _first = connect(&guests, address(1)).unwrap();
        let refused: Vec<_> = (0..100)
            .filter_map(|_| guests.connect(address(1), true))
            .collect();
        assert_eq!(refused.len(), REFUSED_OF_ONE as usize);
        let of_all: Vec<_> = (2..200)
            .flat_map(|last| (0..9).map(move |_| address(last)))
            .filter_map(|address| guests.connect(address, true))
            .filter(|place| place.refusal().is_some())
            .collect();
        assert!(of_all.len() < REFUSED_OF_ALL);
        assert_eq!(guests.inner.lock().refused, refused.len() + of_all.len());
        drop((refused, of_all));
        assert_eq!(guests.inner.lock().refused, 0);
    }

    #[test]
    fn who_has_most_without_a_session_makes_room() {
        let guests = guests(GuestLimits::default(), 4);
        let few = connect(&guests, address(2)).unwrap();
        let settled = enter(&guests, connect(&guests, address(1)).unwrap());
        settled.settle();
        let many: Vec<_> = (0..2)
            .map(|_| connect(&guests, address(1)).unwrap())
            .collect();
        let newcomer = enter(&guests, connect(&guests, address(3)).unwrap());
        assert_eq!(
            many.iter().map(is_closed).collect::<Vec<_>>(),
            [true, false]
        );
        // Too late for the one that is told to close.
        many[0].settle();
        drop(many);
        newcomer.settle();
        assert!(!is_closed(&few));
        assert_eq!(guests.inner.lock().total, 3);
        drop((few, settled, newcomer));
        let inner = guests.inner.lock();
        assert_eq!((inner.total, inner.strangers.len()), (0, 0));
    }

    #[test]
    fn a_proxys_connections_count_for_those_who_ask() {
        let guests = guests(connections(1), 2);
        let proxy = address(9);
        let places: Vec<_> = (0..2)
            .map(|_| guests.connect(proxy, false).unwrap())
            .collect();
        let far = Client::at(address(1));
        let first = guests.pass(far).unwrap();
        assert_eq!(
            guests.pass(far).err().map(|e| e.code),
            Some(ErrorCode::RateLimited)
        );
        places[1].seen_as(far);
        drop(first);
        assert!(guests.pass(far).is_ok());
        let _third = guests.connect(proxy, false).unwrap();
        let _fourth = guests.connect(proxy, false).unwrap();
        assert!(places.iter().all(is_closed));
    }

    #[test]
    fn rates_are_by_the_minute() {
        let now = Instant::now();
        let mut bucket = Bucket::new(60, now);
        for _ in 0..60 {
            assert!(bucket.take(now).is_ok());
        }
        let wait = bucket.take(now).unwrap_err();
        assert_eq!(wait.as_secs_f64().round(), 1.0);
        assert!(!bucket.is_full(now));
        assert!(bucket.take(now + wait + Duration::from_millis(1)).is_ok());
        assert!(bucket.is_full(now + Duration::from_secs(100)));
        assert!(Bucket::new(0, now).take(now).is_err());
    }

    #[test]
    fn all_together_are_bounded_and_the_gone_forgotten() {
        let limits = GuestLimits {
            asks_per_minute: Some(1),
            ..GuestLimits::default()
        };
        let guests = guests(limits, 2);
        let enter = |last| {
            let guest = enter(&guests, connect(&guests, address(last)).unwrap());
            guest.settle();
            guest
        };
        let (first, _second) = (enter(1), enter(2));
        assert_eq!(connect(&guests, address(3)).err(), Some(ErrorCode::Busy));
        assert!(first.ask().is_ok());
        assert_eq!(first.ask().unwrap_err().code, ErrorCode::RateLimited);
        drop(first);
        guests.tick(Instant::now());
        assert_eq!(guests.inner.lock().records.len(), 2);
        guests.tick(Instant::now() + Duration::from_secs(61));
        assert_eq!(guests.inner.lock().records.len(), 1);
    }

    fn keys(file: &str) -> Vec<Key> {
        Key::read_all(file, GuestLimits::default()).unwrap()
    }

    #[test]
    fn keys_have_their_own_limits() {
        let file = "# ours\nabcdefghijklmnop asks=2  # first\n\nABCDEFGHIJKLMNOP connections=1 connects=9\n";
        let guests = Guests::new(keys(file), GuestLimits::default(), 10, false);
        let first_key = guests.owner("abcdefghijklmnop").unwrap();
        let second_key = guests.owner("ABCDEFGHIJKLMNOP").unwrap();
        assert_eq!(guests.owner("abcdefghijklmnoP"), None);
        assert_eq!(guests.owner(""), None);
        let enter = || enter(&guests, connect(&guests, LOCAL).unwrap());
        let mut first = enter();
        assert_eq!(first.client(), Client::at(LOCAL));
        first.identify(second_key).unwrap();
        assert_eq!(first.client(), Client::Key(second_key));
        assert!(enter().identify(second_key).is_err());
        let mut second = enter();
        second.identify(first_key).unwrap();
        assert!(second.ask().is_ok() && second.ask().is_ok() && second.ask().is_err());
        assert!(first.ask().is_ok());
        drop(first);
        assert!(enter().identify(second_key).is_ok());
    }

    #[test]
    fn keys_may_change() {
        let (one, other, third) = ("abcdefghijklmnop", "ABCDEFGHIJKLMNOP", "0123456789abcdef");
        let guests = Guests::new(
            keys(&format!("{one} asks=2\n{other}")),
            GuestLimits::default(),
            10,
            false,
        );
        let key = guests.owner(one).unwrap();
        let enter = || enter(&guests, connect(&guests, LOCAL).unwrap());
        let mut guest = enter();
        guest.identify(key).unwrap();
        assert!(guest.ask().is_ok());
        let mut told = guests.watch();
        let now = keys(&format!("{third}\n{one} asks=3 connections=1"));
        assert_eq!(guests.set_keys(now), (1, 1));
        assert!(told.has_changed().unwrap());
        assert_eq!(guests.owner(other), None);
        assert!(guests.has(key) && guests.owner(third).is_some());
        // One is used up already.
        assert!(guest.ask().is_ok() && guest.ask().is_ok() && guest.ask().is_err());
        assert!(enter().identify(key).is_err());
        told.mark_unchanged();
        assert_eq!(guests.set_keys(keys(one)), (0, 1));
        assert!(guest.ask().is_ok() && enter().identify(key).is_ok());
    }

    #[test]
    fn what_editors_put_into_key_files() {
        let (one, other) = ("abcdefghijklmnop", "ABCDEFGHIJKLMNOP");
        let plain = format!("{one} asks=2 \t\r\n{other}  \r\n");
        let utf16 = |bytes: fn(u16) -> [u8; 2]| {
            format!("\u{feff}{plain}")
                .encode_utf16()
                .flat_map(bytes)
                .collect::<Vec<u8>>()
        };
        for file in [
            plain.clone().into_bytes(),
            format!("\u{feff}{plain}").into_bytes(),
            format!("# joined\n\u{feff}{plain}").into_bytes(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            let read = keys(&text(&file).unwrap());
            let ids: Vec<_> = read.iter().map(|key| key.id).collect();
            assert_eq!(ids, [KeyId::of(one), KeyId::of(other)]);
        }
        assert!(text(b"\xff\xfea").is_err() && text(b"abcdefghijklmnop\xff").is_err());
        let without_mark: Vec<u8> = one.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let without_mark = text(&without_mark).unwrap();
        assert!(Key::read_all(&without_mark, GuestLimits::default()).is_err());
    }

    #[test]
    fn key_files_that_are_wrong() {
        for file in [
            "",
            "# nothing",
            "short",
            "abcdefghijklmnop asks=many",
            "abcdefghijklmnop\nabcdefghijklmnop",
        ] {
            let problem = Key::read_all(file, GuestLimits::default()).unwrap_err();
            assert!(!problem.contains("abcdef"), "{problem}");
        }
    }
}
