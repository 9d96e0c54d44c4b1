#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../checks/tokenizer.rs"]
mod checks;
#[path = "../../server/src/text/mod.rs"]
mod text;

use libfuzzer_sys::fuzz_target;
use text::Tokenizer;

fuzz_target!(|text: &str| checks::check(text));
