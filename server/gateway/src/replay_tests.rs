//! What the fuzz targets that need this crate's insides begin with, have learnt and have found, without a fuzzer.

#[path = "../../../fuzz/checks/frames.rs"]
mod frames;
#[path = "../../../fuzz/checks/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/checks/messages.rs"]
mod messages;

use crate::doors::ws::codec;
use crate::doors::ws::frames::FrameGuard;

/// Calls `check` with every input, whose file's name is there to read if it panics.
fn replay(target: &str, check: impl Fn(&[u8])) {
    for (path, data) in inputs::inputs(target, &[&format!("fuzz/seeds/{target}")]) {
        println!("{}", path.display());
        check(&data);
    }
}

/// Calls `check` where the input is text, as the fuzzer does.
fn replay_text(target: &str, check: impl Fn(&str)) {
    replay(target, |data| {
        if let Ok(text) = std::str::from_utf8(data) {
            check(text);
        }
    });
}

#[test]
fn frames_are_judged_alike_however_they_are_cut() {
    replay("frames", frames::check);
}

#[test]
fn messages_say_the_same_when_they_are_written_and_read_again() {
    replay_text("messages", messages::check);
}
