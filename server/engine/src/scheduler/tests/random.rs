//! Random histories: whatever people, devices and the time do, every question ends exactly once, no page is held by nobody, and
//! nothing waits for ever.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use model::prompt::Entry;

use super::{Desk, OPENING, Question, ROWS, key, limits, opening, question};
use crate::failures::{failed, panicked};
use crate::scheduler::job::Running;
use crate::scheduler::*;

/// Sessions, of which the first two are one client's.
const SESSIONS: u128 = 4;
const PICTURES: u8 = 3;

/// What happens, or a turn, and how it goes.
#[derive(Clone, Debug)]
enum Event {
    Ask(Asked),
    Again(usize),
    Read(usize),
    Show { session: u128, picture: u8 },
    Forget { session: u128, picture: u8 },
    ForgetConversation(u128),
    EndSession(u128),
    Cancel(usize),
    Credit(usize, u32),
    Presence(u128, bool),
    GiveWay,
    Passes(u64),
    Turn(Outcome),
    Encode(Outcome),
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    session: u128,
    tokens: u32,
    picture: Option<u8>,
    /// Tokens before it.
    behind: u32,
    credit: u32,
    seconds: u64,
    is_read: bool,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Good,
    /// Of the piece with this number, the work fails.
    Fails(usize),
    PanicCount,
    /// Of the piece with this number, the answer ends.
    Ends(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let session = || 1..=SESSIONS;
    let picture = || 1..=PICTURES;
    let asked = (
        session(),
        1..200_u32,
        prop::option::of(picture()),
        0..5_u32,
        5..200_u64,
        any::<bool>(),
    );
    let asked = asked.prop_map(|(session, tokens, picture, credit, seconds, is_read)| {
        let picture = picture.filter(|_| tokens % 2 == 0);
        Event::Ask(Asked {
            session,
            tokens,
            picture,
            behind: tokens / 2 % 3,
            credit,
            seconds,
            is_read,
        })
    });
    let outcome = || {
        prop_oneof![
            6 => Just(Outcome::Good),
            1 => (0..3_usize).prop_map(Outcome::Fails),
            1 => Just(Outcome::PanicCount),
            2 => (0..3_usize).prop_map(Outcome::Ends),
        ]
    };
    let event = prop_oneof![
        8 => asked,
        1 => (0..20_usize).prop_map(Event::Again),
        4 => (0..20_usize).prop_map(Event::Read),
        3 => (session(), picture()).prop_map(|(session, picture)| Event::Show { session, picture }),
        1 => (session(), picture()).prop_map(|(session, picture)| Event::Forget { session, picture }),
        1 => session().prop_map(Event::ForgetConversation),
        1 => session().prop_map(Event::EndSession),
        2 => (0..20_usize).prop_map(Event::Cancel),
        3 => ((0..20_usize), (1..4_u32)).prop_map(|(n, pieces)| Event::Credit(n, pieces)),
        2 => (session(), any::<bool>()).prop_map(|(session, here)| Event::Presence(session, here)),
        1 => Just(Event::GiveWay),
        2 => (1..30_u64).prop_map(Event::Passes),
        20 => outcome().prop_map(Event::Turn),
        6 => outcome().prop_map(Event::Encode),
    ];
    prop::collection::vec(event, 1..150)
}

/// A history: what is open, and how what was has ended.
struct History {
    desk: Desk,
    asked: Vec<(RequestId, Question)>,
    /// How often each has ended, `replaced` left out.
    ends: BTreeMap<RequestId, usize>,
    /// Where the picture that is being looked at will be.
    looking: Option<Cached>,
    /// What lies in pages of the cache, and of the host's memory.
    cache: HashMap<u32, Content>,
    host: HashMap<u32, Content>,
}

/// The entries of a page.
type Content = [Option<Entry>; PAGE];

impl History {
    fn new(limits: Limits) -> Self {
        History {
            desk: Desk::new(limits),
            asked: Vec::new(),
            ends: BTreeMap::new(),
            looking: None,
            cache: HashMap::new(),
            host: HashMap::new(),
        }
    }

    fn nth(&self, n: usize) -> Option<RequestId> {
        let n = n % self.asked.len().max(1);
        self.asked.get(n).map(|(request, _)| *request)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Ask(asked) => {
                let question = Question {
                    session: asked.session,
                    client: (asked.session <= 2).then_some(1),
                    tokens: asked.tokens,
                    picture: asked.picture.map(key),
                    behind: asked.behind,
                    said: usize::from(asked.session % 4 == 0) * 2,
                    background: asked.picture.is_none() && asked.session % 3 == 0,
                    credit: asked.credit,
                    seconds: asked.seconds,
                };
                let request = match asked.is_read {
                    true => self.desk.ask(question),
                    false => self.desk.ask_unread(question),
                };
                self.asked.push((request, question));
            }
            // The same question is asked anew under its name.
            Event::Again(n) => {
                if let Some(request) = self.nth(n) {
                    self.desk.scheduler.replace(request);
                    self.count();
                    self.ends.entry(request).or_insert(1);
                }
            }
            Event::Read(n) => {
                if let Some(request) = self.nth(n) {
                    let of_it = |(asked, _): &&(RequestId, Question)| *asked == request;
                    let (_, question) = self.asked.iter().find(of_it).unwrap();
                    if self.desk.scheduler.is_unread(request) {
                        self.desk.read(request, *question);
                    }
                }
            }
            Event::Show { session, picture } => self.desk.show(session, picture),
            Event::Forget { session, picture } => {
                let session = SessionId::new(session);
                self.desk.scheduler.forget_picture(key(picture), session);
            }
            Event::ForgetConversation(conversation) => {
                let conversation = ConversationId::new(conversation);
                self.desk.scheduler.forget_conversation(conversation);
            }
            Event::EndSession(session) => {
                self.desk.scheduler.end_session(SessionId::new(session));
            }
            Event::Cancel(n) => {
                if let Some(request) = self.nth(n) {
                    self.desk.scheduler.cancel(request);
                }
            }
            Event::Credit(n, pieces) => {
                if let Some(request) = self.nth(n) {
                    self.desk.scheduler.credit(request, pieces);
                }
            }
            Event::Presence(session, here) => {
                let presence = if here { Presence::Here } else { Presence::Away };
                self.desk
                    .scheduler
                    .presence(SessionId::new(session), presence);
            }
            Event::GiveWay => {
                if let Some(request) = self.desk.scheduler.gives_way() {
                    self.desk.scheduler.fail(request, &failed("full".into()));
                }
            }
            Event::Passes(seconds) => self.desk.passes(seconds),
            Event::Turn(outcome) => self.turn(outcome),
            Event::Encode(outcome) => self.look(outcome),
        }
        self.count();
        self.check();
    }

    fn turn(&mut self, outcome: Outcome) {
        let turn = self.desk.scheduler.turn(self.desk.now, ROWS);
        self.check_turn(&turn);
        self.copies(&turn);
        if let Outcome::PanicCount = outcome {
            self.looking = None;
            self.cache.clear();
            self.host.clear();
            return self.desk.scheduler.renew(Some(&panicked()));
        }
        for (number, piece) in turn.pieces.iter().enumerate() {
            match outcome {
                Outcome::Fails(n) if n == number => {
                    self.desk.scheduler.fail(piece.request, &failed("n".into()));
                    continue;
                }
                _ => {
                    self.computes(piece);
                    self.desk.scheduler.computed(piece);
                }
            }
            let ends = matches!(outcome, Outcome::Ends(n) if n == number);
            if piece.is_last {
                self.desk
                    .say(piece.request, ends.then_some(FinishReason::Stop));
            }
        }
    }

    /// Pages are copied, in the order of a turn.
    fn copies(&mut self, turn: &Turn) {
        for (page, host) in turn.leaving.iter().flat_map(|(_, pages)| pages) {
            self.host.insert(host.number(), self.cache[page]);
        }
        for (host, page) in turn.returning.iter().flat_map(|(_, pages)| pages) {
            self.cache.insert(*page, self.host[&host.number()]);
        }
        for (_, copy) in &turn.copies {
            let content = self.cache[&copy.from.number()];
            self.cache.insert(copy.to.number(), content);
        }
    }

    /// A piece's entries are computed from those before them, which have to be there.
    fn computes(&mut self, piece: &Piece) {
        let running = &self.desk.scheduler.slots;
        let running = running.iter().find(|it| it.job.request == piece.request);
        let entries = running.unwrap().job.entries();
        let (start, span) = (piece.span.start, &piece.span);
        for (at, entry) in entries[..start].iter().enumerate() {
            let content = self.cache[&span.pages[at / PAGE]];
            assert_eq!(
                content[at % PAGE],
                Some(*entry),
                "entry {at} of {}",
                piece.request
            );
        }
        for at in start..start + span.len {
            let content = self
                .cache
                .entry(span.pages[at / PAGE])
                .or_insert([None; PAGE]);
            content[at % PAGE] = Some(entries[at]);
        }
    }

    /// No page is written by two, and what is read is there.
    fn check_turn(&self, turn: &Turn) {
        assert!(turn.pieces.len() <= self.desk.scheduler.limits.slots);
        let mut written = HashSet::new();
        for (_, page) in turn.returning.iter().flat_map(|(_, pages)| pages) {
            assert!(written.insert(*page));
        }
        for (_, copy) in &turn.copies {
            assert!(written.insert(copy.to.number()));
        }
        let mut own = HashSet::new();
        for piece in &turn.pieces {
            let span = &piece.span;
            assert!(span.len > 0 && piece.ids.len() == span.len);
            assert!(span.start + span.len <= span.pages.len() * PAGE);
            let first = span.start / PAGE;
            for page in &span.pages[first..(span.start + span.len).div_ceil(PAGE)] {
                assert!(own.insert(*page), "two write to page {page}");
            }
        }
    }

    fn look(&mut self, outcome: Outcome) {
        let scheduler = &mut self.desk.scheduler;
        let Some(at) = scheduler.encoding() else {
            self.looking = None;
            if let Some((look, pages)) = scheduler.next_to_encode(OPENING.into()) {
                let plain = opening(0);
                let prompt = look.prompt.as_deref().unwrap_or(&plain);
                let entries = prompt.entries().to_vec();
                match pages {
                    Ok(pages) => self.looking = Some(Cached { entries, pages }),
                    Err(CacheFull) => scheduler.encode_failed(look.key, &failed("full".into())),
                }
            }
            return;
        };
        let cached = self.looking.take().expect("what is looked at");
        match outcome {
            Outcome::Fails(_) => scheduler.encode_failed(at, &failed("look".into())),
            Outcome::PanicCount => {
                scheduler.encode_failed(at, &panicked());
                scheduler.renew(None);
                self.cache.clear();
                self.host.clear();
            }
            Outcome::Good | Outcome::Ends(_) => {
                for (page, entries) in cached.pages.iter().zip(cached.entries.chunks(PAGE)) {
                    let content = std::array::from_fn(|at| entries.get(at).copied());
                    self.cache.insert(page.number(), content);
                }
                scheduler.encoded(cached, EncodeTimings::default(), self.desk.now);
            }
        }
    }

    fn count(&mut self) {
        for news in self.desk.scheduler.take_events() {
            if let SchedulerEvent::Ended(job, end) = news
                && !matches!(end, End::Replaced)
            {
                *self.ends.entry(job.request).or_default() += 1;
            }
        }
        // It was dropped while it was looked at.
        if self.desk.scheduler.encoding().is_none() {
            self.looking = None;
        }
    }

    fn check(&self) {
        let scheduler = &self.desk.scheduler;
        let open = scheduler.open();
        for (request, _) in &self.asked {
            let ends = self.ends.get(request).copied().unwrap_or(0);
            assert_eq!(ends, usize::from(!open.contains(request)), "{request}");
        }
        let mut held: HashSet<u32> = scheduler.cache.held();
        let of = |running: &Running| -> Vec<u32> { numbers(&running.cached.pages) };
        held.extend(scheduler.slots.iter().flat_map(of));
        let looking = self.looking.iter().flat_map(|cached| &cached.pages);
        held.extend(looking.map(Page::number));
        assert_eq!(scheduler.pages().0, held.len(), "pages that nobody holds");
        assert!(scheduler.slots.len() <= scheduler.limits.slots);
        let slots = &scheduler.slots;
        assert!(
            slots
                .iter()
                .all(|r| r.copy.is_none() && r.returning.is_none())
        );
        let parked = scheduler
            .waiting
            .iter()
            .filter_map(|job| job.parked.as_ref());
        let parked: HashSet<u32> = parked.flat_map(|parked| numbers(&parked.pages)).collect();
        assert_eq!(scheduler.host.used(), parked.len(), "the host's pages");
    }

    /// Everybody is here and takes what comes: all that is open ends.
    fn ends_well(mut self) {
        for session in 1..=SESSIONS {
            let session = SessionId::new(session);
            self.desk.scheduler.presence(session, Presence::Here);
        }
        for n in 0..self.asked.len() {
            self.happens(Event::Read(n));
            self.happens(Event::Credit(n, 1000));
        }
        self.desk.scheduler.drain();
        let mut turns = 0;
        while !self.desk.scheduler.is_drained() {
            assert!(self.desk.scheduler.is_busy(), "it stands still");
            self.happens(Event::Encode(Outcome::Good));
            self.happens(Event::Turn(Outcome::Ends(turns % 3)));
            turns += 1;
            let most = 100 + 10 * self.asked.len();
            assert!(turns < most, "still open: {:?}", self.desk.scheduler.open());
        }
        for session in 1..=SESSIONS {
            self.happens(Event::EndSession(session));
        }
        assert_eq!(self.desk.scheduler.pages().0, 0);
        assert!(self.desk.scheduler.pictures.is_idle());
    }
}

fn run(limits: Limits, events: Vec<Event>) {
    let mut history = History::new(limits);
    for event in events {
        history.happens(event);
    }
    history.ends_well();
}

/// The same histories each time, unless others are asked for.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig {
        cases: asked.cases.max(2000),
        rng_seed: match asked.rng_seed {
            RngSeed::Random => RngSeed::Fixed(0),
            seed => seed,
        },
        // What is found becomes a test of its own.
        failure_persistence: None,
        ..asked
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn every_question_ends_once_whatever_happens(
        events in events(),
        eager_encode: bool,
        keeps_conversations: bool,
    ) {
        run(Limits { eager_encode, keeps_conversations, ..limits() }, events);
    }

    /// Too few pages for two of the longer ones.
    #[test]
    fn with_few_pages_too(events in events(), pages in 4..12_usize, host_pages in 0..12_usize) {
        run(Limits { pages, host_pages, ..limits() }, events);
    }

    /// Many at once, who make room for each other.
    #[test]
    fn with_many_slots_too(
        events in events(),
        slots in 3..16_usize,
        pages in 5..24_usize,
        host_pages in 0..40_usize,
        keeps_conversations: bool,
    ) {
        run(Limits { slots, pages, host_pages, keeps_conversations, ..limits() }, events);
    }
}

/// Somebody who asks without end keeps nobody out.
#[test]
fn nobody_starves() {
    for sessions in [1, 50] {
        let mut desk = Desk::new(limits());
        let mut asked = 0;
        let mut flood = |desk: &mut Desk| {
            asked += 1;
            let mut flooding = question(100 + asked % sessions, 5);
            flooding.client = Some(100);
            desk.ask(flooding);
        };
        for _ in 0..200 {
            flood(&mut desk);
        }
        desk.run();
        let one = desk.ask(question(1, 5));
        let mut turns = 0;
        loop {
            let ran = desk.run();
            if ran.iter().any(|(request, _)| *request == one) {
                break;
            }
            turns += 1;
            assert!(turns < 3, "{turns} turns");
            // One of the flood's ends, and another comes.
            desk.say(ran[0].0, Some(FinishReason::Stop));
            flood(&mut desk);
        }
    }
}
