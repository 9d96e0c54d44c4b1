//! Sessions that requests have left, for later ones of the same namespace to go on with.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use wire::Resume;

use crate::intake::KeyId;

/// Sessions kept of one namespace; the one left longest ago goes.
const MAX_OF_ONE: usize = 256;
/// Conversations kept of one session; the one used longest ago goes.
const MAX_CONVERSATIONS: usize = 32;

/// Whose sessions a request may go on with. Within one, timing tells what was asked before; between two it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// [`Client::number`](crate::intake::Client::number).
    pub client: u128,
    /// What the client calls its own users apart by, as a hash; 0 of none.
    pub user: u64,
}

/// A session that a request works with, or has left.
#[derive(Debug, Default)]
pub struct Held {
    pub owner: Option<KeyId>,
    /// The SHA-256 of the picture that all its conversations are about.
    pub picture: Option<[u8; 32]>,
    /// The one used last is last.
    pub conversations: Vec<Conversation>,
    /// Uploads and questions so far, which number the next ones.
    pub uploads: u32,
    pub questions: u64,
}

/// A conversation of a session.
#[derive(Debug)]
pub struct Conversation {
    pub id: String,
    /// [`Fingerprints`](super::dialogue::Fingerprints) of its turns.
    pub turns: Vec<u64>,
}

impl Held {
    /// Takes out the conversation that has most turns in common with these from their beginning on, if any has one.
    pub fn take_conversation(&mut self, turns: &[u64]) -> Option<Conversation> {
        let found = self
            .conversations
            .iter()
            .map(|conversation| common(&conversation.turns, turns))
            .enumerate()
            .filter(|(_, common)| *common > 0)
            .max_by_key(|(_, common)| *common);
        found.map(|(index, _)| self.conversations.remove(index))
    }

    /// Puts one in. Returns that which has to go for it, if any.
    pub fn put_conversation(&mut self, conversation: Conversation) -> Option<Conversation> {
        self.conversations.push(conversation);
        let over = self.conversations.len() > MAX_CONVERSATIONS;
        over.then(|| self.conversations.remove(0))
    }

    fn common(&self, turns: &[u64]) -> usize {
        let conversations = self.conversations.iter();
        let each = conversations.map(|conversation| common(&conversation.turns, turns));
        each.max().unwrap_or(0)
    }
}

/// How many turns two conversations begin with alike.
fn common(one: &[u64], other: &[u64]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

struct Parked {
    resume: Resume,
    held: Held,
    since: Instant,
}

/// All sessions that requests have left.
pub struct Pool {
    patience: Duration,
    parked: HashMap<Namespace, Vec<Parked>>,
    swept: Instant,
}

impl Pool {
    /// `patience` is how long a session waits to be used again.
    pub fn new(patience: Duration, now: Instant) -> Self {
        Pool {
            patience,
            parked: HashMap::new(),
            swept: now,
        }
    }

    /// Leaves a session, which goes on with `resume`.
    pub fn park(&mut self, namespace: Namespace, resume: Resume, held: Held, now: Instant) {
        self.sweep(now);
        let parked = self.parked.entry(namespace).or_default();
        if parked.len() >= MAX_OF_ONE {
            parked.remove(0);
        }
        parked.push(Parked {
            resume,
            held,
            since: now,
        });
    }

    /// The session to go on with: of those about this picture, or about none, the one whose conversations have most turns in
    /// common with these, and among equals the one left last.
    pub fn take(
        &mut self,
        namespace: Namespace,
        owner: Option<KeyId>,
        picture: Option<[u8; 32]>,
        turns: &[u64],
    ) -> Option<(Resume, Held)> {
        let parked = self.parked.get_mut(&namespace)?;
        let fits = |parked: &Parked| parked.held.owner == owner && parked.held.picture == picture;
        let best = (0..parked.len())
            .filter(|&index| fits(&parked[index]))
            .max_by_key(|&index| (parked[index].held.common(turns), index))?;
        let found = parked.remove(best);
        if parked.is_empty() {
            self.parked.remove(&namespace);
        }
        Some((found.resume, found.held))
    }

    /// Whether a session about this picture waits.
    pub fn holds(&self, namespace: Namespace, picture: [u8; 32]) -> bool {
        let parked = self.parked.get(&namespace);
        let mut parked = parked.into_iter().flatten();
        parked.any(|parked| parked.held.picture == Some(picture))
    }

    /// Forgets now and then what has waited too long: the sessions themselves are over by then.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < self.patience / 4 {
            return;
        }
        self.swept = now;
        let patience = self.patience;
        self.parked.retain(|_, parked| {
            parked.retain(|parked| now.saturating_duration_since(parked.since) < patience);
            !parked.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: Namespace = Namespace { client: 1, user: 0 };
    const PATIENCE: Duration = Duration::from_secs(300);

    fn held(picture: Option<u8>, conversations: &[&[u64]]) -> Held {
        let each = conversations.iter().enumerate();
        Held {
            picture: picture.map(|byte| [byte; 32]),
            conversations: each
                .map(|(index, turns)| Conversation {
                    id: index.to_string(),
                    turns: turns.to_vec(),
                })
                .collect(),
            ..Held::default()
        }
    }

    fn resume(session: &str) -> Resume {
        Resume {
            session: session.into(),
            last_event: 0,
        }
    }

    fn taken(pool: &mut Pool, picture: Option<u8>, turns: &[u64]) -> Option<String> {
        let picture = picture.map(|byte| [byte; 32]);
        let found = pool.take(NAMESPACE, None, picture, turns);
        found.map(|(resume, _)| resume.session)
    }

    #[test]
    fn the_session_that_knows_most_of_the_conversation_is_taken() {
        let now = Instant::now();
        let mut pool = Pool::new(PATIENCE, now);
        for (name, picture, turns) in [
            ("other picture", Some(2), &[1, 2, 3][..]),
            ("begun", Some(1), &[1][..]),
            ("further", Some(1), &[1, 2][..]),
            ("elsewhere", Some(1), &[9, 2, 3][..]),
            ("no picture", None, &[1, 2, 3][..]),
        ] {
            pool.park(NAMESPACE, resume(name), held(picture, &[turns]), now);
        }
        assert_eq!(taken(&mut pool, Some(1), &[1, 2, 3]).unwrap(), "further");
        assert_eq!(taken(&mut pool, Some(1), &[1, 2, 3]).unwrap(), "begun");
        // Nothing in common but the picture.
        assert_eq!(taken(&mut pool, Some(1), &[1, 2, 3]).unwrap(), "elsewhere");
        assert_eq!(taken(&mut pool, Some(1), &[1, 2, 3]), None);
        assert_eq!(taken(&mut pool, None, &[]).unwrap(), "no picture");
    }

    #[test]
    fn nobody_gets_what_another_left() {
        let now = Instant::now();
        let mut pool = Pool::new(PATIENCE, now);
        pool.park(NAMESPACE, resume("one"), held(None, &[]), now);
        let user = Namespace {
            user: 7,
            ..NAMESPACE
        };
        assert!(pool.take(user, None, None, &[]).is_none());
        let other_key = Some(KeyId::of("other"));
        assert!(pool.take(NAMESPACE, other_key, None, &[]).is_none());
        assert!(pool.take(NAMESPACE, None, None, &[]).is_some());
    }

    #[test]
    fn a_conversation_is_gone_on_with_and_others_stay() {
        let mut held = held(None, &[&[1, 2], &[1, 2, 3], &[8]]);
        assert_eq!(held.take_conversation(&[1, 2, 3, 4]).unwrap().id, "1");
        // Its third question was edited: what came before is in common.
        assert_eq!(held.take_conversation(&[1, 2, 9]).unwrap().id, "0");
        assert!(held.take_conversation(&[]).is_none());
        let gone = (0..MAX_CONVERSATIONS).filter_map(|number| {
            held.put_conversation(Conversation {
                id: format!("new {number}"),
                turns: vec![],
            })
        });
        let gone: Vec<_> = gone.map(|conversation| conversation.id).collect();
        assert_eq!(gone, ["2"]);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_time() {
        let now = Instant::now();
        let mut pool = Pool::new(PATIENCE, now);
        for number in 0..=MAX_OF_ONE {
            let name = number.to_string();
            pool.park(NAMESPACE, resume(&name), held(None, &[]), now);
        }
        assert_eq!(pool.parked[&NAMESPACE].len(), MAX_OF_ONE);
        assert_eq!(pool.parked[&NAMESPACE][0].resume.session, "1");
        let other = Namespace { client: 2, user: 0 };
        pool.park(other, resume("late"), held(None, &[]), now + PATIENCE);
        assert_eq!(pool.parked.len(), 1);
    }
}
