//! What an AV1 stream says of itself before its first picture.
//!
//! The container says it too, but memory is planned by this: it is what the decoder goes by.

use super::super::heif::{Colors, Fault};

/// How many samples of colour there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chroma {
    None,
    /// One for each pixel, or for every two in one or both directions.
    Each,
    Half,
    Quarter,
}

impl Chroma {
    /// The powers of two by which the planes of colour are narrower and lower.
    pub fn shifts(self) -> (u32, u32) {
        match self {
            Chroma::None | Chroma::Each => (0, 0),
            Chroma::Half => (1, 0),
            Chroma::Quarter => (1, 1),
        }
    }

    pub fn planes(self) -> usize {
        if self == Chroma::None { 1 } else { 3 }
    }
}

/// A sequence header, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub chroma: Chroma,
    /// Bits of a sample: 8, 10 or 12.
    pub depth: u32,
    pub colors: Colors,
    /// The decoder makes noise, in a picture of its own.
    pub has_grain: bool,
}

/// Frames of one picture: four layers, and something to spare.
const MAX_FRAMES: u64 = 8;

impl Sequence {
    /// The sequence header among the units of a picture's data, which may be several frames on each other but no film; and how
    /// many frames there are.
    pub fn find(mut data: &[u8]) -> Result<(Self, u64), Fault> {
        const SEQUENCE: u8 = 1;
        const FRAME_HEADER: u8 = 3;
        const FRAME: u8 = 6;
        let (mut found, mut frames) = (None, 0);
        while let [head, rest @ ..] = data {
            data = rest;
            let has_extension = head & 4 != 0;
            if has_extension {
                data = data.get(1..).ok_or(Fault::Cut)?;
            }
            let length = match head & 2 {
                0 => data.len(),
                _ => length(&mut data)?,
            };
            let (body, rest) = data.split_at_checked(length).ok_or(Fault::Cut)?;
            data = rest;
            match head >> 3 & 15 {
                SEQUENCE => {
                    let sequence = Bits { bytes: body, at: 0 }.sequence()?;
                    if found.replace(sequence).is_some_and(|old| old != sequence) {
                        return Err(Fault::Unsupported("a stream that changes its kind"));
                    }
                }
                FRAME | FRAME_HEADER => frames += 1,
                _ => {}
            }
            if frames > MAX_FRAMES {
                return Err(Fault::Unsupported("a film as a picture"));
            }
        }
        let found = found.ok_or(Fault::Damaged("no sequence header"))?;
        Ok((found, frames))
    }
}

/// Seven bits a byte, the lowest first.
fn length(data: &mut &[u8]) -> Result<usize, Fault> {
    let mut length = 0_u64;
    for shift in (0..56).step_by(7) {
        let (&byte, rest) = data.split_first().ok_or(Fault::Cut)?;
        *data = rest;
        length |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(length).map_err(|_| Fault::Cut);
        }
    }
    Err(Fault::Damaged("a length of too many bytes"))
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<bool, Fault> {
        let byte = self.bytes.get(self.at / 8).ok_or(Fault::Cut)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// Reads `count` bits, at most 32.
    fn bits(&mut self, count: u32) -> Result<u32, Fault> {
        (0..count).try_fold(0, |value, _| Ok(value << 1 | u32::from(self.bit()?)))
    }

    /// Passes over a number of variable length: some zeros, a one, and as many bits.
    fn skip_variable(&mut self) -> Result<(), Fault> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
        }
        if zeros < 32 {
            self.bits(zeros)?;
        }
        Ok(())
    }

    /// `sequence_header_obu` of the AV1 specification.
    fn sequence(mut self) -> Result<Sequence, Fault> {
        let profile = self.bits(3)?;
        let _is_still = self.bit()?;
        let is_reduced = self.bit()?;
        if is_reduced {
            self.bits(5)?;
        } else {
            self.skip_operating_points()?;
        }
        let (width, height) = (self.bits(4)? + 1, self.bits(4)? + 1);
        self.bits(width)?;
        self.bits(height)?;
        let has_frame_numbers = !is_reduced && self.bit()?;
        if has_frame_numbers {
            self.bits(7)?;
        }
        // Superblocks and two kinds of prediction.
        self.bits(3)?;
        if !is_reduced {
            self.skip_tools()?;
        }
        // Three filters.
        self.bits(3)?;
        let sequence = self.colors(profile)?;
        Ok(Sequence {
            has_grain: self.bit()?,
            ..sequence
        })
    }

    fn skip_operating_points(&mut self) -> Result<(), Fault> {
        let mut delay_bits = None;
        let has_timing = self.bit()?;
        if has_timing {
            self.bits(32)?;
            self.bits(32)?;
            let is_regular = self.bit()?;
            if is_regular {
                self.skip_variable()?;
            }
            let has_model = self.bit()?;
            if has_model {
                delay_bits = Some(self.bits(5)? + 1);
                self.bits(32)?;
                self.bits(10)?;
            }
        }
        let has_delay = self.bit()?;
        for _ in 0..=self.bits(5)? {
            self.bits(12)?;
            let level = self.bits(5)?;
            if level > 7 {
                self.bit()?;
            }
            if let Some(bits) = delay_bits {
                let is_there = self.bit()?;
                if is_there {
                    self.bits(bits)?;
                    self.bits(bits)?;
                    self.bit()?;
                }
            }
            if has_delay && self.bit()? {
                self.bits(4)?;
            }
        }
        Ok(())
    }

    /// What only films use.
    fn skip_tools(&mut self) -> Result<(), Fault> {
        self.bits(4)?;
        let has_order = self.bit()?;
        if has_order {
            self.bits(2)?;
        }
        let is_chosen_for_screens = self.bit()?;
        let is_for_screens = is_chosen_for_screens || self.bit()?;
        if is_for_screens {
            let is_chosen = self.bit()?;
            if !is_chosen {
                self.bit()?;
            }
        }
        if has_order {
            self.bits(3)?;
        }
        Ok(())
    }

    /// `color_config`, but whether there is grain.
    fn colors(&mut self, profile: u32) -> Result<Sequence, Fault> {
        const SRGB: (u16, u16, u16) = (1, 13, 0);
        let is_deep = self.bit()?;
        let depth = match (profile, is_deep) {
            (_, false) => 8,
            (2, true) if self.bit()? => 12,
            _ => 10,
        };
        let is_gray = profile != 1 && self.bit()?;
        let is_described = self.bit()?;
        let mut number = || self.bits(8).map(|number| number as u16);
        let (primaries, transfer, matrix) = match is_described {
            true => (number()?, number()?, number()?),
            false => (2, 2, 2),
        };
        let is_srgb = !is_gray && (primaries, transfer, matrix) == SRGB;
        let is_full = is_srgb || self.bit()?;
        let chroma = match profile {
            _ if is_gray => Chroma::None,
            _ if is_srgb => Chroma::Each,
            0 => Chroma::Quarter,
            1 => Chroma::Each,
            2 if depth < 12 => Chroma::Half,
            2 if !self.bit()? => Chroma::Each,
            2 if !self.bit()? => Chroma::Half,
            2 => Chroma::Quarter,
            _ => return Err(Fault::Unsupported("a profile of AV1 that is none")),
        };
        if chroma == Chroma::Quarter {
            // Where its samples lie.
            self.bits(2)?;
        }
        if !is_gray {
            self.bit()?;
        }
        Ok(Sequence {
            chroma,
            depth,
            colors: Colors {
                primaries,
                transfer,
                matrix,
                is_full,
            },
            has_grain: false,
        })
    }
}
