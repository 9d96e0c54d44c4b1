//! How a TIFF picture's pixels lie in its file, judged before anything is decoded.

use metadata::{Entry, Tiff};

use crate::{Format, ImageError, MAX_SIDE};

/// A picture can't be cut into more strips or tiles than this: what is done anew for each has its price.
const MAX_CHUNKS: u64 = 1 << 20;
/// Pixels beyond the picture's that its tiles may have: small pictures in one large tile are common.
const MAX_PADDING: u64 = 1 << 24;
/// A tile may be this wide and high however small the picture is.
const COMMON_TILE: u32 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    /// CCITT's run lengths without any framing, rows on byte boundaries.
    FaxRuns,
    /// Group 3; with rows that refer to the one above, or without.
    Fax3 {
        two_dimensional: bool,
    },
    Fax4,
    Lzw,
    Jpeg,
    /// The obsolete kind: one whole JPEG file inside, or a file's tables and its scans apart.
    OldJpeg,
    Deflate,
    PackBits,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    Unsigned,
    Signed,
    Float,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    /// Whether 0 is white.
    Gray {
        inverted: bool,
    },
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

impl Color {
    pub fn samples(self) -> usize {
        match self {
            Color::Gray { .. } | Color::Palette => 1,
            Color::Rgb | Color::YCbCr => 3,
            Color::Cmyk => 4,
        }
    }
}

/// The sample that is transparency, and whether the colours are multiplied by it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alpha {
    pub sample: usize,
    pub is_premultiplied: bool,
}

/// How the picture's pixels lie in the file.
pub(super) struct Layout<'a> {
    pub(super) file: &'a [u8],
    pub(super) tiff: Tiff<'a>,
    pub width: u32,
    pub height: u32,
    /// Bits of each sample.
    pub bits: u32,
    pub numbers: Numbers,
    /// Samples of a pixel, with those that are no colour.
    pub samples: usize,
    pub color: Color,
    pub alpha: Option<Alpha>,
    pub packing: Packing,
    /// 1: none, 2: differences of neighbours, 3: those of floats' bytes.
    pub predictor: u32,
    /// The first pixel of a byte is in its lowest bit.
    pub is_bit_reversed: bool,
    /// Each sample has strips or tiles of its own.
    pub is_planar: bool,
    /// Pixels of a strip or tile across.
    pub chunk_width: u32,
    /// Pixels of a strip or tile down.
    pub chunk_height: u32,
    pub(super) offsets: Option<Entry>,
    pub(super) lengths: Option<Entry>,
    /// A palette's colours.
    pub palette: Vec<[u8; 3]>,
    /// What strips and tiles of JPEG have in common.
    pub jpeg_tables: &'a [u8],
    /// Tables of the obsolete kind of JPEG, if its strips are scans without a header: for each component the quantisation
    /// table, and the codes of DC and AC.
    pub old_tables: Vec<[&'a [u8]; 3]>,
    /// Blocks between restarts of the obsolete kind; 0 for none.
    pub old_restart: u16,
    /// Pixels that share a colour, horizontally and vertically.
    pub subsampling: (u32, u32),
    /// Shares of red, green and blue in the brightness.
    pub luma: [f32; 3],
    /// What is black and what is white, of each of Y, Cb and Cr.
    pub reference: [f32; 6],
}

impl<'a> Layout<'a> {
    /// Checks that strips and tiles are explained by the picture.
    ///
    /// # Errors
    /// [`ImageError::Broken`] where they are not.
    pub fn judge(&self) -> Result<(), ImageError> {
        let (width, height) = (self.chunk_width, self.chunk_height);
        if width == 0 || height == 0 {
            return Err(broken("its strips or tiles have no pixels"));
        }
        if self.width > MAX_SIDE || self.height > MAX_SIDE {
            return Ok(()); // refused for its size
        }
        let (across, down) = (u64::from(self.across()), u64::from(self.down()));
        let padded = across * u64::from(width) * down * u64::from(height);
        let pixels = u64::from(self.width) * u64::from(self.height);
        let longest = |side: u32| side.next_multiple_of(16).max(COMMON_TILE);
        if across * down * self.planes() as u64 > MAX_CHUNKS
            || padded > 2 * pixels + MAX_PADDING
            || width > longest(self.width)
            || height > longest(self.height)
        {
            return Err(broken("its strips or tiles don't fit its size"));
        }
        Ok(())
    }

    /// Strips or tiles beside each other.
    pub fn across(&self) -> u32 {
        self.width.div_ceil(self.chunk_width)
    }

    /// Strips or tiles above each other.
    pub fn down(&self) -> u32 {
        self.height.div_ceil(self.chunk_height)
    }

    /// Strips or tiles of one place.
    pub fn planes(&self) -> usize {
        if self.is_planar { self.samples } else { 1 }
    }

    /// The planes that matter: colours, and transparency.
    pub fn planes_read(&self) -> impl Iterator<Item = usize> + use<> {
        let colors = if self.is_planar {
            self.color.samples()
        } else {
            1
        };
        let alpha = self.alpha.filter(|_| self.is_planar);
        (0..colors).chain(alpha.map(|alpha| alpha.sample))
    }

    /// Samples of a pixel within one strip or tile.
    pub fn chunk_samples(&self) -> usize {
        if self.is_planar { 1 } else { self.samples }
    }

    /// Bytes of one row of a strip or tile, unpacked.
    pub fn row_bytes(&self) -> usize {
        let bits = u64::from(self.chunk_width) * self.chunk_samples() as u64 * u64::from(self.bits);
        bits.div_ceil(8) as usize
    }

    /// The most bytes that a strip or tile may have for this many unpacked. More is not looked at: no packing makes
    /// anything much larger, and what would be read again for every strip has its bound in this.
    pub fn most_packed(&self, unpacked: usize) -> usize {
        match self.packing {
            Packing::FaxRuns | Packing::Fax3 { .. } | Packing::Fax4 => {
                unpacked.saturating_mul(16).saturating_add(4096)
            }
            // It has no strips.
            Packing::OldJpeg if self.old_tables.is_empty() => usize::MAX,
            Packing::Jpeg | Packing::OldJpeg => unpacked.saturating_mul(4).saturating_add(16 << 10),
            _ => unpacked.saturating_mul(2).saturating_add(4096),
        }
    }

    /// Bytes of the whole file.
    pub fn file_length(&self) -> u64 {
        self.file.len() as u64
    }

    /// The packed bytes of a strip or tile of which `rows` rows are read.
    pub fn chunk(
        &self,
        plane: usize,
        down: u32,
        across: u32,
        rows: u32,
    ) -> Result<&'a [u8], ImageError> {
        let per_plane = u64::from(self.across()) * u64::from(self.down());
        let index = plane as u64 * per_plane
            + u64::from(down) * u64::from(self.across())
            + u64::from(across);
        let missing = || broken("a part of it is missing");
        let value = |entry: &Option<Entry>| {
            usize::try_from(self.tiff.unsigned(entry.as_ref()?, index)?).ok()
        };
        let begin = value(&self.offsets)
            .filter(|&at| at > 0)
            .ok_or_else(missing)?;
        let bytes = self.file.get(begin..).ok_or_else(missing)?;
        // Old writers leave lengths out.
        let length = value(&self.lengths).filter(|&length| length > 0);
        let most = self.most_packed(self.row_bytes().saturating_mul(rows as usize));
        Ok(&bytes[..length.unwrap_or(usize::MAX).min(bytes.len()).min(most)])
    }

    /// Whether samples of several bytes begin with the least significant.
    pub fn is_little(&self) -> bool {
        self.tiff.is_little()
    }
}

pub(super) fn broken(what: impl std::fmt::Display) -> ImageError {
    ImageError::broken(Format::Tiff, what)
}

pub(super) fn unsupported(what: &str) -> ImageError {
    ImageError::Unsupported {
        what: format!("This TIFF picture {what}, which can't be read here."),
    }
}
