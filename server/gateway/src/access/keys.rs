//! The API keys that a server takes, and what limits each.

use std::path::PathBuf;

use crate::intake::KeyId;

/// What is refused beyond; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GuestLimits {
    /// Connections at once.
    pub connections: Option<u32>,
    pub connects_per_minute: Option<u32>,
    pub asks_per_minute: Option<u32>,
}

/// An API key of the key file.
#[derive(Debug)]
pub struct Key {
    pub(super) id: KeyId,
    pub(super) limits: GuestLimits,
}

impl Key {
    /// Reads a key file: a key a line, then what limits it, as `connections=4 connects=30 asks=60` (the latter two a
    /// minute); `#` begins a comment.
    ///
    /// # Errors
    /// A sentence that names the line, never the key.
    pub fn read_all(file: &str, defaults: GuestLimits) -> Result<Vec<Key>, String> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in file.lines().enumerate() {
            // A byte order mark may stand wherever files were joined.
            let line = line.trim_start_matches('\u{feff}');
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(key) = words.next() else { continue };
            let at = |problem: &str| format!("line {} of the key file {problem}", index + 1);
            if key.len() < 16 {
                return Err(at(
                    "has a key of fewer than 16 characters, which can be guessed: `openssl rand -hex 24` makes a good one",
                ));
            }
            if key.chars().any(|c| c.is_control() || c == '\u{feff}') {
                return Err(at("has a key that can't be typed: save the file as UTF-8"));
            }
            let mut limits = defaults;
            for word in words {
                let setting = word
                    .split_once('=')
                    .and_then(|(name, value)| Some((name, value.parse().ok()?)));
                match setting {
                    Some(("connections", most)) => limits.connections = Some(most),
                    Some(("connects", most)) => limits.connects_per_minute = Some(most),
                    Some(("asks", most)) => limits.asks_per_minute = Some(most),
                    _ => {
                        return Err(at(
                            "has a limit that is none of connections=N, connects=N, asks=N",
                        ));
                    }
                }
            }
            let id = KeyId::of(key);
            if keys.iter().any(|known| known.id == id) {
                return Err(at("repeats a key"));
            }
            keys.push(Key { id, limits });
        }
        if keys.is_empty() {
            return Err("the key file has no key: give it one a line".into());
        }
        Ok(keys)
    }
}

/// Where the keys are, and what limits those that bring no limits of their own.
pub struct KeyFile {
    pub path: PathBuf,
    pub defaults: GuestLimits,
}

impl KeyFile {
    /// # Errors
    /// A sentence about the file, or about a line of it.
    pub fn read(&self) -> Result<Vec<Key>, String> {
        let bytes = std::fs::read(&self.path).map_err(|problem| {
            let path = self.path.display();
            format!("--api-key-file {path} can't be read ({problem})")
        })?;
        Key::read_all(&text(&bytes)?, self.defaults)
    }
}

/// A file's text, whatever its editor put in front of it: a byte order mark is no part of it.
fn text(bytes: &[u8]) -> Result<String, String> {
    let utf16 = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..]
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => from([*a, *b]),
                // Half a character is none.
                _ => 0xd800,
            })
            .collect();
        String::from_utf16(&units).ok()
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => String::from_utf8(bytes.into()).ok(),
    };
    text.ok_or_else(|| "the key file is no text: save it as UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(file: &str) -> Vec<Key> {
        Key::read_all(file, GuestLimits::default()).unwrap()
    }

    #[test]
    fn what_editors_put_into_key_files() {
        let (one, other) = ("abcdefghijklmnop", "ABCDEFGHIJKLMNOP");
        let plain = format!("{one} asks=2 \t\r\n{other}  \r\n");
        let utf16 = |bytes: fn(u16) -> [u8; 2]| {
            format!("\u{feff}{plain}")
                .encode_utf16()
                .flat_map(bytes)
                .collect::<Vec<u8>>()
        };
        for file in [
            plain.clone().into_bytes(),
            format!("\u{feff}{plain}").into_bytes(),
            format!("# joined\n\u{feff}{plain}").into_bytes(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            let read = keys(&text(&file).unwrap());
            let ids: Vec<_> = read.iter().map(|key| key.id).collect();
            assert_eq!(ids, [KeyId::of(one), KeyId::of(other)]);
        }
        assert!(text(b"\xff\xfea").is_err() && text(b"abcdefghijklmnop\xff").is_err());
        let without_mark: Vec<u8> = one.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let without_mark = text(&without_mark).unwrap();
        assert!(Key::read_all(&without_mark, GuestLimits::default()).is_err());
    }

    #[test]
    fn key_files_that_are_wrong() {
        for file in [
            "",
            "# nothing",
            "short",
            "abcdefghijklmnop asks=many",
            "abcdefghijklmnop\nabcdefghijklmnop",
        ] {
            let problem = Key::read_all(file, GuestLimits::default()).unwrap_err();
            assert!(!problem.contains("abcdef"), "{problem}");
        }
    }
}
