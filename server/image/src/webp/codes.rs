//! What the codes of a lossless WebP take in the decoder's memory, told before it is decoded.
//!
//! A stream has up to 65,536 groups of five codes each, and a few bytes make a table of thousands of entries: neither the
//! picture's size nor the file's bounds them. How many groups there are is said by a small picture before them, which is
//! packed as pictures are. So that one is unpacked here, and the codes are read without anything being made of them.

use std::sync::LazyLock;

/// Of a group without its tables, in bytes, in a list that grows by doubling.
const GROUP: u64 = 5 * 56 * 3;
/// Bits of a code that the decoder looks up at once, in entries of four bytes; longer ones go on in a tree.
const TABLE_BITS: usize = 10;
/// Of the tree's two nodes for a symbol, in bytes.
const NODES: u64 = 32;
/// Of the only code with a tree that it doesn't need.
const PAIR: u64 = 56;

/// Symbols for literals and lengths, for red, blue, alpha, and for distances. Those of the colour cache come on top of
/// the first.
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];

/// Near pixels in the order of their distance, which have numbers of their own: how far to the left, and above.
static NEAR: LazyLock<Vec<(i64, i64)>> = LazyLock::new(|| {
    let rows = (0..8).flat_map(|up| (-7..=8).map(move |left| (left, up)));
    let mut near: Vec<(i64, i64)> = rows.filter(|&(left, up)| up > 0 || left > 0).collect();
    near.sort_by_key(|&(left, up)| (left * left + up * up, left.abs(), -left));
    near
});

/// Bytes of memory for the codes in a stream of a picture of that size, from behind where a size may stand in it. Of one
/// that is cut off or makes no sense those that come before that: so far a decoder gets.
pub(super) fn memory(stream: &[u8], size: (u32, u32)) -> u64 {
    let mut reader = Reader {
        stream,
        at: 0,
        memory: 0,
    };
    let _ = reader.read(size);
    reader.memory
}

struct Reader<'a> {
    stream: &'a [u8],
    /// In bits.
    at: usize,
    memory: u64,
}

/// How many symbols have codes of each length, and the symbols in the order of their codes.
#[derive(Default)]
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Option<Self> {
        let mut code = Code::default();
        for length in 1..16 {
            let before = code.symbols.len();
            let symbols = (0..lengths.len()).filter(|&symbol| lengths[symbol] == length);
            code.symbols.extend(symbols);
            code.counts[length] = code.symbols.len() - before;
        }
        let used: usize = (1..16)
            .map(|length| code.counts[length] << (15 - length))
            .sum();
        (code.symbols.len() == 1 || used == 1 << 15).then_some(code)
    }

    fn memory(&self) -> u64 {
        if self.symbols.len() == 1 {
            return 0;
        }
        let longest = self
            .counts
            .iter()
            .rposition(|&count| count > 0)
            .unwrap_or(0);
        let long: usize = self.counts[TABLE_BITS + 1..].iter().sum();
        let table = 4 << longest.min(TABLE_BITS);
        (table + NODES * long as u64).max(PAIR)
    }
}

impl Reader<'_> {
    /// Up to the first pixel.
    fn read(&mut self, (mut width, height): (u32, u32)) -> Option<()> {
        let mut seen = [false; 4];
        while self.bits(1)? == 1 {
            let transform = self.bits(2)?;
            if std::mem::replace(&mut seen[transform], true) {
                return None;
            }
            match transform {
                // The prediction, or colours, of each block.
                0 | 1 => {
                    let block = 4 << self.bits(3)?;
                    self.picture(width.div_ceil(block), height.div_ceil(block))?;
                }
                2 => {}
                // Of few colours several pixels share a byte.
                _ => {
                    let colors = self.bits(8)? as u32 + 1;
                    self.picture(colors, 1)?;
                    width = match colors {
                        1..=2 => width.div_ceil(8),
                        3..=4 => width.div_ceil(4),
                        5..=16 => width.div_ceil(2),
                        _ => width,
                    };
                }
            }
        }
        let cache = self.cache()?;
        let mut groups = 1;
        if self.bits(1)? == 1 {
            let block = 4 << self.bits(3)?;
            let which = self.picture(width.div_ceil(block), height.div_ceil(block))?;
            // Red and green of each pixel are its block's group.
            let largest = which.iter().map(|pixel| pixel >> 8 & 0xffff).max()?;
            groups += largest;
        }
        (0..groups).try_for_each(|_| self.group(cache).map(drop))
    }

    fn bits(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.stream.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Some(value)
    }

    /// How many colours are remembered.
    fn cache(&mut self) -> Option<usize> {
        if self.bits(1)? == 0 {
            return Some(0);
        }
        let bits = self.bits(4)?;
        (1..=11).contains(&bits).then_some(1 << bits)
    }

    fn group(&mut self, cache: usize) -> Option<[Code; 5]> {
        self.memory += GROUP;
        let mut group: [Code; 5] = Default::default();
        for (index, code) in group.iter_mut().enumerate() {
            let more = if index == 0 { cache } else { 0 };
            *code = self.code(ALPHABETS[index] + more)?;
            self.memory += code.memory();
        }
        Some(group)
    }

    fn code(&mut self, alphabet: usize) -> Option<Code> {
        if self.bits(1)? == 0 {
            return Code::new(&self.lengths(alphabet)?);
        }
        let count = self.bits(1)? + 1;
        let length = if self.bits(1)? == 1 { 8 } else { 1 };
        let mut code = Code::default();
        code.symbols.push(self.bits(length)?);
        if count == 2 {
            code.symbols.push(self.bits(8)?);
        }
        code.counts[1] = count;
        let is_known = code.symbols.iter().all(|&symbol| symbol < alphabet);
        is_known.then_some(code)
    }

    /// Of the code of each symbol, themselves coded.
    fn lengths(&mut self, alphabet: usize) -> Option<Vec<usize>> {
        const ORDER: [usize; 19] = [
            17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        ];
        let mut lengths = [0; 19];
        let count = self.bits(4)? + 4;
        for &symbol in &ORDER[..count] {
            lengths[symbol] = self.bits(3)?;
        }
        let code = Code::new(&lengths)?;
        let mut left = alphabet;
        if self.bits(1)? == 1 {
            let bits = 2 + 2 * self.bits(3)?;
            left = 2 + self.bits(bits)?;
            if left > alphabet {
                return None;
            }
        }
        let mut lengths = Vec::with_capacity(alphabet);
        let mut last = 8;
        while lengths.len() < alphabet && left > 0 {
            left -= 1;
            let (length, times) = match self.symbol(&code)? {
                16 => (last, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length, 1),
            };
            if length > 0 {
                last = length;
            }
            lengths.resize(lengths.len() + times, length);
        }
        (lengths.len() <= alphabet).then(|| {
            lengths.resize(alphabet, 0);
            lengths
        })
    }

    fn symbol(&mut self, code: &Code) -> Option<usize> {
        if let [only] = code.symbols[..] {
            return Some(only);
        }
        let (mut found, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            found |= self.bits(1)?;
            if found < first + count {
                return code.symbols.get(index + found - first).copied();
            }
            index += count;
            first = (first + count) << 1;
            found <<= 1;
        }
        None
    }

    /// A picture beside the picture, as ARGB.
    fn picture(&mut self, width: u32, height: u32) -> Option<Vec<u32>> {
        let size = width as usize * height as usize;
        let mut cache = vec![0; self.cache()?];
        let [literals, red, blue, alpha, distances] = self.group(cache.len())?;
        let mut pixels: Vec<u32> = Vec::with_capacity(size);
        while pixels.len() < size {
            let start = pixels.len();
            match self.symbol(&literals)? {
                green @ ..256 => {
                    let (red, blue) = (self.symbol(&red)?, self.symbol(&blue)?);
                    let alpha = self.symbol(&alpha)?;
                    pixels.push((alpha << 24 | red << 16 | green << 8 | blue) as u32);
                }
                length @ 256..280 => {
                    let length = self.number(length - 256)?;
                    let distance = self.symbol(&distances)?;
                    let distance = match self.number(distance)? {
                        near @ ..=120 => {
                            let (left, up) = NEAR[near - 1];
                            (left + up * i64::from(width)).max(1) as usize
                        }
                        far => far - 120,
                    };
                    if distance > start || length > size - start {
                        return None;
                    }
                    (0..length).for_each(|_| pixels.push(pixels[pixels.len() - distance]));
                }
                cached => {
                    pixels.push(*cache.get(cached - 280)?);
                    // It is remembered already.
                    continue;
                }
            }
            if !cache.is_empty() {
                let bits = cache.len().ilog2();
                for &pixel in &pixels[start..] {
                    let place = pixel.wrapping_mul(0x1e35_a7bd) >> (32 - bits);
                    cache[place as usize] = pixel;
                }
            }
        }
        Some(pixels)
    }

    /// A length or distance, of which a symbol is the beginning.
    fn number(&mut self, symbol: usize) -> Option<usize> {
        if symbol < 4 {
            return Some(symbol + 1);
        }
        let bits = (symbol - 2) >> 1;
        Some(((2 + (symbol & 1)) << bits) + self.bits(bits)? + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    /// The stream of a still picture, and its size.
    fn stream(file: &[u8]) -> (Vec<u8>, (u32, u32)) {
        let (_, data) = metadata::webp_chunks(file)
            .find(|(name, _)| name == b"VP8L")
            .unwrap();
        let bits = u32::from_le_bytes(*data[1..].first_chunk().unwrap());
        let size = ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1);
        (data[5..].to_vec(), size)
    }

    #[test]
    fn near_pixels_have_all_numbers() {
        assert_eq!(NEAR.len(), 120);
        assert_eq!(NEAR[..4], [(0, 1), (1, 0), (1, 1), (-1, 1)]);
        assert_eq!(NEAR[119], (8, 7));
    }

    #[test]
    fn real_files_are_read_up_to_their_pixels() {
        for name in ["lossless.webp", "alpha-lossless.webp"] {
            let (stream, size) = stream(&fixture(name));
            let mut reader = Reader {
                stream: &stream,
                at: 0,
                memory: 0,
            };
            assert!(reader.read(size).is_some(), "{name}");
            assert!(reader.at < 8 * stream.len(), "{name}");
            assert!((GROUP..1 << 20).contains(&reader.memory), "{name}");
        }
    }

    /// Less of a file never takes more, and damage only ends the reading.
    #[test]
    fn what_is_cut_off_or_strange_is_survived() {
        let (stream, size) = stream(&fixture("lossless.webp"));
        let whole = memory(&stream, size);
        for end in 0..stream.len().min(600) {
            assert!(memory(&stream[..end], size) <= whole);
        }
        for at in 0..stream.len().min(300) {
            for flip in [1, 0x10, 0xff] {
                let mut damaged = stream.clone();
                damaged[at] ^= flip;
                memory(&damaged, size);
            }
        }
    }
}
