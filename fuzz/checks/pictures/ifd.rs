//! TIFF's directories, of which EXIF is made too: well formed, with entries among them that are not.

use arbitrary::Arbitrary;

/// Tags that something reads; others are drawn from the rest.
#[rustfmt::skip]
const TAGS: [u16; 48] = [
    254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293,
    317, 320, 322, 323, 324, 325, 330, 332, 338, 339, 347, 512, 513, 514, 515, 519,
    520, 521, 529, 530, 532, 700, 34665, 34675, 34853, 40965, 50706, 33421, 33422, 271, 272, 305,
];

/// Of LONG and SHORT, as TIFF numbers its types.
pub const SHORT: u16 = 3;
pub const LONG: u16 = 4;

/// An entry that may be anything: it hides a right one of the same tag.
#[derive(Arbitrary, Debug)]
pub struct Odd<'a> {
    tag: Tag,
    kind: u8,
    /// Of values, instead of as many as there are.
    count: Option<u32>,
    value: Value<'a>,
}

#[derive(Arbitrary, Debug)]
enum Tag {
    Known(u8),
    Orientation,
    Any(u16),
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Number(u16),
    /// As it stands in the entry: the value, or where that lies.
    Field(u64),
    Bytes(&'a [u8]),
}

/// A directory's entry: tag, type, count, and the bytes of its values.
pub struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    value: Vec<u8>,
}

pub struct Writer {
    pub bytes: Vec<u8>,
    is_big: bool,
    is_little: bool,
    /// Where the next directory's offset goes.
    link: usize,
}

impl Writer {
    pub fn new(is_big: bool, is_little: bool) -> Self {
        let mut writer = Writer {
            bytes: if is_little { b"II" } else { b"MM" }.to_vec(),
            is_big,
            is_little,
            link: if is_big { 8 } else { 4 },
        };
        let rest = match is_big {
            true => [
                writer.number(43, 2),
                writer.number(8, 2),
                vec![0; 2],
                vec![0; 8],
            ],
            false => [writer.number(42, 2), vec![0; 4], Vec::new(), Vec::new()],
        };
        writer.bytes.extend(rest.concat());
        writer
    }

    /// Of an entry's own field, in bytes.
    fn width(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    /// The low `width` bytes of `value`, in the file's order.
    pub fn number(&self, value: u64, width: usize) -> Vec<u8> {
        let mut bytes = value.to_le_bytes()[..width].to_vec();
        if !self.is_little {
            bytes.reverse();
        }
        bytes
    }

    /// Where `bytes` lie from now on.
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        at
    }

    pub fn shorts(&self, tag: u16, values: &[u16]) -> Entry {
        self.entry(tag, SHORT, 2, values.iter().map(|&value| value.into()))
    }

    pub fn longs(&self, tag: u16, values: &[u64]) -> Entry {
        self.entry(tag, LONG, 4, values.iter().copied())
    }

    fn entry(
        &self,
        tag: u16,
        kind: u16,
        width: usize,
        values: impl ExactSizeIterator<Item = u64>,
    ) -> Entry {
        Entry {
            tag,
            kind,
            count: values.len() as u64,
            value: values.flat_map(|value| self.number(value, width)).collect(),
        }
    }

    /// A directory of the odd entries and then the right ones, to which the header or the directory before it leads.
    pub fn directory(&mut self, odd: &[Odd<'_>], right: Vec<Entry>) {
        let mut entries: Vec<_> = odd.iter().map(|odd| self.odd(odd)).collect();
        entries.extend(right);
        let width = self.width();
        for entry in &mut entries {
            if entry.value.len() > width {
                let at = self.push(&entry.value);
                entry.value = self.number(at, width);
            }
            entry.value.resize(width, 0);
        }
        self.lead_to(self.bytes.len() as u64);
        let count = self.number(entries.len() as u64, if self.is_big { 8 } else { 2 });
        self.push(&count);
        for entry in entries {
            let head = [
                self.number(entry.tag.into(), 2),
                self.number(entry.kind.into(), 2),
                self.number(entry.count, width),
                entry.value,
            ];
            self.push(&head.concat());
        }
        self.link = self.bytes.len();
        self.push(&vec![0; width]);
    }

    /// Where the directory after the last one is said to be.
    pub fn lead_to(&mut self, at: u64) {
        let at = self.number(at, self.width());
        self.bytes[self.link..][..at.len()].copy_from_slice(&at);
    }

    fn odd(&self, odd: &Odd<'_>) -> Entry {
        let tag = match odd.tag {
            Tag::Known(index) => TAGS[usize::from(index) % TAGS.len()],
            Tag::Orientation => 274,
            Tag::Any(tag) => tag,
        };
        let kind = u16::from(odd.kind % 20);
        let size = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0][usize::from(kind)];
        let (value, count) = match odd.value {
            Value::Number(value) => (self.number(value.into(), size), 1),
            Value::Field(field) => (self.number(field, self.width()), 1),
            Value::Bytes(bytes) => (bytes.to_vec(), bytes.len() as u64 / size.max(1) as u64),
        };
        Entry {
            tag,
            kind,
            count: odd.count.map_or(count, u64::from),
            value,
        }
    }
}
