//! PNG by its chunks: checksums and lengths are right unless a flag says otherwise.

use super::bytes::{Choices, stored};

/// A PNG: a header, then chunks of any kind in any order. A flag each for compressing the contents, a wrong checksum,
/// a wrong length.
fn file(data: &[u8]) -> Vec<u8> {
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

pub fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], contents: &[u8], flags: u8) {
    let length = contents.len() as u32 + u32::from(flags >> 2 & 1);
    file.extend(length.to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(contents);
    let sum = crc32fast::hash(&file[start..]) ^ u32::from(flags >> 1 & 1);
    file.extend(sum.to_be_bytes());
}

pub fn check(data: &[u8]) -> bool {
    super::check(&file(data))
}
