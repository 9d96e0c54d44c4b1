//! Any text: its tokens spell it, and none of them is a control token.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../server/src/text/mod.rs"]
mod text;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use text::Tokenizer;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::from_files(
        include_bytes!("../../models/demo/tokenizer.model"),
        include_bytes!("../../models/demo/tokenizer_config.json"),
    )
    .expect("the demo checkpoint has a tokenizer")
});

fuzz_target!(|text: &str| {
    let ids = TOKENIZER.encode(text).expect("any text has tokens");
    let mut spelled = Vec::new();
    for id in ids {
        assert!(!TOKENIZER.is_special(id), "{text:?} became a control token");
        spelled.extend_from_slice(TOKENIZER.token_bytes(id).expect("a token has bytes"));
    }
    assert_eq!(spelled, text.as_bytes());
});
