//! A cut anywhere is healed: the same conversation, broken off at every single message.

use wire::ClientMessage;

use super::world::World;
use crate::core::Person;

#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The browser tells.
    TabMessage,
    /// The connection is dead, and nobody tells.
    Silent,
    /// The server begins anew, too.
    Restart,
}

/// Two questions about a picture, cut after so many messages both ways; `false` if there were not so many.
fn conversation(cut: Cut, after: usize) -> bool {
    let mut world = World::new();
    world.bring(400_000);
    world.ask("First?");
    world.ask("Second?");
    let mut messages = 0;
    let mut quiet = 0;
    while messages < after {
        let moved = world.up() || world.down();
        messages += usize::from(moved);
        let worked = world.works() | world.server.step();
        quiet = if moved || worked { 0 } else { quiet + 1 };
        world.passes(if moved || worked { 1.0 } else { 50.0 });
        // The pings that follow a greeting are over.
        if quiet > 40 {
            return false;
        }
    }
    match cut {
        Cut::TabMessage => world.closed(1006),
        Cut::Silent => world.cut(),
        Cut::Restart => {
            world.server.restart();
            world.closed(1006);
        }
    }
    world.settles();
    world.is_whole();
    assert_eq!(world.questions(), ["First?", "Second?"]);
    assert_eq!(world.phases(), ["done", "done"]);
    // What the server has heard is not asked again, but where it knows nothing any more.
    let mut texts: Vec<_> = world.server.asked.iter().map(|(_, text)| text).collect();
    texts.sort();
    if cut != Cut::Restart {
        assert_eq!(texts, ["First?", "Second?"]);
    }
    let mut uploads = world.said.iter().filter_map(|message| match message {
        ClientMessage::Upload(upload) => Some(upload.upload),
        _ => None,
    });
    if cut != Cut::Restart {
        assert!(uploads.all(|number| number == 1));
    }
    true
}

fn everywhere(cut: Cut) {
    let cuts = (0..).take_while(|after| conversation(cut, *after)).count();
    assert!(cuts > 30, "{cuts}");
}

#[test]
fn a_connection_that_breaks_anywhere_goes_on_where_it_was() {
    everywhere(Cut::TabMessage);
}

#[test]
fn a_connection_that_dies_in_silence_is_noticed_and_goes_on() {
    everywhere(Cut::Silent);
}

#[test]
fn a_server_that_begins_anew_anywhere_is_told_all_of_it() {
    everywhere(Cut::Restart);
}

/// Wherever the connection breaks after a "stop", the answer stays stopped, and the question is never asked again.
#[test]
fn what_was_stopped_stays_stopped() {
    for restart in [false, true] {
        for after in 0..24 {
            let mut world = World::new();
            world.bring(1_000);
            world.ask("A long one, to be stopped");
            for _ in 0..after {
                let _ = world.up() | world.down() | world.works();
                world.server.step();
            }
            if !world.page.conversation.running() {
                break;
            }
            let asked = world.server.asked.len();
            world.person(Person::Stops);
            if restart {
                world.server.restart();
            }
            world.closed(1006);
            world.settles();
            let phase = world.phases()[0];
            // Its last word may have been on the way already.
            assert!(phase == "stopped" || phase == "done", "{phase}");
            if restart {
                assert_eq!(phase, "stopped");
                assert_eq!(world.server.asked.len(), asked);
            }
            world.is_whole();
        }
    }
}
