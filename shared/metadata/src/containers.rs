//! Where the EXIF block lies in a JPEG, PNG, WebP or TIFF file.

use super::tiff::{orientation_of_block, orientation_of_tiff};

/// The EXIF orientation of a JPEG, PNG, WebP or TIFF file, 1 to 8; `None` where it says none, and for other formats.
///
/// Of several blocks the first with an orientation counts; 16 are looked at.
pub fn orientation(file: &[u8]) -> Option<u8> {
    const MAX_BLOCKS: usize = 16;
    let of = orientation_of_block;
    match file {
        [0xFF, 0xD8, ..] => jpeg_blocks(file).take(MAX_BLOCKS).find_map(of),
        [0x89, b'P', b'N', b'G', ..] => png_chunks(file)
            .filter(|(name, _)| name == b"eXIf")
            .take(MAX_BLOCKS)
            .find_map(|(_, block)| of(block)),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => webp_blocks(file).take(MAX_BLOCKS).find_map(of),
        _ => orientation_of_tiff(file),
    }
}

/// A JPEG's EXIF blocks (its APP1 segments that are no XMP), each to the end of the file: a segment whose length is
/// too small does not hide what lies in it.
pub fn jpeg_blocks(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    jpeg_segments(file).filter_map(|segment| match segment.rest.strip_prefix(b"Exif\0")? {
        [_, block @ ..] if segment.marker == 0xE1 => Some(block),
        _ => None,
    })
}

/// A part of a JPEG before its pixels.
pub struct Segment<'a> {
    /// The second byte of the marker: 0xE0 is APP0.
    pub marker: u8,
    /// The segment's bytes after its length: as many as that says and as there are.
    pub data: &'a [u8],
    /// All bytes after the segment's length, to the end of the file.
    pub rest: &'a [u8],
}

/// A JPEG's segments up to its pixels.
pub fn jpeg_segments(file: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = file.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        // Strays between segments are passed over, as decoders do.
        let at = rest
            .windows(2)
            .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 1 | 0xD0..=0xD8 | 0xFF))?;
        let [_, marker, high, low, ref after @ ..] = rest[at..] else {
            return None;
        };
        // The picture itself, or its end: no metadata after it.
        if matches!(marker, 0xD9 | 0xDA) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([high, low])).saturating_sub(2);
        rest = after.get(length..).unwrap_or_default();
        Some(Segment {
            marker,
            data: &after[..length.min(after.len())],
            rest: after,
        })
    })
}

/// A PNG's chunks: their names and data. Checksums are not looked at.
pub fn png_chunks(file: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    chunks(file.get(8..).unwrap_or_default(), |head| {
        let [a, b, c, d, name @ ..] = *head;
        // The checksum follows the data.
        (name, u32::from_be_bytes([a, b, c, d]), 4)
    })
}

/// A WebP's `EXIF` chunks, where its header says that there are any: without that decoders don't look for them.
fn webp_blocks(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    const HAS_EXIF: u8 = 8;
    let is_said = webp_flags(file) & HAS_EXIF != 0;
    webp_chunks(file)
        .filter(move |(name, _)| is_said && name == b"EXIF")
        .map(|(_, data)| data)
}

/// What a WebP's header says that it has; 0 where it has no such header.
pub fn webp_flags(file: &[u8]) -> u8 {
    match file.get(12..21) {
        Some([b'V', b'P', b'8', b'X', _, _, _, _, flags]) => *flags,
        _ => 0,
    }
}

/// A WebP's chunks: their names and data.
pub fn webp_chunks(file: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    chunks(file.get(12..).unwrap_or_default(), |head| {
        let [a, b, c, d, e, f, g, h] = *head;
        let length = u32::from_le_bytes([e, f, g, h]);
        // An odd length is padded.
        ([a, b, c, d], length, length & 1)
    })
}

/// A file's chunks: their names and data, the last as much as there is of it. `parse` makes of 8 bytes the name, the
/// length, and how much lies between the data and the next chunk.
fn chunks(
    mut rest: &[u8],
    parse: impl Fn(&[u8; 8]) -> ([u8; 4], u32, u32),
) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk()?;
        let (name, length, gap) = parse(head);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let data = &after[..length.min(after.len())];
        let gap = length.saturating_add(gap as usize);
        rest = after.get(gap..).unwrap_or_default();
        Some((name, data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &[u8] = b"II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

    /// With `excess` on its length.
    fn segment(kind: u8, data: &[u8], excess: i32) -> Vec<u8> {
        let length = (data.len() as i32 + 2 + excess) as u16;
        [&[0xFF, kind], &length.to_be_bytes()[..], data].concat()
    }

    fn exif() -> Vec<u8> {
        [b"Exif\0\0", BLOCK].concat()
    }

    fn jpeg(segments: &[Vec<u8>]) -> Vec<u8> {
        [&[0xFF, 0xD8], &segments.concat()[..]].concat()
    }

    #[test]
    fn in_a_jpeg_wherever_it_lies() {
        let jfif = segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0", 0);
        let xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>", 0);
        let other = segment(0xED, &[0; 300], 0);
        let table = segment(0xDB, &[1; 65], 0);
        let scan = segment(0xDA, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0], 0);
        let good = segment(0xE1, &exif(), 0);
        let end = vec![0xFF, 0xD9];
        for before in [
            vec![],
            vec![jfif.clone()],
            vec![xmp.clone()],
            vec![jfif, xmp.clone(), xmp, other, table],
            vec![vec![0xFF, 0xFF]],
            vec![vec![0, 1, 2]],
            // An EXIF block that says nothing, and one that is none.
            vec![segment(0xE1, b"Exif\0\0MM\0\x2A\0\0\0\x08\0\0", 0)],
            vec![segment(0xE1, b"Exif\0\0??", 0)],
            // Lengths that are too small, of another segment.
            vec![segment(0xE2, &[7; 40], -30)],
            vec![segment(0xE2, &[7; 40], -42)],
        ] {
            let file = jpeg(&[before.concat(), good.clone(), scan.clone(), end.clone()]);
            assert_eq!(orientation(&file), Some(6), "after {before:X?}");
        }
        // Lengths of its own that are too small or too large.
        for excess in [-30, -20, -1, 1, 1000] {
            let file = jpeg(&[segment(0xE1, &exif(), excess), scan.clone()]);
            assert_eq!(orientation(&file), Some(6), "{excess}");
        }
        // After the picture there is none.
        assert_eq!(orientation(&jpeg(&[scan, good])), None);
    }

    #[test]
    fn in_a_png_before_and_after_the_pixels() {
        let chunk = |name: &[u8], data: &[u8]| {
            let length = (data.len() as u32).to_be_bytes();
            [&length, name, data, &[0; 4]].concat()
        };
        let (head, data) = (chunk(b"IHDR", &[0; 13]), chunk(b"IDAT", &[0; 9]));
        for exif in [chunk(b"eXIf", BLOCK), chunk(b"eXIf", &exif())] {
            for order in [[&head, &exif, &data], [&head, &data, &exif]] {
                let file = [
                    b"\x89PNG\r\n\x1A\n".to_vec(),
                    order.map(Vec::as_slice).concat(),
                ];
                assert_eq!(orientation(&file.concat()), Some(6));
            }
        }
        let huge = [b"\x89PNG\r\n\x1A\n", &head[..], &[0xFF; 4], b"eXIf", BLOCK].concat();
        assert_eq!(orientation(&huge), Some(6));
    }

    #[test]
    fn in_a_webp_with_and_without_a_prefix() {
        let chunk = |name: &[u8], data: &[u8]| {
            let length = (data.len() as u32).to_le_bytes();
            let pad = &[0][..data.len() % 2];
            [name, &length, data, pad].concat()
        };
        let file = |flags, chunks: &[Vec<u8>]| {
            let head = chunk(b"VP8X", &[flags, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
            [b"RIFF\0\0\0\0WEBP".to_vec(), head, chunks.concat()].concat()
        };
        for exif in [BLOCK.to_vec(), exif()] {
            // An odd chunk before it is padded.
            for pixels in [chunk(b"VP8L", &[0x2F; 8]), chunk(b"VP8L", &[0x2F; 9])] {
                let exif = chunk(b"EXIF", &exif);
                assert_eq!(
                    orientation(&file(8, &[pixels.clone(), exif.clone()])),
                    Some(6)
                );
                // Its header says that there is none.
                assert_eq!(orientation(&file(0, &[pixels, exif])), None);
            }
        }
    }

    #[test]
    fn whatever_is_cut_off_is_survived() {
        for start in [
            &[0xFF, 0xD8, 0xFF, 0xE1][..],
            b"\x89PNG\r\n\x1A\n",
            b"RIFF\0\0\0\0WEBPVP8X",
            b"II",
            b"MM\0+",
        ] {
            for filler in [0, 1, 0xE1, 0xFF] {
                for length in 0..80 {
                    orientation(&[start, &vec![filler; length]].concat());
                }
            }
        }
    }
}
