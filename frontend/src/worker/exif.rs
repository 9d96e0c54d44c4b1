//! The thumbnail that cameras embed in a JPEG: on the screen before the photo itself is decoded.

/// The embedded thumbnail as a JPEG of its own, turned upright by the photo's orientation; `head` is the beginning of
/// the file. `None` where there is none, or where it is cut off.
pub fn thumbnail(head: &[u8]) -> Option<Vec<u8>> {
    let jpeg = metadata::jpeg_blocks(head).find_map(metadata::thumbnail)?;
    let orientation = metadata::orientation(head).unwrap_or(1);
    let rest = jpeg.strip_prefix(&[0xFF, 0xD8])?;
    let mut upright = vec![0xFF, 0xD8];
    // A segment that says no more than the orientation.
    upright.extend_from_slice(&[0xFF, 0xE1, 0, 34]);
    upright.extend_from_slice(b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0");
    upright.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    upright.extend_from_slice(rest);
    Some(upright)
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
        assert_eq!(metadata::orientation(&found), Some(6));
        let length = usize::from(u16::from_be_bytes([found[4], found[5]]));
        assert_eq!(found.len(), 2 + 2 + length + 2);
    }

    /// A photo is shown upright even where something else in its block is damaged: its thumbnail is left out.
    #[test]
    fn a_thumbnail_that_lies_nowhere_is_none() {
        let mut head = head();
        // The next directory's offset.
        head[34..38].copy_from_slice(&[0xFF; 4]);
        assert_eq!(thumbnail(&head), None);
        assert_eq!(metadata::orientation(&head), Some(6));
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
