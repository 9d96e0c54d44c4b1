//! TIFF by its directories: of every kind that is read, strips and tiles where they belong or elsewhere, and odd entries.

use arbitrary::{Arbitrary, Unstructured};

use super::bytes::stored;
use super::ifd::{Odd, Writer};

/// More pages and chunks than a reader looks at teach nothing.
const MAX_PAGES: usize = 4;
const MAX_CHUNKS: u32 = 512;

#[derive(Arbitrary, Debug)]
struct File<'a> {
    is_big: bool,
    is_little: bool,
    pages: Vec<Page<'a>>,
    /// Where the last directory leads.
    next: u16,
}

#[derive(Arbitrary, Debug)]
struct Page<'a> {
    /// Less one.
    width: u8,
    height: u8,
    color: Color,
    /// Channels beside the colours, in fours.
    extra: u8,
    bits: Bits,
    numbers: u8,
    packing: Packing,
    predictor: u8,
    is_planar: bool,
    is_bit_reversed: bool,
    is_reduced: bool,
    cut: Cut,
    chunks: Vec<Chunk<'a>>,
    odd: Vec<Odd<'a>>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Color {
    Black,
    White,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Bits {
    B8,
    B1,
    B2,
    B4,
    B12,
    B16,
    B32,
    B64,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Packing {
    None,
    FaxRuns,
    Fax3,
    Fax4,
    Lzw,
    OldJpeg,
    Jpeg,
    Deflate,
    PackBits,
    Zstd,
}

/// Into strips of so many rows, or tiles; each less one.
#[derive(Arbitrary, Debug)]
enum Cut {
    Strips(u8),
    Tiles(u8, u8),
}

#[derive(Arbitrary, Debug)]
enum Chunk<'a> {
    /// Pixels, over and over until there are enough, packed as the page says.
    Packed(&'a [u8]),
    /// One of those that came before.
    Again(u8),
    /// Whatever there is, of any length.
    Anywhere(u16, u16),
    /// As the packed bytes, too few or too many of them.
    Bare(&'a [u8]),
}

pub fn check(data: &[u8]) -> bool {
    let file = File::arbitrary_take_rest(Unstructured::new(data));
    file.is_ok_and(|file| super::check(&file.bytes()))
}

impl File<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.is_big, self.is_little);
        for page in self.pages.iter().take(MAX_PAGES) {
            page.write(&mut writer);
        }
        writer.lead_to(self.next.into());
        writer.bytes
    }
}

impl Page<'_> {
    fn write(&self, writer: &mut Writer) {
        let (width, height) = (u32::from(self.width) + 1, u32::from(self.height) + 1);
        let (photometric, colors) = match self.color {
            Color::White => (0, 1),
            Color::Black => (1, 1),
            Color::Rgb => (2, 3),
            Color::Palette => (3, 1),
            Color::Cmyk => (5, 4),
            Color::YCbCr => (6, 3),
        };
        let samples = colors + u32::from(self.extra % 4);
        let bits = match self.bits {
            Bits::B1 => 1,
            Bits::B2 => 2,
            Bits::B4 => 4,
            Bits::B8 => 8,
            Bits::B12 => 12,
            Bits::B16 => 16,
            Bits::B32 => 32,
            Bits::B64 => 64,
        };
        let packing = match self.packing {
            Packing::None => 1,
            Packing::FaxRuns => 2,
            Packing::Fax3 => 3,
            Packing::Fax4 => 4,
            Packing::Lzw => 5,
            Packing::OldJpeg => 6,
            Packing::Jpeg => 7,
            Packing::Deflate => 8,
            Packing::PackBits => 32773,
            Packing::Zstd => 50000,
        };
        let (across, down) = match self.cut {
            Cut::Strips(rows) => (width, u32::from(rows) + 1),
            Cut::Tiles(width, height) => (u32::from(width) + 1, u32::from(height) + 1),
        };
        let planes = if self.is_planar { samples } else { 1 };
        let count = (width.div_ceil(across) * height.div_ceil(down))
            .min(MAX_CHUNKS)
            .saturating_mul(planes)
            .min(MAX_CHUNKS);
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for index in 0..count as usize {
            let chunk = match self.chunks.len() {
                0 => &Chunk::Packed(&[]),
                chunks => &self.chunks[index % chunks],
            };
            let bytes = match *chunk {
                Chunk::Packed(pixels) => {
                    let row = (across * samples / planes * bits).div_ceil(8);
                    let size = (row * down.min(height)) as usize;
                    let pixels = pixels.iter().chain([&0x3c]).cycle().take(size).copied();
                    self.pack(&pixels.collect::<Vec<_>>(), across, down.min(height))
                }
                Chunk::Bare(bytes) => bytes.to_vec(),
                Chunk::Again(which) if index > 0 => {
                    offsets.push(offsets[usize::from(which) % index]);
                    lengths.push(lengths[usize::from(which) % index]);
                    continue;
                }
                Chunk::Again(_) => Vec::new(),
                Chunk::Anywhere(at, length) => {
                    offsets.push(u64::from(at));
                    lengths.push(u64::from(length));
                    continue;
                }
            };
            offsets.push(writer.push(&bytes));
            lengths.push(bytes.len() as u64);
        }
        let mut entries = vec![
            writer.longs(254, &[self.is_reduced.into()]),
            writer.longs(256, &[width.into()]),
            writer.longs(257, &[height.into()]),
            writer.shorts(258, &vec![bits as u16; samples as usize]),
            writer.shorts(259, &[packing]),
            writer.shorts(262, &[photometric]),
            writer.shorts(266, &[1 + u16::from(self.is_bit_reversed)]),
            writer.shorts(277, &[samples as u16]),
            writer.shorts(284, &[1 + u16::from(self.is_planar)]),
            writer.shorts(317, &[u16::from(self.predictor % 4)]),
            writer.shorts(339, &[1 + u16::from(self.numbers % 4)]),
        ];
        if let Color::Palette = self.color {
            let colors = (0..3_u16 << bits.min(8)).map(|value| value.wrapping_mul(0x4321));
            entries.push(writer.shorts(320, &colors.collect::<Vec<_>>()));
        }
        if let Packing::OldJpeg = self.packing {
            entries.push(writer.longs(513, &offsets[..1]));
        }
        entries.extend(match self.cut {
            Cut::Strips(_) => vec![
                writer.longs(273, &offsets),
                writer.longs(278, &[down.into()]),
                writer.longs(279, &lengths),
            ],
            Cut::Tiles(..) => vec![
                writer.longs(322, &[across.into()]),
                writer.longs(323, &[down.into()]),
                writer.longs(324, &offsets),
                writer.longs(325, &lengths),
            ],
        });
        writer.directory(&self.odd, entries);
    }

    fn pack(&self, pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
        match self.packing {
            Packing::None | Packing::FaxRuns | Packing::Fax3 | Packing::Fax4 => pixels.to_vec(),
            Packing::Deflate => stored(pixels),
            Packing::Lzw => lzw(pixels),
            Packing::PackBits => pixels
                .chunks(128)
                .flat_map(|run| [&[run.len() as u8 - 1], run].concat())
                .collect(),
            Packing::Zstd => zstd(pixels),
            Packing::Jpeg | Packing::OldJpeg => {
                let (width, height) = (width as usize, height as usize);
                let rgb: Vec<u8> = pixels
                    .iter()
                    .chain([&0])
                    .cycle()
                    .copied()
                    .take(width * height * 3)
                    .collect();
                glimpse_image::to_jpeg(&rgb, width, height, 80).unwrap_or_default()
            }
        }
    }
}

/// Codes of nine bits, of which there are never enough for ten.
fn lzw(bytes: &[u8]) -> Vec<u8> {
    const CLEAR: u16 = 256;
    const END: u16 = 257;
    let runs = bytes.chunks(250);
    let codes = runs.flat_map(|run| [CLEAR].into_iter().chain(run.iter().map(|&b| b.into())));
    let mut out = Vec::new();
    let (mut pending, mut held) = (0_u32, 0);
    for code in codes.chain([END, 0]) {
        pending = pending << 9 | u32::from(code);
        held += 9;
        while held >= 8 {
            held -= 8;
            out.push((pending >> held) as u8);
        }
    }
    out
}

/// Blocks as they are, in a frame with a window of 256 KiB.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x40];
    for block in bytes.chunks(1 << 16) {
        out.extend(&((block.len() as u32) << 3).to_le_bytes()[..3]);
        out.extend(block);
    }
    out.extend([1, 0, 0]);
    out
}
