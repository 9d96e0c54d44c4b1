//! A question as it is scheduled.

use std::cell::Cell;
use std::time::Instant;

use api::{AnswerTimings, Ask, Asker, ConversationId, FinishReason, PictureKey, RequestId};
use model::kernels::PAGE;
use model::prompt::{Entry, Prompt};

use super::pages::Page;
use super::prefix::{Begun, Copy, Namespace, Opening, PrefixCache};

/// A question from its arrival to its end. While it waits it holds no slot and no page.
#[derive(Debug)]
pub struct Job {
    pub asker: Asker,
    pub conversation: ConversationId,
    pub request: RequestId,
    pub attempt: u32,
    pub picture: Option<PictureKey>,
    /// What has to be in the cache before it can run: its picture, behind what stands before that; not known before its text
    /// is read, unless nothing does.
    opening: Option<Opening>,
    /// Whether the cache had that when it was looked up, and the cache's count of openings then.
    found: Cell<Option<(u64, bool)>>,
    /// [`Ask::background`].
    pub background: bool,
    /// Somebody has read the beginning of its answer, which was cut off: it goes before all that has not begun.
    pub(super) interrupted: bool,
    /// When the answer must be over.
    pub deadline: Instant,
    /// The question's place in the order of arrival.
    pub(super) order: u64,
    /// The prompt, once it is read, and behind it the answer.
    prompt: Option<Prompt>,
    /// How much of it was asked.
    prompt_entries: usize,
    /// How many more pieces of its answer may be told.
    credit: u32,
    /// The question ran beside others when the worker panicked, so it may be the cause: it runs alone until it has taken a
    /// step.
    pub(super) suspect: bool,
    /// Pages that it lacked when others had them: it runs again once so many are within reach.
    pub(super) lacked: usize,
    /// What was computed of it, where it made room for older ones.
    pub(super) parked: Option<Parked>,
    /// The queue position last told.
    told: Option<Option<u64>>,
    /// Entries that were in the cache when it first ran.
    cached: Option<usize>,
    pub times: Times,
}

/// When a question reached its stages.
#[derive(Clone, Debug)]
pub struct Times {
    /// The client's question was read.
    pub received: Instant,
    /// The picture stopped being what it waits for.
    pub picture: Option<Instant>,
    /// The question first had a slot.
    pub started: Option<Instant>,
    pub first_token: Option<Instant>,
    pub first_text: Option<Instant>,
}

impl Job {
    /// A question whose text is still being read.
    pub fn new(ask: &Ask, received: Instant, deadline: Instant) -> Self {
        Job {
            asker: ask.asker,
            conversation: ask.conversation,
            request: ask.request,
            attempt: ask.attempt,
            picture: ask.pictures.first().map(|shown| shown.key),
            opening: ask
                .pictures
                .first()
                .filter(|shown| ask.system.is_empty() && shown.turn == 0)
                .map(|shown| Opening::plain(shown.key)),
            found: Cell::new(None),
            background: ask.background,
            interrupted: !ask.so_far.is_empty(),
            deadline,
            order: 0,
            prompt: None,
            prompt_entries: 0,
            credit: ask.credit,
            suspect: false,
            lacked: 0,
            parked: None,
            told: None,
            cached: None,
            times: Times {
                received,
                picture: None,
                started: None,
                first_token: None,
                first_text: None,
            },
        }
    }

    /// Sets the tokenized prompt, followed by the answer's tokens of an earlier attempt.
    pub(super) fn read(&mut self, mut prompt: Prompt, so_far: Vec<u32>) {
        self.prompt_entries = prompt.entries().len();
        if let Some(picture) = self.picture.filter(|_| self.opening.is_none()) {
            let entries = &prompt.entries()[..prompt.opening_entries()];
            self.opening = Some(Opening::behind(picture, entries));
        }
        prompt.extend(so_far);
        self.prompt = Some(prompt);
    }

    pub fn is_read(&self) -> bool {
        self.prompt.is_some()
    }

    /// What has to be in the cache before it can run, if that is known.
    pub fn opening(&self) -> Option<Opening> {
        self.opening
    }

    /// The same, where the cache lacks it.
    pub(super) fn missing(&self, cache: &PrefixCache) -> Option<Opening> {
        let opening = self.opening?;
        let known = self.found.get().filter(|(at, _)| *at == cache.openings());
        let (_, is_there) = known.unwrap_or_else(|| {
            let there = cache.has_opening(self.asker.session, opening);
            (cache.openings(), there)
        });
        self.found.set(Some((cache.openings(), is_there)));
        (!is_there).then_some(opening)
    }

    /// The question's entries up to the picture's end, where something stands before the picture.
    pub(super) fn prompt_before_picture(&self) -> Option<Prompt> {
        self.opening?.behind?;
        self.prompt.as_ref().map(Prompt::opening)
    }

    /// The cache's entries of prompt and answer; none until its text is read.
    pub fn entries(&self) -> &[Entry] {
        self.prompt.as_ref().map_or(&[], Prompt::entries)
    }

    /// Pages that hold nothing but what it begins with up to its picture's end, which is in the cache whenever it runs.
    pub(super) fn opening_pages(&self) -> usize {
        let prompt = self.prompt.as_ref().filter(|_| self.picture.is_some());
        prompt.map_or(0, |prompt| prompt.opening_entries() / PAGE)
    }

    /// Where some of them stand.
    pub(super) fn positions(&self, entries: std::ops::Range<usize>) -> &[u32] {
        self.prompt
            .as_ref()
            .map_or(&[], |prompt| prompt.positions(entries))
    }

    /// Entries of the prompt, of those its pictures', and those that were in the cache when it first ran.
    pub fn usage(&self) -> (usize, usize, usize) {
        let pictures = self.prompt.as_ref().map_or(0, Prompt::picture_entries);
        (self.prompt_entries, pictures, self.cached.unwrap_or(0))
    }

    pub(super) fn namespace(&self) -> Namespace {
        Namespace {
            session: self.asker.session,
            picture: self.picture,
        }
    }

    /// Whoever asked can take no more for now.
    pub fn is_paused(&self) -> bool {
        self.credit == 0
    }

    /// How many more pieces may be told.
    pub(super) fn credit(&self) -> u32 {
        self.credit
    }

    pub(super) fn grant(&mut self, pieces: u32) {
        self.credit = self.credit.saturating_add(pieces);
    }

    pub fn has_started(&self) -> bool {
        self.times.started.is_some()
    }

    /// Whether this is its first slot.
    pub(super) fn start(&mut self, cached: usize, now: Instant) -> bool {
        let is_first = !self.has_started();
        if is_first {
            self.times.started = Some(now);
            self.cached = Some(cached);
        }
        is_first
    }

    /// Appends a generated token to the answer.
    pub(super) fn go_on(&mut self, said: TokenOutcome) {
        let TokenOutcome {
            at, id, has_text, ..
        } = said;
        self.times.first_token.get_or_insert(at);
        if has_text {
            self.times.first_text.get_or_insert(at);
        }
        if has_text || id.is_some() {
            self.credit = self.credit.saturating_sub(1);
        }
        if let Some(prompt) = &mut self.prompt {
            prompt.extend(id);
        }
    }

    /// Whether the position in the queue would be news: `None` while it waits for its picture, which is news only where any
    /// position is.
    pub(super) fn would_be_news(&self, position: Option<u64>) -> bool {
        let is_better = match (self.told, position) {
            (None, _) => true,
            (Some(None), Some(_)) => true,
            (Some(Some(old)), Some(new)) => new < old,
            (Some(_), None) => false,
        };
        is_better && !self.has_started()
    }

    /// Whether the position in the queue is news, which it is once.
    pub(super) fn is_news(&mut self, position: Option<u64>) -> bool {
        let news = self.would_be_news(position);
        if news {
            self.told = Some(position);
        }
        news
    }
}

impl Times {
    /// The timings of an answer that ends at `now` after `tokens` tokens.
    pub fn summary(&self, now: Instant, has_picture: bool, tokens: usize) -> AnswerTimings {
        let ms =
            |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        // What never happened took all the time there was before it, or none after.
        let started = self.started.unwrap_or(now);
        let picture = match self.picture {
            Some(at) => at.min(started),
            None if has_picture => started,
            None => self.received,
        };
        let first = self.first_token.unwrap_or(now);
        let decode_ms = ms(first, now);
        AnswerTimings {
            image_wait_ms: ms(self.received, picture),
            queue_ms: ms(picture.max(self.received), started),
            prefill_ms: ms(started, first),
            first_token_ms: ms(self.received, self.first_text.unwrap_or(first)),
            decode_ms,
            total_ms: ms(self.received, now),
            tokens_per_second: match tokens {
                0 | 1 => 0.0,
                n => (n - 1) as f64 / (decode_ms / 1e3).max(1e-9),
            },
        }
    }
}

/// A sequence that is in the host's memory from some page on.
#[derive(Debug)]
pub(super) struct Parked {
    /// Entries of it that were computed.
    pub entries: usize,
    /// Its first pages, which are a picture's and stay in the cache as long as that does.
    pub first: usize,
    /// Where the others are.
    pub pages: Vec<Page>,
}

/// A job in a slot, with how much of its entries is in the cache.
#[derive(Debug)]
pub(super) struct Running {
    pub job: Job,
    pub cached: Begun,
    /// What its first pass needs.
    pub copy: Option<Copy>,
    /// What has to come back from the host's memory before that.
    pub returning: Option<Parked>,
}

impl Running {
    /// Entries that the next forward passes must compute; the last one's scores give the next token.
    pub fn pending(&self) -> usize {
        self.job.entries().len() - self.cached.entries
    }

    /// Between tokens, not in its prompt.
    pub fn is_decoding(&self) -> bool {
        self.pending() == 1 && self.job.times.first_token.is_some()
    }
}

/// What a token came to.
#[derive(Clone, Debug)]
pub struct TokenOutcome {
    /// When it was told.
    pub at: Instant,
    /// None, if the answer ends with it.
    pub id: Option<u32>,
    /// The token completed text that can be shown.
    pub has_text: bool,
    /// Why it was the last.
    pub end: Option<FinishReason>,
}

/// How a job ends.
#[derive(Debug)]
pub enum End {
    Finished {
        reason: FinishReason,
        /// The question ends while it has a slot.
        in_slot: bool,
    },
    Failed(api::Failure),
    /// A later attempt takes its place.
    Replaced,
}
