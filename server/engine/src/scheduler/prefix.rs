//! The prefix cache: sequences that were computed before, so that nothing is computed twice.
//!
//! A sequence is a list of cache entries ([`Entry`]) with the pages that hold them. A new prompt takes over the longest
//! common prefix: whole pages are shared, the last, partly used one has to be copied. Where there is no page left, clients that
//! keep more than their share give way first, and of what they keep the least recently used.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

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

impl Namespace {
    /// Where what serves it is kept.
    fn places(self) -> [Place; 2] {
        [(self.picture, None), (self.picture, Some(self.session))]
    }
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

    /// Where it is kept for a session: with nothing before the picture it is for whoever may see that.
    fn place(self, session: SessionId) -> Place {
        (Some(self.picture), self.behind.map(|_| session))
    }
}

/// Entries with the pages that hold them.
#[derive(Debug, Default)]
pub struct Cached {
    pub entries: Vec<Entry>,
    pub pages: Vec<Page>,
}

/// How many of a sequence's entries have been computed, and the pages that hold them.
#[derive(Debug, Default)]
pub struct Begun {
    pub entries: usize,
    pub pages: Vec<Page>,
}

/// A page whose contents have to be in another before anything is computed there. Both are held until then.
#[derive(Debug)]
pub struct Copy {
    pub from: Page,
    pub to: Page,
}

/// Where a sequence is kept: by the picture that it is about, and the session that it is for, unless it is for whoever may see the
/// picture.
type Place = (Option<PictureKey>, Option<SessionId>);

struct Stored {
    /// Who keeps it.
    client: u128,
    /// Which opening this is, where it is one: it ends with its picture, for conversations that begin so.
    opening: Option<Opening>,
    /// Whose it is. Another conversation of the session may begin from it, and then shares its pages.
    conversation: Option<ConversationId>,
    sequence: Sequence,
    pages: Vec<Page>,
    /// When it was used last, by the count of [`Uses`]; no two have the same.
    last_used: u64,
}

/// The entries of what is kept. What it begins with is most of it, and the same for many: every picture of one shape has the same rows.
struct Sequence {
    beginning: Arc<[Entry]>,
    rest: Vec<Entry>,
}

impl Sequence {
    /// How many entries it has in common with others, from the first on.
    fn common(&self, entries: &[Entry]) -> usize {
        self.common_behind(common(&self.beginning, entries), entries)
    }

    /// The same, where its beginning has so many in common with them.
    fn common_behind(&self, beginning: usize, entries: &[Entry]) -> usize {
        match beginning == self.beginning.len() {
            true => beginning + common(&self.rest, &entries[beginning..]),
            false => beginning,
        }
    }

    /// Whether these entries, which begin with `beginning`, begin with it. Where that is its own, only the rest is looked at.
    fn begins_behind(&self, beginning: &Arc<[Entry]>, entries: &[Entry]) -> bool {
        match Arc::ptr_eq(&self.beginning, beginning) {
            true => entries[beginning.len()..].starts_with(&self.rest),
            false => self.begins(entries),
        }
    }

    /// Whether these entries begin with it.
    fn begins(&self, entries: &[Entry]) -> bool {
        self.common(entries) == self.beginning.len() + self.rest.len()
    }
}

/// How many entries two sequences have in common, from the first on.
fn common(own: &[Entry], entries: &[Entry]) -> usize {
    /// Compared at once: without a branch for each the compiler takes many in one instruction.
    const MANY: usize = 32;
    let same = |(a, b): &(&[Entry; MANY], &[Entry; MANY])| {
        a.iter()
            .zip(b.iter())
            .fold(true, |same, (a, b)| same & (a == b))
    };
    let chunks = own.as_chunks().0.iter().zip(entries.as_chunks().0);
    let whole = MANY * chunks.take_while(same).count();
    let pairs = own[whole..].iter().zip(&entries[whole..]);
    whole + pairs.take_while(|(a, b)| a == b).count()
}

/// Who keeps how much, and in which order it was used.
#[derive(Default)]
struct Uses {
    clock: u64,
    order: BTreeMap<u64, (u128, Place)>,
    /// Of each client, sequences and their pages.
    clients: HashMap<u128, (usize, usize)>,
    /// Of all clients together.
    pages: usize,
}

impl Uses {
    fn add(&mut self, place: Place, stored: &mut Stored) {
        let pages = stored.pages.len();
        let (sequences, kept) = self.clients.entry(stored.client).or_default();
        *sequences += 1;
        *kept += pages;
        self.pages += pages;
        self.touch(place, stored);
    }

    fn touch(&mut self, place: Place, stored: &mut Stored) {
        self.order.remove(&stored.last_used);
        self.clock += 1;
        stored.last_used = self.clock;
        self.order.insert(self.clock, (stored.client, place));
    }

    fn remove(&mut self, stored: &Stored) {
        let pages = stored.pages.len();
        self.order.remove(&stored.last_used);
        self.pages -= pages;
        if let Some((sequences, kept)) = self.clients.get_mut(&stored.client) {
            *sequences -= 1;
            *kept -= pages;
            if *sequences == 0 {
                self.clients.remove(&stored.client);
            }
        }
    }

    /// The least recently used sequence of those whose clients keep more than an equal share, or else of all: what somebody
    /// keeps for long costs nobody else what is theirs.
    fn next_to_go(&self) -> Option<(Place, u64)> {
        let share = self.pages / self.clients.len().max(1);
        let has_more = |client: &u128| self.clients.get(client).is_some_and(|it| it.1 > share);
        let next = self.order.iter().find(|(_, (client, _))| has_more(client));
        let (last_used, (_, place)) = next.or_else(|| self.order.first_key_value())?;
        Some((*place, *last_used))
    }
}

pub struct PrefixCache {
    pool: PagePool,
    stored: BTreeMap<Place, Vec<Stored>>,
    uses: Uses,
    /// What the opening kept last begins with, which is likely that of the next.
    beginning: Arc<[Entry]>,
    /// With the cache off, only pictures are kept.
    conversations: bool,
    /// How often an opening came or went.
    openings: u64,
}

impl PrefixCache {
    pub fn new(pages: usize, conversations: bool) -> Self {
        PrefixCache {
            pool: PagePool::new(pages),
            stored: BTreeMap::new(),
            uses: Uses::default(),
            beginning: Arc::default(),
            conversations,
            openings: 0,
        }
    }

    /// Nothing is kept any more, and no page is in use: what still holds one holds it of a pool of old.
    pub fn clear(&mut self, pages: usize) {
        *self = PrefixCache {
            openings: self.openings + 1,
            ..PrefixCache::new(pages, self.conversations)
        };
    }

    /// How often an opening came or went: as long as this is the same, so are they.
    pub fn openings(&self) -> u64 {
        self.openings
    }

    /// Pages in use, by running sequences or kept ones.
    pub fn used_pages(&self) -> usize {
        self.pool.used()
    }

    /// The pages of what is kept; and that the count of uses is of just that.
    #[cfg(test)]
    pub fn held(&self) -> std::collections::HashSet<u32> {
        let (mut order, mut clients) = (BTreeMap::new(), HashMap::<u128, (usize, usize)>::new());
        for (place, stored) in &self.stored {
            assert!(!stored.is_empty());
            for it in stored {
                order.insert(it.last_used, (it.client, *place));
                let (sequences, pages) = clients.entry(it.client).or_default();
                (*sequences, *pages) = (*sequences + 1, *pages + it.pages.len());
            }
        }
        assert_eq!(self.uses.order, order);
        assert_eq!(self.uses.clients, clients);
        assert_eq!(
            self.uses.pages,
            clients.values().map(|it| it.1).sum::<usize>()
        );
        let kept = self.stored.values().flatten();
        let pages = kept.flat_map(|stored| &stored.pages);
        pages.map(Page::number).collect()
    }

    /// The longest known prefix of `entries`, the last of which is always left to compute, and what has to be copied for it.
    pub fn begin(&mut self, namespace: Namespace, entries: &[Entry]) -> (Begun, Option<Copy>) {
        let most = entries.len().saturating_sub(1);
        let PrefixCache { stored, uses, .. } = self;
        let mut best: Option<(usize, Place, usize)> = None;
        // A conversation has its beginning of its picture: that is compared once.
        let mut compared: Option<(&Arc<[Entry]>, usize)> = None;
        for place in namespace.places() {
            for (i, stored) in stored.get(&place).into_iter().flatten().enumerate() {
                let own = &stored.sequence.beginning;
                let known = compared.filter(|(other, _)| Arc::ptr_eq(other, own));
                let beginning = known.map_or_else(|| common(own, &entries[..most]), |it| it.1);
                compared = Some((own, beginning));
                let common = stored.sequence.common_behind(beginning, &entries[..most]);
                if best.is_none_or(|(most, ..)| common > most) {
                    best = Some((common, place, i));
                }
            }
        }
        let Some((common, place, i)) = best.filter(|(common, ..)| *common > 0) else {
            return Default::default();
        };
        let Some(stored) = stored.get_mut(&place).and_then(|it| it.get_mut(i)) else {
            return Default::default();
        };
        uses.touch(place, stored);
        let (whole, part) = (common / PAGE, common % PAGE);
        let mut pages = stored.pages[..whole].to_vec();
        let (mut reused, mut copy) = (whole * PAGE, None);
        if part > 0 {
            // Held while a page is found, which may drop the sequence it belongs to.
            let from = stored.pages[whole].clone();
            // With no page to be had, the part is computed again.
            if let Ok(to) = self.take() {
                pages.push(to.clone());
                reused = common;
                copy = Some(Copy { from, to });
            }
        }
        let entries = reused;
        (Begun { entries, pages }, copy)
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
    ) -> Result<Option<Begun>, CacheFull> {
        let shared = &entries[..first * PAGE];
        let mut pages = Vec::new();
        if first > 0 {
            let begins_so = |stored: &Stored| stored.sequence.common(shared) == shared.len();
            let PrefixCache { stored, uses, .. } = self;
            let found = namespace.places().into_iter().find_map(|place| {
                let i = stored.get(&place)?.iter().position(begins_so)?;
                Some((place, i))
            });
            let Some((place, i)) = found else {
                return Ok(None);
            };
            if let Some(stored) = stored.get_mut(&place).and_then(|it| it.get_mut(i)) {
                uses.touch(place, stored);
                pages.extend_from_slice(&stored.pages[..first]);
            }
        }
        self.grow(&mut pages, entries.len())?;
        let entries = entries.len();
        Ok(Some(Begun { entries, pages }))
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
        entries: &[Entry],
        pages: Vec<Page>,
    ) {
        if !self.conversations {
            return;
        }
        let place = (namespace.picture, Some(namespace.session));
        let beginning = self.beginning_of(namespace, entries);
        let rest = entries[beginning.len()..].to_vec();
        let stored = Stored {
            client,
            opening: None,
            conversation: Some(conversation),
            sequence: Sequence { beginning, rest },
            pages,
            last_used: 0,
        };
        self.store(place, stored, entries);
    }

    /// What an opening keeps of these entries, so that it need not be kept twice; nothing where there is none.
    fn beginning_of(&self, namespace: Namespace, entries: &[Entry]) -> Arc<[Entry]> {
        let there = namespace.places().map(|place| self.stored.get(&place));
        let openings = there.into_iter().flatten().flatten();
        let own = openings
            .filter(|it| it.opening.is_some())
            .find(|it| it.sequence.begins(entries));
        own.map_or_else(Arc::default, |it| it.sequence.beginning.clone())
    }

    /// Keeps what conversations begin with up to the end of their picture. Where nothing stands before the picture it is for
    /// whoever may see that, else for the session alone whose text it is.
    pub fn keep_opening(&mut self, asker: Asker, opening: Opening, cached: Cached) {
        if *self.beginning != cached.entries[..] {
            self.beginning = Arc::from(&cached.entries[..]);
        }
        let beginning = self.beginning.clone();
        let stored = Stored {
            client: asker.client,
            opening: Some(opening),
            conversation: None,
            sequence: Sequence {
                beginning,
                rest: Vec::new(),
            },
            pages: cached.pages,
            last_used: 0,
        };
        self.store(opening.place(asker.session), stored, &cached.entries);
        self.openings += 1;
    }

    fn store(&mut self, place: Place, mut new: Stored, entries: &[Entry]) {
        // What the new sequence begins with needs no place of its own.
        self.drop_at(place, |s| {
            (s.opening.is_none() || s.opening == new.opening)
                && s.sequence.begins_behind(&new.sequence.beginning, entries)
        });
        self.uses.add(place, &mut new);
        self.stored.entry(place).or_default().push(new);
    }

    /// Whether an opening is there for a session.
    pub fn has_opening(&self, session: SessionId, opening: Opening) -> bool {
        let there = self.stored.get(&opening.place(session));
        there.is_some_and(|there| there.iter().any(|it| it.opening == Some(opening)))
    }

    /// Whether any opening of a picture is there for a session.
    pub fn has_picture(&self, session: SessionId, picture: PictureKey) -> bool {
        let namespace = Namespace {
            session,
            picture: Some(picture),
        };
        let mut places = namespace.places().into_iter();
        places.any(|place| {
            let there = self.stored.get(&place);
            there.is_some_and(|there| there.iter().any(|it| it.opening.is_some()))
        })
    }

    /// The opening was needed: it is not the next to go.
    pub fn touch_opening(&mut self, session: SessionId, opening: Opening) {
        let place = opening.place(session);
        let there = self.stored.get_mut(&place).into_iter().flatten();
        for stored in there.filter(|it| it.opening == Some(opening)) {
            self.uses.touch(place, stored);
        }
    }

    pub fn forget_picture(&mut self, picture: PictureKey) {
        let first = (Some(picture), None);
        let of_it = self.stored.range(first..).map(|(place, _)| *place);
        let places: Vec<Place> = of_it.take_while(|(of, _)| *of == first.0).collect();
        for place in places {
            self.drop_at(place, |_| true);
        }
    }

    /// What the session's own conversations about the picture left.
    pub fn forget_talk(&mut self, session: SessionId, picture: PictureKey) {
        self.drop_at((Some(picture), Some(session)), |_| true);
    }

    pub fn forget_conversation(&mut self, conversation: ConversationId) {
        self.drop_where(|_, stored| stored.conversation == Some(conversation));
    }

    pub fn forget_session(&mut self, session: SessionId) {
        self.drop_where(|(picture, own), _| {
            *own == Some(session) || picture.is_some_and(|it| it.session == Some(session))
        });
    }

    fn drop_at(&mut self, place: Place, gone: impl Fn(&Stored) -> bool) {
        let Some(there) = self.stored.get_mut(&place) else {
            return;
        };
        for stored in there.extract_if(.., |it| gone(it)) {
            self.uses.remove(&stored);
            self.openings += u64::from(stored.opening.is_some());
        }
        if there.is_empty() {
            self.stored.remove(&place);
        }
    }

    fn drop_where(&mut self, gone: impl Fn(&Place, &Stored) -> bool) {
        let (uses, openings) = (&mut self.uses, &mut self.openings);
        self.stored.retain(|place, there| {
            for stored in there.extract_if(.., |it| gone(place, it)) {
                uses.remove(&stored);
                *openings += u64::from(stored.opening.is_some());
            }
            !there.is_empty()
        });
    }

    /// A free page; where none is, sequences go until one is.
    fn take(&mut self) -> Result<Page, CacheFull> {
        loop {
            if let Some(page) = self.pool.take() {
                return Ok(page);
            }
            let (place, last_used) = self.uses.next_to_go().ok_or(CacheFull)?;
            self.drop_at(place, |stored| stored.last_used == last_used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(id: u32) -> Entry {
        Entry::token(id)
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
        let (mut begun, _) = cache.begin(namespace, entries);
        cache.grow(&mut begun.pages, entries.len()).unwrap();
        let conversation = ConversationId::new(1);
        cache.keep(CLIENT, namespace, conversation, entries, begun.pages);
        begun.entries
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
        cache.drop_where(|_, _| true);
        assert_eq!(cache.used_pages(), 0);
    }

    #[test]
    fn a_forgotten_conversation_leaves_what_others_share_with_it() {
        let mut cache = PrefixCache::new(16, true);
        let first = ids(0..2 * PAGE as u32 + 10);
        let branch = ids((0..PAGE as u32).chain(500..510));
        run(&mut cache, TALK, &first);
        let (mut other, _) = cache.begin(TALK, &branch);
        assert_eq!(other.entries, PAGE);
        cache.grow(&mut other.pages, branch.len()).unwrap();
        cache.keep(CLIENT, TALK, ConversationId::new(2), &branch, other.pages);
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
        let rows: Vec<Entry> = (0..70).map(|row| Entry::row(0, row)).collect();
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
        cache.drop_where(|_, _| true);
        cache.grow(&mut more, 3 * PAGE).unwrap();
        assert!(cache.grow(&mut more, 4 * PAGE).is_err());
    }

    #[test]
    fn who_keeps_more_than_a_share_gives_way_first() {
        let mut cache = PrefixCache::new(8, true);
        let keep = |cache: &mut PrefixCache, client: u128, talk: u128| {
            let mut pages = Vec::new();
            cache.grow(&mut pages, 2 * PAGE).unwrap();
            let first = talk as u32 * 1000;
            let entries = ids(first..first + 2 * PAGE as u32);
            let namespace = Namespace {
                session: SessionId::new(talk),
                picture: None,
            };
            cache.keep(
                client,
                namespace,
                ConversationId::new(talk),
                &entries,
                pages,
            );
        };
        let kept = |cache: &PrefixCache| {
            let talks = cache
                .stored
                .values()
                .flatten()
                .filter_map(|s| s.conversation);
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
