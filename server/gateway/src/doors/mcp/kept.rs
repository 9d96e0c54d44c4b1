//! Pictures that were asked about, kept for a while, so that the next question names them by a short handle.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::doors::incoming::{Share, append};
use crate::exchange::Namespace;
use crate::session::{File, Shared};

/// What every handle begins with.
const PREFIX: &str = "picture_";
/// Bytes of a picture's SHA-256 that stand in its handle, in hexadecimal.
const DIGEST: usize = 12;

/// Whether a text looks like a handle.
pub fn is_handle(text: &str) -> bool {
    let digest = text.strip_prefix(PREFIX).unwrap_or_default();
    digest.len() == 2 * DIGEST && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The handle of a picture, by its file's SHA-256.
pub fn handle(sha256: &[u8; 32]) -> String {
    let mut handle = PREFIX.to_owned();
    for byte in &sha256[..DIGEST] {
        // Into a string it can always be written.
        let _ = write!(handle, "{byte:02x}");
    }
    handle
}

/// A picture's file that is kept.
pub struct KeptFile {
    pub sha256: [u8; 32],
    file: File,
    share: Share,
}

impl KeptFile {
    /// Copies a file for keeping, as a part of this client's share; `None` if there is no memory for it.
    pub fn copy(file: &File, sha256: [u8; 32], client: u128, shared: &Shared) -> Option<Self> {
        let share = Share::of(client);
        let copy = copy(file, &share, shared)?;
        Some(KeptFile {
            sha256,
            file: copy,
            share,
        })
    }

    /// The picture's bytes once more, for a question; `None` if there is no memory for them.
    pub fn take(&self, share: &Share, shared: &Shared) -> Option<File> {
        self.file.touch(Instant::now());
        copy(&self.file, share, shared)
    }
}

fn copy(file: &File, share: &Share, shared: &Shared) -> Option<File> {
    let bytes = file.bytes();
    let mut copy = File::new(share.place(shared));
    let appended = append(&mut copy, bytes, bytes.len() as u64, shared);
    appended.is_ok().then_some(copy)
}

/// All pictures that are kept.
pub struct Kept(Mutex<Table<Arc<KeptFile>>>);

impl Kept {
    /// At most so many bytes, each picture for so long after it was asked about last.
    pub fn new(most: u64, patience: Duration) -> Self {
        Kept(Mutex::new(Table {
            most,
            patience,
            places: HashMap::new(),
        }))
    }

    /// Keeps a picture, and tells its handle.
    pub fn put(&self, namespace: Namespace, kept: KeptFile) -> String {
        let handle = handle(&kept.sha256);
        let bytes = kept.file.bytes().len() as u64;
        let gone = self.0.lock().put(
            (namespace, handle.clone()),
            Arc::new(kept),
            bytes,
            Instant::now(),
        );
        // Without the lock: it gives memory back.
        drop(gone);
        handle
    }

    /// The picture that goes by a handle, which counts as asked about now.
    pub fn find(&self, namespace: Namespace, handle: &str) -> Option<Arc<KeptFile>> {
        let key = (namespace, handle.to_ascii_lowercase());
        self.0.lock().find(&key, Instant::now())
    }

    /// Lets go what was kept long enough, and what the server's memory is short of. Call it every second or so.
    pub fn tick(&self, now: Instant) {
        let asked = |kept: &Arc<KeptFile>| kept.share.eviction.is_asked();
        let gone = self.0.lock().sweep(now, asked);
        drop(gone);
    }
}

/// Whose picture, by which handle.
type Key = (Namespace, String);

struct Place<T> {
    value: T,
    bytes: u64,
    used: Instant,
}

/// What is kept of all namespaces together.
struct Table<T> {
    most: u64,
    patience: Duration,
    places: HashMap<Key, Place<T>>,
}

impl<T: Clone> Table<T> {
    /// Puts a value in its place. Returns what has to go: of the namespace that has most, what was used longest ago.
    fn put(&mut self, key: Key, value: T, bytes: u64, now: Instant) -> Vec<T> {
        let place = Place {
            value,
            bytes,
            used: now,
        };
        let before = self.places.insert(key, place);
        let mut gone: Vec<T> = before.map(|place| place.value).into_iter().collect();
        let mut sums: HashMap<Namespace, u64> = HashMap::new();
        for ((namespace, _), place) in &self.places {
            *sums.entry(*namespace).or_default() += place.bytes;
        }
        while sums.values().sum::<u64>() > self.most {
            let most = sums.iter().max_by_key(|(_, bytes)| **bytes);
            let Some(namespace) = most.map(|(namespace, _)| *namespace) else {
                break;
            };
            let own = self.places.iter().filter(|((of, _), _)| *of == namespace);
            let oldest = own.min_by_key(|(_, place)| place.used);
            let Some(place) =
                (oldest.map(|(key, _)| key.clone())).and_then(|oldest| self.places.remove(&oldest))
            else {
                break;
            };
            sums.entry(namespace).and_modify(|sum| *sum -= place.bytes);
            gone.push(place.value);
        }
        gone
    }

    fn find(&mut self, key: &Key, now: Instant) -> Option<T> {
        let place = self.places.get_mut(key)?;
        place.used = now;
        Some(place.value.clone())
    }

    /// Takes out what was used too long ago, and what is asked back.
    fn sweep(&mut self, now: Instant, asked: impl Fn(&T) -> bool) -> Vec<T> {
        let patience = self.patience;
        let over = |place: &Place<T>| {
            now.saturating_duration_since(place.used) >= patience || asked(&place.value)
        };
        let gone = self.places.extract_if(|_, place| over(place));
        gone.map(|(_, place)| place.value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: u128, handle: &str) -> Key {
        (Namespace { client, user: 0 }, handle.to_owned())
    }

    fn table(most: u64) -> Table<&'static str> {
        Table {
            most,
            patience: Duration::from_secs(60),
            places: HashMap::new(),
        }
    }

    #[test]
    fn a_handle_is_told_from_a_path() {
        let own = handle(&[0xab; 32]);
        assert_eq!(own, format!("picture_{}", "ab".repeat(12)));
        assert!(is_handle(&own));
        for other in [
            "picture_1.png",
            "picture_",
            "",
            &own[1..],
            &format!("{own}0"),
        ] {
            assert!(!is_handle(other), "{other}");
        }
    }

    #[test]
    fn each_namespace_has_its_own() {
        let (mut table, now) = (table(100), Instant::now());
        assert!(table.put(key(1, "a"), "one", 10, now).is_empty());
        assert_eq!(table.find(&key(1, "a"), now), Some("one"));
        assert_eq!(table.find(&key(2, "a"), now), None);
    }

    #[test]
    fn who_has_most_gives_way_with_what_is_oldest() {
        let (mut table, start) = (table(100), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        table.put(key(1, "a"), "a", 30, at(0));
        table.put(key(1, "b"), "b", 30, at(1));
        table.put(key(2, "c"), "c", 30, at(2));
        table.find(&key(1, "a"), at(3));
        assert_eq!(table.put(key(2, "d"), "d", 20, at(4)), ["b"]);
        // Again, it takes no more room than before.
        assert_eq!(table.put(key(2, "d"), "d anew", 20, at(5)), ["d"]);
        // Too large on its own.
        assert_eq!(table.put(key(3, "e"), "e", 101, at(6)), ["e"]);
        assert_eq!(table.find(&key(2, "c"), at(7)), Some("c"));
    }

    #[test]
    fn time_and_want_of_memory_end_it() {
        let (mut table, start) = (table(100), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        table.put(key(1, "a"), "a", 1, at(0));
        table.put(key(1, "b"), "b", 1, at(0));
        table.put(key(1, "c"), "c", 1, at(0));
        table.find(&key(1, "b"), at(30));
        assert_eq!(table.sweep(at(59), |value| *value == "c"), ["c"]);
        assert_eq!(table.sweep(at(60), |_| false), ["a"]);
        assert_eq!(table.sweep(at(89), |_| false), [""; 0]);
        assert_eq!(table.sweep(at(90), |_| false), ["b"]);
    }
}
