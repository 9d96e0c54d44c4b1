//! The queue: first come first served among sessions, not among the requests of one.

use std::collections::VecDeque;

/// Waiting requests. Each session in turn gets one; within a session they go in order of arrival.
pub struct FairQueue<T> {
    sessions: VecDeque<(u64, VecDeque<T>)>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue {
            sessions: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, session: u64, item: T) {
        self.len += 1;
        match self.sessions.iter_mut().find(|(s, _)| *s == session) {
            Some((_, items)) => items.push_back(item),
            None => self.sessions.push_back((session, VecDeque::from([item]))),
        }
    }

    /// The first item in turn that is `ready`; its session then goes to the end of the line.
    pub fn pop(&mut self, ready: impl Fn(&T) -> bool) -> Option<T> {
        let (turn, place) = self
            .sessions
            .iter()
            .enumerate()
            .find_map(|(turn, (_, items))| Some((turn, items.iter().position(&ready)?)))?;
        let (session, mut items) = self.sessions.remove(turn)?;
        let item = items.remove(place);
        if !items.is_empty() {
            self.sessions.push_back((session, items));
        }
        self.len -= 1;
        item
    }

    /// Takes out every item that is `gone`.
    pub fn take_where(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for (_, items) in &mut self.sessions {
            for item in std::mem::take(items) {
                if gone(&item) {
                    taken.push(item);
                } else {
                    items.push_back(item);
                }
            }
        }
        self.sessions.retain(|(_, items)| !items.is_empty());
        self.len -= taken.len();
        taken
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.sessions.iter().flat_map(|(_, items)| items)
    }

    /// Every item in the order in which they would be served if all were ready.
    pub fn in_order(&mut self) -> Vec<&mut T> {
        let mut lines: Vec<_> = self
            .sessions
            .iter_mut()
            .map(|(_, items)| items.iter_mut())
            .collect();
        let mut order = Vec::with_capacity(self.len);
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
            queue.push(session, item);
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
        queue.push(1, 10);
        queue.push(1, 11);
        queue.push(2, 20);
        assert_eq!(queue.pop(|i| *i != 10), Some(11));
        assert_eq!(queue.pop(|i| *i != 10), Some(20));
        assert_eq!(queue.pop(|i| *i != 10), None);
        assert_eq!(queue.take_where(|i| *i == 10), [10]);
        assert!(queue.is_empty());
    }
}
