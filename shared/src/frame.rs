//! Binary frames: a piece of a picture. A 4-byte big-endian upload number, then bytes, in order.

/// Bytes before the payload.
pub const HEADER: usize = 4;
/// The most payload bytes in a frame.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The frame for `payload`, which must be 1 to [`MAX_PAYLOAD`] bytes.
pub fn encode(upload: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&upload.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The upload's number and the payload; `None` for a frame with no header, no payload or too much of it.
pub fn decode(frame: &[u8]) -> Option<(u32, &[u8])> {
    let (header, payload) = frame.split_first_chunk::<HEADER>()?;
    (1..=MAX_PAYLOAD)
        .contains(&payload.len())
        .then(|| (u32::from_be_bytes(*header), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        assert_eq!(encode(0x0102_0304, b"xy"), [1, 2, 3, 4, b'x', b'y']);
        assert_eq!(decode(&encode(7, b"abc")), Some((7, &b"abc"[..])));
        assert_eq!(decode(&[0, 0, 0]), None);
        assert_eq!(decode(&[0, 0, 0, 1]), None);
        assert!(decode(&encode(1, &vec![0; MAX_PAYLOAD])).is_some());
        assert_eq!(decode(&encode(1, &vec![0; MAX_PAYLOAD + 1])), None);
    }
}
