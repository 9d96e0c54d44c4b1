//! Reads a picture's [`Layout`] from a TIFF's directory.

use metadata::{Entry, Tiff};

use super::layout::{Alpha, Color, Layout, Numbers, Packing, broken, unsupported};
use crate::ImageError;

/// The tags that are looked at.
#[derive(Default)]
struct Tags {
    width: Option<Entry>,
    height: Option<Entry>,
    bits: Option<Entry>,
    packing: Option<Entry>,
    photometric: Option<Entry>,
    fill_order: Option<Entry>,
    strip_offsets: Option<Entry>,
    samples: Option<Entry>,
    rows_per_strip: Option<Entry>,
    strip_lengths: Option<Entry>,
    planar: Option<Entry>,
    fax3: Option<Entry>,
    predictor: Option<Entry>,
    palette: Option<Entry>,
    tile_width: Option<Entry>,
    tile_height: Option<Entry>,
    tile_offsets: Option<Entry>,
    tile_lengths: Option<Entry>,
    inks: Option<Entry>,
    extra: Option<Entry>,
    numbers: Option<Entry>,
    jpeg_tables: Option<Entry>,
    old_jpeg: Option<Entry>,
    old_restart: Option<Entry>,
    old_quantisation: Option<Entry>,
    old_dc: Option<Entry>,
    old_ac: Option<Entry>,
    luma: Option<Entry>,
    subsampling: Option<Entry>,
    reference: Option<Entry>,
}

impl Tags {
    fn read(tiff: Tiff<'_>, directory: usize) -> Self {
        let mut tags = Tags::default();
        for entry in tiff.entries(directory) {
            let slot = match entry.tag {
                256 => &mut tags.width,
                257 => &mut tags.height,
                258 => &mut tags.bits,
                259 => &mut tags.packing,
                262 => &mut tags.photometric,
                266 => &mut tags.fill_order,
                273 => &mut tags.strip_offsets,
                277 => &mut tags.samples,
                278 => &mut tags.rows_per_strip,
                279 => &mut tags.strip_lengths,
                284 => &mut tags.planar,
                292 => &mut tags.fax3,
                317 => &mut tags.predictor,
                320 => &mut tags.palette,
                322 => &mut tags.tile_width,
                323 => &mut tags.tile_height,
                324 => &mut tags.tile_offsets,
                325 => &mut tags.tile_lengths,
                332 => &mut tags.inks,
                338 => &mut tags.extra,
                339 => &mut tags.numbers,
                347 => &mut tags.jpeg_tables,
                513 => &mut tags.old_jpeg,
                515 => &mut tags.old_restart,
                519 => &mut tags.old_quantisation,
                520 => &mut tags.old_dc,
                521 => &mut tags.old_ac,
                529 => &mut tags.luma,
                530 => &mut tags.subsampling,
                532 => &mut tags.reference,
                _ => continue,
            };
            slot.get_or_insert(entry);
        }
        tags
    }
}

impl<'a> Layout<'a> {
    /// Reads the layout of the picture itself, or with `raw` of the first one, which Pillow takes even where it is a smaller
    /// copy.
    ///
    /// # Errors
    /// [`ImageError::Broken`] for what contradicts itself or the file, [`ImageError::Unsupported`] for kinds that are
    /// not read, each by its name.
    pub fn read(file: &'a [u8], raw: bool) -> Result<Self, ImageError> {
        let tiff = Tiff::new(file).ok_or_else(|| broken("its header is missing"))?;
        let directory = if raw { tiff.first() } else { tiff.main() };
        let directory = directory.ok_or_else(|| broken("its directory is missing"))?;
        let tags = Tags::read(tiff, directory);
        let number = |entry: Option<Entry>, or: u64| {
            entry.map_or(Some(or), |entry| tiff.unsigned(&entry, 0))
        };
        let small = |entry: Option<Entry>, or: u32, name: &str| {
            number(entry, or.into())
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| broken(format!("its {name} can't be read")))
        };
        let width = small(tags.width, 0, "width")?;
        let height = small(tags.height, 0, "height")?;
        let samples = small(tags.samples, 1, "number of channels")? as usize;
        if !(1..=64).contains(&samples) {
            return Err(unsupported(&format!("has {samples} channels")));
        }
        let bits = small(tags.bits, 1, "depth")?;
        let all_of = |entry: Option<Entry>, value: u32| {
            entry.is_none_or(|entry| {
                (0..entry.count.min(samples as u64))
                    .all(|index| tiff.unsigned(&entry, index) == Some(value.into()))
            })
        };
        if !all_of(tags.bits, bits) {
            return Err(unsupported("has channels of different depths"));
        }
        let numbers = match small(tags.numbers, 1, "kind of numbers")? {
            2 => Numbers::Signed,
            3 => Numbers::Float,
            5 | 6 => return Err(unsupported("has complex numbers for pixels")),
            _ => Numbers::Unsigned,
        };
        let is_known = match numbers {
            Numbers::Unsigned => (1..=16).contains(&bits) || bits == 32,
            Numbers::Signed => matches!(bits, 8 | 16 | 32),
            Numbers::Float => matches!(bits, 16 | 32 | 64),
        };
        if !is_known {
            return Err(unsupported(&format!("has channels of {bits} bits")));
        }

        let two_dimensional = number(tags.fax3, 0).unwrap_or(0) & 1 != 0;
        let packing = match small(tags.packing, 1, "packing")? {
            1 => Packing::None,
            2 => Packing::FaxRuns,
            3 => Packing::Fax3 { two_dimensional },
            4 => Packing::Fax4,
            5 => Packing::Lzw,
            6 => Packing::OldJpeg,
            7 => Packing::Jpeg,
            8 | 32946 => Packing::Deflate,
            32773 => Packing::PackBits,
            50000 => Packing::Zstd,
            other => {
                let name = match other {
                    33003 | 33005 | 34712 => "JPEG 2000",
                    34887 => "LERC",
                    34892 => "lossy DNG",
                    34925 => "LZMA",
                    50001 => "WebP",
                    50002 => "JPEG XL",
                    _ => "something rare",
                };
                return Err(unsupported(&format!("is packed as {name}")));
            }
        };
        let is_fax = matches!(
            packing,
            Packing::FaxRuns | Packing::Fax3 { .. } | Packing::Fax4
        );
        let is_jpeg = matches!(packing, Packing::Jpeg | Packing::OldJpeg);
        let usual = match () {
            () if is_fax => 0,
            () if samples >= 3 => 2,
            () => 1,
        };
        let color = match small(tags.photometric, usual, "kind of colours")? {
            0 => Color::Gray { inverted: true },
            1 => Color::Gray { inverted: false },
            2 => Color::Rgb,
            3 => Color::Palette,
            5 if number(tags.inks, 1) == Some(1) => Color::Cmyk,
            5 => {
                return Err(unsupported(
                    "has other inks than cyan, magenta, yellow and black",
                ));
            }
            6 => Color::YCbCr,
            4 => return Err(unsupported("is a mask for another picture")),
            8..=10 => return Err(unsupported("has Lab colours")),
            32803 | 34892 => return Err(unsupported("is a camera's raw file")),
            _ => return Err(unsupported("has colours of an unknown kind")),
        };
        if samples < color.samples() {
            return Err(broken("it has fewer channels than its colours need"));
        }
        if is_fax && (bits != 1 || samples != 1) || is_jpeg && bits != 8 {
            return Err(unsupported(&format!(
                "is packed for other depths than its {bits} bits"
            )));
        }
        // A palette's numbers, fax and JPEG have no other kinds.
        if (color == Color::Palette && (bits > 8 || numbers != Numbers::Unsigned))
            || (color == Color::YCbCr && (bits != 8 || numbers != Numbers::Unsigned))
        {
            return Err(unsupported(&format!(
                "has colours of {bits} bits of a rare kind"
            )));
        }
        let palette = match (color, tags.palette) {
            (Color::Palette, Some(entry)) => read_palette(tiff, &entry, bits)?,
            (Color::Palette, None) => return Err(broken("its palette is missing")),
            _ => Vec::new(),
        };

        let is_planar = samples > 1 && small(tags.planar, 1, "order of channels")? == 2;
        let predictor = match packing {
            Packing::Lzw | Packing::Deflate | Packing::Zstd => {
                small(tags.predictor, 1, "predictor")?
            }
            _ => 1,
        };
        let is_possible = match predictor {
            0 | 1 => true,
            2 => matches!(bits, 8 | 16 | 32 | 64),
            3 => numbers == Numbers::Float,
            _ => false,
        };
        if !is_possible {
            return Err(unsupported(&format!(
                "has predictor {predictor} for {bits} bits"
            )));
        }
        let share = |index| match tags.subsampling {
            Some(entry) => tiff.unsigned(&entry, index).unwrap_or(0) as u32,
            None => 2,
        };
        let subsampling = match color {
            Color::YCbCr if packing != Packing::Jpeg => (share(0), share(1)),
            _ => (1, 1),
        };
        if !matches!(subsampling, (1 | 2 | 4, 1 | 2 | 4))
            || !is_jpeg && subsampling != (1, 1) && (is_planar || predictor > 1 || samples != 3)
        {
            return Err(unsupported(
                "has colours at fewer points than brightness, in a rare way",
            ));
        }

        // One extra channel that nobody has named is transparency: so do other readers take it.
        let extra = |index| match tags.extra {
            Some(entry) => tiff.unsigned(&entry, index),
            None if samples == color.samples() + 1 => Some(2),
            None => None,
        };
        let alpha = (0..samples - color.samples()).find_map(|index| {
            let kind = extra(index as u64)?;
            matches!(kind, 1 | 2 | 999).then_some(Alpha {
                sample: color.samples() + index,
                is_premultiplied: kind == 1,
            })
        });

        let mut offsets = (tags.strip_offsets, tags.strip_lengths);
        let (mut chunk_width, mut chunk_height) = (
            width,
            small(tags.rows_per_strip, u32::MAX, "height of strips")?.min(height),
        );
        let is_tiled = tags.tile_width.is_some() && tags.tile_height.is_some();
        if is_tiled {
            chunk_width = small(tags.tile_width, 0, "tiles' width")?;
            chunk_height = small(tags.tile_height, 0, "tiles' height")?;
            // Some writers use strips' tags for tiles.
            offsets = (
                tags.tile_offsets.or(offsets.0),
                tags.tile_lengths.or(offsets.1),
            );
        }
        let mut layout = Layout {
            file,
            tiff,
            width,
            height,
            bits,
            numbers,
            samples,
            color,
            alpha,
            packing,
            predictor,
            is_bit_reversed: !is_jpeg && number(tags.fill_order, 1) == Some(2),
            is_planar,
            chunk_width,
            chunk_height,
            offsets: offsets.0,
            lengths: offsets.1,
            palette,
            jpeg_tables: tags
                .jpeg_tables
                .and_then(|entry| tiff.value(&entry))
                .unwrap_or_default(),
            old_tables: Vec::new(),
            old_restart: number(tags.old_restart, 0).unwrap_or(0) as u16,
            subsampling,
            luma: rationals(tiff, tags.luma, [0.299, 0.587, 0.114]),
            reference: rationals(
                tiff,
                tags.reference,
                [0.0, 255.0, 128.0, 255.0, 128.0, 255.0],
            ),
        };
        if packing == Packing::OldJpeg {
            if is_planar || is_tiled {
                return Err(unsupported("is packed as JPEG in an obsolete way"));
            }
            if number(tags.old_jpeg, 0).unwrap_or(0) > 0 {
                // The file goes on behind what its length says if that is its header's.
                (layout.chunk_width, layout.chunk_height) = (width, height);
                (layout.offsets, layout.lengths) = (tags.old_jpeg, None);
            } else {
                let tables = [tags.old_quantisation, tags.old_dc, tags.old_ac];
                layout.old_tables = (0..samples as u64)
                    .map(|component| old_tables(file, tiff, tables, component))
                    .collect::<Option<_>>()
                    .ok_or_else(|| broken("its tables are missing"))?;
            }
        }
        // What is no picture at all is said by whoever asked.
        if width > 0 && height > 0 {
            layout.judge()?;
        }
        Ok(layout)
    }
}

/// A component's quantisation table, and its codes for DC and AC: how many of each length, and what they stand for.
fn old_tables<'a>(
    file: &'a [u8],
    tiff: Tiff<'_>,
    tables: [Option<Entry>; 3],
    component: u64,
) -> Option<[&'a [u8]; 3]> {
    let [quantisation, dc, ac] = tables.map(|entry| {
        let at = tiff.unsigned(&entry?, component)?;
        file.get(usize::try_from(at).ok()?..)
    });
    let codes = |bytes: &'a [u8]| {
        let count: usize = bytes
            .get(..16)?
            .iter()
            .map(|&count| usize::from(count))
            .sum();
        bytes.get(..16 + count.min(256))
    };
    Some([quantisation?.get(..64)?, codes(dc?)?, codes(ac?)?])
}

fn read_palette(tiff: Tiff<'_>, entry: &Entry, bits: u32) -> Result<Vec<[u8; 3]>, ImageError> {
    let colors = 1 << bits;
    let values: Option<Vec<u16>> = (0..3 * colors)
        .map(|index| u16::try_from(tiff.unsigned(entry, index)?).ok())
        .collect();
    let values = values.ok_or_else(|| broken("its palette is cut off"))?;
    // Some writers have 8 bits where 16 are meant.
    let shift = if values.iter().all(|&value| value < 256) {
        0
    } else {
        8
    };
    let colors = colors as usize;
    Ok((0..colors)
        .map(|color| [0, 1, 2].map(|channel| (values[channel * colors + color] >> shift) as u8))
        .collect())
}

/// The fractions of an entry, or what they usually are.
fn rationals<const N: usize>(tiff: Tiff<'_>, entry: Option<Entry>, usual: [f32; N]) -> [f32; N] {
    let read = || {
        let entry = entry.filter(|entry| entry.kind == 5 && entry.count == N as u64)?;
        let bytes = tiff.value(&entry)?;
        let whole = |at: usize| {
            let bytes: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
            Some(match tiff.is_little() {
                true => u32::from_le_bytes(bytes),
                false => u32::from_be_bytes(bytes),
            } as f32)
        };
        let mut values = [0.0; N];
        for (index, value) in values.iter_mut().enumerate() {
            *value = whole(8 * index)? / whole(8 * index + 4)?;
        }
        values
            .iter()
            .all(|value| value.is_finite())
            .then_some(values)
    };
    read().unwrap_or(usual)
}
