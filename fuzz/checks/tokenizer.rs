//! Any text: its tokens spell it, and none of them is a control token.

use std::sync::LazyLock;

use super::Tokenizer;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::from_files(
        include_bytes!("../../models/demo/tokenizer.model"),
        include_bytes!("../../models/demo/tokenizer_config.json"),
    )
    .expect("the demo checkpoint has a tokenizer")
});

pub fn check(text: &str) {
    let ids = TOKENIZER.encode(text).expect("any text has tokens");
    let mut spelled = Vec::new();
    for id in ids {
        assert!(!TOKENIZER.is_special(id), "{text:?} became a control token");
        spelled.extend_from_slice(TOKENIZER.token_bytes(id).expect("a token has bytes"));
    }
    assert_eq!(spelled, text.as_bytes());
}
