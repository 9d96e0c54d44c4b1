//! Whether a JPEG's data holds all of its blocks: for a decoder that makes gray of what is missing and says nothing.
//!
//! Codes are read as a decoder reads them, and nothing is made of them.

use super::markers::Component;

/// The data ends before the last block, or is none.
struct Missing;

/// Whether every scan has all of its blocks, of a well-formed file in sequential or progressive Huffman coding.
pub(super) fn is_whole(file: &[u8], components: &[Component], size: (u32, u32)) -> bool {
    Walk::new(file, components, size).all_scans().is_ok()
}

struct Walk<'a> {
    file: &'a [u8],
    components: &'a [Component],
    size: (usize, usize),
    /// The largest sampling factors.
    across: usize,
    down: usize,
    /// By class (DC, AC) and number.
    tables: [[Option<Table>; 4]; 2],
    restart: usize,
    is_progressive: bool,
    /// Of each component's blocks, which coefficients aren't 0: what refining needs to know.
    set: Vec<Vec<u64>>,
}

/// A scan's part of the coefficients: from, to, and whether bits are added to those that are known.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    last: usize,
    is_refined: bool,
}

impl<'a> Walk<'a> {
    fn new(file: &'a [u8], components: &'a [Component], (width, height): (u32, u32)) -> Self {
        let most =
            |of: fn(&Component) -> u32| components.iter().map(of).max().unwrap_or(1) as usize;
        Walk {
            file,
            components,
            size: (width as usize, height as usize),
            across: most(|component| component.across),
            down: most(|component| component.down),
            tables: Default::default(),
            restart: 0,
            is_progressive: false,
            set: Vec::new(),
        }
    }

    fn all_scans(&mut self) -> Result<(), Missing> {
        let mut at = 2;
        while let Some(&[0xff, marker, high, low]) = self.file.get(at..at + 4) {
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            let body = self.file.get(at + 4..end).ok_or(Missing)?;
            at = end;
            match marker {
                0xc4 => self.read_tables(body)?,
                0xc2 => {
                    self.is_progressive = true;
                    let blocks = |c: &Component| {
                        let (wide, high) = self.mcus();
                        wide * high * (c.across * c.down) as usize
                    };
                    self.set = self.components.iter().map(|c| vec![0; blocks(c)]).collect();
                }
                0xdd => {
                    let interval = body.first_chunk().ok_or(Missing)?;
                    self.restart = u16::from_be_bytes(*interval).into();
                }
                0xda => {
                    let data = &self.file[at..];
                    self.scan(body, data)?;
                    at += data_length(data);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn mcus(&self) -> (usize, usize) {
        let (width, height) = self.size;
        (
            width.div_ceil(8 * self.across),
            height.div_ceil(8 * self.down),
        )
    }

    fn read_tables(&mut self, mut body: &[u8]) -> Result<(), Missing> {
        while let [name, rest @ ..] = body {
            let (lengths, rest) = rest.split_first_chunk::<16>().ok_or(Missing)?;
            let count = lengths.iter().map(|&length| usize::from(length)).sum();
            let (symbols, rest) = rest.split_at_checked(count).ok_or(Missing)?;
            let class = self.tables.get_mut(usize::from(name >> 4)).ok_or(Missing)?;
            *class.get_mut(usize::from(name & 15)).ok_or(Missing)? =
                Some(Table::new(lengths, symbols));
            body = rest;
        }
        Ok(())
    }

    fn scan(&mut self, header: &[u8], data: &[u8]) -> Result<(), Missing> {
        let (&count, rest) = header.split_first().ok_or(Missing)?;
        let (members, rest) = rest
            .split_at_checked(2 * usize::from(count))
            .ok_or(Missing)?;
        let &[first, last, bits] = rest.first_chunk().ok_or(Missing)?;
        let band = match self.is_progressive {
            true => Band {
                first: first.into(),
                last: usize::from(last).min(63),
                is_refined: bits >> 4 != 0,
            },
            false => Band {
                first: 0,
                last: 63,
                is_refined: false,
            },
        };
        let members: Vec<(usize, [Option<&Table>; 2])> = members
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[id, tables]| {
                let index = self
                    .components
                    .iter()
                    .position(|component| component.id == id)?;
                let table = |class: usize, number: u8| {
                    self.tables[class].get(usize::from(number))?.as_ref()
                };
                Some((index, [table(0, tables >> 4), table(1, tables & 15)]))
            })
            .collect::<Option<_>>()
            .ok_or(Missing)?;
        let mut set = std::mem::take(&mut self.set);
        let mut bits = Bits::new(data);
        let mut run = 0;
        let (wide, high) = self.mcus();
        let mut unused = 0;
        let mut block =
            |bits: &mut Bits<'_>, run: &mut u32, component: usize, tables, x: usize, y: usize| {
                let row = wide * self.components[component].across as usize;
                let known = match set.get_mut(component) {
                    Some(blocks) => blocks.get_mut(y * row + x).ok_or(Missing)?,
                    None => &mut unused,
                };
                one_block(bits, tables, band, self.is_progressive, run, known)
            };
        let mut done = 0;
        let mut restart = |bits: &mut Bits<'_>, run: &mut u32| {
            if self.restart > 0 && done > 0 && done % self.restart == 0 {
                *run = 0;
                bits.restart()?;
            }
            done += 1;
            Ok(())
        };
        if let [(component, tables)] = members[..] {
            let (across, down) = (
                self.components[component].across,
                self.components[component].down,
            );
            let (width, height) = self.size;
            let blocks = |side: usize, factor: u32, most: usize| {
                (side * factor as usize).div_ceil(most).div_ceil(8)
            };
            for y in 0..blocks(height, down, self.down) {
                for x in 0..blocks(width, across, self.across) {
                    restart(&mut bits, &mut run)?;
                    block(&mut bits, &mut run, component, tables, x, y)?;
                }
            }
        } else {
            for mcu in 0..wide * high {
                restart(&mut bits, &mut run)?;
                for &(component, tables) in &members {
                    let Component { across, down, .. } = self.components[component];
                    let (across, down) = (across as usize, down as usize);
                    for index in 0..across * down {
                        let x = mcu % wide * across + index % across;
                        let y = mcu / wide * down + index / across;
                        block(&mut bits, &mut run, component, tables, x, y)?;
                    }
                }
            }
        }
        self.set = set;
        Ok(())
    }
}

/// Passes over a block's part of a scan.
fn one_block(
    bits: &mut Bits<'_>,
    [dc, ac]: [Option<&Table>; 2],
    band: Band,
    is_progressive: bool,
    run: &mut u32,
    known: &mut u64,
) -> Result<(), Missing> {
    let mut at = band.first;
    if at == 0 {
        if band.is_refined {
            bits.take(1)?;
        } else {
            let length = dc.ok_or(Missing)?.read(bits)?;
            bits.take(length.min(16).into())?;
        }
        if is_progressive {
            return Ok(());
        }
        at = 1;
    }
    let ac = ac.ok_or(Missing)?;
    if band.is_refined {
        return refined(bits, ac, at, band.last, run, known);
    }
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    while at <= band.last {
        let code = ac.read(bits)?;
        let (zeros, length) = (usize::from(code >> 4), u32::from(code & 15));
        at += zeros;
        if length > 0 {
            bits.take(length)?;
            *known |= 1 << at.min(63);
        } else if zeros < 15 {
            if is_progressive {
                *run = (1 << zeros) - 1 + bits.take(zeros as u32)?;
            }
            return Ok(());
        }
        at += 1;
    }
    Ok(())
}

/// A block in a scan that adds a bit to coefficients that are known.
fn refined(
    bits: &mut Bits<'_>,
    ac: &Table,
    mut at: usize,
    last: usize,
    run: &mut u32,
    known: &mut u64,
) -> Result<(), Missing> {
    while *run == 0 && at <= last {
        let code = ac.read(bits)?;
        let (mut zeros, length) = (code >> 4, code & 15);
        if length > 0 {
            bits.take(1)?;
        } else if zeros < 15 {
            *run = (1 << zeros) + bits.take(zeros.into())?;
            break;
        }
        while at <= last {
            if *known >> at & 1 == 1 {
                bits.take(1)?;
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        if length > 0 {
            *known |= 1 << at.min(63);
        }
        at += 1;
    }
    if *run > 0 {
        let rest = (at..=last).filter(|&at| *known >> at & 1 == 1).count();
        for _ in 0..rest {
            bits.take(1)?;
        }
        *run -= 1;
    }
    Ok(())
}

/// How long a scan's data is: to a marker that isn't part of it.
fn data_length(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(skip) = memchr::memchr(0xff, &data[at..]) {
        at += skip;
        match data.get(at + 1) {
            Some(0x00 | 0xd0..=0xd7) => at += 2,
            Some(0xff) => at += 1,
            _ => return at,
        }
    }
    data.len()
}

/// A Huffman code.
struct Table {
    /// Of each length in bits: the first code beyond it, aligned to 16 bits, and what leads from a code to its symbol.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    fn new(lengths: &[u8; 16], symbols: &[u8]) -> Self {
        let mut limits = [(0, 0); 17];
        let (mut code, mut index) = (0i32, 0i32);
        for (length, &count) in (1..).zip(lengths) {
            let count = i32::from(count);
            limits[length] = (((code + count) as u32) << (16 - length), index - code);
            code = (code + count) << 1;
            index += count;
        }
        Table {
            limits,
            symbols: symbols.to_vec(),
        }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<u8, Missing> {
        let next = bits.peek();
        let length = (1..17)
            .find(|&length| next < self.limits[length].0)
            .ok_or(Missing)?;
        let code = (next >> (16 - length)) as i32;
        bits.take(length as u32)?;
        let index = usize::try_from(code + self.limits[length].1).map_err(|_| Missing)?;
        self.symbols.get(index).copied().ok_or(Missing)
    }
}

/// A scan's data as bits, up to the next marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Bits {
            data,
            at: 0,
            held: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([0xff, ..]) | Some([]) | None => return,
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next 16 bits; zeros where there are no more.
    fn peek(&mut self) -> u32 {
        self.fill();
        let held = match self.count {
            0..16 => self.held << (16 - self.count),
            count => self.held >> (count - 16),
        };
        (held & 0xffff) as u32
    }

    /// The next `count` bits, at most 16.
    fn take(&mut self, count: u32) -> Result<u32, Missing> {
        self.fill();
        self.count = self.count.checked_sub(count).ok_or(Missing)?;
        Ok((self.held >> self.count & ((1 << count) - 1)) as u32)
    }

    /// Goes on behind the next restart marker.
    fn restart(&mut self) -> Result<(), Missing> {
        let skip = data_end(&self.data[self.at..]);
        self.at += skip;
        while self.data.get(self.at + 1) == Some(&0xff) {
            self.at += 1;
        }
        match self.data.get(self.at + 1) {
            Some(0xd0..=0xd7) => self.at += 2,
            _ => return Err(Missing),
        }
        (self.held, self.count) = (0, 0);
        Ok(())
    }
}

/// How far the next marker of any kind is.
fn data_end(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(skip) = memchr::memchr(0xff, &data[at..]) {
        at += skip;
        match data.get(at + 1) {
            Some(0x00) => at += 2,
            _ => return at,
        }
    }
    data.len()
}
