#![no_main]

#[allow(dead_code, reason = "what this target gets are files already")]
#[path = "../checks/pictures/mod.rs"]
mod pictures;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    pictures::check(data);
});
