//! Single scenes, each told once.

use wire::{ClientMessage, ErrorCode, Failure, ServerEnvelope, ServerMessage, close};

use super::{server::WINDOW, world::World};
use crate::core::{
    Browser, Input, Person, Socket, Store, Worker,
    connection::Link,
    picture::NewPicture,
    settings::{Scaling, Settings},
    state::told,
    turn::Turn,
    undo::UNDO_MS,
};
use crate::i18n::Lang;

fn error(code: ErrorCode) -> wire::Error {
    Failure::new(code, "words").into()
}

fn nth(world: &World, at: usize) -> &Turn {
    let mut turns = world.page.conversation.turns();
    turns.nth(at).expect("so many turns")
}

#[test]
fn a_question_without_a_picture_stays_a_draft() {
    let mut world = World::new();
    world.ask("What is it?");
    assert_eq!(*world.page.draft, "What is it?");
    assert!(world.questions().is_empty());
    assert!(world.page.notices.shown.as_ref().is_some_and(|n| n.bad));
    world.passes(6_000.0);
    assert_eq!(*world.page.notices.shown, None);
    world.bring(1_000);
    world.person(Person::Sends { when: 0.0 });
    assert_eq!(*world.page.draft, "");
    assert_eq!(world.questions(), ["What is it?"]);
}

#[test]
fn questions_of_an_unnamed_conversation_wait_for_its_name() {
    let mut world = World::pictured();
    world.ask("First?");
    world.ask("Second?");
    assert_eq!(world.asks().len(), 1);
    assert!(world.asks()[0].conversation.is_none() && world.asks()[0].image.is_some());
    world.settles();
    let second = &world.asks()[1];
    assert!(second.conversation.is_some() && second.history.is_none() && second.image.is_none());
}

#[test]
fn an_edited_question_drops_what_came_after_it_and_tells_what_came_before() {
    let mut world = World::pictured();
    for question in ["First?", "Second?", "Third?"] {
        world.ask(question);
        world.settles();
    }
    let turn = world.page.conversation.path()[1];
    world.person(Person::AsksAgain {
        turn,
        text: Some("Second, but better?".into()),
        when: 0.0,
    });
    assert_eq!(world.questions(), ["First?", "Second, but better?"]);
    world.settles();
    let last = world.asks().pop().expect("asked");
    assert_eq!(last.history.map(|turns| turns.len()), Some(1));
    world.is_whole();
}

#[test]
fn a_question_asked_again_while_another_is_answered_waits_for_its_end() {
    let mut world = World::pictured();
    world.ask("First?");
    world.ask("Second?");
    while world.answers()[0].is_empty() {
        let _ = world.up() | world.down() | world.server.step();
    }
    let turn = world.page.conversation.path()[1];
    let (text, when) = (None, 0.0);
    world.person(Person::AsksAgain { turn, text, when });
    world.settles();
    assert_eq!(world.phases(), ["done", "done"]);
    let last = world.asks().pop().expect("asked");
    assert_eq!(last.history.map(|turns| turns.len()), Some(1));
    world.is_whole();
}

#[test]
fn a_loading_server_is_asked_again_by_itself_and_not_before_it_said() {
    let mut world = World::pictured();
    world.server.loading = world.ms + 100.0;
    world.ask("First?");
    while world.up() | world.down() {}
    assert_eq!(world.phases(), ["unsent"]);
    world.passes(299.0);
    assert_eq!(world.asks().len(), 1);
    world.passes(1.0);
    assert_eq!(world.asks().len(), 2);
    world.settles();
    world.is_whole();
}

#[test]
fn nothing_is_sent_to_a_server_that_takes_no_questions() {
    let mut world = World::pictured();
    let status = |state| {
        ServerMessage::Status(Box::new(wire::Status {
            state,
            ..wire::Status::default()
        }))
    };
    world.says(status(wire::State::Draining));
    world.ask("First?");
    assert!(world.asks().is_empty());
    assert_eq!(world.phases(), ["unsent"]);
    world.says(status(wire::State::Ready));
    assert_eq!(world.asks().len(), 1);
}

#[test]
fn what_the_checkpoint_does_by_itself_is_known_once_it_is_loaded() {
    let mut world = World::new();
    let sampling = wire::Sampling {
        temperature: Some(0.7),
        ..wire::Sampling::default()
    };
    let model = wire::Model {
        demo: true,
        ..wire::Model::default()
    };
    let ready = wire::Status {
        state: wire::State::Ready,
        model: Some(model),
        sampling: Some(sampling.clone()),
        ..wire::Status::default()
    };
    // An older server says nothing of it, and so nothing changes.
    for (status, known) in [
        (wire::Status::default(), false),
        (ready, true),
        (wire::Status::default(), true),
    ] {
        world.says(ServerMessage::Status(Box::new(status)));
        assert_eq!(*world.page.sampling == sampling, known);
        assert_eq!(world.page.model.as_ref().is_some_and(|m| m.demo), known);
    }
}

#[test]
fn a_picture_that_the_server_has_lost_is_sent_again_when_it_is_asked_about() {
    let mut world = World::pictured();
    world.ask("First?");
    let request = Some(world.asks()[0].request.clone());
    world.says(ServerMessage::Error(wire::Error {
        request,
        ..error(ErrorCode::ImageGone)
    }));
    assert_eq!(world.phases(), ["failed"]);
    assert_eq!(*world.page.notices.aloud, "words");
    let turn = world.page.conversation.path()[0];
    let (text, when) = (None, 0.0);
    world.person(Person::AsksAgain { turn, text, when });
    let again = world.asks().pop().expect("asked");
    assert_eq!((again.upload, again.image), (Some(2), None));
}

#[test]
fn no_more_is_on_the_way_than_the_window_takes() {
    let mut world = World::new();
    world.bring(1_500_000);
    for _ in 0..200 {
        let _ = world.up() | world.works();
        // Two messages: the greeting, and that the upload is accepted. Nothing of what has come is confirmed.
        if world.comes(|m| !matches!(m, ServerMessage::UploadProgress(_) | ServerMessage::Pong(_)))
        {
            world.down();
        }
    }
    assert_eq!(
        world.server.received(1).map(|(received, _)| received),
        Some(WINDOW)
    );
    world.settles();
    world.is_whole();
}

#[test]
fn the_same_picture_is_named_by_its_hash_and_not_sent() {
    let mut world = World::pictured();
    world.person(Person::Leaves);
    world.bring(1_000);
    world.works();
    let named = world.said.iter().rev().find_map(|message| match message {
        ClientMessage::Upload(upload) => Some(upload.sha256.is_some()),
        _ => None,
    });
    assert_eq!(named, Some(true));
    // Another one of the same length, or one that can't be read, is sent as it is.
    world.person(Person::Leaves);
    world.bring(1_000);
    let picture = world.page.picture().expect("there").id;
    world.apply(Input::Worker(Worker::Hashed {
        picture,
        sha256: None,
    }));
    assert_eq!(world.page.picture().map(|p| p.upload), Some(Some(3)));
}

#[test]
fn a_file_that_is_gone_fails_the_picture_and_the_next_one_works() {
    let mut world = World::new();
    while world.up() | world.down() {}
    world.bring(400_000);
    // The generations of a first announcement: opening, announcing.
    for generation in 0..8 {
        world.apply(Input::Worker(Worker::Unreadable { generation }));
    }
    assert!(world.page.picture().is_some_and(|p| p.failed().is_some()));
    assert!(matches!(world.said.last(), Some(ClientMessage::Cancel(_))));
    world.ask("What is it?");
    assert_eq!(*world.page.draft, "What is it?");
    world.bring(1_000);
    world.person(Person::Sends { when: 0.0 });
    world.settles();
    world.is_whole();
}

#[test]
fn a_picture_is_scaled_first_where_the_person_wants_it() {
    let mut world = World::new();
    world.settles();
    world.person(Person::Chooses(Settings {
        scaling: Scaling::Always,
        ..Settings::default()
    }));
    world.bring(400_000);
    world.ask("First?");
    let uploads = |world: &World| {
        let said = world.said.iter();
        said.filter(|m| matches!(m, ClientMessage::Upload(_)))
            .count()
    };
    assert_eq!(uploads(&world), 0);
    world.settles();
    assert_eq!(uploads(&world), 1);
    world.is_whole();
}

#[test]
fn a_conversation_of_the_store_that_comes_too_late_does_not_take_the_page() {
    let mut world = World::pictured();
    world.ask("First?");
    world.settles();
    let id = world.open.clone().expect("kept");
    world.person(Person::Leaves);
    world.passes(UNDO_MS);
    // The store takes its time, and the person has a picture of their own by then.
    let kept = world.store.remove(&id).expect("kept");
    world.person(Person::Opens {
        id: id.clone(),
        when: 0.0,
    });
    world.bring(2_000);
    world.ask("Mine?");
    world.apply(Input::Store(Store::Loaded {
        kept: Box::new(kept.0),
        picture: NewPicture::default(),
    }));
    assert_eq!(world.questions(), ["Mine?"]);
}

#[test]
fn a_conversation_is_opened_even_if_an_answer_of_another_ends_before_the_store_has_it() {
    let mut world = World::pictured();
    world.ask("First?");
    world.settles();
    let id = world.open.clone().expect("kept");
    world.bring(2_000);
    world.settles();
    world.passes(UNDO_MS);
    world.ask("Second?");
    let kept = world.store.remove(&id).expect("kept").0;
    world.person(Person::Opens { id, when: 0.0 });
    world.settles();
    assert_eq!(world.questions(), ["Second?"]);
    world.apply(Input::Store(Store::Loaded {
        kept: Box::new(kept),
        picture: NewPicture::default(),
    }));
    assert_eq!(world.questions(), ["First?"]);
}

#[test]
fn what_is_to_be_forgotten_is_told_even_after_a_cut() {
    let mut world = World::pictured();
    world.ask("First?");
    world.settles();
    world.closed(1006);
    world.person(Person::ForgetsAll);
    world.settles();
    world.passes(UNDO_MS);
    let forgets = world
        .said
        .iter()
        .filter(|m| matches!(m, ClientMessage::Forget(_)));
    assert_eq!(forgets.count(), 2);
    assert!(world.store.is_empty() && world.open.is_none());
}

#[test]
fn an_event_that_comes_twice_counts_once() {
    let mut world = World::pictured();
    world.ask("First?");
    while world.answers()[0].is_empty() {
        let _ = world.up() | world.down() | world.server.step();
    }
    let request = world.asks()[0].request.clone();
    let generation = world.generation;
    for event in [None, Some(1)] {
        let (index, text, request) = (1, "more".into(), request.clone());
        let message = ServerMessage::Token(wire::Token {
            request,
            index,
            text,
            tokens: Vec::new(),
        });
        let at = 0.0;
        world.apply(Input::Socket(Socket::Said {
            generation,
            envelope: Box::new(ServerEnvelope { at, event, message }),
            when: 0.0,
        }));
    }
    assert_eq!(world.answers()[0].matches("more").count(), 1);
}

#[test]
fn nothing_is_heard_of_an_older_connection_nor_before_the_resumed_session_greets() {
    let mut world = World::pictured();
    let old = world.generation;
    world.closed(1006);
    world.passes(1_000.0);
    assert!(world.generation > old);
    let failed = |generation| {
        Input::Socket(Socket::Said {
            generation,
            envelope: Box::new(ServerEnvelope {
                at: 0.0,
                event: None,
                message: ServerMessage::Status(Box::new(wire::Status {
                    state: wire::State::Failed,
                    ..wire::Status::default()
                })),
            }),
            when: 0.0,
        })
    };
    world.apply(failed(old));
    world.apply(failed(world.generation));
    assert_eq!(world.page.server.state, wire::State::Ready);
    world.settles();
    world.apply(failed(world.generation));
    assert_eq!(world.page.server.state, wire::State::Failed);
}

#[test]
fn a_key_is_asked_for_and_waited_for() {
    let mut world = World::new();
    world.closed(close::UNAUTHORIZED);
    assert_eq!(*world.page.connection.link, Link::NeedsKey(false));
    // Whoever types a key has all the time in the world.
    world.passes(60_000.0);
    assert_eq!(
        (world.generation, &*world.page.connection.link),
        (1, &Link::NeedsKey(false))
    );
    world.person(Person::GivesKey("wrong".into()));
    assert!(matches!(
        world.said.last(),
        Some(ClientMessage::Hello(hello)) if hello.token.as_deref() == Some("wrong")
    ));
    world.closed(close::UNAUTHORIZED);
    assert_eq!(*world.page.connection.link, Link::NeedsKey(true));
}

#[test]
fn a_session_taken_over_comes_back_only_when_it_is_wanted() {
    let mut world = World::pictured();
    world.closed(close::TAKEN_OVER);
    world.passes(60_000.0);
    world.apply(Input::Browser(Browser::Awake));
    assert_eq!(*world.page.connection.link, Link::TakenOver);
    world.person(Person::Connects);
    world.settles();
    assert_eq!(*world.page.connection.link, Link::Online);
}

#[test]
fn another_version_of_the_protocol_asks_for_a_reload_and_is_left_alone() {
    let mut world = World::new();
    world.up();
    let mut welcome = match world.server.said.remove(0).message {
        ServerMessage::Welcome(welcome) => welcome,
        other => panic!("{other:?}"),
    };
    welcome.protocol = "glimpse.v2".into();
    world.says(ServerMessage::Welcome(welcome));
    world.closed(1006);
    world.passes(60_000.0);
    assert_eq!(
        (world.generation, &*world.page.connection.link),
        (1, &Link::Outdated)
    );
}

#[test]
fn a_full_server_is_tried_again_when_it_said() {
    let mut world = World::new();
    let busy = wire::Error {
        failure: Failure::new(ErrorCode::Busy, "Full.").retry_after(3_000.0),
        ..error(ErrorCode::Busy)
    };
    world.says(ServerMessage::Error(busy));
    world.closed(4429);
    let until = world.ms + 3_000.0;
    assert_eq!(
        *world.page.connection.link,
        Link::Refused {
            why: "Full.".into(),
            until
        }
    );
    world.passes(2_999.0);
    assert_eq!(world.generation, 1);
    world.passes(1.0);
    assert_eq!(world.generation, 2);
    world.settles();
    assert_eq!(*world.page.connection.link, Link::Online);
}

#[test]
fn tries_grow_further_apart_and_why_nothing_opens_is_found_out() {
    let mut world = World::new();
    let generation = world.generation;
    world.apply(Input::Socket(Socket::Closed {
        generation,
        code: Some(1006),
    }));
    world.apply(Input::Socket(Socket::Barred {
        generation: world.generation,
        status: 403,
        why: Some("This page is not known here.".into()),
    }));
    let why = Link::Barred("This page is not known here.".into());
    assert_eq!(*world.page.connection.link, why);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (before, began) = (world.generation, world.ms);
        world.closed(1006);
        while world.generation == before {
            world.passes(10.0);
        }
        waits.push(world.ms - began);
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!(waits.last(), Some(&5_000.0));
    assert_eq!(*world.page.connection.link, why);
}

#[test]
fn events_are_acknowledged_in_hundreds_and_with_each_answer() {
    let mut world = World::pictured();
    world.ask("First?");
    world.settles();
    let acks: Vec<_> = world
        .said
        .iter()
        .filter_map(|message| match message {
            ClientMessage::Ack(ack) => Some(ack.event),
            _ => None,
        })
        .collect();
    assert_eq!(acks.len(), 1);
    assert!(acks[0] > 5);
}

#[test]
fn the_first_word_is_timed_from_the_click_to_the_screen() {
    let mut world = World::pictured();
    world.person(Person::Asks {
        text: "First?".into(),
        when: world.ms,
    });
    world.settles();
    let turn = world.page.conversation.path()[0];
    let clicked = nth(&world, 0).times.clicked;
    world.passes(40.0);
    world.apply(Input::Browser(Browser::Drawn { turn }));
    assert_eq!(*world.page.first_words, [world.ms - clicked]);
    let times = &nth(&world, 0).times;
    assert!(times.first.is_some() && times.done.is_some() && times.picture.is_some());
}

#[test]
fn a_failure_is_told_in_the_persons_language() {
    let failure = Failure::new(
        ErrorCode::Busy,
        "The queue is full: 64 questions wait already.",
    );
    assert_eq!(told(&failure, Lang::En), failure.message);
    assert!(told(&failure, Lang::Zh).starts_with("服务器太忙"));
    // What nobody can do anything about stays as it was said.
    let failure = Failure::new(ErrorCode::BadJson, "No JSON.");
    assert_eq!(told(&failure, Lang::Zh), "No JSON.");
}
