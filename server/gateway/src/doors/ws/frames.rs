//! Looks at the WebSocket frames' headers as their bytes come in, before anything is collected.
//!
//! The decoder behind it judges a frame when all of it is there; a frame that claims a gigabyte must end the connection
//! at its header instead.

/// How a frame breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A rule of RFC 6455.
    Protocol,
    /// The frame, or its message, is too big.
    Size,
}

/// The most bytes that a control frame may have (RFC 6455, 5.5).
const MAX_CONTROL: u64 = 125;

/// What each fragment of an unfinished message takes beside its bytes, where they are collected: a handle, in a list that
/// doubles, and the frame's header, which is kept with them.
const FRAGMENT: u64 = 80;

/// Walks over frames, given in pieces of any size.
pub struct FrameGuard {
    /// The most bytes of a message, over all its frames.
    pub message_bytes: u64,
    header: [u8; 14],
    header_len: usize,
    /// Bytes of the present frame's payload still to come.
    payload: u64,
    /// The present frame's payload is part of a message, which ends with it or goes on.
    part: Part,
    /// Bytes of the present message in frames before this one; `None` between messages.
    message: Option<u64>,
    /// Bytes that the present message takes so far.
    arrived: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Control,
    More,
    Last,
}

impl FrameGuard {
    pub fn new(message_bytes: u64) -> Self {
        FrameGuard {
            message_bytes,
            header: [0; 14],
            header_len: 0,
            payload: 0,
            part: Part::Control,
            message: None,
            arrived: 0,
        }
    }

    /// Bytes that a message takes which is not whole yet: those that have come, and what is noted of each frame.
    pub fn pending(&self) -> u64 {
        self.arrived
    }

    /// Reads on.
    ///
    /// # Errors
    /// How many of the bytes are before the frame that may not be, and how it breaks the rules.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), (usize, FrameError)> {
        let mut at = 0;
        let mut good = 0;
        while at < bytes.len() {
            if self.payload > 0 {
                let here = usize::try_from(self.payload)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                self.payload -= here as u64;
                self.arrive(here as u64);
                at += here;
                good = at;
                continue;
            }
            self.header[self.header_len] = bytes[at];
            self.header_len += 1;
            at += 1;
            if self.header_len >= 2 && self.header_len == self.needed() {
                self.header_len = 0;
                self.frame().map_err(|code| (good, code))?;
                if self.payload == 0 {
                    self.arrive(0);
                    good = at;
                }
            }
        }
        Ok(())
    }

    /// So many bytes of the present frame's payload have come.
    fn arrive(&mut self, bytes: u64) {
        self.arrived = match self.part {
            Part::Control => self.arrived,
            Part::Last if self.payload == 0 => 0,
            Part::More if self.payload == 0 => self.arrived + bytes + FRAGMENT,
            Part::More | Part::Last => self.arrived + bytes,
        };
    }

    /// The header's length, by its first two bytes.
    fn needed(&self) -> usize {
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        2 + length + mask
    }

    /// Judges a whole header.
    fn frame(&mut self) -> Result<(), FrameError> {
        let [first, second, ..] = self.header;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10]
                .iter()
                .fold(0, |length, byte| (length << 8) | u64::from(*byte)),
            short => u64::from(short),
        };
        let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let masked = second & 0x80 != 0;
        if reserved != 0 || !masked || length > u64::MAX >> 1 {
            return Err(FrameError::Protocol);
        }
        match opcode {
            0x8..=0xa => {
                if !last || length > MAX_CONTROL {
                    return Err(FrameError::Protocol);
                }
                self.part = Part::Control;
            }
            0x0..=0x2 => {
                let before = match (opcode, self.message) {
                    (0, Some(before)) => before,
                    (1 | 2, None) => 0,
                    _ => return Err(FrameError::Protocol),
                };
                // Every frame counts for a byte at least, so that empty ones come to an end too.
                let message = before + length.max(1);
                if length > self.message_bytes || message > self.message_bytes {
                    return Err(FrameError::Size);
                }
                self.message = (!last).then_some(message);
                self.part = if last { Part::Last } else { Part::More };
            }
            _ => return Err(FrameError::Protocol),
        }
        self.payload = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            middle @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    /// Reads all at once and byte by byte, which must agree.
    fn read(bytes: &[u8]) -> Result<usize, (usize, FrameError)> {
        let whole = FrameGuard::new(100_000).read(bytes).map(|()| bytes.len());
        let mut guard = FrameGuard::new(100_000);
        let single = bytes
            .iter()
            .try_for_each(|byte| guard.read(&[*byte]))
            .map_err(|(_, code)| code);
        assert_eq!(whole.map(drop).map_err(|(_, code)| code), single);
        whole
    }

    #[test]
    fn good_frames_pass() {
        let frames = [
            frame(0x81, b"{}"),
            frame(0x82, &[0; 65_540]),
            frame(0x01, &[0; 200]),
            frame(0x89, b"ping"),
            frame(0x00, &[0; 300]),
            frame(0x80, b""),
            frame(0x88, b""),
        ]
        .concat();
        assert_eq!(read(&frames), Ok(frames.len()));
    }

    #[test]
    fn what_has_come_of_a_message_is_known() {
        let mut guard = FrameGuard::new(100_000);
        let mut pending = |bytes: &[u8]| {
            guard.read(bytes).unwrap();
            guard.pending()
        };
        let (first, last) = (frame(0x01, &[0; 300]), frame(0x80, &[0; 40]));
        assert_eq!(pending(&first[..100]), 100 - 8);
        assert_eq!(pending(&first[100..]), 300 + FRAGMENT);
        // Between its parts.
        assert_eq!(pending(&frame(0x89, b"ping")), 300 + FRAGMENT);
        assert_eq!(pending(&last[..10]), 304 + FRAGMENT);
        assert_eq!(pending(&last[10..]), 0);
        assert_eq!(pending(&frame(0x01, b"{")), 1 + FRAGMENT);
        assert_eq!(pending(&frame(0x80, b"")), 0);
    }

    #[test]
    fn bad_frames_end_the_connection_after_what_was_good() {
        let good = frame(0x81, b"{}");
        let unmasked = vec![0x81, 2, b'{', b'}'];
        let mut huge = vec![0x82, 0xff];
        huge.extend((1u64 << 40).to_be_bytes());
        huge.extend([0; 4]);
        for (bad, code) in [
            (unmasked, FrameError::Protocol),
            (frame(0xc1, b"{}"), FrameError::Protocol),
            (frame(0x83, b"{}"), FrameError::Protocol),
            (frame(0x80, b"{}"), FrameError::Protocol),
            (frame(0x09, b"{}"), FrameError::Protocol),
            (frame(0x89, &[0; 126]), FrameError::Protocol),
            (huge, FrameError::Size),
            (frame(0x81, &[b' '; 100_001]), FrameError::Size),
        ] {
            let bytes = [good.clone(), bad].concat();
            assert_eq!(read(&bytes), Err((good.len(), code)));
        }
        let parts = [frame(0x01, &[0; 60_000]), frame(0x80, &[0; 60_000])].concat();
        assert!(matches!(read(&parts), Err((_, FrameError::Size))));
        let crumbs = [frame(0x01, b""), frame(0x00, b"").repeat(100_000)].concat();
        assert!(matches!(read(&crumbs), Err((_, FrameError::Size))));
    }
}
