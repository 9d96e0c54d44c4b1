//! What replaces, deletes or reloads loses nothing.

use wire::{ClientMessage, ErrorCode, Failure, ServerMessage};

use super::world::World;
use crate::core::{
    Browser, Input, Person, Store, Worker,
    connection::Link,
    crop::Region,
    history::{StoreProblem, TabMessage},
    undo::UNDO_MS,
};

fn said(world: &World, which: impl Fn(&ClientMessage) -> bool) -> usize {
    world.said.iter().filter(|message| which(message)).count()
}

fn told(world: &World) -> usize {
    said(world, |message| {
        matches!(message, ClientMessage::Cancel(_) | ClientMessage::Forget(_))
    })
}

/// A page with an answer.
fn answered() -> World {
    let mut world = World::new();
    world.bring(1_000);
    world.ask("First?");
    world.settles();
    world
}

/// A page with an answer that has begun.
fn streaming() -> World {
    let mut world = World::new();
    world.bring(1_000);
    world.settles();
    world.ask("First?");
    while world.answers()[0].is_empty() {
        let _ = world.up() | world.down() | world.server.step();
    }
    world
}

fn undo(world: &mut World) {
    world.person(Person::Undoes(None));
}

fn again(world: &mut World, at: usize, text: Option<&str>) {
    let turn = world.page.conversation.path()[at];
    let (text, when) = (text.map(str::to_owned), world.ms);
    world.person(Person::AsksAgain { turn, text, when });
}

fn fails(world: &mut World) {
    let upload = world.page.uploads.incoming.as_ref().and_then(|p| p.upload);
    let failure = Failure::new(ErrorCode::ImageUnsupported, "No picture.");
    let message = ServerMessage::Error(wire::Error {
        upload,
        ..failure.into()
    });
    world.says(message);
}

#[test]
fn a_conversation_that_was_left_goes_on_and_nobody_is_told_for_as_long_as_it_can_be_had_back() {
    let mut world = streaming();
    world.person(Person::Leaves);
    assert!(world.questions().is_empty());
    world.passes(UNDO_MS - 1.0);
    while world.up() | world.server.step() | world.down() {}
    assert_eq!(told(&world), 0);
    undo(&mut world);
    assert_eq!(world.phases(), ["done"]);
    world.is_whole();
    // Not taken back, it is stopped.
    let mut world = streaming();
    world.person(Person::Leaves);
    world.passes(UNDO_MS);
    assert_eq!(told(&world), 1);
    undo(&mut world);
    assert!(world.questions().is_empty());
}

#[test]
fn whoever_is_at_it_has_all_the_time() {
    let mut world = answered();
    world.person(Person::Leaves);
    world.person(Person::Lingers(true));
    world.passes(3.0 * UNDO_MS);
    assert_eq!(world.page.undos.list.len(), 1);
    world.person(Person::Lingers(false));
    world.passes(UNDO_MS);
    assert!(world.page.undos.list.is_empty());
}

#[test]
fn a_picture_takes_the_place_of_another_only_when_it_is_known_to_be_readable() {
    let mut world = answered();
    world.bring(2_000);
    world.ask("Of the new one?");
    assert_eq!(world.questions(), ["First?"]);
    // The browser can't decode it, and the server can't either.
    let picture = world.page.uploads.incoming.as_ref().expect("coming").id;
    world.apply(Input::Worker(Worker::Unseen { picture }));
    assert_eq!(world.questions(), ["First?"]);
    fails(&mut world);
    assert!(world.page.uploads.incoming.is_none());
    assert_eq!(world.questions(), ["First?"]);
    assert_eq!(*world.page.draft, "Of the new one?");
    assert!(world.page.notices.shown.as_ref().is_some_and(|n| n.bad));
    // A camera's small copy says nothing of the rest; the browser's own does.
    world.bring(3_000);
    let picture = world.page.uploads.incoming.as_ref().expect("coming").id;
    for (size, questions) in [(None, 1), (Some((64, 48)), 0)] {
        let url = "blob:x".to_owned();
        world.apply(Input::Worker(Worker::Preview {
            picture,
            url,
            size,
            transparent: false,
        }));
        assert_eq!(world.questions().len(), questions);
    }
    assert_eq!(world.page.picture().map(|p| p.bytes), Some(3_000));
    undo(&mut world);
    assert_eq!(world.questions(), ["First?"]);
    world.settles();
    world.is_whole();
}

#[test]
fn an_upload_that_waits_for_another_goes_on_where_it_was() {
    let mut world = World::new();
    while world.up() | world.down() {}
    world.bring(400_000);
    world.ask("First?");
    for _ in 0..3 {
        let _ = world.up() | world.works();
    }
    world.bring(300_000);
    fails(&mut world);
    assert_eq!(world.page.picture().map(|p| p.bytes), Some(400_000));
    world.settles();
    assert_eq!(world.phases(), ["done"]);
    world.is_whole();
}

#[test]
fn the_versions_of_a_question_keep_what_stands_behind_them() {
    let mut world = answered();
    world.ask("Second?");
    world.settles();
    again(&mut world, 0, Some("First, but better?"));
    world.settles();
    assert_eq!(world.questions(), ["First, but better?"]);
    let new = world.page.conversation.path()[0];
    let versions = world.page.conversation.versions(new);
    assert_eq!(versions.len(), 2);
    let turn = versions[0];
    world.person(Person::Shows { turn });
    assert_eq!(world.questions(), ["First?", "Second?"]);
    world.ask("Third?");
    world.settles();
    world.is_whole();
    let history = world.asks().pop().and_then(|ask| ask.history);
    assert_eq!(history.map(|turns| turns.len()), Some(2));
    // A reload keeps all of it.
    world.reload();
    assert_eq!(world.questions(), ["First?", "Second?", "Third?"]);
    let first = world.page.conversation.path()[0];
    assert_eq!(world.page.conversation.versions(first).len(), 2);
}

#[test]
fn asking_again_is_taken_back_and_stops_nothing_before_its_time() {
    let mut world = streaming();
    again(&mut world, 0, Some("Better?"));
    // It does not wait behind the answer that it replaces.
    let ask = world.asks().pop().expect("asked");
    assert!(ask.conversation.is_none() && ask.image.is_some());
    assert_eq!(told(&world), 0);
    undo(&mut world);
    assert_eq!(world.questions(), ["First?"]);
    // Only what was taken back is stopped.
    let cancelled = world.said.iter().rev().find_map(|message| match message {
        ClientMessage::Cancel(cancel) => cancel.request.clone(),
        _ => None,
    });
    assert_eq!(cancelled, Some(ask.request));
    world.settles();
    world.is_whole();
    let first = world.page.conversation.path()[0];
    assert_eq!(world.page.conversation.versions(first).len(), 1);
    // Not taken back, the answer that was replaced is stopped.
    let mut world = streaming();
    again(&mut world, 0, None);
    world.passes(UNDO_MS);
    assert_eq!(told(&world), 1);
}

#[test]
fn a_question_that_failed_is_asked_again_in_its_own_place() {
    let mut world = answered();
    world.ask("Second?");
    let request = world.asks().pop().expect("asked").request;
    let failure = Failure::new(ErrorCode::WorkerFailed, "Ask again.");
    world.page.conversation.failed(&request, failure);
    again(&mut world, 1, None);
    let turn = world.page.conversation.path()[1];
    assert_eq!(world.page.conversation.versions(turn), [turn]);
    assert!(world.page.undos.list.is_empty());
}

#[test]
fn a_deleted_conversation_stays_deleted() {
    let mut world = answered();
    let id = world.open.clone().expect("kept");
    world.person(Person::Deletes { id: id.clone() });
    assert!(world.questions().is_empty());
    assert!(world.store.contains_key(&id) && world.marked.contains_key(&id));
    assert_eq!(told(&world), 0);
    undo(&mut world);
    assert_eq!(world.questions(), ["First?"]);
    assert!(world.marked.is_empty());
    world.ask("Second?");
    world.settles();
    world.person(Person::Deletes { id: id.clone() });
    world.passes(UNDO_MS);
    assert!(world.store.is_empty());
    // Conversation and picture.
    assert_eq!(told(&world), 2);
}

#[test]
fn what_another_page_has_deleted_comes_back_only_as_a_copy() {
    let mut world = answered();
    let id = world.open.clone().expect("kept");
    world.store.remove(&id);
    world.ask("Second?");
    world.settles();
    assert!(world.store.is_empty());
    assert_eq!(*world.page.history.problem, Some(StoreProblem::Gone));
    world.person(Person::Copies);
    let (copy, (kept, _)) = world.store.iter().next().expect("kept");
    assert_ne!(*copy, id);
    assert_eq!(kept.turns.len(), 2);
}

#[test]
fn a_picture_that_nobody_asked_about_is_kept_as_long_as_it_is_there() {
    let mut world = World::new();
    world.bring(1_000);
    world.settles();
    assert_eq!(world.store.len(), 1);
    world.reload();
    assert_eq!(world.page.picture().map(|p| p.bytes), Some(1_000));
    world.settles();
    world.person(Person::Leaves);
    world.passes(UNDO_MS);
    assert!(world.store.is_empty());
}

#[test]
fn a_streaming_answer_goes_on_after_a_reload() {
    let mut world = streaming();
    let asked = world.asks().len();
    world.reload();
    world.settles();
    assert_eq!(world.asks().len(), asked);
    assert_eq!(world.phases(), ["done"]);
    world.is_whole();
    assert_eq!(said(&world, |m| matches!(m, ClientMessage::Upload(_))), 1);
    // The next ones take no number that the session knows.
    world.ask("Second?");
    world.bring(2_000);
    world.settles();
    world.is_whole();
}

#[test]
fn an_answer_whose_session_is_gone_is_asked_anew_after_a_reload() {
    let mut world = streaming();
    world.reload();
    world.server.restart();
    world.closed(1006);
    world.settles();
    assert_eq!(world.phases(), ["done"]);
    world.is_whole();
}

#[test]
fn failed_questions_stopped_answers_and_drafts_stay_over_a_reload() {
    let mut world = answered();
    world.ask("A long one, to be stopped");
    while world.answers()[1].is_empty() {
        let _ = world.up() | world.down() | world.server.step();
    }
    world.person(Person::Stops);
    world.settles();
    world.ask("One that fails?");
    let request = world.asks().pop().expect("asked").request;
    let failure = Failure::new(ErrorCode::WorkerFailed, "Ask again.");
    world.page.conversation.failed(&request, failure);
    world.person(Person::Types("Half a".into()));
    world.person(Person::Stops);
    world.reload();
    assert_eq!(world.phases(), ["done", "stopped", "failed"]);
    assert_eq!(*world.page.draft, "Half a");
}

#[test]
fn nothing_is_acknowledged_before_it_is_kept() {
    let mut world = answered();
    let acks = |world: &World| said(world, |m| matches!(m, ClientMessage::Ack(_)));
    let before = acks(&world);
    // The store takes its time.
    world.slow = true;
    world.ask("Second?");
    world.settles();
    assert_eq!(acks(&world), before);
    world.slow = false;
    let told = world.unheard.pop().expect("kept");
    world.apply(Input::Store(told));
    assert_eq!(acks(&world), before + 1);
}

#[test]
fn pages_of_one_browser_hear_of_each_other() {
    let mut world = answered();
    let id = world.open.clone().expect("kept");
    let hear = |world: &mut World, told| {
        world.apply(Input::Browser(Browser::TabMessage(told, id.clone())));
        *world.page.history.problem
    };
    // The one that was there first answers, and has no problem by that.
    assert_eq!(hear(&mut world, TabMessage::Opened), None);
    assert_eq!(world.told.last(), Some(&(TabMessage::Here, id.clone())));
    assert_eq!(
        hear(&mut world, TabMessage::Here),
        Some(StoreProblem::Elsewhere)
    );
    assert_eq!(hear(&mut world, TabMessage::Left), None);
    assert_eq!(
        hear(&mut world, TabMessage::Kept),
        Some(StoreProblem::Changed)
    );
    // What is asked now is not kept over what the other has made of it.
    let kept = world.store[&id].0.clone();
    world.ask("Second?");
    world.settles();
    assert_eq!(world.store[&id].0, kept);
    world.person(Person::Opens {
        id: id.clone(),
        when: 0.0,
    });
    assert_eq!(world.questions(), ["First?"]);
    assert_eq!(*world.page.history.problem, None);
}

#[test]
fn a_browser_that_keeps_nothing_is_told_of_once() {
    let mut world = answered();
    let id = world.open.clone().expect("kept");
    let event = world.page.connection.heard();
    for _ in 0..2 {
        let (id, why) = (id.clone(), StoreProblem::Refused);
        world.apply(Input::Store(Store::NotKept { id, event, why }));
    }
    assert_eq!(*world.page.history.problem, Some(StoreProblem::Refused));
    assert!(world.page.notices.shown.as_ref().is_some_and(|n| n.bad));
}

/// However long before the last ping it falls silent.
#[test]
fn a_silent_network_is_noticed_within_ten_seconds() {
    for after in [0.0, 1_000.0, 3_999.0] {
        let mut world = answered();
        world.passes(1_000.0);
        while world.up() | world.down() {}
        world.passes(after);
        let began = world.ms;
        world.deaf = true;
        while *world.page.connection.link == Link::Online {
            world.passes(50.0);
            assert!(world.ms - began < 10_000.0);
        }
        world.deaf = false;
        world.settles();
        world.is_whole();
    }
}

#[test]
fn a_page_that_stood_still_takes_no_connection_for_dead() {
    let mut world = answered();
    let generation = world.generation;
    // The timer comes late, and what was heard in the meantime after it.
    world.apply(Input::Browser(Browser::Offline));
    let asked = world.ms;
    world.ms += 60_000.0;
    world.apply(Input::Clock(crate::core::effect::Timer::Pong {
        generation,
        asked,
        due: asked + 2_000.0,
    }));
    assert_eq!(*world.page.connection.link, Link::Online);
}

/// The region in the middle of the picture.
fn look_closer(world: &mut World) {
    let region = Region {
        x: 100.0,
        y: 100.0,
        width: 200.0,
        height: 40.0,
    };
    let when = world.ms;
    world.person(Person::LooksCloser { region, when });
}

#[test]
fn looking_closer_begins_a_conversation_of_its_own_and_the_one_before_goes_on() {
    let mut world = streaming();
    let whole = world.page.history.id().unwrap().to_owned();
    let turn = world.page.conversation.path()[0];
    look_closer(&mut world);
    world.settles();
    assert!(world.questions().is_empty());
    let crop = world.page.picture().unwrap().crop.clone().unwrap();
    assert_eq!((crop.parent, crop.turn), (Some(whole.clone()), Some(turn)));
    assert_eq!((crop.region.height, crop.of), (100.0, (640, 480)));
    // It is looked at before anything is asked of it, and nothing was said of it before.
    assert_eq!(world.page.picture().unwrap().phase.name(), "ready");
    world.ask("What does it say?");
    world.settles();
    let ask = world.asks().pop().unwrap();
    assert_eq!((ask.history, ask.conversation), (None, None));
    world.is_whole();
    // Long after what can be undone: nobody was told that an answer is not wanted.
    world.passes(10.0 * UNDO_MS);
    assert_eq!(told(&world), 0);
    world.person(Person::ShowsWhole { when: world.ms });
    world.settles();
    assert_eq!(world.questions(), ["First?"]);
    assert_eq!(world.page.history.id(), Some(&*whole));
    world.is_whole();
}

#[test]
fn a_part_of_a_picture_is_one_after_a_reload_too() {
    let mut world = answered();
    look_closer(&mut world);
    world.settles();
    world.ask("What does it say?");
    world.settles();
    let crop = world.page.picture().unwrap().crop.clone().unwrap();
    world.reload();
    world.settles();
    let again = world.page.picture().unwrap().crop.clone().unwrap();
    assert_eq!((again.region, again.parent), (crop.region, crop.parent));
    world.person(Person::ShowsWhole { when: world.ms });
    world.settles();
    assert_eq!(world.questions(), ["First?"]);
    assert!(world.page.picture().unwrap().crop.is_none());
}

#[test]
fn what_can_not_be_cut_out_changes_nothing() {
    let mut world = answered();
    let region = Region::default();
    world.person(Person::LooksCloser { region, when: 0.0 });
    world.settles();
    assert_eq!(world.questions(), ["First?"]);
    look_closer(&mut world);
    let of = world.page.picture().unwrap().id;
    world.apply(Input::Worker(Worker::NotCropped { of }));
    world.settles();
    assert_eq!(world.questions(), ["First?"]);
    assert!(world.page.cropping.is_none() && world.page.notices.shown.is_some());
}
