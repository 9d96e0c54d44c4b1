//! What came of a link, in the order in which it was sent, each once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long a message is waited for that the stream has passed over: it has let it go by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts together what came of each link.
#[derive(Default)]
pub struct Inbox {
    links: HashMap<String, Link>,
}

#[derive(Default)]
struct Link {
    /// The number that comes next.
    next: u64,
    /// What came before its turn.
    held: BTreeMap<u64, (bool, Vec<u8>)>,
    /// Since when something is missing that the stream has passed over.
    missing: Option<Duration>,
    /// Parts of a message that goes on.
    parts: Vec<u8>,
}

impl Inbox {
    /// A part came, `by_stream` or as it was sent, which `more` of the same message follow. What is whole by now is given, in order.
    pub fn arrive(
        &mut self,
        link: &str,
        (number, by_stream): (u64, bool),
        more: bool,
        part: Vec<u8>,
        now: Duration,
    ) -> Vec<Vec<u8>> {
        let link = match self.links.get_mut(link) {
            Some(link) => link,
            None => self.links.entry(link.to_owned()).or_default(),
        };
        if number < link.next {
            return Vec::new();
        }
        link.held.insert(number, (more, part));
        let mut whole = link.take();
        if link.held.is_empty() {
            link.missing = None;
        } else if !by_stream {
            // What the stream has is still to come, however long it stands still.
        } else if now.saturating_sub(*link.missing.get_or_insert(now)) >= PATIENCE {
            let first = link.held.keys().next().copied();
            tracing::error!("messages are lost: {} to {first:?}", link.next);
            link.next = first.unwrap_or(link.next);
            link.missing = None;
            link.parts.clear();
            whole.extend(link.take());
        }
        whole
    }
}

impl Link {
    fn take(&mut self) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some((more, part)) = self.held.remove(&self.next) {
            self.next += 1;
            self.parts.extend(part);
            if !more {
                whole.push(std::mem::take(&mut self.parts));
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn whatever_the_order_each_message_comes_once_and_in_its_place() {
        let mut inbox = Inbox::default();
        let mut came = Vec::new();
        for number in [0, 2, 1, 1, 0, 4, 3, 5] {
            came.extend(inbox.arrive("a", (number, true), false, vec![number as u8], NOW));
        }
        assert_eq!(came, [[0], [1], [2], [3], [4], [5]]);
        // Another link counts for itself.
        assert_eq!(inbox.arrive("b", (0, true), false, vec![7], NOW), [[7]]);
    }

    #[test]
    fn parts_become_one_message() {
        let mut inbox = Inbox::default();
        assert!(inbox.arrive("a", (1, true), true, vec![2], NOW).is_empty());
        assert!(inbox.arrive("a", (0, true), true, vec![1], NOW).is_empty());
        assert_eq!(
            inbox.arrive("a", (2, true), false, vec![3], NOW),
            [[1, 2, 3]]
        );
    }

    #[test]
    fn what_is_lost_for_good_holds_up_nobody_for_ever() {
        let mut inbox = Inbox::default();
        let mut comes = |number: u8, now| {
            let number = (number, vec![number]);
            inbox.arrive("a", (number.0.into(), true), false, number.1, now)
        };
        assert!(comes(3, NOW).is_empty());
        assert!(comes(5, PATIENCE / 2).is_empty());
        assert_eq!(comes(4, PATIENCE), [[3], [4], [5]]);
        assert!(comes(2, PATIENCE).is_empty());
    }

    /// A stream without a leader gives nothing, while what is sent behind is heard.
    #[test]
    fn what_the_stream_still_has_is_waited_for_however_long_that_takes() {
        let mut inbox = Inbox::default();
        let mut comes = |number: u8, by_stream, now| {
            inbox.arrive("a", (number.into(), by_stream), false, vec![number], now)
        };
        assert!(comes(1, false, NOW).is_empty());
        assert!(comes(2, false, PATIENCE * 2).is_empty());
        assert!(comes(3, false, PATIENCE * 4).is_empty());
        assert_eq!(comes(0, true, PATIENCE * 6), [[0], [1], [2], [3]]);
    }
}
