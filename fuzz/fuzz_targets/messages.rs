//! Text frames: what is understood says the same when it is written and read again.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../server/src/session/codec.rs"]
mod codec;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match codec::decode(text) {
        Ok(message) => {
            let written = serde_json::to_string(&message).expect("messages are JSON");
            assert_eq!(codec::decode(&written), Ok(message));
        }
        Err(refusal) => assert!(!refusal.message.is_empty()),
    }
});
