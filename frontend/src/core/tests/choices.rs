//! What the person chose, and what is sent of that.

use wire::ClientMessage;

use super::world::World;
use crate::core::{Person, settings::Settings};

#[test]
fn the_system_turn_goes_with_the_picture_and_with_every_question_and_none_is_said_once_there_was_one()
 {
    let mut world = World::new();
    world.settles();
    let choose = |world: &mut World, system: &str| {
        world.person(Person::Chooses(Settings {
            system: system.to_owned(),
            ..Settings::default()
        }));
    };
    choose(&mut world, " Answer in one word. ");
    world.bring(1_000);
    world.settles();
    world.ask("First?");
    world.settles();
    choose(&mut world, "");
    world.ask("Second?");
    world.settles();
    let announced = world.said.iter().find_map(|message| match message {
        ClientMessage::Upload(upload) => upload.system.as_deref(),
        _ => None,
    });
    assert_eq!(announced, Some("Answer in one word."));
    let said: Vec<_> = world.asks().into_iter().map(|ask| ask.system).collect();
    assert_eq!(
        said,
        [Some("Answer in one word.".to_owned()), Some(String::new())]
    );
    // It is kept with the turn.
    let (kept, _) = world.page.conversation.to_keep();
    let kept: Vec<_> = kept.into_iter().map(|turn| turn.system).collect();
    assert_eq!(kept, [Some("Answer in one word.".to_owned()), None]);
    // A conversation without one says nothing of it.
    let mut world = World::pictured();
    world.ask("First?");
    assert_eq!(world.asks()[0].system, None);
}

#[test]
fn a_system_turn_that_came_with_the_picture_and_is_not_wanted_any_more_is_taken_back() {
    let mut world = World::new();
    world.settles();
    let with = Settings {
        system: "Answer in one word.".to_owned(),
        ..Settings::default()
    };
    world.person(Person::Chooses(with));
    world.bring(1_000);
    world.settles();
    world.person(Person::Chooses(Settings::default()));
    world.ask("First?");
    assert_eq!(world.asks()[0].system.as_deref(), Some(""));
}
