//! PNG: rows as they are stored, also of files whose checksums or end are missing, Apple's own kind, and the first frame
//! of an animation that hides its still picture.

use std::io::{self, Read};

use ::image::ColorType;
use ::png::{BitDepth, Decoder, Limits, Transformations};

use super::others::{Decoded, Input};
use super::scratch::Scratch;
use super::slack::at_least;
use super::{Format, ImageError, Stop};

#[cfg(test)]
mod tests;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Of 256 colours, in bytes.
const MAX_PALETTE: usize = 3 * 256;

/// What a file's chunks say before any is decompressed.
struct Chunks<'a> {
    /// IHDR's contents.
    header: [u8; 13],
    /// The palette and which of its colours are transparent, with their names.
    tables: Vec<([u8; 4], &'a [u8])>,
    data: Vec<&'a [u8]>,
    /// Where the only frame that is shown first lies, if it isn't the still picture.
    frame: Option<Region>,
    /// Of Apple's kind: no header around the compressed data, blue before red, colours multiplied by alpha.
    is_apple: bool,
    /// A checksum is wrong.
    is_wrong: bool,
    /// Nothing is missing at its end.
    is_whole: bool,
    /// The palette has bytes that are no colour, or too many: the decoder relies on there being none.
    is_palette_odd: bool,
}

#[derive(Clone, Copy)]
struct Region {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// Width and height, by the chunks.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    Ok(Chunks::read(bytes, true)?.size())
}

/// Decodes into `scratch.decoded`, in the file's own channels, 8 bits deep: of 16 the upper ones, as Pillow does it. With
/// `raw` gray keeps all 16, which Pillow clips, and the still picture is taken even where an animation hides it.
pub(super) fn decode(
    scratch: &mut Scratch,
    bytes: &[u8],
    raw: bool,
    stop: &Stop,
) -> Result<Decoded, ImageError> {
    let chunks = Chunks::read(bytes, !raw)?;
    let transformations = chunks.transformations(raw);
    if chunks.is_plain() {
        return rows(scratch, Input::new(bytes, stop), transformations);
    }
    let file = chunks.file();
    let mut decoded = rows(scratch, Input::new(&file, stop), transformations)?;
    // Where a chunk's checksum is wrong, that of the compressed data tells whether the data is right; and where that one
    // is wrong alone, the chunks' do.
    if chunks.is_wrong && !chunks.is_apple && !chunks.is_intact() {
        return Err(broken("its checksums are wrong"));
    }
    if chunks.is_apple && !chunks.is_wrapped() {
        from_apple(&mut scratch.decoded, &decoded);
    }
    if let Some(region) = chunks.frame {
        place(scratch, &mut decoded, region, chunks.size());
    }
    Ok(decoded)
}

/// Bytes that lie in parts, one after the other.
struct Parts<'a, I> {
    part: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> io::Read for Parts<'a, I> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.rest.next() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        self.part.read(to)
    }
}

impl<'a> Chunks<'a> {
    fn read(bytes: &'a [u8], animated: bool) -> Result<Self, ImageError> {
        let mut chunks = Chunks {
            header: [0; 13],
            tables: Vec::new(),
            data: Vec::new(),
            frame: None,
            is_apple: false,
            is_wrong: false,
            is_whole: true,
            is_palette_odd: false,
        };
        let mut has_header = false;
        let mut has_end = false;
        // The animation's control of the frame whose data comes next.
        let mut control = None;
        let mut is_hidden = false;
        let mut frame: Vec<&[u8]> = Vec::new();
        let mut at = SIGNATURE.len();
        while let Some(chunk) = Chunk::read(bytes, &mut at) {
            match (&chunk.kind, chunk.data) {
                (b"IHDR", data) if !has_header => {
                    chunks.header = *data
                        .first_chunk()
                        .ok_or_else(|| broken("its header is too short"))?;
                    has_header = true;
                }
                (b"CgBI", _) => chunks.is_apple = true,
                (b"PLTE", data) => {
                    let colors = &data[..data.len().min(MAX_PALETTE) / 3 * 3];
                    chunks.is_palette_odd |= colors.len() < data.len();
                    chunks.tables.push((chunk.kind, colors));
                }
                (b"tRNS", data) => chunks.tables.push((chunk.kind, data)),
                (b"fcTL", data) if control.is_none() => control = Region::read(data),
                (b"IDAT", data) => {
                    is_hidden |= animated && control.is_none();
                    chunks.data.push(data);
                }
                (b"fdAT", [_, _, _, _, data @ ..]) if is_hidden && control.is_some() => {
                    frame.push(data);
                }
                // Of the second frame.
                (b"fcTL", _) if !frame.is_empty() => break,
                (b"IEND", _) => {
                    has_end = true;
                    break;
                }
                _ => {}
            }
            let is_needed = matches!(&chunk.kind, b"IHDR" | b"PLTE" | b"tRNS" | b"IDAT" | b"fdAT");
            chunks.is_wrong |= is_needed && chunk.is_sound == Some(false);
            chunks.is_whole &= chunk.is_sound.is_some();
        }
        if !has_header {
            return Err(broken("its header is missing"));
        }
        if chunks.data.is_empty() && frame.is_empty() {
            return Err(broken("it has no pixels"));
        }
        chunks.is_whole &= has_end;
        if let Some(region) = control.filter(|_| is_hidden && !frame.is_empty()) {
            let (width, height) = chunks.size();
            let fits = |at: u32, side: u32, whole: u32| {
                side > 0 && at.checked_add(side).is_some_and(|end| end <= whole)
            };
            if !fits(region.x, region.width, width) || !fits(region.y, region.height, height) {
                return Err(broken("a frame lies outside of it"));
            }
            chunks.frame = Some(region);
            chunks.data = frame;
        }
        Ok(chunks)
    }

    fn size(&self) -> (u32, u32) {
        let side = |at: usize| {
            let bytes = &self.header[at..at + 4];
            u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        (side(0), side(4))
    }

    fn transformations(&self, raw: bool) -> Transformations {
        const GRAY: u8 = 0;
        let mut transformations = Transformations::EXPAND;
        if self.frame.is_some() {
            // It lies on a transparent canvas.
            transformations |= Transformations::ALPHA;
        }
        let [.., color, _, _, _] = self.header;
        if !raw || color != GRAY {
            transformations |= Transformations::STRIP_16;
        }
        transformations
    }

    /// Whether the file can be decoded as it stands.
    fn is_plain(&self) -> bool {
        let is_odd = self.is_wrong || self.is_palette_odd || self.is_apple;
        self.is_whole && !is_odd && self.frame.is_none()
    }

    /// Whether the compressed data begins with zlib's two bytes. Some files have Apple's mark and nothing else of it.
    fn is_wrapped(&self) -> bool {
        let mut data = self.data.iter().copied().flatten();
        match (data.next(), data.next()) {
            (Some(&method), Some(&flags)) => {
                method & 15 == 8 && u16::from_be_bytes([method, flags]) % 31 == 0
            }
            _ => false,
        }
    }

    /// Whether the compressed data's own checksum is right.
    fn is_intact(&self) -> bool {
        let (width, height) = self.size();
        // The deepest pixels have 8 bytes, and each row of each interlaced pass one before it.
        let most = u64::from(width) * u64::from(height) * 8 + u64::from(height) * 8;
        let mut data = self.data.iter().copied();
        let data = Parts {
            part: data.next().unwrap_or_default(),
            rest: data,
        };
        let mut decoder = flate2::read::ZlibDecoder::new(data).take(most + 1);
        io::copy(&mut decoder, &mut io::sink()).is_ok_and(|length| length <= most)
    }

    /// A well-formed file of what the pixels need.
    fn file(&self) -> Vec<u8> {
        let mut file = SIGNATURE.to_vec();
        let mut header = self.header;
        if let Some(region) = self.frame {
            header[..4].copy_from_slice(&region.width.to_be_bytes());
            header[4..8].copy_from_slice(&region.height.to_be_bytes());
        }
        write(&mut file, b"IHDR", &header);
        for (kind, data) in &self.tables {
            write(&mut file, kind, data);
        }
        let is_bare = self.is_apple && !self.is_wrapped();
        if is_bare {
            write(&mut file, b"IDAT", &[0x78, 0x01]);
        }
        for data in &self.data {
            write(&mut file, b"IDAT", data);
        }
        if is_bare {
            // In place of a checksum, which is not looked at.
            write(&mut file, b"IDAT", &[0; 4]);
        }
        write(&mut file, b"IEND", &[]);
        file
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Whether its checksum is right, if it is all there.
    is_sound: Option<bool>,
}

impl<'a> Chunk<'a> {
    /// The chunk at `at`, which moves on; of one that is cut off what there is.
    fn read(bytes: &'a [u8], at: &mut usize) -> Option<Self> {
        let &[l0, l1, l2, l3, k0, k1, k2, k3] = bytes.get(*at..)?.first_chunk()?;
        let kind = [k0, k1, k2, k3];
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let start = *at + 8;
        let end = start.saturating_add(u32::from_be_bytes([l0, l1, l2, l3]) as usize);
        *at = end.saturating_add(4);
        let data = &bytes[start..end.min(bytes.len())];
        let is_sound = bytes
            .get(end..*at)
            .map(|sum| sum == checksum(kind, data).to_be_bytes());
        Some(Chunk {
            kind,
            data,
            is_sound,
        })
    }
}

impl Region {
    /// From an fcTL chunk.
    fn read(data: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?));
        Some(Region {
            width: number(4)?,
            height: number(8)?,
            x: number(12)?,
            y: number(16)?,
        })
    }
}

fn checksum(kind: [u8; 4], data: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&kind);
    sum.update(data);
    sum.finalize()
}

fn write(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    // As long as it was read from a chunk, whose length has 32 bits.
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(checksum(*kind, data).to_be_bytes());
}

fn rows(
    scratch: &mut Scratch,
    input: Input<'_>,
    transformations: Transformations,
) -> Result<Decoded, ImageError> {
    let fault = |error: ::png::DecodingError| match error {
        ::png::DecodingError::LimitsExceeded => {
            broken("it asks for more memory than its size explains")
        }
        error => ImageError::damaged(Format::Png, error),
    };
    let mut options = ::png::DecodeOptions::default();
    // Those of the chunks were looked at before.
    options.set_ignore_crc(true);
    options.set_ignore_adler32(true);
    let mut decoder = Decoder::new_with_options(input, options);
    decoder.set_limits(Limits { bytes: 64 << 20 });
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(transformations);
    let mut reader = decoder.read_info().map_err(fault)?;
    let (width, height) = reader.info().size();
    let is_interlaced = reader.info().interlaced;
    let (channels, depth) = reader.output_color_type();
    let color = color(channels, depth)?;
    let pixel = usize::from(color.bytes_per_pixel());
    let line = pixel * width as usize;
    let pixels = at_least(&mut scratch.decoded, line * height as usize);
    if is_interlaced {
        while let Some(row) = reader.next_interlaced_row().map_err(fault)? {
            if let ::png::InterlaceInfo::Adam7(place) = row.interlace() {
                ::png::expand_interlaced_row(pixels, line, row.data(), place, 8 * pixel as u8);
            }
        }
    } else {
        for row in pixels.chunks_exact_mut(line) {
            reader.read_row(row).map_err(fault)?;
        }
    }
    if depth == BitDepth::Sixteen {
        for value in pixels.as_chunks_mut::<2>().0 {
            *value = u16::from_be_bytes(*value).to_ne_bytes();
        }
    }
    Ok(Decoded::whole(width, height, color))
}

fn color(channels: ::png::ColorType, depth: BitDepth) -> Result<ColorType, ImageError> {
    use ::png::ColorType as C;
    Ok(match (channels, depth) {
        (C::Grayscale, BitDepth::Eight) => ColorType::L8,
        (C::GrayscaleAlpha, BitDepth::Eight) => ColorType::La8,
        (C::Rgb, BitDepth::Eight) => ColorType::Rgb8,
        (C::Rgba, BitDepth::Eight) => ColorType::Rgba8,
        (C::Grayscale, BitDepth::Sixteen) => ColorType::L16,
        (C::GrayscaleAlpha, BitDepth::Sixteen) => ColorType::La16,
        other => return Err(ImageError::unsupported(Format::Png, format!("{other:?}"))),
    })
}

/// In place: red before blue, and colours that alpha isn't multiplied into.
fn from_apple(pixels: &mut [u8], picture: &Decoded) {
    let count = picture.width as usize * picture.height as usize;
    match picture.color {
        ColorType::Rgb8 => {
            for pixel in pixels[..3 * count].as_chunks_mut::<3>().0 {
                pixel.swap(0, 2);
            }
        }
        ColorType::Rgba8 => {
            for [blue, green, red, alpha] in pixels[..4 * count].as_chunks_mut::<4>().0 {
                let whole = u32::from(*alpha).max(1);
                for color in [&mut *blue, green, &mut *red] {
                    *color = ((u32::from(*color) * 255 + whole / 2) / whole).min(255) as u8;
                }
                std::mem::swap(blue, red);
            }
        }
        _ => {}
    }
}

/// Puts a frame where it belongs on a picture that is transparent elsewhere.
fn place(scratch: &mut Scratch, frame: &mut Decoded, region: Region, (width, height): (u32, u32)) {
    if (region.width, region.height) == (width, height) {
        return;
    }
    let pixel = usize::from(frame.color.bytes_per_pixel());
    let line = width as usize * pixel;
    let canvas = at_least(&mut scratch.between, line * height as usize);
    canvas.fill(0);
    let part = region.width as usize * pixel;
    let rows = canvas.chunks_exact_mut(line).skip(region.y as usize);
    for (to, from) in rows.zip(
        scratch
            .decoded
            .chunks_exact(part)
            .take(region.height as usize),
    ) {
        to[region.x as usize * pixel..][..part].copy_from_slice(from);
    }
    std::mem::swap(&mut scratch.decoded, &mut scratch.between);
    (frame.width, frame.height) = (width, height);
    frame.extent = (width.into(), height.into());
}

fn broken(what: &str) -> ImageError {
    ImageError::broken(Format::Png, what)
}
