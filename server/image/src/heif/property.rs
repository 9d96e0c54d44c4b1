//! What a file says of its items.

use super::boxes::{Fault, Reader, Result};

/// What an item is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property<'a> {
    /// Width and height, before it is turned.
    Size(u32, u32),
    /// What its decoder is told: `av1C`.
    Coding(&'a [u8]),
    Colors(Colors),
    Profile(&'a [u8]),
    /// Quarters against the clock.
    Turned(u8),
    /// Top and bottom change places (0), or left and right.
    Mirrored(u8),
    Cropped(Crop),
    /// What an auxiliary picture is for.
    Purpose(&'a [u8]),
    /// What is of no matter to its pixels.
    Other,
    /// What may be, and isn't known here.
    Unknown,
}

/// `colr` of kind `nclx`: what the numbers mean, by the tables of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colors {
    pub primaries: u16,
    pub transfer: u16,
    pub matrix: u16,
    pub is_full: bool,
}

/// `clap`: sides, and how far its middle is from the picture's, as fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crop {
    width: (u32, u32),
    height: (u32, u32),
    right: (i32, u32),
    down: (i32, u32),
}

impl Crop {
    /// Left, top, width and height within a picture of whole pixels.
    pub fn within(self, width: u32, height: u32) -> Result<[u32; 4]> {
        let axis = |full: u32, size: (u32, u32), off: (i32, u32)| {
            let whole = |value: i64, by: i64| match by {
                0 => Err(Fault::Damaged("a crop's fraction has no parts")),
                _ if value % by != 0 => Err(Fault::Unsupported("a crop through pixels")),
                _ => Ok(value / by),
            };
            let size = whole(size.0.into(), size.1.into())?;
            let left = i64::from(full) - size;
            let twice = left
                .checked_mul(off.1.into())
                .and_then(|left| left.checked_add(2 * i64::from(off.0)))
                .ok_or(Fault::Damaged("a crop beyond all bounds"))?;
            let start = whole(twice, 2 * i64::from(off.1))?;
            if size == 0 || start < 0 || start + size > i64::from(full) {
                return Err(Fault::Damaged("a crop beyond the picture"));
            }
            Ok((start as u32, size as u32))
        };
        let (left, across) = axis(width, self.width, self.right)?;
        let (top, down) = axis(height, self.height, self.down)?;
        Ok([left, top, across, down])
    }
}

impl<'a> Property<'a> {
    pub fn read(kind: [u8; 4], mut body: Reader<'a>) -> Result<Self> {
        Ok(match &kind {
            b"ispe" => {
                body.version()?;
                Property::Size(body.u32()?, body.u32()?)
            }
            b"av1C" => Property::Coding(body.0),
            b"colr" => match &body.array()? {
                b"nclx" => Property::Colors(Colors {
                    primaries: body.u16()?,
                    transfer: body.u16()?,
                    matrix: body.u16()?,
                    is_full: body.u8()? & 0x80 != 0,
                }),
                b"prof" | b"rICC" => Property::Profile(body.0),
                _ => Property::Other,
            },
            b"irot" => Property::Turned(body.u8()? & 3),
            b"imir" => Property::Mirrored(body.u8()? & 1),
            b"clap" => {
                let mut fraction = || Ok((body.u32()?, body.u32()?));
                let (width, height, right, down) =
                    (fraction()?, fraction()?, fraction()?, fraction()?);
                let signed = |(up, down): (u32, u32)| (up.cast_signed(), down);
                Property::Cropped(Crop {
                    width,
                    height,
                    right: signed(right),
                    down: signed(down),
                })
            }
            b"auxC" => {
                body.version()?;
                let end = body.0.iter().position(|&byte| byte == 0);
                Property::Purpose(&body.0[..end.unwrap_or(body.0.len())])
            }
            b"pixi" | b"pasp" | b"clli" | b"mdcv" | b"cclv" | b"amve" | b"hvcC" | b"a1lx" => {
                Property::Other
            }
            _ => Property::Unknown,
        })
    }
}
