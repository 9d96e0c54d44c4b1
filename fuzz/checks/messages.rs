//! Text frames: what is understood says the same when it is written and read again.

use super::codec;

pub fn check(text: &str) {
    match codec::decode(text) {
        Ok(message) => {
            let written = serde_json::to_string(&message).expect("messages are JSON");
            assert_eq!(codec::decode(&written), Ok(message));
        }
        Err(refusal) => assert!(!refusal.failure.message.is_empty()),
    }
}
