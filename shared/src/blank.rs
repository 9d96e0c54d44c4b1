//! Whether a text says anything.

use std::ops::RangeInclusive;

/// Characters that draw nothing, beside white space: Unicode's `Default_Ignorable_Code_Point`
/// (zero-width characters, variation selectors, fillers, tags) and format characters (`Cf`) but for those that stand
/// visibly before what follows (`Prepended_Concatenation_Mark`); and the empty Braille cell.
const INVISIBLE: [RangeInclusive<char>; 19] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Whether nothing of `text` can be seen: it is empty, or all of it is space or invisible.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(draws_nothing)
}

fn draws_nothing(c: char) -> bool {
    c.is_whitespace() || INVISIBLE.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_what_cannot_be_seen_is_blank() {
        for text in [
            "",
            " \t\r\n\u{a0}\u{3000}",
            "\u{200b}",
            "\u{200d}\u{200c}",
            "\u{2060}\u{feff}",
            "\u{ad}",
            "\u{202e} \u{2066}\u{2069}",
            "\u{fe0f}\u{e0100}",
            "\u{3164}\u{ffa0}\u{115f}\u{1160}",
            "\u{180e}\u{34f}\u{61c}",
            "\u{e0001}\u{e007f}",
            "\u{2800}",
            "\u{85}\u{2028}",
        ] {
            assert!(is_blank(text), "{text:?}");
        }
        for text in [
            "?",
            "\u{200b}a",
            "猫",
            "👨\u{200d}👩\u{200d}👧",
            "\0",
            "\u{301}",
            "\u{600}",
            "\u{6dd}",
            "\u{fffd}",
            "\u{e000}",
        ] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    #[test]
    fn the_table_is_unicodes() {
        let properties = regex::Regex::new(
            r"^[\u{2800}\p{White_Space}\p{Default_Ignorable_Code_Point}[\p{Cf}--\p{Prepended_Concatenation_Mark}]]$",
        )
        .unwrap();
        let mut buffer = [0; 4];
        for c in '\0'..=char::MAX {
            let text = c.encode_utf8(&mut buffer);
            assert_eq!(is_blank(text), properties.is_match(text), "{c:?}");
        }
    }
}
