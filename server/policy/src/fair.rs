//! A line in which clients take turns, and each client's sessions among themselves: whoever sends much, or opens many
//! sessions, waits for itself.

use std::collections::VecDeque;

use api::{Asker, SessionId};

/// What waits. Each client in turn gets one, and of a client each session in turn; within a session it goes by order
/// of arrival.
pub struct FairQueue<T> {
    clients: VecDeque<(u128, Sessions<T>)>,
    len: usize,
    changes: u64,
}

type Sessions<T> = VecDeque<(SessionId, VecDeque<T>)>;

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue {
            clients: VecDeque::new(),
            len: 0,
            changes: 0,
        }
    }
}

/// The line of `key`, made at the end if there is none.
fn line<K: PartialEq, L: Default>(lines: &mut VecDeque<(K, L)>, key: K) -> &mut L {
    let at = lines.iter().position(|(k, _)| *k == key);
    let at = at.unwrap_or_else(|| {
        lines.push_back((key, L::default()));
        lines.len() - 1
    });
    &mut lines[at].1
}

impl<T> FairQueue<T> {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// How often something came, went or may have been changed: as long as this is the same, so is the queue.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn push(&mut self, asker: Asker, item: T) {
        self.len += 1;
        self.changes += 1;
        let sessions = line(&mut self.clients, asker.client);
        line(sessions, asker.session).push_back(item);
    }

    /// Puts an item back before all others.
    pub fn push_first(&mut self, asker: Asker, item: T) {
        self.push(asker, item);
        let at = self.clients.iter().position(|it| it.0 == asker.client);
        if let Some((client, mut sessions)) = at.and_then(|at| self.clients.remove(at)) {
            let at = sessions.iter().position(|it| it.0 == asker.session);
            if let Some((session, mut items)) = at.and_then(|at| sessions.remove(at)) {
                items.rotate_right(1);
                sessions.push_front((session, items));
            }
            self.clients.push_front((client, sessions));
        }
    }

    /// The first item in turn that is `ready`; its client and session then go to the end of their lines.
    pub fn pop(&mut self, ready: impl Fn(&T) -> bool) -> Option<T> {
        let (client, session, place) =
            self.clients
                .iter()
                .enumerate()
                .find_map(|(client, (_, sessions))| {
                    sessions
                        .iter()
                        .enumerate()
                        .find_map(|(session, (_, items))| {
                            Some((client, session, items.iter().position(&ready)?))
                        })
                })?;
        let (number, mut sessions) = self.clients.remove(client)?;
        let (session, mut items) = sessions.remove(session)?;
        let item = items.remove(place);
        if !items.is_empty() {
            sessions.push_back((session, items));
        }
        if !sessions.is_empty() {
            self.clients.push_back((number, sessions));
        }
        self.len -= 1;
        self.changes += 1;
        item
    }

    /// Takes out every item that is `gone`.
    pub fn take_where(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        // Mostly none is, and then nothing is moved.
        if !self.iter().any(&gone) {
            return taken;
        }
        for (_, sessions) in &mut self.clients {
            for (_, items) in sessions.iter_mut() {
                for item in std::mem::take(items) {
                    if gone(&item) {
                        taken.push(item);
                    } else {
                        items.push_back(item);
                    }
                }
            }
            sessions.retain(|(_, items)| !items.is_empty());
        }
        self.clients.retain(|(_, sessions)| !sessions.is_empty());
        self.len -= taken.len();
        self.changes += 1;
        taken
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let sessions = self.clients.iter().flat_map(|(_, sessions)| sessions);
        sessions.flat_map(|(_, items)| items)
    }

    /// Every item, of each client and session in its turn.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.changes += 1;
        let sessions = self.clients.iter_mut().flat_map(|(_, sessions)| sessions);
        sessions.flat_map(|(_, items)| items)
    }

    /// Every item in the order in which they would be served if all were ready.
    pub fn in_order(&mut self) -> Vec<&mut T> {
        // Mostly each client waits with one.
        if self.clients.len() == self.len {
            return self.iter_mut().collect();
        }
        self.changes += 1;
        let clients = self.clients.iter_mut().map(|(_, sessions)| {
            let sessions = sessions.iter_mut().map(|(_, items)| items.iter_mut());
            in_turn(sessions.collect()).into_iter()
        });
        in_turn(clients.collect())
    }
}

/// The first of each line, then the second of each, and so on.
fn in_turn<T>(mut lines: Vec<impl Iterator<Item = T>>) -> Vec<T> {
    let mut order = Vec::new();
    let mut more = true;
    while std::mem::take(&mut more) {
        for line in &mut lines {
            if let Some(item) = line.next() {
                order.push(item);
                more = true;
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(client: u128, session: u128) -> Asker {
        let session = SessionId::new(session);
        Asker { client, session }
    }

    #[test]
    fn sessions_take_turns() {
        let mut queue = FairQueue::default();
        for (session, item) in [
            (1, "a1"),
            (1, "a2"),
            (1, "a3"),
            (2, "b1"),
            (3, "c1"),
            (2, "b2"),
        ] {
            queue.push(asker(session, session), item);
        }
        let order: Vec<&str> = queue.in_order().into_iter().map(|s| *s).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        let mut popped = Vec::new();
        while let Some(item) = queue.pop(|_| true) {
            popped.push(item);
        }
        assert_eq!(popped, order);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_not_ready_holds_nobody_up() {
        let mut queue = FairQueue::default();
        queue.push(asker(1, 1), 10);
        queue.push(asker(1, 1), 11);
        queue.push(asker(2, 2), 20);
        assert_eq!(queue.pop(|i| *i != 10), Some(11));
        assert_eq!(queue.pop(|i| *i != 10), Some(20));
        assert_eq!(queue.pop(|i| *i != 10), None);
        assert_eq!(queue.take_where(|i| *i == 10), [10]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_thousand_sessions_of_one_client_are_one_client() {
        let mut queue = FairQueue::default();
        for session in 0..1000 {
            queue.push(asker(1, session), "many");
        }
        queue.push(asker(2, 5000), "one");
        queue.push(asker(2, 5000), "two");
        let order: Vec<&str> = queue.in_order().into_iter().map(|s| *s).collect();
        let popped: Vec<&str> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!(popped[..5], ["many", "one", "many", "two", "many"]);
        assert_eq!(popped, order);
        assert_eq!((queue.len(), popped.len()), (0, 1002));
    }

    #[test]
    fn what_is_put_back_is_next() {
        let mut queue = FairQueue::default();
        for (client, session, item) in [(1, 1, "a"), (2, 2, "b1"), (2, 3, "c"), (2, 2, "b2")] {
            queue.push(asker(client, session), item);
        }
        queue.push_first(asker(2, 2), "b0");
        let popped: Vec<&str> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!(popped, ["b0", "a", "c", "b1", "b2"]);
    }

    #[test]
    fn of_one_client_the_sessions_take_turns() {
        let mut queue = FairQueue::default();
        for (session, item) in [(1, "a1"), (1, "a2"), (2, "b1"), (2, "b2"), (3, "c1")] {
            queue.push(asker(7, session), item);
        }
        let popped: Vec<&str> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!(popped, ["a1", "b1", "c1", "a2", "b2"]);
    }
}
