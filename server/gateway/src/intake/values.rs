//! How much JSON may hold before any of it is kept.

use memchr::memchr2;

/// Values that one message or request may have, told by what separates them: each takes far more memory than text, up to 700
/// bytes for one of three characters.
pub const MAX_VALUES: usize = 32_768;

/// Whether there are more than [`MAX_VALUES`]: brackets, commas and colons outside of strings are counted.
pub fn has_many_values(json: &[u8]) -> bool {
    let (mut values, mut rest) = (0, json);
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => behind_string(after),
            b'{' | b'[' | b',' | b':' => {
                values += 1;
                after
            }
            _ => after,
        };
        if values > MAX_VALUES {
            return true;
        }
    }
    false
}

/// What follows the string whose content this begins with; in long ones, such as pictures, nothing else is looked at.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', text) {
        let escaped = text[at] == b'\\';
        text = text
            .get(at + 1 + usize::from(escaped)..)
            .unwrap_or_default();
        if !escaped {
            return text;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_values_counts_but_not_in_strings() {
        let list = |count: usize| format!("[{}1]", "1,".repeat(count));
        assert!(!has_many_values(list(MAX_VALUES - 1).as_bytes()));
        assert!(has_many_values(list(MAX_VALUES).as_bytes()));
        let text = format!(r#"["\"{}\\",1]"#, ",:[{".repeat(MAX_VALUES));
        assert!(!has_many_values(text.as_bytes()));
        let behind = format!(r#"["\\",{}]"#, "[".repeat(MAX_VALUES));
        assert!(has_many_values(behind.as_bytes()));
        assert!(!has_many_values(br#"["open \"#));
    }
}
