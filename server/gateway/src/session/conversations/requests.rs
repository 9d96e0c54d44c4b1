//! Which request ids were used.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

/// Request ids remembered, so that one used again is noticed.
const MAX_REQUESTS: usize = 16_384;

/// The request ids that were used, each with what was asked, as hashes.
#[derive(Default)]
pub struct Requests {
    hasher: RandomState,
    seen: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

/// Whether a request id is new.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    New,
    /// The same question under the same id: a repetition after a resume.
    Same,
    Different,
}

impl Requests {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        17 * self.seen.capacity() + 8 * self.order.capacity()
    }

    pub fn contains(&self, request: &str) -> bool {
        self.seen.contains_key(&self.hasher.hash_one(request))
    }

    pub fn enter(&mut self, ask: &wire::Ask) -> Seen {
        let id = self.hasher.hash_one(&ask.request);
        // The types hold nothing that JSON can't: an empty string never stands for two different questions in practice.
        let content = self
            .hasher
            .hash_one(serde_json::to_string(ask).unwrap_or_default());
        match self.seen.get(&id) {
            Some(before) if *before == content => Seen::Same,
            Some(_) => Seen::Different,
            None => {
                if self.order.len() >= MAX_REQUESTS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.seen.remove(&oldest);
                }
                self.seen.insert(id, content);
                self.order.push_back(id);
                Seen::New
            }
        }
    }

    /// The request was refused, to be tried again later: its id may be used for that.
    pub fn release(&mut self, request: &str) {
        let id = self.hasher.hash_one(request);
        self.seen.remove(&id);
        self.order.retain(|seen| *seen != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_used_once() {
        let mut requests = Requests::default();
        let ask = |request: &str, text: &str| wire::Ask {
            request: request.into(),
            text: text.into(),
            ..wire::Ask::default()
        };
        assert_eq!(requests.enter(&ask("a", "?")), Seen::New);
        assert_eq!(requests.enter(&ask("a", "?")), Seen::Same);
        assert_eq!(requests.enter(&ask("a", "!")), Seen::Different);
        assert_eq!(requests.enter(&ask("b", "?")), Seen::New);
        for i in 0..2 * MAX_REQUESTS {
            requests.enter(&ask(&format!("r{i}"), "?"));
        }
        assert_eq!(requests.seen.len(), MAX_REQUESTS);
        assert_eq!(requests.order.len(), MAX_REQUESTS);
    }
}
