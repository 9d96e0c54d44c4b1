//! States and the turns that follow from them, without a model.

mod gaps;
mod random;

use std::time::Duration;

use api::{Asker, Pixels, SamplingParams, Shown};

use super::turn::{Piece, Rows, Turn};
use super::*;

pub(super) const ROWS: Rows = Rows {
    beside_tokens: 16,
    alone: 1000,
};

/// Entries of a picture's beginning.
pub(super) const OPENING: u16 = PAGE as u16 + 6;

/// A scheduler, and a clock that is set by hand.
pub(super) struct Desk {
    pub scheduler: Scheduler,
    pub now: Instant,
    asked: u128,
}

/// What is asked: by a session, of so many tokens.
#[derive(Clone, Copy)]
pub(super) struct Question {
    pub session: u128,
    /// Its own, unless this says otherwise.
    pub client: Option<u128>,
    pub tokens: u32,
    pub picture: Option<PictureKey>,
    /// Tokens that stand before it; none but for a system turn.
    pub behind: u32,
    /// Tokens of its answer that were said elsewhere, before that was cut off.
    pub said: usize,
    pub background: bool,
    pub credit: u32,
    pub seconds: u64,
}

pub(super) const fn question(session: u128, tokens: u32) -> Question {
    Question {
        session,
        client: None,
        tokens,
        picture: None,
        behind: 0,
        said: 0,
        background: false,
        credit: 1000,
        seconds: 600,
    }
}

/// About this picture, by the first session.
fn about(picture: u8) -> Question {
    Question {
        picture: Some(key(picture)),
        ..question(1, 5)
    }
}

pub(super) fn asker(session: u128) -> Asker {
    Asker {
        client: session,
        session: SessionId::new(session),
    }
}

pub(super) fn key(number: u8) -> PictureKey {
    PictureKey {
        session: None,
        sha256: [number; 32],
    }
}

/// A picture behind so many tokens.
pub(super) fn opening(behind: u32) -> Prompt {
    let mut prompt = Prompt::new(1);
    prompt.extend((0..behind).map(|id| 500 + id));
    let offsets: Vec<[u32; 1]> = vec![[0]; OPENING.into()];
    prompt.push_rows(0, offsets.iter().map(|one| &one[..]), 1);
    prompt.end_picture(OPENING.into());
    prompt
}

impl Desk {
    pub fn new(limits: Limits) -> Self {
        Desk {
            scheduler: Scheduler::new(limits),
            now: Instant::now(),
            asked: 0,
        }
    }

    pub fn passes(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// A question that is read at once.
    pub fn ask(&mut self, question: Question) -> RequestId {
        let request = self.ask_unread(question);
        self.read(request, question);
        request
    }

    pub fn ask_unread(&mut self, question: Question) -> RequestId {
        self.asked += 1;
        let request = RequestId::new(self.asked);
        let ask = api::Ask {
            asker: Asker {
                client: question.client.unwrap_or(question.session),
                ..asker(question.session)
            },
            conversation: ConversationId::new(question.session),
            request,
            attempt: 0,
            system: "s".repeat(question.behind as usize),
            pictures: question.picture.iter().map(|key| shown(*key)).collect(),
            history: Vec::new(),
            question: String::new(),
            sampling: SamplingParams::default(),
            format: None,
            logprobs: None,
            background: question.background,
            so_far: vec![7; question.said],
            credit: question.credit,
            waited_ms: 0.0,
            left_ms: 0.0,
            traceparent: None,
        };
        let deadline = self.now + Duration::from_secs(question.seconds);
        self.scheduler.ask(Job::new(&ask, self.now, deadline));
        request
    }

    /// Its tokens are nobody else's.
    pub fn read(&mut self, request: RequestId, question: Question) {
        let mut prompt = match question.picture {
            Some(_) => opening(question.behind),
            None => Prompt::new(1),
        };
        prompt.extend((0..question.tokens).map(|id| 1000 * question.session as u32 + id));
        let so_far = vec![7; question.said];
        self.scheduler.read(request, prompt, so_far, None);
    }

    pub fn show(&mut self, session: u128, number: u8) {
        let picture = api::Picture {
            asker: asker(session),
            key: key(number),
            pixels: Pixels::new(1, vec![0; Pixels::bytes(1)]),
            system: String::new(),
            secret: None,
            traceparent: None,
        };
        self.scheduler.picture(picture, self.now);
    }

    /// Looks at the next picture in line, if there is one.
    pub fn look(&mut self) -> Option<PictureKey> {
        let (look, pages) = self.scheduler.next_to_encode(OPENING.into())?;
        let plain = opening(0);
        let prompt = look.prompt.as_deref().unwrap_or(&plain);
        let cached = Cached {
            entries: prompt.entries().to_vec(),
            pages: pages.unwrap(),
        };
        self.scheduler
            .encoded(cached, EncodeTimings::default(), self.now);
        Some(look.key)
    }

    pub fn turn(&mut self) -> Turn {
        self.scheduler.turn(self.now, ROWS)
    }

    /// A turn, of which every question gets its token.
    pub fn run(&mut self) -> Vec<(RequestId, usize)> {
        let turn = self.turn();
        for piece in &turn.pieces {
            self.scheduler.computed(piece);
            if piece.is_last {
                self.say(piece.request, None);
            }
        }
        lens(&turn.pieces)
    }

    pub fn say(&mut self, request: RequestId, end: Option<FinishReason>) {
        let said = TokenOutcome {
            at: self.now,
            id: Some(7),
            has_text: true,
            end,
        };
        self.scheduler.answered(request, said);
    }

    /// How questions have ended since the last time.
    pub fn ends(&mut self) -> Vec<(RequestId, String)> {
        let news = self.scheduler.take_events().into_iter();
        let ends = news.filter_map(|news| match news {
            SchedulerEvent::Ended(job, End::Finished { reason, .. }) => {
                Some((job.request, reason.as_str().to_owned()))
            }
            SchedulerEvent::Ended(job, End::Failed(failure)) => {
                Some((job.request, failure.code.as_str().to_owned()))
            }
            SchedulerEvent::Ended(job, End::Replaced) => Some((job.request, "replaced".to_owned())),
            _ => None,
        });
        ends.collect()
    }
}

fn shown(key: PictureKey) -> Shown {
    Shown {
        key,
        shape: (1120, 1120),
        turn: 0,
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        slots: 2,
        pages: 32,
        host_pages: 0,
        keeps_conversations: true,
        eager_encode: true,
    }
}

fn desk() -> Desk {
    Desk::new(limits())
}

fn lens(pieces: &[Piece]) -> Vec<(RequestId, usize)> {
    pieces.iter().map(|p| (p.request, p.span.len)).collect()
}

/// What is asked of which session, and the turns that follow: how many entries are computed of which question, by its number.
#[test]
fn turns_follow_from_what_is_asked() {
    type Asked = &'static [(u128, u32)];
    type Turns = &'static [&'static [(u128, usize)]];
    let table: [(&str, Asked, Turns); 6] = [
        ("one", &[(1, 30)], &[&[(1, 30)], &[(1, 1)], &[(1, 1)]]),
        (
            "two share a pass",
            &[(1, 30), (2, 9)],
            &[&[(1, 30), (2, 9)], &[(1, 1), (2, 1)]],
        ),
        (
            "a third waits",
            &[(1, 5), (2, 6), (3, 7)],
            &[&[(1, 5), (2, 6)], &[(1, 1), (2, 1)]],
        ),
        (
            "a long prompt goes in pieces",
            &[(1, 1800)],
            &[&[(1, 1000)], &[(1, 800)], &[(1, 1)]],
        ),
        (
            "two long ones halve the pass",
            &[(1, 700), (2, 500)],
            &[&[(1, 500), (2, 500)], &[(1, 16), (2, 1)]],
        ),
        (
            "clients take turns",
            &[(1, 5), (1, 6), (2, 7)],
            &[&[(1, 5), (3, 7)]],
        ),
    ];
    for (what, asked, turns) in table {
        let mut desk = Desk::new(Limits {
            pages: 64,
            ..limits()
        });
        for (session, tokens) in asked {
            desk.ask(question(*session, *tokens));
        }
        for (number, turn) in turns.iter().enumerate() {
            let expected: Vec<_> = turn
                .iter()
                .map(|(r, len)| (RequestId::new(*r), *len))
                .collect();
            assert_eq!(desk.run(), expected, "{what}, turn {number}");
        }
    }
}

#[test]
fn a_free_slot_is_given_on_in_the_same_turn() {
    let mut desk = desk();
    let [first, _, third] = [1, 2, 3].map(|session| desk.ask(question(session, 5)));
    desk.run();
    desk.scheduler.cancel(first);
    assert_eq!(desk.ends(), [(first, "cancelled".to_owned())]);
    // Beside the second, which is in the middle of its answer.
    assert_eq!(desk.run()[1], (third, 5));
}

#[test]
fn an_answer_that_was_cut_off_goes_before_what_has_not_begun() {
    let mut desk = Desk::new(Limits {
        slots: 1,
        eager_encode: false,
        ..limits()
    });
    for (session, picture) in [(1, 1), (2, 2), (3, 3)] {
        desk.show(session, picture);
    }
    let of = |session: u128| Question {
        session,
        ..about(session as u8)
    };
    let [first, second] = [1, 2].map(|session| desk.ask(of(session)));
    let interrupted = desk.ask(Question { said: 4, ..of(3) });
    let looked: Vec<_> = std::iter::from_fn(|| desk.look()).collect();
    assert_eq!(looked, [3, 1, 2].map(key));
    for request in [interrupted, first, second] {
        assert_eq!(desk.run()[0].0, request);
        desk.scheduler.cancel(request);
    }
}

#[test]
fn what_is_not_read_yet_holds_nobody_up() {
    let mut desk = desk();
    let unread = desk.ask_unread(question(1, 5));
    let [second, third] = [2, 3].map(|session| desk.ask(question(session, 5)));
    assert_eq!(desk.run(), [(second, 5), (third, 5)]);
    desk.read(unread, question(1, 5));
    desk.scheduler.cancel(second);
    assert_eq!(desk.run()[1], (unread, 5));
}

#[test]
fn who_can_take_no_more_leaves_and_comes_back_where_it_was() {
    let mut desk = desk();
    let slow = desk.ask(Question {
        credit: 2,
        ..question(1, 5)
    });
    for expected in [5, 1] {
        assert_eq!(desk.run(), [(slow, expected)]);
    }
    assert_eq!(desk.run(), []);
    assert!(!desk.scheduler.is_busy());
    desk.scheduler.credit(slow, 1);
    // Nothing is computed anew but the last token, which is always left to compute.
    assert_eq!(desk.run(), [(slow, 1)]);
}

#[test]
fn who_is_away_gives_way_to_who_is_here() {
    let mut desk = desk();
    let [away, here] = [1, 2].map(|session| desk.ask(question(session, 5)));
    desk.scheduler.presence(SessionId::new(1), Presence::Away);
    // While nobody waits it goes on.
    assert_eq!(desk.run(), [(here, 5), (away, 5)]);
    let waits = desk.ask(question(3, 5));
    assert_eq!(desk.run(), [(here, 1), (waits, 5)]);
    desk.scheduler.cancel(waits);
    assert_eq!(desk.run(), [(here, 1), (away, 1)]);
}

#[test]
fn what_runs_in_the_background_delays_nobodys_first_word() {
    let mut desk = desk();
    let titles = [1, 2, 3].map(|session| {
        desk.ask(Question {
            background: true,
            ..question(session, 5)
        })
    });
    // Whoever came first, and of one session too.
    let asked = [1, 4].map(|session| desk.ask(question(session, 5)));
    let run = |desk: &mut Desk| -> Vec<RequestId> {
        let mut run: Vec<_> = desk.run().into_iter().map(|(request, _)| request).collect();
        run.sort();
        run
    };
    assert_eq!(run(&mut desk), asked);
    for request in asked {
        desk.scheduler.cancel(request);
    }
    let begun = run(&mut desk);
    assert!(begun.len() == 2 && begun.iter().all(|request| titles.contains(request)));
    // They leave their slots to whoever comes, and take them again.
    let next = desk.ask(question(5, 5));
    assert!(run(&mut desk).contains(&next));
    desk.scheduler.cancel(next);
    let again = run(&mut desk);
    assert!(again.len() == 2 && again.iter().all(|request| titles.contains(request)));
}

#[test]
fn time_is_up_for_what_waits_and_what_runs() {
    let mut desk = desk();
    let soon = Question {
        seconds: 10,
        ..question(1, 5)
    };
    let runs = desk.ask(soon);
    let other = desk.ask(question(2, 5));
    desk.run();
    let waits = desk.ask(Question { session: 3, ..soon });
    let unread = desk.ask_unread(Question { session: 4, ..soon });
    assert_eq!(
        desk.scheduler.next_deadline(),
        Some(desk.now + Duration::from_secs(10))
    );
    desk.ends();
    desk.passes(10);
    assert_eq!(desk.run(), [(other, 1)]);
    let mut ends = desk.ends();
    ends.sort();
    assert_eq!(
        ends,
        [runs, waits, unread].map(|request| (request, "timeout".to_owned()))
    );
}

#[test]
fn a_question_waits_for_its_picture_and_reads_no_row_of_it_again() {
    let mut desk = desk();
    desk.show(1, 9);
    let about = about(9);
    let asked = desk.ask(about);
    assert!(desk.turn().pieces.is_empty());
    assert_eq!(desk.look(), Some(key(9)));
    let turn = desk.turn();
    assert_eq!(lens(&turn.pieces), [(asked, 5)]);
    // Its last page is part of the picture's: a copy goes on from there.
    let [(request, copy)] = &turn.copies[..] else {
        panic!("{:?}", turn.copies);
    };
    assert_eq!(*request, asked);
    assert_ne!(copy.from.number(), copy.to.number());
    assert_eq!(turn.pieces[0].span.pages[1], copy.to.number());
    assert_eq!(turn.pieces[0].span.start, usize::from(OPENING));
}

#[test]
fn what_stands_before_a_picture_is_computed_with_it_and_once() {
    let mut desk = desk();
    desk.show(1, 9);
    assert_eq!(desk.look(), Some(key(9)));
    let behind = Question {
        behind: 7,
        ..about(9)
    };
    // Until it is read nobody knows what that is, and nothing has to be done.
    let asked = desk.ask_unread(behind);
    assert!(desk.turn().pieces.is_empty());
    assert!(!desk.scheduler.is_busy());
    desk.read(asked, behind);
    assert!(desk.turn().pieces.is_empty());
    assert_eq!(desk.look(), Some(key(9)));
    let turn = desk.turn();
    assert_eq!(lens(&turn.pieces), [(asked, 5)]);
    assert_eq!(turn.pieces[0].span.start, usize::from(OPENING) + 7);
    drop(turn);
    // The next one finds it, one of another session does not.
    let next = desk.ask(behind);
    assert_eq!(desk.look(), None);
    desk.show(2, 9);
    let other = desk.ask(Question {
        session: 2,
        client: Some(2),
        ..behind
    });
    assert_eq!(desk.look(), Some(key(9)));
    assert_eq!(desk.look(), None);
    assert!(
        [asked, next, other]
            .iter()
            .all(|it| desk.scheduler.open().contains(it))
    );
    desk.scheduler.forget_picture(key(9), SessionId::new(1));
    desk.scheduler.forget_picture(key(9), SessionId::new(2));
    for session in [1, 2] {
        desk.scheduler.end_session(SessionId::new(session));
    }
    assert_eq!(desk.scheduler.pages(), (0, 32));
}

#[test]
fn a_picture_is_looked_at_ahead_behind_its_first_questions_system_turn() {
    let mut desk = desk();
    let picture = api::Picture {
        asker: asker(1),
        key: key(9),
        pixels: Pixels::new(1, vec![0; Pixels::bytes(1)]),
        system: "s".repeat(7),
        secret: None,
        traceparent: None,
    };
    desk.scheduler.picture(picture, desk.now);
    // Its text is being read.
    assert_eq!(desk.look(), None);
    desk.scheduler
        .look_ahead(asker(1), key(9), Some(opening(7)));
    assert_eq!(desk.look(), Some(key(9)));
    let encoded = |event: &SchedulerEvent| matches!(event, SchedulerEvent::Encoded(..));
    assert!(desk.scheduler.take_events().iter().any(encoded));
    let asked = desk.ask(Question {
        behind: 7,
        ..about(9)
    });
    assert_eq!(desk.look(), None);
    assert_eq!(lens(&desk.turn().pieces), [(asked, 5)]);
    // What was forgotten meanwhile is looked at no more.
    desk.scheduler.forget_picture(key(9), SessionId::new(1));
    desk.scheduler
        .look_ahead(asker(1), key(9), Some(opening(3)));
    assert_eq!(desk.look(), None);
}

/// Its question is read only when the picture has left the cache again.
#[test]
fn a_picture_that_made_room_is_looked_at_again() {
    let mut desk = Desk::new(Limits {
        pages: 2,
        ..limits()
    });
    desk.show(1, 9);
    assert_eq!(desk.look(), Some(key(9)));
    let about = about(9);
    let asked = desk.ask_unread(about);
    let other = desk.ask(question(2, 5));
    desk.run();
    desk.say(other, Some(FinishReason::Stop));
    desk.read(asked, about);
    assert!(desk.scheduler.is_busy());
    assert!(desk.turn().pieces.is_empty());
    assert_eq!(desk.look(), Some(key(9)));
    assert!(desk.scheduler.is_busy());
}

#[test]
fn pictures_that_are_asked_about_come_first() {
    let mut desk = desk();
    for picture in 1..=3 {
        desk.show(1, picture);
    }
    desk.ask(about(2));
    let order: Vec<_> = std::iter::from_fn(|| desk.look()).collect();
    assert_eq!(order, [key(2), key(1), key(3)]);
}

#[test]
fn a_forgotten_picture_is_looked_at_no_longer_and_its_questions_end() {
    let mut desk = desk();
    desk.show(1, 9);
    let about = about(9);
    let asked = desk.ask(about);
    assert!(desk.scheduler.next_to_encode(OPENING.into()).is_some());
    assert_eq!(desk.scheduler.encoding(), Some(key(9)));
    desk.scheduler.forget_picture(key(9), SessionId::new(1));
    assert_eq!(desk.scheduler.encoding(), None);
    let late = desk.ask(about);
    assert_eq!(
        desk.ends(),
        [asked, late].map(|request| (request, "image_gone".to_owned()))
    );
    assert_eq!(desk.scheduler.pages(), (0, 32));
}

#[test]
fn without_looking_ahead_only_what_is_asked_about_is_looked_at() {
    let mut desk = Desk::new(Limits {
        eager_encode: false,
        ..limits()
    });
    desk.show(1, 9);
    assert!(!desk.scheduler.is_busy());
    let asked = desk.ask(about(9));
    assert!(desk.scheduler.is_busy());
    desk.scheduler.cancel(asked);
    assert_eq!(desk.look(), None);
}

#[test]
fn after_a_panic_those_that_ran_together_run_alone_and_then_together_again() {
    let mut desk = desk();
    let [first, second] = [1, 2].map(|session| desk.ask(question(session, 5)));
    desk.turn();
    let panicked = crate::failures::panicked();
    desk.scheduler.renew(Some(&panicked));
    assert_eq!(desk.scheduler.pages().0, 0);
    let third = desk.ask(question(3, 5));
    assert_eq!(lens(&desk.turn().pieces), [(first, 5)]);
    // It was the one.
    desk.scheduler.renew(Some(&panicked));
    assert_eq!(desk.ends(), [(first, "worker_failed".to_owned())]);
    assert_eq!(desk.run(), [(second, 5)]);
    assert_eq!(desk.run(), [(second, 1), (third, 5)]);
}

/// Eight pages for two that need five each.
#[test]
fn who_lacks_pages_waits_and_lets_nobody_past() {
    let mut desk = Desk::new(Limits {
        pages: 8,
        ..limits()
    });
    let most = 5 * PAGE as u32 - 1;
    let [first, second] = [1, 2].map(|session| desk.ask(question(session, most)));
    let small = desk.ask(question(3, 5));
    let mut turns = vec![desk.run()];
    while !turns.last().unwrap().is_empty() && turns.len() < 10 {
        turns.push(desk.run());
        if turns.last() == Some(&vec![(first, 1)]) {
            break;
        }
    }
    assert_eq!(turns.last().unwrap(), &[(first, 1)], "{turns:?}");
    // Nobody takes what it waits for.
    assert_eq!(desk.run(), [(first, 1)]);
    desk.say(first, Some(FinishReason::Stop));
    let after = desk.run();
    assert_eq!((after[0].0, after[1]), (second, (small, 5)));
    assert_eq!(desk.ends(), [(first, "stop".to_owned())]);
}

/// Runs turns until some question is alone in one; the turns.
fn until_alone(desk: &mut Desk, request: RequestId) -> Vec<Turn> {
    let mut turns = Vec::new();
    while turns.len() < 200 {
        let turn = desk.turn();
        for piece in &turn.pieces {
            desk.scheduler.computed(piece);
            if piece.is_last {
                desk.say(piece.request, None);
            }
        }
        let alone = lens(&turn.pieces) == [(request, 1)];
        turns.push(turn);
        if alone {
            return turns;
        }
    }
    panic!("{request} is never alone")
}

/// Eight pages: three begin with two each, and have three when 64 tokens are said.
#[test]
fn the_newest_makes_room_and_comes_back_with_all_that_it_had() {
    let mut desk = Desk::new(Limits {
        slots: 3,
        pages: 8,
        host_pages: 8,
        keeps_conversations: false,
        ..limits()
    });
    let asked = [1, 2, 3].map(|session| desk.ask(question(session, 2 * PAGE as u32 - 9)));
    let [oldest, second, newest] = asked;
    let turns = until_alone(&mut desk, oldest);
    let leaving: Vec<_> = turns.iter().flat_map(|turn| &turn.leaving).collect();
    let left: Vec<_> = leaving.iter().map(|(request, _)| *request).collect();
    assert_eq!(left, [newest, second]);
    // Whoever goes on in its place does so in the same turn.
    assert!(turns.iter().all(|turn| !turn.pieces.is_empty()));
    let host: Vec<u32> = leaving[1].1.iter().map(|(_, host)| host.number()).collect();
    drop(turns);
    desk.say(oldest, Some(FinishReason::Stop));
    let turn = desk.turn();
    let back: Vec<_> = turn.returning.iter().map(|(request, _)| *request).collect();
    assert_eq!(back, [second]);
    let (_, pages) = &turn.returning[0];
    assert_eq!(
        pages
            .iter()
            .map(|(host, _)| host.number())
            .collect::<Vec<_>>(),
        host
    );
    // Nothing of it is computed anew.
    assert_eq!(lens(&turn.pieces), [(second, 1)]);
    assert_eq!(desk.ends(), [(oldest, "stop".to_owned())]);
}

#[test]
fn where_the_host_has_no_room_what_made_room_is_computed_again() {
    let mut desk = Desk::new(Limits {
        pages: 6,
        host_pages: 2,
        keeps_conversations: false,
        ..limits()
    });
    let most = 3 * PAGE as u32 - 1;
    let [first, second] = [1, 2].map(|session| desk.ask(question(session, most)));
    let turns = until_alone(&mut desk, first);
    assert!(turns.iter().all(|turn| turn.leaving.is_empty()));
    desk.say(first, Some(FinishReason::Stop));
    let (request, entries) = lens(&desk.turn().pieces)[0];
    assert!(request == second && entries > most as usize);
}

#[test]
fn what_ends_while_it_waits_leaves_the_hosts_memory() {
    let mut desk = Desk::new(Limits {
        pages: 6,
        host_pages: 8,
        ..limits()
    });
    let most = 3 * PAGE as u32 - 1;
    let [first, second] = [1, 2].map(|session| desk.ask(question(session, most)));
    drop(until_alone(&mut desk, first));
    assert_eq!(desk.scheduler.host.used(), 3);
    desk.scheduler.cancel(second);
    desk.ends();
    assert_eq!(desk.scheduler.host.used(), 0);
}

/// A picture's opening takes two pages of four.
#[test]
fn a_picture_waits_until_what_runs_leaves_it_pages() {
    let mut desk = Desk::new(Limits {
        pages: 4,
        ..limits()
    });
    let runs = desk.ask(question(2, 3 * PAGE as u32 - 9));
    desk.run();
    desk.show(1, 9);
    let asked = desk.ask(about(9));
    assert_eq!(desk.look(), None);
    // Nobody takes what it waits for.
    let late = desk.ask(question(3, 5));
    assert_eq!(desk.run(), [(runs, 1)]);
    desk.say(runs, Some(FinishReason::Stop));
    assert!(desk.scheduler.is_busy());
    assert_eq!(desk.look(), Some(key(9)));
    assert_eq!(desk.run(), [(asked, 5), (late, 5)]);
}

#[test]
fn questions_share_what_a_step_takes_along() {
    let mut desk = Desk::new(Limits {
        slots: 4,
        ..limits()
    });
    let one = desk.ask(question(1, 5));
    desk.run();
    let [two, three, four] = [(2, 12), (3, 12), (4, 1)].map(|(s, n)| desk.ask(question(s, n)));
    assert_eq!(desk.run(), [(one, 1), (two, 12), (three, 4), (four, 1)]);
    assert_eq!(desk.run(), [(one, 1), (two, 1), (three, 8), (four, 1)]);
}

#[test]
fn what_the_cache_can_never_hold_fails_alone() {
    let mut desk = Desk::new(Limits {
        pages: 2,
        ..limits()
    });
    let asked = desk.ask(question(1, 3 * PAGE as u32));
    while desk.scheduler.is_busy() {
        desk.run();
    }
    assert_eq!(desk.ends(), [(asked, "out_of_memory".to_owned())]);
    assert_eq!(desk.scheduler.pages().0, 0);
}

#[test]
fn of_who_has_most_the_newest_gives_way() {
    let mut desk = desk();
    for session in [1, 2, 2, 2, 3] {
        desk.ask(question(session, 5));
    }
    assert_eq!(desk.scheduler.gives_way(), Some(RequestId::new(4)));
}

#[test]
fn a_later_attempt_ends_the_earlier_without_a_word_and_keeps_what_it_computed() {
    let mut desk = desk();
    let request = desk.ask(question(1, 3 * PAGE as u32));
    desk.run();
    desk.scheduler.replace(request);
    assert_eq!(desk.ends(), [(request, "replaced".to_owned())]);
    let again = desk.ask(question(1, 3 * PAGE as u32));
    assert_eq!(desk.run(), [(again, 1)]);
}

#[test]
fn drained_is_when_all_is_answered() {
    let mut desk = desk();
    let asked = desk.ask(question(1, 5));
    desk.scheduler.drain();
    desk.run();
    assert!(!desk.scheduler.is_drained());
    desk.say(asked, Some(FinishReason::Stop));
    assert!(desk.scheduler.is_drained());
}

#[test]
fn positions_are_told_where_they_are_news() {
    let mut desk = desk();
    let asked: Vec<RequestId> = (1..=4).map(|s| desk.ask(question(s, 5))).collect();
    let told = |desk: &mut Desk| -> Vec<(RequestId, Option<u64>)> {
        let news = desk.scheduler.take_events().into_iter();
        news.filter_map(|news| match news {
            SchedulerEvent::Queued(request, position) => Some((request, position)),
            _ => None,
        })
        .collect()
    };
    let first: Vec<_> = (0..4).map(|i| (asked[i as usize], Some(i))).collect();
    assert_eq!(told(&mut desk), first);
    desk.run();
    assert_eq!(told(&mut desk), [(asked[2], Some(0)), (asked[3], Some(1))]);
    desk.run();
    assert_eq!(told(&mut desk), []);
}

/// A third waits, and the cache has to give up what it keeps.
#[test]
fn turns_that_only_add_a_token_come_to_the_same_at_once() {
    const TURNS: usize = 150;
    let begun = || {
        let mut desk = Desk::new(Limits {
            pages: 9,
            ..limits()
        });
        let kept = desk.ask(question(9, 200));
        desk.run();
        desk.say(kept, Some(FinishReason::Stop));
        for session in 1..=3 {
            desk.ask(question(session, 40 * session as u32));
        }
        desk.run();
        desk.run();
        desk
    };
    let (mut turns, mut at_once) = (begun(), begun());
    assert!(at_once.scheduler.is_steady());
    assert_eq!(at_once.scheduler.turns_within_reach(TURNS), TURNS);
    assert!(at_once.scheduler.turns_within_reach(9 * PAGE) < 9 * PAGE);
    for _ in 0..TURNS {
        turns.run();
    }
    at_once.scheduler.advance(TURNS, 7, at_once.now);
    let state = |desk: &Desk| {
        let it = &desk.scheduler;
        let running: Vec<_> = it.running().collect();
        let entries: Vec<_> = it.slots.iter().map(|r| r.job.entries().to_vec()).collect();
        (
            running,
            it.running_entries(),
            it.pages(),
            it.questions(),
            entries,
        )
    };
    assert_eq!(state(&turns), state(&at_once));
    let next = |desk: &mut Desk| {
        let first = desk.scheduler.running().next().unwrap();
        desk.run();
        desk.say(first, Some(FinishReason::Stop));
        let ended = desk.ends();
        (ended, desk.run(), state(desk))
    };
    assert_eq!(next(&mut turns), next(&mut at_once));
}
