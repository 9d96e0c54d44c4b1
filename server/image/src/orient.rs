//! EXIF orientation, applied to the small square after the resize instead of the large picture before it.

use std::io::Cursor;

use exif::{In, Tag};

/// EXIF's `Orientation`, 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub const UPRIGHT: Self = Self(1);

    /// From the EXIF block of a JPEG, PNG, WebP or TIFF; upright where there is none or it makes no sense.
    pub fn read(bytes: &[u8]) -> Self {
        exif::Reader::new()
            .read_from_container(&mut Cursor::new(bytes))
            .ok()
            .and_then(|exif| {
                exif.get_field(Tag::Orientation, In::PRIMARY)?
                    .value
                    .get_uint(0)
            })
            .and_then(|value| u8::try_from(value).ok())
            .filter(|value| (1..=8).contains(value))
            .map_or(Self::UPRIGHT, Self)
    }

    /// Whether rows become columns.
    pub fn is_transposed(self) -> bool {
        self.0 >= 5
    }

    /// The size once upright.
    pub fn upright(self, width: u32, height: u32) -> (u32, u32) {
        if self.is_transposed() {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Turns a square of RGB pixels upright, in place.
    pub fn apply(self, square: &mut [u8], side: usize) {
        let pixels = square.as_chunks_mut::<3>().0;
        if self.is_transposed() {
            transpose(pixels, side);
        }
        // After the transposition 5 to 8 (transposed, 90° clockwise, transverse, 270°) remain as 1, 2, 3 and 4.
        match self.0 {
            2 | 6 => pixels.chunks_exact_mut(side).for_each(|row| row.reverse()),
            3 | 7 => pixels.reverse(),
            4 | 8 => {
                for y in 0..side / 2 {
                    let (above, below) = pixels.split_at_mut((side - 1 - y) * side);
                    above[y * side..][..side].swap_with_slice(&mut below[..side]);
                }
            }
            _ => {}
        }
    }
}

/// By blocks that fit the innermost cache.
fn transpose(pixels: &mut [[u8; 3]], side: usize) {
    const BLOCK: usize = 32;
    for top in (0..side).step_by(BLOCK) {
        for left in (0..=top).step_by(BLOCK) {
            for y in top..(top + BLOCK).min(side) {
                for x in left..(left + BLOCK).min(y) {
                    pixels.swap(y * side + x, x * side + y);
                }
            }
        }
    }
}
