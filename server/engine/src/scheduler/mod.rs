//! Who computes what next. Plain data: no model, no thread, no clock of its own. What happens comes in as method calls, with the
//! time where it matters; [`Scheduler::turn`] says what to compute, and [`Scheduler::take_events`] what to tell.

mod encode_queue;
mod job;
mod pages;
mod prefix;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use api::{
    Asker, ConversationId, EncodeTimings, Failure, FinishReason, PictureKey, Presence, RequestId,
    SessionId,
};
use model::kernels::PAGE;
use model::prompt::Prompt;
use policy::FairQueue;

use encode_queue::EncodeQueue;
use job::Running;

pub use encode_queue::EncodeJob;
pub use job::{End, Job, TokenOutcome};
pub use pages::{Page, numbers};
pub use prefix::{CacheFull, Cached};
pub use turn::{Piece, Rows, Turn};

use crate::failures::gone;
use pages::{HeldPage, PagePool};
use prefix::{Begun, Opening, PrefixCache};

/// What a scheduler goes by.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Slots.
    pub slots: usize,
    /// Pages of the cache.
    pub pages: usize,
    /// Pages of the host's memory, for answers that make room for older ones.
    pub host_pages: usize,
    /// Conversations are kept for their next question; pictures always are.
    pub keeps_conversations: bool,
    /// Pictures are looked at before anybody asks about them.
    pub eager_encode: bool,
}

/// What has to be told.
#[derive(Debug)]
pub enum SchedulerEvent {
    /// A question's place in the queue; none while it waits for its picture.
    Queued(RequestId, Option<u64>),
    /// A question has its first slot.
    Started(RequestId),
    Ended(Box<Job>, End),
    /// The model has seen a picture: before this (`None`), or in so much time.
    Encoded(SessionId, PictureKey, Option<EncodeTimings>),
    PictureFailed(SessionId, PictureKey, Failure),
}

/// All that a worker decides by.
pub struct Scheduler {
    limits: Limits,
    cache: PrefixCache,
    host: PagePool,
    /// Pages of the picture that is being encoded.
    encoding_pages: Vec<HeldPage>,
    /// A picture that a question waits for lacks pages: what runs now ends first.
    picture_lacks: bool,
    waiting: FairQueue<Job>,
    slots: Vec<Running>,
    /// Questions so far, for their order.
    arrivals: u64,
    /// Sessions of which nobody is connected.
    away: HashSet<SessionId>,
    pictures: EncodeQueue,
    draining: bool,
    events: Vec<SchedulerEvent>,
    /// Who waited for what when the positions were told last: as long as it is the same, none is news.
    told: Option<Standing>,
    /// The same when what is missing was put in line last, for which there was room in the slots or not.
    queued: Option<(Standing, bool)>,
}

/// How often the line, the openings that the cache has, and the pictures changed. Where none did, who waits for what is the same.
type Standing = (u64, u64, u64);

impl Scheduler {
    pub fn new(limits: Limits) -> Self {
        Scheduler {
            cache: PrefixCache::new(limits.pages, limits.keeps_conversations),
            host: PagePool::new(limits.host_pages),
            encoding_pages: Vec::new(),
            picture_lacks: false,
            limits,
            waiting: FairQueue::default(),
            slots: Vec::new(),
            arrivals: 0,
            away: HashSet::new(),
            pictures: EncodeQueue::default(),
            draining: false,
            events: Vec::new(),
            told: None,
            queued: None,
        }
    }

    fn standing(&self) -> Standing {
        let pictures = self.pictures.changes();
        (self.waiting.changes(), self.cache.openings(), pictures)
    }

    /// What there is to tell since the last time, in its order.
    pub fn take_events(&mut self) -> Vec<SchedulerEvent> {
        std::mem::take(&mut self.events)
    }

    /// A later attempt at a question comes: what there is of an earlier one ends.
    pub fn replace(&mut self, request: RequestId) {
        for slot in (0..self.slots.len()).rev() {
            if self.slots[slot].job.request == request {
                let job = self.preempt_slot(slot);
                self.ended(job, End::Replaced);
            }
        }
        for job in self.waiting.take_where(|job| job.request == request) {
            self.ended(job, End::Replaced);
        }
    }

    /// A question whose text is being read: it has its place in the line already.
    pub fn ask(&mut self, mut job: Job) {
        self.arrivals += 1;
        job.order = self.arrivals;
        match job.picture {
            Some(key) if !self.pictures.has(key) => return self.ended(job, End::Failed(gone())),
            Some(_) if !self.has_picture(&job) => {
                self.want(&job);
                if job.is_news(None) {
                    self.events.push(SchedulerEvent::Queued(job.request, None));
                }
            }
            // It is told when its text is read.
            Some(_) if job.opening().is_none() => {}
            // There is no picture to wait for.
            _ => job.times.picture = Some(job.times.received),
        }
        match job.interrupted {
            true => self.waiting.push_first(job.asker, job),
            false => self.waiting.push(job.asker, job),
        }
    }

    /// A question's text was read, and so much is known of its answer; `over`: that is all of it.
    pub fn read(
        &mut self,
        request: RequestId,
        prompt: Prompt,
        so_far: Vec<u32>,
        over: Option<FinishReason>,
    ) {
        let Scheduler {
            waiting,
            cache,
            pictures,
            ..
        } = self;
        if let Some(job) = waiting.iter_mut().find(|job| job.request == request) {
            job.read(prompt, so_far);
            match job.missing(cache) {
                Some(opening) => {
                    if pictures.has(opening.picture) {
                        let prompt = || job.prompt_before_picture();
                        pictures.enqueue(job.asker, opening, prompt);
                    }
                }
                None => {
                    job.times.picture.get_or_insert(job.times.received);
                }
            }
        }
        if let Some(reason) = over {
            self.finish_where(reason, |job| job.request == request);
        }
        self.tell_positions();
    }

    /// The request to reject when the queue is over its bound: the newest waiting one of the client, and of its session, with
    /// most open requests; if possible one that has produced nothing.
    pub fn gives_way(&self) -> Option<RequestId> {
        let (mut clients, mut sessions) = (HashMap::new(), HashMap::new());
        for job in self.jobs() {
            *clients.entry(job.asker.client).or_insert(0) += 1;
            *sessions.entry(job.asker.session).or_insert(0) += 1;
        }
        let newest = self.waiting.iter().max_by_key(|job| {
            let of_client = clients.get(&job.asker.client);
            let of_session = sessions.get(&job.asker.session);
            (of_client, of_session, !job.has_started(), job.order)
        });
        newest.map(|job| job.request)
    }

    /// Lets a question tell `pieces` more pieces of its answer.
    pub fn credit(&mut self, request: RequestId, pieces: u32) {
        let running = self.slots.iter_mut().map(|running| &mut running.job);
        let all = self.waiting.iter_mut().chain(running);
        for job in all.filter(|job| job.request == request) {
            job.grant(pieces);
        }
    }

    pub fn presence(&mut self, session: SessionId, presence: Presence) {
        match presence {
            Presence::Here => self.away.remove(&session),
            Presence::Away => self.away.insert(session),
        };
    }

    pub fn cancel(&mut self, request: RequestId) {
        self.finish_where(FinishReason::Cancelled, |job| job.request == request);
    }

    pub fn forget_conversation(&mut self, conversation: ConversationId) {
        self.finish_where(FinishReason::Cancelled, |job| {
            job.conversation == conversation
        });
        self.cache.forget_conversation(conversation);
    }

    pub fn end_session(&mut self, session: SessionId) {
        self.finish_where(FinishReason::Cancelled, |job| job.asker.session == session);
        for key in self.pictures.keys() {
            self.forget_picture(key, session);
        }
        self.cache.forget_session(session);
        self.away.remove(&session);
    }

    /// Tells that no new questions come.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether everything is answered and nothing more comes.
    pub fn is_drained(&self) -> bool {
        self.draining && self.slots.is_empty() && self.waiting.is_empty()
    }

    /// Whether there is something to compute.
    pub fn is_busy(&self) -> bool {
        // A picture that made room for others has to be looked at again.
        let has_work = |job: &Job| self.is_ready(job) || self.lacks_opening(job);
        !self.slots.is_empty() || !self.pictures.is_idle() || self.waiting.iter().any(has_work)
    }

    /// When a question's time is up though nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|job| job.deadline).min()
    }

    /// A question whose text is not read yet.
    #[cfg(test)]
    fn is_unread(&self, request: RequestId) -> bool {
        let of_it = |job: &&Job| job.request == request;
        self.waiting
            .iter()
            .find(of_it)
            .is_some_and(|job| !job.is_read())
    }

    /// All questions.
    pub fn open(&self) -> HashSet<RequestId> {
        self.jobs().map(|job| job.request).collect()
    }

    /// All questions: those that wait, then those that run.
    fn jobs(&self) -> impl Iterator<Item = &Job> {
        let running = self.slots.iter().map(|running| &running.job);
        self.waiting.iter().chain(running)
    }

    /// Questions that wait, and those that run.
    pub fn questions(&self) -> (usize, usize) {
        (self.waiting.len(), self.slots.len())
    }

    /// Pages of the cache in use, and all of them.
    pub fn pages(&self) -> (usize, usize) {
        (self.cache.used_pages(), self.limits.pages)
    }

    /// A session holds a picture from now on.
    pub fn picture(&mut self, picture: api::Picture, now: Instant) {
        let (asker, key) = (picture.asker, picture.key);
        let is_plain = picture.system.is_empty();
        self.pictures.add_ref(picture, true, now);
        if is_plain {
            self.look_ahead(asker, key, None);
        }
    }

    /// A session's first question about a picture that it holds will begin so; without a `prompt` nothing stands before the
    /// picture.
    pub fn look_ahead(&mut self, asker: Asker, key: PictureKey, prompt: Option<Prompt>) {
        if !self.pictures.has(key) {
            return;
        }
        let opening = match &prompt {
            Some(prompt) => Opening::behind(key, prompt.entries()),
            None => Opening::plain(key),
        };
        if self.cache.has_opening(asker.session, opening) {
            if self.pictures.is_seen(key, asker.session) {
                self.events
                    .push(SchedulerEvent::Encoded(asker.session, key, None));
            }
        } else if self.limits.eager_encode {
            self.pictures.enqueue(asker, opening, || prompt);
        }
    }

    /// Whether some session holds a picture.
    pub fn holds(&self, key: PictureKey) -> bool {
        self.pictures.has(key)
    }

    /// Whether a question waits for no picture. Before its text is read that may not be known: then any opening of its picture
    /// counts.
    fn has_picture(&self, job: &Job) -> bool {
        has_picture(&self.cache, job)
    }

    /// Whether what a question begins with, up to its picture, has to be computed.
    fn lacks_opening(&self, job: &Job) -> bool {
        job.missing(&self.cache).is_some()
    }

    /// Puts what a question begins with in the line, where that is known.
    fn want(&mut self, job: &Job) {
        if let Some(opening) = job.opening() {
            let prompt = || job.prompt_before_picture();
            self.pictures.enqueue(job.asker, opening, prompt);
        }
    }

    /// Drops a picture for one session; entirely, if no other holds it.
    pub fn forget_picture(&mut self, key: PictureKey, session: SessionId) {
        match self.pictures.release(key, session) {
            None => return,
            Some(true) => self.cache.forget_picture(key),
            Some(false) => self.cache.forget_talk(session, key),
        }
        self.fail_waiting(&gone(), |job| {
            job.asker.session == session && job.picture == Some(key)
        });
    }

    /// Whether no picture is looked at and none waits for that.
    pub fn is_blind(&self) -> bool {
        self.pictures.is_idle()
    }

    /// What is being looked at. Whoever computes that stops when it changes.
    pub fn encoding(&self) -> Option<PictureKey> {
        self.pictures.encoding()
    }

    /// The next picture to look at, with pages for its opening: for so many entries where nothing stands before it.
    pub fn next_to_encode(
        &mut self,
        plain: usize,
    ) -> Option<(EncodeJob, Result<Vec<Page>, CacheFull>)> {
        let waiting = &self.waiting;
        let wants = |job: &Job, asker: Asker, opening: Opening| {
            let is_own = opening.behind.is_none() || job.asker.session == asker.session;
            job.opening() == Some(opening) && is_own
        };
        let wanted = |asker: Asker, opening: Opening| {
            let mut jobs = waiting.iter();
            jobs.any(|job| wants(job, asker, opening))
        };
        let interrupted = |asker: Asker, opening: Opening| {
            let mut jobs = waiting.iter();
            jobs.any(|job| job.interrupted && wants(job, asker, opening))
        };
        self.picture_lacks = false;
        let look = self.pictures.next(interrupted, wanted)?;
        let entries = look.prompt.as_ref().map(|prompt| prompt.entries().len());
        let entries = entries.unwrap_or(plain);
        if !self.slots.is_empty() && entries.div_ceil(PAGE) > self.pages_within_reach() {
            // It has them when what runs has ended.
            let is_wanted = |(asker, opening)| wanted(asker, opening);
            self.picture_lacks = self.pictures.current().is_some_and(is_wanted);
            self.pictures.requeue();
            return None;
        }
        let mut pages = Vec::new();
        let grown = self.cache.grow(&mut pages, entries);
        self.encoding_pages = pages.iter().map(Page::watch).collect();
        Some((look, grown.map(|()| pages)))
    }

    /// What was looked at is in the cache.
    pub fn encoded(&mut self, cached: Cached, timings: EncodeTimings, now: Instant) {
        let Some((asker, opening, sessions)) = self.pictures.encoded() else {
            return;
        };
        let key = opening.picture;
        self.encoding_pages.clear();
        self.cache.keep_opening(asker, opening, cached);
        let told = sessions.into_iter();
        self.events
            .extend(told.map(|session| SchedulerEvent::Encoded(session, key, Some(timings))));
        for job in self.waiting.iter_mut() {
            if job.opening() == Some(opening) {
                job.times.picture.get_or_insert(now);
            }
        }
    }

    /// Looking at a picture failed: whoever waits for that ends, and the picture is dropped. One that was looked at before stays:
    /// then what failed was to look at it behind a session's text.
    pub fn encode_failed(&mut self, key: PictureKey, failure: &Failure) {
        match self.pictures.current() {
            Some((Asker { session, .. }, opening))
                if opening.behind.is_some() && self.cache.has_picture(session, key) =>
            {
                let is_it = |asker: Asker, it| asker.session == session && it == opening;
                self.pictures.retain(|asker, it| !is_it(asker, it));
                let waits = |job: &Job| job.opening().is_some_and(|it| is_it(job.asker, it));
                self.fail_waiting(failure, waits);
            }
            _ => self.picture_failed(key, failure),
        }
    }

    fn picture_failed(&mut self, key: PictureKey, failure: &Failure) {
        // Those too that heard of it long ago: it had left the cache and can't be had again.
        for session in self.pictures.drop(key) {
            let failed = SchedulerEvent::PictureFailed(session, key, failure.clone());
            self.events.push(failed);
        }
        self.cache.forget_picture(key);
        self.fail_waiting(failure, |job| job.picture == Some(key));
    }

    /// Ends a question, wherever it is.
    pub fn fail(&mut self, request: RequestId, failure: &Failure) {
        self.end_all(
            || End::Failed(failure.clone()),
            |job| job.request == request,
        );
    }

    /// Ends all questions.
    pub fn fail_all(&mut self, failure: &Failure) {
        self.end_all(|| End::Failed(failure.clone()), |_| true);
    }

    /// Drops all pictures.
    pub fn lose_pictures(&mut self, failure: &Failure) {
        for key in self.pictures.keys() {
            self.picture_failed(key, failure);
        }
    }

    /// Nothing that the cache holds can be trusted: it is empty from now on, and what ran is computed again. With `blame` what
    /// ran alone is the cause and fails; of several, each runs alone next, so that the cause is found.
    pub fn renew(&mut self, blame: Option<&Failure>) {
        let running = std::mem::take(&mut self.slots);
        let alone = running.len() == 1;
        for job in self.waiting.iter_mut() {
            job.parked = None;
        }
        for mut job in running.into_iter().map(|running| running.job) {
            match blame {
                Some(failure) if alone => self.ended(job, End::Failed(failure.clone())),
                _ => {
                    job.suspect |= blame.is_some();
                    self.waiting.push(job.asker, job);
                }
            }
        }
        self.pictures.requeue();
        self.encoding_pages.clear();
        self.cache.clear(self.limits.pages);
    }

    /// Ends questions wherever they are, keeping what was computed.
    fn finish_where(&mut self, reason: FinishReason, chosen: impl Fn(&Job) -> bool) {
        for job in self.waiting.take_where(&chosen) {
            let in_slot = false;
            self.ended(job, End::Finished { reason, in_slot });
        }
        for i in (0..self.slots.len()).rev() {
            if chosen(&self.slots[i].job) {
                self.finish(i, reason);
            }
        }
        self.drop_unwanted();
    }

    /// The question in a slot is answered, or its time is up.
    fn finish(&mut self, slot: usize, reason: FinishReason) {
        let job = self.preempt_slot(slot);
        let in_slot = true;
        self.ended(job, End::Finished { reason, in_slot });
    }

    /// What leaves its slot, with what was computed of it kept for whoever goes on.
    fn preempt_slot(&mut self, slot: usize) -> Job {
        let Running {
            job,
            mut cached,
            copy,
            returning,
        } = self.slots.remove(slot);
        // What is not in its pages yet.
        let lacks = match (&copy, &returning) {
            (_, Some(parked)) => Some(parked.first),
            (Some(_), None) => Some(cached.entries / PAGE),
            (None, None) => None,
        };
        if let Some(pages) = lacks {
            cached.pages.truncate(pages);
            cached.entries = cached.entries.min(pages * PAGE);
        }
        let (client, namespace) = (job.asker.client, job.namespace());
        let Begun { entries, pages } = cached;
        let entries = &job.entries()[..entries];
        self.cache
            .keep(client, namespace, job.conversation, entries, pages);
        job
    }

    /// Ends questions wherever they are, with nothing kept of them.
    fn end_all(&mut self, end: impl Fn() -> End, chosen: impl Fn(&Job) -> bool) {
        let gone = self.slots.extract_if(.., |running| chosen(&running.job));
        let mut jobs: Vec<Job> = gone.map(|running| running.job).collect();
        jobs.extend(self.waiting.take_where(chosen));
        for job in jobs {
            self.ended(job, end());
        }
        self.drop_unwanted();
    }

    fn fail_waiting(&mut self, failure: &Failure, chosen: impl Fn(&Job) -> bool) {
        for job in self.waiting.take_where(chosen) {
            self.ended(job, End::Failed(failure.clone()));
        }
    }

    fn ended(&mut self, job: Job, end: End) {
        self.events.push(SchedulerEvent::Ended(Box::new(job), end));
    }

    /// Pictures that are looked at for questions alone leave with the last that waited for them.
    fn drop_unwanted(&mut self) {
        if !self.limits.eager_encode {
            let waiting = &self.waiting;
            self.pictures.retain(|_, opening| {
                waiting
                    .iter()
                    .any(|job| job.picture == Some(opening.picture))
            });
        }
    }

    /// Tells each question how it stands.
    fn tell_positions(&mut self) {
        if self.waiting.is_empty() || self.told == Some(self.standing()) {
            return;
        }
        let Scheduler {
            waiting,
            cache,
            events,
            ..
        } = self;
        for (ahead, job) in waiting.in_order().into_iter().enumerate() {
            let ahead = ahead as u64;
            if !job.would_be_news(Some(ahead)) {
                continue;
            }
            let position = has_picture(cache, job).then_some(ahead);
            if job.is_news(position) {
                events.push(SchedulerEvent::Queued(job.request, position));
            }
        }
        self.told = Some(self.standing());
    }
}

/// Whether a question waits for no picture, as far as that is known.
fn has_picture(cache: &PrefixCache, job: &Job) -> bool {
    let session = job.asker.session;
    match (job.picture, job.opening()) {
        (_, Some(_)) => job.missing(cache).is_none(),
        (Some(key), None) => cache.has_picture(session, key),
        (None, None) => true,
    }
}
