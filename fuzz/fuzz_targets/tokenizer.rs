#![no_main]

#[path = "../checks/tokenizer.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;
use glimpse_model::text::Tokenizer;

fuzz_target!(|text: &str| checks::check(text));
