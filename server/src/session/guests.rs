//! Who is connected, by key and by address, and how much of the server they may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::ErrorCode;

use crate::engine::JobError;
use crate::intake::{Client, KeyId};

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
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(key) = words.next() else { continue };
            let at = |problem: &str| format!("line {} of the key file {problem}", index + 1);
            if key.len() < 16 {
                return Err(at(
                    "has a key of fewer than 16 characters, which can be guessed: `openssl rand -hex 24` makes a good one",
                ));
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

    fn is_full(&self, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.full / 60.0;
        self.level + filled >= self.full
    }
}

struct Record {
    connections: u32,
    most: Option<u32>,
    connects: Option<Bucket>,
    asks: Option<Bucket>,
}

impl Record {
    fn new(limits: GuestLimits, now: Instant) -> Self {
        let bucket = |per_minute: Option<u32>| per_minute.map(|n| Bucket::new(n, now));
        Record {
            connections: 0,
            most: limits.connections,
            connects: bucket(limits.connects_per_minute),
            asks: bucket(limits.asks_per_minute),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let full =
            |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(|bucket| bucket.is_full(now));
        self.connections == 0 && full(&self.connects) && full(&self.asks)
    }
}

/// All who are connected.
pub struct Guests {
    keys: Vec<Key>,
    limits: GuestLimits,
    /// Connections of all together.
    most: usize,
    limit_loopback: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    total: usize,
    records: HashMap<Client, Record>,
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
            keys,
            limits,
            most,
            limit_loopback,
            inner: Mutex::default(),
        })
    }

    pub fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whose key this is. Takes as long for a wrong key as for a right one.
    pub fn owner(&self, token: &str) -> Option<KeyId> {
        let id = KeyId::of(token);
        let same = self.keys.iter().filter(|key| key.id.is(&id));
        (same.count() > 0).then_some(id)
    }

    /// A connection from this address.
    ///
    /// # Errors
    /// `busy` or `rate_limited`.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Guest, JobError> {
        let mut guest = Guest {
            guests: self.clone(),
            client: Client::at(address),
            who: Vec::new(),
        };
        {
            let mut inner = self.inner.lock();
            if inner.total >= self.most {
                return Err(JobError::new(
                    ErrorCode::Busy,
                    "The server has as many connections as it takes: try again in a moment.",
                )
                .retry_after(5000.0));
            }
            inner.total += 1;
        }
        // From here on dropping the guest gives everything back.
        guest.who.push(None);
        if self.limit_loopback || !address.to_canonical().is_loopback() {
            guest.join(guest.client, self.limits)?;
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

/// One connection's place among all; dropped, the place is free.
pub struct Guest {
    guests: Arc<Guests>,
    client: Client,
    /// As what it is counted; `None` stands for the count of all.
    who: Vec<Option<Client>>,
}

impl Guest {
    /// All who are connected.
    pub fn guests(&self) -> &Guests {
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
    pub fn identify(&mut self, owner: KeyId) -> Result<(), JobError> {
        let guests = self.guests.clone();
        self.client = Client::Key(owner);
        match guests.keys.iter().find(|key| key.id == owner) {
            Some(key) => self.join(self.client, key.limits),
            None => Ok(()),
        }
    }

    fn join(&mut self, who: Client, limits: GuestLimits) -> Result<(), JobError> {
        let now = Instant::now();
        let mut inner = self.guests.inner.lock();
        let record = inner
            .records
            .entry(who)
            .or_insert_with(|| Record::new(limits, now));
        if record.most.is_some_and(|most| record.connections >= most) {
            return Err(limited(
                "There are too many connections from here: close one, then connect again.",
                Duration::from_secs(5),
            ));
        }
        if let Some(bucket) = &mut record.connects {
            bucket.take(now).map_err(|wait| {
                limited("There were too many connections from here in a short time: wait, then connect again.", wait)
            })?;
        }
        record.connections += 1;
        drop(inner);
        self.who.push(Some(who));
        Ok(())
    }

    /// A question is asked.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn ask(&self) -> Result<(), JobError> {
        let now = Instant::now();
        let mut inner = self.guests.inner.lock();
        for who in self.who.iter().flatten() {
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
        let mut inner = self.guests.inner.lock();
        for who in &self.who {
            match who {
                None => inner.total -= 1,
                Some(who) => {
                    if let Entry::Occupied(mut entry) = inner.records.entry(*who) {
                        entry.get_mut().connections -= 1;
                    }
                }
            }
        }
    }
}

fn limited(message: &str, wait: Duration) -> JobError {
    JobError::new(ErrorCode::RateLimited, message).retry_after((wait.as_secs_f64() * 1e3).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn guests(limits: GuestLimits) -> Arc<Guests> {
        Guests::new(vec![], limits, 100, false)
    }

    fn code(result: Result<Guest, JobError>) -> Option<ErrorCode> {
        result.err().map(|error| error.code)
    }

    #[test]
    fn connections_are_counted_by_address() {
        let guests = guests(GuestLimits {
            connections: Some(2),
            ..GuestLimits::default()
        });
        let first = guests.enter(address(1)).unwrap();
        let _second = guests.enter(address(1)).unwrap();
        assert_eq!(code(guests.enter(address(1))), Some(ErrorCode::RateLimited));
        let _other = guests.enter(address(2)).unwrap();
        let local: Vec<_> = (0..10).map(|_| guests.enter(LOCAL).unwrap()).collect();
        drop(local);
        drop(first);
        assert_eq!(code(guests.enter(address(1))), None);
        assert_eq!(guests.inner.lock().total, 2);
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
        let guests = Guests::new(vec![], limits, 2, false);
        let first = guests.enter(address(1)).unwrap();
        let _second = guests.enter(address(2)).unwrap();
        assert_eq!(code(guests.enter(address(3))), Some(ErrorCode::Busy));
        assert!(first.ask().is_ok());
        assert_eq!(first.ask().unwrap_err().code, ErrorCode::RateLimited);
        drop(first);
        guests.tick(Instant::now());
        assert_eq!(guests.inner.lock().records.len(), 2);
        guests.tick(Instant::now() + Duration::from_secs(61));
        assert_eq!(guests.inner.lock().records.len(), 1);
    }

    #[test]
    fn keys_have_their_own_limits() {
        let file = "# ours\nabcdefghijklmnop asks=2  # first\n\nABCDEFGHIJKLMNOP connections=1 connects=9\n";
        let keys = Key::read_all(file, GuestLimits::default()).unwrap();
        let guests = Guests::new(keys, GuestLimits::default(), 10, false);
        let first_key = guests.owner("abcdefghijklmnop").unwrap();
        let second_key = guests.owner("ABCDEFGHIJKLMNOP").unwrap();
        assert_eq!(guests.owner("abcdefghijklmnoP"), None);
        assert_eq!(guests.owner(""), None);
        let mut first = guests.enter(LOCAL).unwrap();
        assert_eq!(first.client(), Client::at(LOCAL));
        first.identify(second_key).unwrap();
        assert_eq!(first.client(), Client::Key(second_key));
        assert!(guests.enter(LOCAL).unwrap().identify(second_key).is_err());
        let mut second = guests.enter(LOCAL).unwrap();
        second.identify(first_key).unwrap();
        assert!(second.ask().is_ok() && second.ask().is_ok() && second.ask().is_err());
        assert!(first.ask().is_ok());
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
