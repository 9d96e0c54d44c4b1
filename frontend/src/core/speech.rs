//! What a screen reader is told of an answer that is still being written.

/// How much of `text` are whole sentences; all of it if the answer is `over`.
pub fn sentences(text: &str, over: bool) -> usize {
    if over {
        return text.len();
    }
    let next = text.chars().skip(1).map(Some).chain([None]);
    text.char_indices()
        .zip(next)
        .filter(|((_, c), next)| {
            matches!(c, '。' | '！' | '？' | '\n')
                || matches!(c, '.' | '!' | '?') && next.is_some_and(char::is_whitespace)
        })
        .map(|((at, c), _)| at + c.len_utf8())
        .last()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sentences_before_the_end() {
        let heard = |text| &text[..sentences(text, false)];
        assert_eq!(heard("Three cats. One is"), "Three cats.");
        assert_eq!(heard("It costs 3.5"), "");
        assert_eq!(heard("有三只猫。一只"), "有三只猫。");
        assert_eq!(heard("Why? Since! So."), "Why? Since!");
        assert_eq!(sentences("So", true), 2);
        assert_eq!(sentences("", false), 0);
    }
}
