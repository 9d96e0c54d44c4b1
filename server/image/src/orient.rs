//! EXIF orientation, applied to the small square after the resize instead of the large picture before it.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// EXIF's `Orientation`, 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub const UPRIGHT: Self = Self(1);

    /// The orientation in the EXIF block of a JPEG, PNG, WebP or TIFF; upright where there is none or it makes no sense.
    pub fn read(bytes: &[u8]) -> Self {
        metadata::orientation(bytes)
            .or_else(|| metadata::orientation_of_block(&raw_profile(bytes)?))
            .map_or(Self::UPRIGHT, Self)
    }

    /// The orientation that is this one followed by a quarter turn against the clock.
    pub fn then_turned(self) -> Self {
        let (is_transposed, right, down) = self.parts();
        Self::of(!is_transposed, down, !right)
    }

    /// The orientation that is this one followed by a mirroring: left and right exchanged if `is_sideways`, else top and bottom.
    pub fn then_mirrored(self, is_sideways: bool) -> Self {
        let (is_transposed, right, down) = self.parts();
        Self::of(is_transposed, right ^ is_sideways, down ^ !is_sideways)
    }

    /// Whether it is transposed, then whether left and right change places, and top and bottom.
    pub fn parts(self) -> (bool, bool, bool) {
        let flips = (self.0 - 1) % 4;
        (
            self.is_transposed(),
            matches!(flips, 1 | 2),
            matches!(flips, 2 | 3),
        )
    }

    fn of(is_transposed: bool, sideways: bool, upside_down: bool) -> Self {
        let flips = match (sideways, upside_down) {
            (false, false) => 1,
            (true, false) => 2,
            (true, true) => 3,
            (false, true) => 4,
        };
        Self(if is_transposed { flips + 4 } else { flips })
    }

    /// The orientation that EXIF gives this number, 1 to 8.
    #[cfg(test)]
    pub fn numbered(number: u8) -> Self {
        Self(number)
    }

    /// The orientation of a TIFF's first picture, whatever that is.
    pub fn of_first(tiff: &[u8]) -> Self {
        metadata::orientation_of_block(tiff).map_or(Self::UPRIGHT, Self)
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

/// The EXIF block that ImageMagick wrote into a PNG, before PNG had a place for it: a text of hexadecimal digits. At most
/// its first 64 KiB, which is all that a JPEG can hold.
fn raw_profile(file: &[u8]) -> Option<Vec<u8>> {
    const KEYWORD: &[u8] = b"Raw profile type exif\0";
    const MAX_TEXT: u64 = 2 * 66_000;
    if !file.starts_with(b"\x89PNG") {
        return None;
    }
    let mut text = Vec::new();
    metadata::png_chunks(file).find_map(|(name, data)| {
        match (&name, data.strip_prefix(KEYWORD)?) {
            (b"tEXt", plain) => plain.take(MAX_TEXT).read_to_end(&mut text).ok(),
            // What was inflated before a fault is as good.
            (b"zTXt", [0, deflated @ ..]) => {
                let _ = ZlibDecoder::new(deflated)
                    .take(MAX_TEXT)
                    .read_to_end(&mut text);
                Some(text.len())
            }
            _ => None,
        }
    })?;
    // An empty line, the profile's name, its length, and then the digits in lines.
    let digits = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits: Vec<u8> = digits
        .iter()
        .filter_map(|&byte| char::from(byte).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    Some(
        digits
            .as_chunks()
            .0
            .iter()
            .map(|[high, low]| high << 4 | low)
            .collect(),
    )
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
