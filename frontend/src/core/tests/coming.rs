//! Pictures that are still to come: what waits for them, and what is sent of them.

use super::world::World;
use crate::core::Person;
use crate::i18n::T;

/// As a picture to try, which has still to be fetched.
#[test]
fn what_is_asked_before_a_chosen_picture_is_there_waits_for_it() {
    let mut world = World::new();
    world.person(Person::Awaits { number: 1 });
    world.ask("What is it?");
    assert_eq!(
        (world.page.draft.as_str(), &*world.page.notices.shown),
        ("", &None)
    );
    // Chosen anew: that is what is asked about, and the first one, which comes later, is not wanted.
    world.person(Person::Awaits { number: 2 });
    world.ask("And why?");
    world.brings(1_000, Some(2));
    world.brings(2_000, Some(1));
    assert_eq!(world.questions(), ["What is it?", "And why?"]);
    assert_eq!(world.page.picture().map(|p| p.bytes), Some(1_000));
    world.settles();
    world.is_whole();
    // Where another conversation is on the page, that stays until the new picture is known to be one.
    world.person(Person::Awaits { number: 3 });
    world.ask("Of the new one?");
    world.brings(3_000, Some(3));
    assert_eq!(world.questions().len(), 2);
    world.settles();
    assert_eq!(world.questions(), ["Of the new one?"]);
    world.is_whole();
}

#[test]
fn what_was_asked_of_a_picture_that_does_not_come_is_a_draft_again() {
    for leaves in [false, true] {
        let mut world = World::new();
        world.person(Person::Awaits { number: 1 });
        world.ask("What is it?");
        world.person(Person::Types("And".into()));
        if leaves {
            world.person(Person::Leaves);
            world.brings(1_000, Some(1));
        }
        let why = T::Unreadable;
        world.person(Person::AwaitsInVain { number: 1, why });
        assert_eq!(*world.page.draft, "What is it?\nAnd");
        assert!(world.page.coming.is_none() && world.page.picture().is_none());
        // Whoever has left is told nothing of it.
        assert_eq!(world.page.notices.shown.is_none(), leaves);
    }
}

/// Before the first greeting, after a new session and over a reload.
#[test]
fn what_the_server_does_not_read_goes_as_a_copy_that_it_does() {
    let mut world = World::new();
    world.kind = "image/jxl".into();
    world.server.formats = vec!["png".into()];
    world.smaller = Some(400);
    world.bring(1_000);
    world.settles();
    world.ask("What is it?");
    world.settles();
    let received = |world: &World| {
        world
            .server
            .received(world.page.picture().unwrap().upload.unwrap())
    };
    assert_eq!(received(&world), Some((400, 400)));
    world.server.restart();
    world.closed(1006);
    world.settles();
    assert_eq!(received(&world), Some((400, 400)));
    world.reload();
    world.settles();
    assert_eq!(received(&world), Some((400, 400)));
    // The browser can't make one: the server says what it makes of the file.
    let mut world = World::new();
    world.kind = "image/jxl".into();
    world.server.formats = vec!["png".into()];
    world.bring(1_000);
    world.settles();
    assert_eq!(received(&world), Some((1_000, 1_000)));
}
