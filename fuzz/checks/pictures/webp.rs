//! WebP by its chunks: lengths and padding are right unless a flag says otherwise.

use super::bytes::Choices;

/// A WebP: chunks of any kind in any order. A flag each for no padding, a wrong length, an animation's frame around it.
fn file(data: &[u8]) -> Vec<u8> {
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

pub fn check(data: &[u8]) -> bool {
    super::check(&file(data))
}
