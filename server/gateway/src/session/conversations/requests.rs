//! Which request ids were used.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

/// Request ids remembered, so that one used again is noticed.
const MAX_REQUESTS: usize = 16_384;

/// The request ids that were used, each with what was asked, as hashes: the same in every process.
#[derive(Default)]
pub struct Requests {
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
        self.seen.contains_key(&hash(request))
    }

    pub fn enter(&mut self, ask: &wire::Ask) -> Seen {
        let id = hash(&ask.request);
        // The types hold nothing that JSON can't: an empty string never stands for two different questions in practice.
        let content = hash(&serde_json::to_string(ask).unwrap_or_default());
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
        let id = hash(request);
        self.seen.remove(&id);
        self.order.retain(|seen| *seen != id);
    }
}

impl Requests {
    /// What is kept of them, in order of use.
    pub fn kept(&self) -> Vec<(u64, u64)> {
        let seen = |id: &u64| Some((*id, *self.seen.get(id)?));
        self.order.iter().filter_map(seen).collect()
    }

    pub fn restore(kept: Vec<(u64, u64)>) -> Self {
        Requests {
            order: kept.iter().map(|(id, _)| *id).collect(),
            seen: kept.into_iter().collect(),
        }
    }
}

/// Whoever found two texts of one hash would confuse no session but their own.
fn hash(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(text)[..8]);
    u64::from_be_bytes(first)
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
