#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../checks/messages.rs"]
mod checks;
#[path = "../../server/gateway/src/doors/ws/codec.rs"]
mod codec;
#[path = "../../server/gateway/src/intake/values.rs"]
mod intake;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| checks::check(text));
