//! TIFF's directories, which an EXIF block is made of: read in place.

/// The most directories that are looked at for the picture itself.
const MAX_DIRECTORIES: usize = 16;

/// The most entries of a directory that are looked at; real ones have a few dozen.
const MAX_ENTRIES: u64 = 4096;

const SUBFILE: u16 = 0x00FE;
/// Its bits: a smaller copy of another picture, a mask for another one.
const REDUCED: u64 = 1;
const MASK: u64 = 4;

const WIDTH: u16 = 0x0100;
const ORIENTATION: u16 = 0x0112;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;

const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const LONG8: u16 = 16;

/// The bytes of a TIFF file or EXIF block from its byte order mark on. Every offset is from there.
#[derive(Clone, Copy, Debug)]
pub struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
    /// BigTIFF: offsets and counts have 8 bytes.
    big: bool,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub tag: u16,
    /// TIFF's number of the type: 3 is SHORT, 4 is LONG.
    pub kind: u16,
    /// How many values the entry has, as the file says.
    pub count: u64,
    /// Where the entry's own field for its value lies: the value itself if it fits in there, else its offset.
    field: usize,
}

impl<'a> Tiff<'a> {
    /// `None` where the bytes don't begin with a byte order mark.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let little = match bytes.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let mut tiff = Tiff {
            bytes,
            little,
            big: false,
        };
        tiff.big = tiff.u16(2)? == 43;
        Some(tiff)
    }

    /// Whether offsets and counts have 8 bytes.
    pub fn is_big(&self) -> bool {
        self.big
    }

    /// Whether the least significant byte of a number comes first.
    pub fn is_little(&self) -> bool {
        self.little
    }

    /// The first directory's offset.
    pub fn first(&self) -> Option<usize> {
        self.offset(if self.big { 8 } else { 4 })
    }

    /// The offset of the directory with the picture itself. That is the first one; but where it says that it is a smaller
    /// copy, the first behind it that is a picture and no copy.
    pub fn main(&self) -> Option<usize> {
        let first = self.first()?;
        let find = |at, tag| self.entries(at).find(|entry| entry.tag == tag);
        let is = |at, kinds| {
            let kind = find(at, SUBFILE).and_then(|entry| self.unsigned(&entry, 0));
            kind.unwrap_or(0) & kinds != 0
        };
        if !is(first, REDUCED) {
            return Some(first);
        }
        std::iter::successors(self.next(first), |&at| self.next(at))
            .take(MAX_DIRECTORIES)
            .find(|&at| !is(at, REDUCED | MASK) && find(at, WIDTH).is_some())
            .or(Some(first))
    }

    /// The entries of the directory at `at`, as far as they lie within the bytes, and 4,096 at most.
    pub fn entries(self, at: usize) -> impl Iterator<Item = Entry> + use<'a> {
        let (head, size) = if self.big { (8, 20) } else { (2, 12) };
        let count = match self.big {
            true => self.u64(at),
            false => self.u16(at).map(u64::from),
        };
        let count = count.unwrap_or(0).min(MAX_ENTRIES) as usize;
        (0..count).map_while(move |index| self.entry(at.checked_add(head + size * index)?))
    }

    /// The offset of the directory after the one at `at`; `None` where there is none.
    pub fn next(&self, at: usize) -> Option<usize> {
        let end = match self.big {
            true => usize::try_from(self.u64(at)?)
                .ok()?
                .checked_mul(20)?
                .checked_add(8)?,
            false => usize::from(self.u16(at)?) * 12 + 2,
        };
        self.offset(at.checked_add(end)?).filter(|&next| next != 0)
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        let field = at.checked_add(if self.big { 12 } else { 8 })?;
        // The whole entry must be there.
        self.bytes.get(at..field.checked_add(self.width())?)?;
        Some(Entry {
            tag: self.u16(at)?,
            kind: self.u16(at + 2)?,
            count: match self.big {
                true => self.u64(at + 4)?,
                false => u64::from(self.u32(at + 4)?),
            },
            field,
        })
    }

    /// The unsigned integer at `index` of an entry of type BYTE, SHORT, LONG or LONG8; `None` for other types, beyond
    /// the count, or beyond the bytes.
    pub fn unsigned(&self, entry: &Entry, index: u64) -> Option<u64> {
        let (at, size) = self.place(entry, index)?;
        match size {
            1 => self.bytes.get(at).copied().map(u64::from),
            2 => self.u16(at).map(u64::from),
            4 => self.u32(at).map(u64::from),
            _ => self.u64(at),
        }
    }

    /// An entry's values as bytes; `None` where they don't lie within the file.
    pub fn value(&self, entry: &Entry) -> Option<&'a [u8]> {
        let size = match entry.kind {
            BYTE | 2 | 6 | 7 => 1,
            SHORT | 8 => 2,
            LONG | 9 | 11 | 13 => 4,
            5 | 10 | 12 | LONG8 | 17 | 18 => 8,
            _ => return None,
        };
        let length = usize::try_from(entry.count).ok()?.checked_mul(size)?;
        let at = match length <= self.width() {
            true => entry.field,
            false => self.offset(entry.field)?,
        };
        self.bytes.get(at..at.checked_add(length)?)
    }

    /// Where an integer of an entry lies, and how many bytes it has.
    fn place(&self, entry: &Entry, index: u64) -> Option<(usize, usize)> {
        let size: usize = match entry.kind {
            BYTE => 1,
            SHORT => 2,
            LONG | 13 => 4,
            LONG8 | 18 => 8,
            _ => return None,
        };
        if index >= entry.count {
            return None;
        }
        let all = usize::try_from(entry.count).ok()?.checked_mul(size)?;
        let begin = match all <= self.width() {
            true => entry.field,
            false => self.offset(entry.field)?,
        };
        // No overflow: the index is less than a count whose product is in range.
        Some((begin.checked_add(index as usize * size)?, size))
    }

    /// Of an entry's own field, in bytes.
    fn width(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    fn offset(&self, at: usize) -> Option<usize> {
        match self.big {
            true => usize::try_from(self.u64(at)?).ok(),
            false => usize::try_from(self.u32(at)?).ok(),
        }
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = *self.bytes.get(at..)?.first_chunk()?;
        if !self.little {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// The orientation, 1 to 8, in an EXIF block that may begin with `Exif\0\0`, or of a TIFF file's first picture. Of several
/// entries the first that makes sense counts, as in browsers.
pub fn orientation_of_block(block: &[u8]) -> Option<u8> {
    let tiff = Tiff::new(without_prefix(block))?;
    orientation_in(tiff, tiff.first()?)
}

/// The EXIF orientation of a TIFF file's main picture.
pub(crate) fn orientation_of_tiff(file: &[u8]) -> Option<u8> {
    let tiff = Tiff::new(file)?;
    orientation_in(tiff, tiff.main()?)
}

fn orientation_in(tiff: Tiff<'_>, directory: usize) -> Option<u8> {
    tiff.entries(directory)
        .filter(|entry| {
            entry.tag == ORIENTATION
                && entry.count == 1
                && matches!(entry.kind, BYTE | SHORT | LONG)
        })
        .find_map(|entry| {
            let value = u8::try_from(tiff.unsigned(&entry, 0)?).ok()?;
            (1..=8).contains(&value).then_some(value)
        })
}

/// The JPEG that a camera put into its EXIF block, in the directory after the first; `None` where it is cut off.
pub fn thumbnail(block: &[u8]) -> Option<&[u8]> {
    let tiff = Tiff::new(without_prefix(block))?;
    let second = tiff.next(tiff.first()?)?;
    let find = |tag| {
        let entry = tiff.entries(second).find(|entry| entry.tag == tag)?;
        usize::try_from(tiff.unsigned(&entry, 0)?).ok()
    };
    let (begin, length) = (find(THUMBNAIL_OFFSET)?, find(THUMBNAIL_LENGTH)?);
    let jpeg = tiff.bytes.get(begin..begin.checked_add(length)?)?;
    jpeg.starts_with(&[0xFF, 0xD8]).then_some(jpeg)
}

/// Some writers put a JPEG's `Exif\0\0` before the block in files of other formats too, some twice.
fn without_prefix(block: &[u8]) -> &[u8] {
    (0..2).fold(block, |block, _| {
        block.strip_prefix(b"Exif\0\0").unwrap_or(block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with these entries (tag, type, count, field), little endian, and what follows them.
    fn block(entries: &[(u16, u16, u32, u32)], rest: &[u8]) -> Vec<u8> {
        let mut out = b"II\x2A\0\x08\0\0\0".to_vec();
        out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        for &(tag, kind, count, field) in entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(rest);
        out
    }

    const TURNED: (u16, u16, u32, u32) = (ORIENTATION, SHORT, 1, 6);

    #[test]
    fn nothing_else_in_the_block_costs_the_orientation() {
        let pointers = [(0x8769, LONG), (0x8825, LONG), (0xA005, LONG)];
        for (tag, kind) in pointers {
            for to in [0, 8, 9, 0x7FFF_FFFF, 0xFFFF_FFFF] {
                for next in [
                    &[][..],
                    &[0; 4],
                    &[8, 0, 0, 0],
                    &[0xFF; 4],
                    &[0xF0, 0xFF, 0, 0],
                ] {
                    let first = block(&[(tag, kind, 1, to), TURNED], next);
                    assert_eq!(orientation_of_block(&first), Some(6));
                    let last = block(&[TURNED, (tag, kind, 0xFFFF_FFFF, to)], next);
                    assert_eq!(orientation_of_block(&last), Some(6));
                }
            }
        }
        // Entries of no type, and of values that lie nowhere.
        for odd in [
            (0, 0, 0, 0),
            (0x010F, 2, 0xFFFF_FFFF, 8),
            (0xFFFF, 99, 7, 0xFFFF_FFFF),
        ] {
            assert_eq!(
                orientation_of_block(&block(&[odd, TURNED, odd], &[])),
                Some(6)
            );
        }
        // More entries are promised than are there.
        let mut short = block(&[TURNED], &[1, 2, 3]);
        short[8..10].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(orientation_of_block(&short), Some(6));
    }

    #[test]
    fn the_first_entry_that_makes_sense_counts() {
        for (entries, expected) in [
            (&[TURNED, (ORIENTATION, SHORT, 1, 3)][..], Some(6)),
            (&[(ORIENTATION, SHORT, 1, 0), TURNED], Some(6)),
            (&[(ORIENTATION, SHORT, 1, 9), TURNED], Some(6)),
            (&[(ORIENTATION, 2, 60_000_000, 8), TURNED], Some(6)),
            (&[(ORIENTATION, SHORT, 2, 6)], None),
            (&[(ORIENTATION, SHORT, 0, 6)], None),
            (&[(ORIENTATION, 2, 2, 6)], None),
            (&[(ORIENTATION, LONG, 1, 8)], Some(8)),
            (&[(ORIENTATION, BYTE, 1, 3)], Some(3)),
            (&[(ORIENTATION, LONG, 1, 0x1_0006)], None),
            (&[], None),
        ] {
            assert_eq!(
                orientation_of_block(&block(entries, &[])),
                expected,
                "{entries:?}"
            );
        }
    }

    #[test]
    fn either_byte_order_and_bigtiff() {
        let big_endian = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x05\0\0";
        assert_eq!(orientation_of_block(big_endian), Some(5));
        let mut twice = b"Exif\0\0Exif\0\0".to_vec();
        twice.extend_from_slice(big_endian);
        assert_eq!(orientation_of_block(&twice), Some(5));

        let mut bigtiff = b"II\x2B\0\x08\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        bigtiff.extend_from_slice(&[
            0x12, 1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(orientation_of_block(&bigtiff), Some(7));
    }

    #[test]
    fn whatever_is_cut_off_or_strange_is_survived() {
        let good = block(
            &[TURNED, (0x0201, LONG, 1, 40), (0x0202, LONG, 1, 4)],
            &[8, 0, 0, 0, 0xFF, 0xD8, 1, 2],
        );
        for end in 0..good.len() {
            let _ = (orientation_of_block(&good[..end]), thumbnail(&good[..end]));
        }
        for at in 0..good.len() {
            for value in [0, 0x2B, 0x7F, 0xFF] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = (orientation_of_block(&bad), thumbnail(&bad));
            }
        }
        // A loop of directories is none: nothing beyond the second is followed.
        assert_eq!(orientation_of_block(&good), Some(6));
    }
}
