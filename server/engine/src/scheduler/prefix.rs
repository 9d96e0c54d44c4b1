//! The prefix cache: sequences that were computed before, so that nothing is computed twice.
//!
//! A sequence is a list of cache entries ([`Entry`]) with the pages that hold them. A new prompt takes over the longest
//! common prefix: whole pages are shared, the last, partly used one has to be copied. Where there is no page left, clients that
//! keep more than their share give way first, and of what they keep the least recently used.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use api::{Asker, ConversationId, PictureKey, SessionId};
use model::kernels::PAGE;
use model::prompt::Entry;

use super::pages::{Page, PagePool};

/// Every page of the cache is in use by what runs.
#[derive(Debug)]
pub struct CacheFull;

impl std::fmt::Display for CacheFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("every page of the KV cache is in use")
    }
}

/// Sequences are only compared within one: a session's conversations about a picture, or about none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    pub session: SessionId,
    pub picture: Option<PictureKey>,
}

/// A picture with what stands before it in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    pub picture: PictureKey,
    /// A hash of the entries up to the picture's end; none where nothing stands before it: no system turn, no earlier question.
    pub behind: Option<u64>,
}

impl Opening {
    /// The opening of a picture that nothing stands before.
    pub fn plain(picture: PictureKey) -> Self {
        Opening {
            picture,
            behind: None,
        }
    }

    /// The opening that has these entries, the last of which end its picture.
    pub fn behind(picture: PictureKey, entries: &[Entry]) -> Self {
        let mut hasher = DefaultHasher::new();
        entries.hash(&mut hasher);
        Opening {
            picture,
            behind: Some(hasher.finish()),
        }
    }
}

/// Entries with the pages that hold them.
#[derive(Debug, Default)]
pub struct Cached {
    pub entries: Vec<Entry>,
    pub pages: Vec<Page>,
}

/// A page whose contents have to be in another before anything is computed there. Both are held until then.
#[derive(Debug)]
pub struct Copy {
    pub from: Page,
    pub to: Page,
}

struct Stored {
    /// Who keeps it.
    client: u128,
    /// `None`: it is for whoever may see the picture.
    session: Option<SessionId>,
    /// Which opening this is, where it is one: it ends with its picture, for conversations that begin so.
    opening: Option<Opening>,
    /// Whose it is. Another conversation of the session may begin from it, and then shares its pages.
    conversation: Option<ConversationId>,
    picture: Option<PictureKey>,
    cached: Cached,
    last_used: u64,
}

impl Stored {
    fn serves(&self, namespace: Namespace) -> bool {
        self.picture == namespace.picture && self.session.is_none_or(|s| s == namespace.session)
    }

    fn is(&self, session: SessionId, opening: Opening) -> bool {
        self.opening == Some(opening) && self.session.is_none_or(|own| own == session)
    }
}

pub struct PrefixCache {
    pool: PagePool,
    stored: Vec<Stored>,
    clock: u64,
    /// With the cache off, only pictures are kept.
    conversations: bool,
}

impl PrefixCache {
    pub fn new(pages: usize, conversations: bool) -> Self {
        PrefixCache {
            pool: PagePool::new(pages),
            stored: Vec::new(),
            clock: 0,
            conversations,
        }
    }

    /// Pages in use, by running sequences or kept ones.
    pub fn used_pages(&self) -> usize {
        self.pool.used()
    }

    /// The pages of what is kept.
    #[cfg(test)]
    pub fn held(&self) -> std::collections::HashSet<u32> {
        let kept = self.stored.iter().flat_map(|stored| &stored.cached.pages);
        kept.map(Page::number).collect()
    }

    /// The longest known prefix of `entries`, the last of which is always left to compute, and what has to be copied for it.
    pub fn begin(&mut self, namespace: Namespace, entries: &[Entry]) -> (Cached, Option<Copy>) {
        let most = entries.len().saturating_sub(1);
        let common = |stored: &Stored| {
            let pairs = stored.cached.entries.iter().zip(&entries[..most]);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let best = (0..self.stored.len())
            .filter(|i| self.stored[*i].serves(namespace))
            .map(|i| (common(&self.stored[i]), i))
            .max_by_key(|(common, i)| (*common, std::cmp::Reverse(*i)));
        let Some((common, i)) = best.filter(|(common, _)| *common > 0) else {
            return Default::default();
        };
        self.clock += 1;
        self.stored[i].last_used = self.clock;
        let (whole, part) = (common / PAGE, common % PAGE);
        let mut pages = self.stored[i].cached.pages[..whole].to_vec();
        let (mut reused, mut copy) = (whole * PAGE, None);
        if part > 0 {
            // Held while a page is found, which may drop the sequence it belongs to.
            let from = self.stored[i].cached.pages[whole].clone();
            // With no page to be had, the part is computed again.
            if let Ok(to) = self.take() {
                pages.push(to.clone());
                reused = common;
                copy = Some(Copy { from, to });
            }
        }
        let entries = entries[..reused].to_vec();
        (Cached { entries, pages }, copy)
    }

    /// Pages for a sequence that comes back from the host's memory: the `first` ones are those of a kept sequence, the others are
    /// to be filled. None where no kept one begins so.
    ///
    /// # Errors
    /// There are not so many pages.
    pub fn resume(
        &mut self,
        namespace: Namespace,
        entries: &[Entry],
        first: usize,
    ) -> Result<Option<Cached>, CacheFull> {
        let shared = &entries[..first * PAGE];
        let begins_so = |stored: &&mut Stored| {
            stored.serves(namespace) && stored.cached.entries.starts_with(shared)
        };
        let mut pages = Vec::new();
        if first > 0 {
            self.clock += 1;
            let Some(stored) = self.stored.iter_mut().find(begins_so) else {
                return Ok(None);
            };
            stored.last_used = self.clock;
            pages.extend_from_slice(&stored.cached.pages[..first]);
        }
        self.grow(&mut pages, entries.len())?;
        let entries = entries.to_vec();
        Ok(Some(Cached { entries, pages }))
    }

    /// Makes room for `entries` in all.
    pub fn grow(&mut self, pages: &mut Vec<Page>, entries: usize) -> Result<(), CacheFull> {
        while pages.len() * PAGE < entries {
            pages.push(self.take()?);
        }
        Ok(())
    }

    /// Keeps a client's sequence that ran, for the next question of its conversation.
    pub fn keep(
        &mut self,
        client: u128,
        namespace: Namespace,
        conversation: ConversationId,
        cached: Cached,
    ) {
        if !self.conversations {
            return;
        }
        self.store(Stored {
            client,
            session: Some(namespace.session),
            opening: None,
            conversation: Some(conversation),
            picture: namespace.picture,
            cached,
            last_used: 0,
        });
    }

    /// Keeps what conversations begin with up to the end of their picture. Where nothing stands before the picture it is for
    /// whoever may see that, else for the session alone whose text it is.
    pub fn keep_opening(&mut self, asker: Asker, opening: Opening, cached: Cached) {
        self.store(Stored {
            client: asker.client,
            session: opening.behind.map(|_| asker.session),
            opening: Some(opening),
            conversation: None,
            picture: Some(opening.picture),
            cached,
            last_used: 0,
        });
    }

    fn store(&mut self, new: Stored) {
        self.clock += 1;
        // What the new sequence begins with needs no place of its own.
        self.drop_where(|s| {
            s.session == new.session
                && s.picture == new.picture
                && (s.opening.is_none() || s.opening == new.opening)
                && new.cached.entries.starts_with(&s.cached.entries)
        });
        self.stored.push(Stored {
            last_used: self.clock,
            ..new
        });
    }

    /// Whether an opening is there for a session.
    pub fn has_opening(&self, session: SessionId, opening: Opening) -> bool {
        self.stored.iter().any(|s| s.is(session, opening))
    }

    /// Whether any opening of a picture is there for a session.
    pub fn has_picture(&self, session: SessionId, picture: PictureKey) -> bool {
        let openings = self.stored.iter().filter(|s| s.opening.is_some());
        let mut own = openings.filter(|s| s.session.is_none_or(|own| own == session));
        own.any(|s| s.picture == Some(picture))
    }

    /// The opening was needed: it is not the next to go.
    pub fn touch_opening(&mut self, session: SessionId, opening: Opening) {
        self.clock += 1;
        for stored in self.stored.iter_mut().filter(|s| s.is(session, opening)) {
            stored.last_used = self.clock;
        }
    }

    pub fn forget_picture(&mut self, picture: PictureKey) {
        self.drop_where(|s| s.picture == Some(picture));
    }

    /// What the session's own conversations about the picture left.
    pub fn forget_talk(&mut self, session: SessionId, picture: PictureKey) {
        self.drop_where(|s| s.session == Some(session) && s.picture == Some(picture));
    }

    pub fn forget_conversation(&mut self, conversation: ConversationId) {
        self.drop_where(|s| s.conversation == Some(conversation));
    }

    pub fn forget_session(&mut self, session: SessionId) {
        self.drop_where(|s| {
            s.session == Some(session) || s.picture.is_some_and(|p| p.session == Some(session))
        });
    }

    fn drop_where(&mut self, gone: impl Fn(&Stored) -> bool) {
        self.stored.retain(|stored| !gone(stored));
    }

    /// A free page; where none is, sequences go until one is.
    fn take(&mut self) -> Result<Page, CacheFull> {
        loop {
            if let Some(page) = self.pool.take() {
                return Ok(page);
            }
            let next = self.next_to_go().ok_or(CacheFull)?;
            self.stored.swap_remove(next);
        }
    }

    /// The least recently used sequence of those whose clients keep more than an equal share, or else of all: what somebody
    /// keeps for long costs nobody else what is theirs.
    fn next_to_go(&self) -> Option<usize> {
        let mut kept: HashMap<u128, usize> = HashMap::new();
        for stored in &self.stored {
            *kept.entry(stored.client).or_default() += stored.cached.pages.len();
        }
        let share = kept.values().sum::<usize>() / kept.len().max(1);
        (0..self.stored.len()).min_by_key(|i| {
            let stored = &self.stored[*i];
            (kept[&stored.client] <= share, stored.last_used)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(id: u32) -> Entry {
        Entry::Token(id)
    }

    fn ids(ids: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        ids.into_iter().map(token).collect()
    }

    const SESSION: SessionId = SessionId::new(7);
    const CLIENT: u128 = 1;

    const TALK: Namespace = Namespace {
        session: SessionId::new(1),
        picture: None,
    };

    fn run(cache: &mut PrefixCache, namespace: Namespace, entries: &[Entry]) -> usize {
        let (mut cached, _) = cache.begin(namespace, entries);
        let reused = cached.entries.len();
        cache.grow(&mut cached.pages, entries.len()).unwrap();
        cached.entries = entries.to_vec();
        cache.keep(CLIENT, namespace, ConversationId::new(1), cached);
        reused
    }

    #[test]
    fn the_longest_common_prefix_is_reused_within_a_namespace_only() {
        let mut cache = PrefixCache::new(16, true);
        let first = ids(0..100);
        let longer = ids(0..150);
        let branch = ids((0..80).chain(500..600));
        assert_eq!(run(&mut cache, TALK, &first), 0);
        assert_eq!(run(&mut cache, TALK, &longer), 100);
        assert_eq!(run(&mut cache, TALK, &branch), 80);
        assert_eq!(run(&mut cache, TALK, &branch), 179); // the last entry is always computed
        let other = Namespace {
            session: SessionId::new(2),
            picture: None,
        };
        assert_eq!(run(&mut cache, other, &first), 0);
        cache.forget_session(SessionId::new(1));
        assert_eq!(run(&mut cache, TALK, &first), 0);
        cache.drop_where(|_| true);
        assert_eq!(cache.used_pages(), 0);
    }

    #[test]
    fn a_forgotten_conversation_leaves_what_others_share_with_it() {
        let mut cache = PrefixCache::new(16, true);
        let first = ids(0..2 * PAGE as u32 + 10);
        let branch = ids((0..PAGE as u32).chain(500..510));
        run(&mut cache, TALK, &first);
        let (mut other, _) = cache.begin(TALK, &branch);
        assert_eq!(other.entries.len(), PAGE);
        cache.grow(&mut other.pages, branch.len()).unwrap();
        other.entries = branch.clone();
        cache.keep(CLIENT, TALK, ConversationId::new(2), other);
        assert_eq!(cache.used_pages(), 4);
        cache.forget_conversation(ConversationId::new(1));
        assert_eq!(cache.used_pages(), 2);
        assert_eq!(run(&mut cache, TALK, &first), PAGE);
        cache.forget_conversation(ConversationId::new(1));
        cache.forget_conversation(ConversationId::new(2));
        assert_eq!(cache.used_pages(), 0);
    }

    #[test]
    fn a_pictures_beginning_serves_every_session_that_may_see_it() {
        let mut cache = PrefixCache::new(8, false);
        let key = PictureKey {
            session: Some(SESSION),
            sha256: [1; 32],
        };
        let rows: Vec<Entry> = (0..70).map(|row| Entry::Row { picture: 0, row }).collect();
        let mut pages = Vec::new();
        cache.grow(&mut pages, 70).unwrap();
        let asker = Asker {
            client: CLIENT,
            session: SESSION,
        };
        cache.keep_opening(
            asker,
            Opening::plain(key),
            Cached {
                entries: rows.clone(),
                pages,
            },
        );
        let namespace = Namespace {
            session: SESSION,
            picture: Some(key),
        };
        let entries = [rows, ids([1, 2])].concat();
        assert_eq!(run(&mut cache, namespace, &entries), 70);
        assert_eq!(cache.used_pages(), 2); // conversations are not kept here
        let elsewhere = Namespace {
            session: SESSION,
            picture: Some(PictureKey {
                session: Some(SessionId::new(8)),
                ..key
            }),
        };
        assert_eq!(run(&mut cache, elsewhere, &entries), 0);
        cache.forget_session(SESSION);
        assert!(!cache.has_picture(SESSION, key));
        assert_eq!(cache.used_pages(), 0);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_running_sequences_stay() {
        let mut cache = PrefixCache::new(4, true);
        let talks: Vec<Vec<Entry>> = (0..3).map(|t| ids(t * 1000..t * 1000 + 60)).collect();
        let (mut running, _) = cache.begin(TALK, &talks[0]);
        cache.grow(&mut running.pages, 60).unwrap();
        run(&mut cache, TALK, &talks[1]);
        run(&mut cache, TALK, &talks[2]);
        assert_eq!(run(&mut cache, TALK, &talks[1]), 59); // used: now talks[2] is the oldest
        assert_eq!(cache.used_pages(), 3); // its new copy took the old one's place
        let mut more = Vec::new();
        cache.grow(&mut more, PAGE + 1).unwrap();
        // No page is left for a copy of the part.
        assert_eq!(run(&mut cache, TALK, &talks[1]), 0);
        cache.drop_where(|_| true);
        cache.grow(&mut more, 3 * PAGE).unwrap();
        assert!(cache.grow(&mut more, 4 * PAGE).is_err());
    }

    #[test]
    fn who_keeps_more_than_a_share_gives_way_first() {
        let mut cache = PrefixCache::new(8, true);
        let keep = |cache: &mut PrefixCache, client: u128, talk: u128| {
            let mut cached = Cached::default();
            cache.grow(&mut cached.pages, 2 * PAGE).unwrap();
            let first = talk as u32 * 1000;
            cached.entries = ids(first..first + 2 * PAGE as u32);
            let namespace = Namespace {
                session: SessionId::new(talk),
                picture: None,
            };
            cache.keep(client, namespace, ConversationId::new(talk), cached);
        };
        let kept = |cache: &PrefixCache| {
            let talks = cache.stored.iter().filter_map(|s| s.conversation);
            let mut talks: Vec<_> = talks.collect();
            talks.sort();
            talks
        };
        let talks = |talks: &[u128]| -> Vec<_> {
            talks
                .iter()
                .map(|talk| ConversationId::new(*talk))
                .collect()
        };
        // The first client's one is the oldest, and the second has three.
        for (client, talk) in [(1, 1), (2, 2), (2, 3), (2, 4)] {
            keep(&mut cache, client, talk);
        }
        keep(&mut cache, 2, 5);
        assert_eq!(kept(&cache), talks(&[1, 3, 4, 5]));
        keep(&mut cache, 1, 6);
        assert_eq!(kept(&cache), talks(&[1, 4, 5, 6]));
        // Both have as much: by use alone.
        keep(&mut cache, 2, 7);
        assert_eq!(kept(&cache), talks(&[4, 5, 6, 7]));
    }
}
