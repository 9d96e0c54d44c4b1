#![no_main]
#![allow(dead_code)]

#[path = "../checks/frames.rs"]
mod checks;
#[path = "../../server/gateway/src/doors/ws/frames.rs"]
mod frames;

use frames::FrameGuard;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| checks::check(data));
