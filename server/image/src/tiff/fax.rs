//! CCITT's run lengths: Modified Huffman, Group 3 and Group 4.

use std::convert::Infallible;
use std::io;

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, ByteReader};

use super::layout::Packing;
use super::unpack::Rows;

type Bits<'a> = ByteReader<Box<dyn Iterator<Item = Result<u8, Infallible>> + 'a>>;

pub(super) struct Fax<'a> {
    bits: Bits<'a>,
    packing: Packing,
    /// In pixels.
    width: u32,
    /// Where colours change in the row above and in this one, in pixels, ascending; the first change is to black.
    above: Vec<u32>,
    changes: Vec<u32>,
    /// The picture's own end was read; the rows that are left are white.
    has_ended: bool,
}

impl<'a> Fax<'a> {
    pub fn new(bytes: &'a [u8], is_bit_reversed: bool, packing: Packing, width: u32) -> Self {
        let order = move |byte: &u8| match is_bit_reversed {
            true => byte.reverse_bits(),
            false => *byte,
        };
        // The tables look at more bits than the last code has.
        let padded = bytes.iter().map(order).chain([0; 4]).map(Ok);
        let boxed: Box<dyn Iterator<Item = _>> = Box::new(padded);
        let Ok(bits) = ByteReader::new(boxed);
        Fax {
            bits,
            packing,
            width,
            above: Vec::new(),
            changes: Vec::new(),
            has_ended: false,
        }
    }

    fn read_row(&mut self) -> io::Result<()> {
        match self.packing {
            Packing::FaxRuns => {
                self.skip(self.bits.bits_to_byte_boundary());
                self.one_dimensional()
            }
            Packing::Fax3 { two_dimensional } => {
                let mut is_alone = true;
                if self.is_end_of_line() {
                    self.skip_end_of_line()?;
                    if two_dimensional {
                        is_alone = self.bits.peek(1) == Some(1);
                        self.skip(1);
                    }
                    // Two of them: the picture's end.
                    if self.is_end_of_line() {
                        self.has_ended = true;
                        return Ok(());
                    }
                }
                if is_alone {
                    self.one_dimensional()
                } else {
                    self.two_dimensional()
                }
            }
            _ => self.two_dimensional(),
        }
    }

    fn skip(&mut self, bits: u8) {
        let Ok(()) = self.bits.consume(bits);
    }

    /// No code begins with so many zeros.
    fn is_end_of_line(&self) -> bool {
        self.bits.peek(11) == Some(0)
    }

    fn skip_end_of_line(&mut self) -> io::Result<()> {
        loop {
            let bit = self.bits.peek(1).ok_or_else(cut_off)?;
            self.skip(1);
            if bit == 1 {
                return Ok(());
            }
        }
    }

    fn run(&mut self, is_black: bool) -> Option<u32> {
        let mut sum = 0;
        loop {
            let run = match is_black {
                true => black::decode(&mut self.bits),
                false => white::decode(&mut self.bits),
            }?;
            sum = self.width.min(sum + u32::from(run));
            if run < 64 {
                return Some(sum);
            }
        }
    }

    fn one_dimensional(&mut self) -> io::Result<()> {
        let (mut at, mut is_black) = (0, false);
        while at < self.width {
            match self.run(is_black) {
                Some(run) => at += run,
                // A row that ends early, as from a bad line.
                None if matches!(self.packing, Packing::Fax3 { .. }) && self.is_end_of_line() => {
                    break;
                }
                None => return Err(damaged()),
            }
            self.change(at);
            is_black = !is_black;
        }
        Ok(())
    }

    fn two_dimensional(&mut self) -> io::Result<()> {
        let width = i64::from(self.width);
        // Before the first pixel, so that a change at it counts.
        let (mut at, mut is_black, mut next) = (-1_i64, false, 0);
        while at < width {
            // The next change above that is to the other colour.
            while next > 0 && i64::from(self.above[next - 1]) > at {
                next -= 1;
            }
            while self
                .above
                .get(next)
                .is_some_and(|&change| i64::from(change) <= at)
                || next % 2 != usize::from(is_black)
            {
                next += 1;
            }
            let above = |index: usize| self.above.get(index).map_or(width, |&at| at.into());
            match mode::decode(&mut self.bits).ok_or_else(damaged)? {
                Mode::Pass => at = above(next + 1),
                Mode::Vertical(delta) => {
                    let to = above(next) + i64::from(delta);
                    if to < at.max(0) {
                        return Err(damaged());
                    }
                    self.change(to as u32);
                    (at, is_black) = (to, !is_black);
                }
                Mode::Horizontal => {
                    for is_black in [is_black, !is_black] {
                        at = at.max(0) + i64::from(self.run(is_black).ok_or_else(damaged)?);
                        self.change(at as u32);
                    }
                }
                Mode::EOF if at < 0 => {
                    self.has_ended = true;
                    return Ok(());
                }
                _ => return Err(damaged()),
            }
            next = next.min(self.above.len());
        }
        Ok(())
    }

    /// Two changes at one place are none, and those at the end are not told.
    fn change(&mut self, at: u32) {
        if self.changes.last() == Some(&at) {
            self.changes.pop();
        } else {
            self.changes.push(at);
        }
    }
}

impl Rows for Fax<'_> {
    fn read_row(&mut self, row: &mut [u8]) -> io::Result<()> {
        std::mem::swap(&mut self.above, &mut self.changes);
        self.changes.clear();
        if !self.has_ended {
            Fax::read_row(self)?;
        }
        self.changes.retain(|&at| at < self.width);
        row.fill(0);
        for pair in self.changes.chunks(2) {
            let end = pair.get(1).map_or(self.width, |&end| end);
            blacken(row, pair[0] as usize, end as usize);
        }
        Ok(())
    }
}

/// Sets the bits from `begin` to before `end`.
fn blacken(row: &mut [u8], begin: usize, end: usize) {
    if begin >= end {
        return;
    }
    let (first, last) = (begin / 8, (end - 1) / 8);
    let (head, tail) = (0xFF >> (begin % 8), 0xFF << (7 - (end - 1) % 8));
    if first == last {
        row[first] |= head & tail;
    } else {
        row[first] |= head;
        row[first + 1..last].fill(0xFF);
        row[last] |= tail;
    }
}

fn damaged() -> io::Error {
    io::Error::other("a row of it can't be read")
}

fn cut_off() -> io::Error {
    io::Error::other("its last rows are missing")
}
