//! Files of the structure that a decoder expects, with contents that nobody does: what a fuzzer changes are the fields, and
//! checksums and lengths are right unless it wants them wrong.

/// Bytes to take choices from; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }
}

/// A PNG: a header, then chunks of any kind in any order. A flag each for compressing the contents, a wrong checksum,
/// a wrong length.
pub fn png(data: &[u8]) -> Vec<u8> {
    let mut choices = Choices(data);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(u32::from(choices.byte()).to_be_bytes());
    header.extend(u32::from(choices.byte()).to_be_bytes());
    header.push(choices.of(&[8, 1, 2, 4, 16, 3]));
    header.push(choices.of(&[2, 0, 3, 4, 6, 1]));
    header.extend([0, 0, choices.byte() & 1]);
    chunk(&mut file, b"IHDR", &header, 0);
    let kinds: [&[u8; 4]; 12] = [
        b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"eXIf", b"tEXt", b"CgBI",
        b"IEND", b"IHDR",
    ];
    while !choices.0.is_empty() {
        let kind = choices.of(&kinds);
        let flags = choices.byte();
        let count = usize::from(choices.short());
        let contents = choices.bytes(count);
        let contents = match (flags & 1, kind) {
            (1, b"fdAT") => [&[0, 0, 0, 1][..], &stored(contents)].concat(),
            (1, _) => stored(contents),
            _ => contents.to_vec(),
        };
        chunk(&mut file, kind, &contents, flags);
    }
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], contents: &[u8], flags: u8) {
    let length = contents.len() as u32 + u32::from(flags >> 2 & 1);
    file.extend(length.to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(contents);
    let sum = crc32fast::hash(&file[start..]) ^ u32::from(flags >> 1 & 1);
    file.extend(sum.to_be_bytes());
}

/// A zlib stream that doesn't compress.
fn stored(contents: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = contents.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (a, b) = contents.iter().fold((1u32, 0u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

/// A WebP: chunks of any kind in any order. A flag each for no padding, a wrong length, an animation's frame around it.
pub fn webp(data: &[u8]) -> Vec<u8> {
    let mut choices = Choices(data);
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    let kinds: [&[u8; 4]; 9] = [
        b"VP8X", b"VP8L", b"VP8 ", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP", b"zzzz",
    ];
    while !choices.0.is_empty() {
        let kind = choices.of(&kinds);
        let flags = choices.byte();
        let count = usize::from(choices.short());
        let contents = choices.bytes(count);
        let mut inner = Vec::new();
        match (flags >> 2 & 1, kind) {
            (1, _) => {
                // Where the frame lies: within 256 pixels.
                let place = choices.bytes(5);
                for index in 0..5 {
                    inner.extend([place.get(index).copied().unwrap_or(0), 0, 0]);
                }
                inner.push(choices.byte());
                part(&mut inner, kind, contents, flags);
                part(&mut file, b"ANMF", &inner, 0);
            }
            _ => part(&mut file, kind, contents, flags),
        }
    }
    let length = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

fn part(file: &mut Vec<u8>, kind: &[u8; 4], contents: &[u8], flags: u8) {
    let length = contents.len() as u32 + u32::from(flags >> 1 & 1);
    file.extend(kind);
    file.extend(length.to_le_bytes());
    file.extend(contents);
    if contents.len() % 2 == 1 && flags & 1 == 0 {
        file.push(0);
    }
}
