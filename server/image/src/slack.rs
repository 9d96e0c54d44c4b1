//! Buffers with room beyond their end.

/// Bytes that are always there after a buffer's pixels, for loads that reach beyond the last of them.
pub(super) const SLACK: usize = 64;

/// The first `len` bytes of `buffer`, grown if need be, with [`SLACK`] after them; what they hold is left over from
/// before.
pub(super) fn at_least(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len + SLACK {
        // Not `resize`: what is there need not be copied along, nor kept until then.
        *buffer = Vec::new();
        *buffer = vec![0; len + SLACK];
    }
    &mut buffer[..len]
}
