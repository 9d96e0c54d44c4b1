//! A file's SHA-256 as messages have it: 64 lower-case hex digits.

/// `None` for whatever is written otherwise.
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let is_upper = |byte: u8| byte.is_ascii_uppercase();
    let read = !text.bytes().any(is_upper) && hex::decode_to_slice(text, &mut hash).is_ok();
    read.then_some(hash)
}

/// Lower-case hex digits.
pub fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let digest = std::array::from_fn(|i| i as u8 * 7);
        assert_eq!(parse_sha256(&to_hex(&digest)), Some(digest));
        assert_eq!(parse_sha256(&"g".repeat(64)), None);
        assert_eq!(parse_sha256(&"A".repeat(64)), None);
        assert_eq!(parse_sha256("é"), None);
    }
}
