#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../checks/messages.rs"]
mod checks;
#[path = "../../server/gateway/src/doors/ws/codec.rs"]
mod codec;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| checks::check(text));
