//! EXIF, in each of the files that it comes in: the server turns the pixels as the page's parser says.

use arbitrary::{Arbitrary, Unstructured};
use glimpse_image::{Options, load};

use super::bytes::stored;
use super::ifd::{Odd, Writer};
use super::png::chunk;

/// Of the picture that is turned, in pixels, and of the model's square: nothing is resized.
const SIDE: usize = 16;

/// [`rgb`], lossless.
const WEBP: &[u8] = include_bytes!("plain.webp");

#[derive(Arbitrary, Debug)]
struct Exif<'a> {
    container: Container,
    is_big: bool,
    is_little: bool,
    /// How often the block begins with JPEG's name for it, in fours.
    prefixes: u8,
    entries: Vec<Odd<'a>>,
    /// The thumbnail's directory, if there is one.
    second: Option<Vec<Odd<'a>>>,
    /// Where the last directory leads.
    next: u16,
    /// Bytes behind the block, and on its length.
    behind: &'a [u8],
    excess: i8,
    /// What comes before the block, in a part of its own.
    before: &'a [u8],
    is_last: bool,
    copies: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Container {
    Jpeg,
    Png,
    /// As a text, the way it was done before PNG had a chunk for it.
    PngText,
    WebP,
    Tiff,
}

pub fn check(data: &[u8]) -> bool {
    let Ok(exif) = Exif::arbitrary_take_rest(Unstructured::new(data)) else {
        return false;
    };
    let block = exif.block();
    let file = exif.file(&block);
    let is_read = super::check(&file);
    // What the page looks for.
    let said = metadata::orientation(&file);
    let thumbnails = metadata::jpeg_blocks(&file).filter_map(metadata::thumbnail);
    assert!(thumbnails.count() <= file.len());
    let said = match exif.container {
        // It can't inflate.
        Container::PngText => said.or_else(|| metadata::orientation_of_block(&block)),
        _ => said,
    };
    if let Some(found) = turned(&file, &exif.plain()) {
        assert_eq!(found, said.unwrap_or(1));
    }
    is_read
}

/// How the server turns `file`; nothing where the fuzzer has changed more than that.
fn turned(file: &[u8], plain: &[u8]) -> Option<u8> {
    let read = |file| {
        let picture = load(file, SIDE as u32, &Options::default()).ok()?;
        let is_whole = (picture.width, picture.height) == (SIDE as u32, SIDE as u32);
        is_whole.then(|| picture.pixels.rgb().to_vec())
    };
    let (found, plain) = (read(file)?, read(plain)?);
    (1..=8).find(|&orientation| upright(&plain, orientation) == found)
}

/// Where row and column 0 are, by EXIF's own list.
fn upright(pixels: &[u8], orientation: u8) -> Vec<u8> {
    let pixels = pixels.as_chunks::<3>().0;
    let last = SIDE - 1;
    let places = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
    places
        .flat_map(|(x, y)| {
            let (x, y) = match orientation {
                2 => (last - x, y),
                3 => (last - x, last - y),
                4 => (x, last - y),
                5 => (y, x),
                6 => (y, last - x),
                7 => (last - y, last - x),
                8 => (last - y, x),
                _ => (x, y),
            };
            pixels[y * SIDE + x]
        })
        .collect()
}

/// Rows of pixels that are all different.
fn rgb() -> Vec<u8> {
    let places = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
    places
        .flat_map(|(x, y)| [x * 16, y * 16, (x * 7 + y * 13) % 16 * 16].map(|v| v as u8))
        .collect()
}

impl Exif<'_> {
    /// As it stands in a file.
    fn block(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.is_big, self.is_little);
        self.directories(&mut writer, false);
        let mut block = b"Exif\0\0".repeat(usize::from(self.prefixes % 4));
        block.extend(writer.bytes);
        block.extend(self.behind);
        block
    }

    fn directories(&self, writer: &mut Writer, is_picture: bool) {
        let mut right = Vec::new();
        if is_picture {
            let at = writer.push(&rgb());
            right = vec![
                writer.shorts(256, &[SIDE as u16]),
                writer.shorts(257, &[SIDE as u16]),
                writer.shorts(258, &[8; 3]),
                writer.shorts(262, &[2]),
                writer.longs(273, &[at]),
                writer.shorts(277, &[3]),
            ];
        }
        writer.directory(&self.entries, right);
        if let Some(second) = &self.second {
            writer.directory(second, Vec::new());
        }
        writer.lead_to(self.next.into());
    }

    /// The picture without a block.
    fn plain(&self) -> Vec<u8> {
        match self.container {
            Container::Jpeg => jpeg(&[]),
            Container::Png | Container::PngText => png(&[], false),
            Container::WebP => WEBP.to_vec(),
            Container::Tiff => {
                let bare = Exif {
                    entries: Vec::new(),
                    second: None,
                    next: 0,
                    ..*self
                };
                bare.file(&[])
            }
        }
    }

    fn file(&self, block: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| (bytes.len() as u64).saturating_add_signed(self.excess.into());
        let again = 1 + usize::from(self.copies % 20);
        match self.container {
            Container::Jpeg => {
                let segment = |marker, bytes: &[u8], length: u64| {
                    let length = (length + 2).min(0xffff) as u16;
                    [&[0xff, marker], &length.to_be_bytes()[..], bytes].concat()
                };
                let block = match self.prefixes % 4 {
                    0 => [b"Exif\0\0", block].concat(),
                    _ => block.to_vec(),
                };
                let before = segment(0xe2, self.before, self.before.len() as u64);
                let block = segment(0xe1, &block, length(&block));
                jpeg(&[before, block.repeat(again)].concat())
            }
            Container::Png => {
                let part = part(b"eXIf", block, length(block) as u32).repeat(again);
                png(&[self.png_before(), part].concat(), self.is_last)
            }
            Container::PngText => {
                let digits: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
                let text = format!("\nexif\n{:8}\n{digits}\n", block.len());
                let (kind, text) = match self.is_last {
                    true => (b"zTXt", [&[0][..], &stored(text.as_bytes())].concat()),
                    false => (b"tEXt", text.into_bytes()),
                };
                let text = [&b"Raw profile type exif\0"[..], &text].concat();
                png(&part(kind, &text, text.len() as u32), false)
            }
            Container::WebP => {
                let chunk = |kind: &[u8; 4], bytes: &[u8], length: u64| {
                    let pad = &[0][..bytes.len() % 2];
                    [kind, &(length as u32).to_le_bytes()[..], bytes, pad].concat()
                };
                let flags = if self.copies & 0x80 == 0 { 8 } else { 0 };
                let side = SIDE as u8 - 1;
                let head = [flags, 0, 0, 0, side, 0, 0, side, 0, 0];
                let block = chunk(b"EXIF", block, length(block)).repeat(again);
                let mut parts = [&WEBP[12..], &block];
                if !self.is_last {
                    parts.reverse();
                }
                let head = chunk(b"VP8X", &head, 10);
                let before = chunk(b"zzzz", self.before, self.before.len() as u64);
                [b"RIFF\0\0\0\0WEBP".to_vec(), head, before, parts.concat()].concat()
            }
            Container::Tiff => {
                let mut writer = Writer::new(self.is_big, self.is_little);
                self.directories(&mut writer, true);
                writer.bytes
            }
        }
    }

    fn png_before(&self) -> Vec<u8> {
        let mut before = Vec::new();
        chunk(&mut before, b"tIME", self.before, 0);
        before
    }
}

/// A chunk of a PNG that says that it has `length` bytes.
fn part(kind: &[u8; 4], bytes: &[u8], length: u32) -> Vec<u8> {
    let mut chunk = [&length.to_be_bytes(), &kind[..], bytes].concat();
    chunk.extend(crc32fast::hash(&chunk[4..]).to_be_bytes());
    chunk
}

/// With `more` behind its beginning.
fn jpeg(more: &[u8]) -> Vec<u8> {
    let file = glimpse_image::to_jpeg(&rgb(), SIDE, SIDE, 90).unwrap_or_default();
    let (begin, rest) = file.split_at(file.len().min(2));
    [begin, more, rest].concat()
}

/// With `more` before its pixels, or behind them.
fn png(more: &[u8], is_behind: bool) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let side = (SIDE as u32).to_be_bytes();
    chunk(
        &mut file,
        b"IHDR",
        &[&side, &side, &[8, 2, 0, 0, 0][..]].concat(),
        0,
    );
    let rows: Vec<u8> = rgb()
        .chunks(3 * SIDE)
        .flat_map(|row| [&[0], row].concat())
        .collect();
    let mut pixels = Vec::new();
    chunk(&mut pixels, b"IDAT", &stored(&rows), 0);
    let parts = if is_behind {
        [&pixels[..], more]
    } else {
        [more, &pixels[..]]
    };
    file.extend(parts.concat());
    chunk(&mut file, b"IEND", &[], 0);
    file
}
