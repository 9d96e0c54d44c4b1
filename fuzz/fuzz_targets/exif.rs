#![no_main]

#[allow(dead_code, reason = "each target makes one kind")]
#[path = "../checks/pictures/mod.rs"]
mod pictures;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    pictures::exif::check(data);
});
