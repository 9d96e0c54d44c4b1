//! The thumbnail that cameras embed in a JPEG: on the screen before the photo itself is decoded.

/// The embedded thumbnail as a JPEG of its own, turned upright by the photo's orientation; `head` is the beginning of
/// the file. `None` where there is none, or where it is cut off.
pub fn thumbnail(head: &[u8]) -> Option<Vec<u8>> {
    let tiff = Tiff::find(head)?;
    let first = tiff.u32(4)? as usize;
    let (orientation, second) = {
        let mut orientation = 1;
        let count = usize::from(tiff.u16(first)?);
        for entry in 0..count {
            let at = first + 2 + 12 * entry;
            if tiff.u16(at)? == 0x0112 {
                orientation = tiff.u16(at + 8)?;
            }
        }
        (orientation, tiff.u32(first + 2 + 12 * count)? as usize)
    };
    if second == 0 {
        return None;
    }
    let (mut begin, mut length) = (None, None);
    for entry in 0..usize::from(tiff.u16(second)?) {
        let at = second + 2 + 12 * entry;
        match tiff.u16(at)? {
            0x0201 => begin = Some(tiff.u32(at + 8)? as usize),
            0x0202 => length = Some(tiff.u32(at + 8)? as usize),
            _ => {}
        }
    }
    let begin = begin?;
    let jpeg = tiff.bytes.get(begin..begin.checked_add(length?)?)?;
    let rest = jpeg.strip_prefix(&[0xFF, 0xD8])?;
    let orientation = u8::try_from(orientation)
        .ok()
        .filter(|o| (1..=8).contains(o))?;
    let mut upright = vec![0xFF, 0xD8];
    // A segment that says no more than the orientation.
    upright.extend_from_slice(&[0xFF, 0xE1, 0, 34]);
    upright.extend_from_slice(b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0");
    upright.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    upright.extend_from_slice(rest);
    Some(upright)
}

/// The metadata block of a JPEG.
struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl<'a> Tiff<'a> {
    fn find(head: &'a [u8]) -> Option<Self> {
        let mut rest = head.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let [0xFF, marker, high, low, ..] = *rest else {
                return None;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            // Picture data begins: no metadata after it.
            if marker == 0xDA || length < 2 {
                return None;
            }
            let segment = rest.get(4..2 + length)?;
            if marker == 0xE1
                && let Some(bytes) = segment.strip_prefix(b"Exif\0\0")
            {
                let little = match bytes.get(..4)? {
                    b"II\x2A\0" => true,
                    b"MM\0\x2A" => false,
                    _ => return None,
                };
                return Some(Tiff { bytes, little });
            }
            rest = &rest[2 + length..];
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little {
            u16::from_le_bytes(*bytes)
        } else {
            u16::from_be_bytes(*bytes)
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little {
            u32::from_le_bytes(*bytes)
        } else {
            u32::from_be_bytes(*bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG's head with orientation 6 and the thumbnail `FF D8 01 02`, little endian.
    fn head() -> Vec<u8> {
        let mut tiff = b"II\x2A\0\x08\0\0\0".to_vec();
        tiff.extend_from_slice(&[1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 26, 0, 0, 0]);
        tiff.extend_from_slice(&[2, 0, 1, 2, 4, 0, 1, 0, 0, 0, 56, 0, 0, 0]);
        tiff.extend_from_slice(&[2, 2, 4, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        tiff.extend_from_slice(&[0xFF, 0xD8, 1, 2]);
        let mut head = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, (tiff.len() + 8) as u8];
        head.extend_from_slice(b"Exif\0\0");
        head.extend_from_slice(&tiff);
        head
    }

    #[test]
    fn finds_the_thumbnail_and_turns_it() {
        let found = thumbnail(&head()).unwrap();
        assert_eq!(found[..2], [0xFF, 0xD8]);
        assert_eq!(found[found.len() - 2..], [1, 2]);
        // What it writes it can read: the segment is well formed and carries the orientation.
        let tiff = Tiff::find(&found).unwrap();
        assert_eq!((tiff.u16(10), tiff.u16(18)), (Some(0x0112), Some(6)));
        let length = usize::from(u16::from_be_bytes([found[4], found[5]]));
        assert_eq!(found.len(), 2 + 2 + length + 2);
    }

    #[test]
    fn whatever_is_cut_off_or_strange_is_no_thumbnail() {
        let head = head();
        for end in 0..head.len() - 1 {
            assert_eq!(thumbnail(&head[..end]), None);
        }
        for at in 0..head.len() {
            for value in [0, 0x7F, 0xFF] {
                let mut bad = head.clone();
                bad[at] = value;
                thumbnail(&bad);
            }
        }
    }
}
