//! What the fuzz target for the tokenizer begins with, has learnt and has found, without a fuzzer.

#[path = "../../../fuzz/checks/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/checks/tokenizer.rs"]
mod tokenizer;

use crate::text::Tokenizer;

#[test]
fn tokens_spell_the_text() {
    for (path, data) in inputs::inputs("tokenizer", &["fuzz/seeds/tokenizer"]) {
        println!("{}", path.display());
        if let Ok(text) = std::str::from_utf8(&data) {
            tokenizer::check(text);
        }
    }
}
