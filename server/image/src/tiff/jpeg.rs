//! Strips and tiles that are JPEGs without their tables.

use std::io::Cursor;

use ::image::codecs::jpeg::JpegDecoder;
use ::image::{ColorType, ImageDecoder};
use turbojpeg::{Decompressor, Image, PixelFormat};

use super::layout::{Color, Layout, Packing, broken, unsupported};
use crate::jpeg::is_whole_and_portable;
use crate::{Decoder, Format, ImageError};

/// More scans than any writer makes; each costs as much as the first.
const MAX_SCANS: u32 = 100;
/// What progressive strips cost, as multiples of baseline's.
const PROGRESSIVE: u64 = 8;

pub(super) struct Jpeg {
    decoder: Decoder,
    turbo: Option<Decompressor>,
    /// In pixels, what may still be decoded for this picture.
    budget: u64,
}

/// A frame's header within a JPEG.
#[derive(Clone, Copy)]
struct Frame {
    width: u32,
    height: u32,
    channels: usize,
    is_progressive: bool,
}

impl Jpeg {
    pub fn new(layout: &Layout<'_>, decoder: Decoder) -> Self {
        let pixels = u64::from(layout.width) * u64::from(layout.height) * layout.planes() as u64;
        Jpeg {
            decoder,
            turbo: None,
            // Strips of one row are decoded as 16, and tiles have edges.
            budget: 16 * pixels + (1 << 24),
        }
    }

    /// The pixels of a strip or tile of which `rows` rows are needed, without gaps: gray, RGB, or the four inks.
    ///
    /// It is judged by its own header first: whatever its bytes are, no more than a strip or tile is decoded of them.
    pub fn decode(
        &mut self,
        layout: &Layout<'_>,
        bytes: &[u8],
        rows: u32,
    ) -> Result<Vec<u8>, ImageError> {
        let expected = if layout.is_planar {
            1
        } else {
            layout.color.samples()
        };
        let (file, frame) = compose(layout, bytes, expected, rows)?;
        let fits = frame.width == layout.chunk_width
            && (rows..=layout.chunk_height).contains(&frame.height);
        if !fits {
            return Err(broken(
                "a strip or tile of it has another size than it says",
            ));
        }
        if frame.channels != expected || layout.chunk_samples() != expected {
            return Err(unsupported("has other channels than its JPEG strips"));
        }
        let side = |pixels: u32| u64::from(pixels.next_multiple_of(16));
        let scans = if frame.is_progressive { PROGRESSIVE } else { 1 };
        let work = side(frame.width) * side(frame.height) * scans;
        self.budget = self
            .budget
            .checked_sub(work)
            .ok_or_else(|| broken("its strips or tiles don't fit its size"))?;
        match self.decoder {
            Decoder::TurboJpeg => self.turbo(&file, frame),
            Decoder::Portable => portable(&file, frame),
        }
    }

    fn turbo(&mut self, file: &[u8], frame: Frame) -> Result<Vec<u8>, ImageError> {
        let fault = |error: turbojpeg::Error| ImageError::damaged(Format::Tiff, error);
        let mut turbo = match self.turbo.take() {
            Some(turbo) => turbo,
            None => {
                let mut turbo = Decompressor::new().map_err(fault)?;
                turbo.set_scan_limit(MAX_SCANS).map_err(fault)?;
                turbo
            }
        };
        let header = turbo.read_header(file).map_err(fault)?;
        let (width, height) = (frame.width as usize, frame.height as usize);
        if (header.width, header.height) != (width, height) {
            return Err(broken(
                "a strip or tile of it has another size than it says",
            ));
        }
        let format = match frame.channels {
            1 => PixelFormat::GRAY,
            3 => PixelFormat::RGB,
            _ => PixelFormat::CMYK,
        };
        let pitch = width * format.size();
        let mut pixels = vec![0; pitch * height];
        let image = Image {
            pixels: pixels.as_mut_slice(),
            width,
            pitch,
            height,
            format,
        };
        turbo.decompress(file, image).map_err(fault)?;
        self.turbo = Some(turbo);
        Ok(pixels)
    }
}

fn portable(file: &[u8], frame: Frame) -> Result<Vec<u8>, ImageError> {
    let fault = |error| ImageError::from_decoder(Format::Tiff, error);
    let decoder = JpegDecoder::new(Cursor::new(file)).map_err(fault)?;
    let is_expected = matches!(
        (decoder.color_type(), frame.channels),
        (ColorType::L8, 1) | (ColorType::Rgb8, 3)
    );
    if !is_expected || decoder.dimensions() != (frame.width, frame.height) {
        return Err(unsupported("has JPEG strips of a rare kind"));
    }
    if !is_whole_and_portable(file) {
        return Err(broken("part of its data is missing"));
    }
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels).map_err(fault)?;
    Ok(pixels)
}

/// A JPEG file of the tables that all strips share and one strip, with the kind of colours that the TIFF says instead
/// of what either says; and its frame's header.
fn compose(
    layout: &Layout<'_>,
    bytes: &[u8],
    channels: usize,
    rows: u32,
) -> Result<(Vec<u8>, Frame), ImageError> {
    if !layout.old_tables.is_empty() {
        return Ok(from_scan(layout, bytes, rows));
    }
    let mut file = Vec::with_capacity(layout.jpeg_tables.len().min(1 << 16) + bytes.len() + 32);
    file.extend_from_slice(&[0xFF, 0xD8]);
    let transform = match (channels, layout.color) {
        (1, _) => None,
        (3, Color::YCbCr) => Some(1),
        _ => Some(0),
    };
    // An obsolete one is a whole file: what it says itself counts.
    let is_whole = layout.packing == Packing::OldJpeg;
    if let Some(transform) = transform
        && !is_whole
    {
        file.extend_from_slice(b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0");
        file.push(transform);
    }
    let mut frame = None;
    if !is_whole {
        segments(layout.jpeg_tables, &mut file, &mut frame, false)?;
    }
    let rest = segments(bytes, &mut file, &mut frame, is_whole)?;
    let frame = frame.ok_or_else(|| broken("a strip or tile of it is no JPEG"))?;
    file.extend_from_slice(rest);
    Ok((file, frame))
}

/// A JPEG file of one strip of the obsolete kind: its `rows` rows' scan, and the tables that the directory points to.
fn from_scan(layout: &Layout<'_>, scan: &[u8], rows: u32) -> (Vec<u8>, Frame) {
    let mut file = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, parts: &[&[u8]]| {
        let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
        file.extend([0xFF, marker]);
        file.extend((length as u16).to_be_bytes());
        parts.iter().for_each(|part| file.extend_from_slice(part));
    };
    let channels = layout.old_tables.len() as u8;
    let [h1, h0] = (rows as u16).to_be_bytes();
    let [w1, w0] = (layout.width as u16).to_be_bytes();
    let (mut components, mut scanned) = (Vec::new(), vec![channels]);
    let (across, down) = layout.subsampling;
    for (number, [quantisation, dc, ac]) in (0..channels).zip(&layout.old_tables) {
        segment(0xDB, &[&[number], quantisation]);
        segment(0xC4, &[&[number], dc]);
        segment(0xC4, &[&[0x10 | number], ac]);
        let sampling = if number == 0 {
            (across << 4 | down) as u8
        } else {
            0x11
        };
        components.extend([number + 1, sampling, number]);
        scanned.extend([number + 1, number << 4 | number]);
    }
    scanned.extend([0, 63, 0]);
    let transform = if layout.color == Color::YCbCr { 1 } else { 0 };
    segment(0xEE, &[b"Adobe\0\x64\0\0\0\0", &[transform]]);
    segment(0xC0, &[&[8, h1, h0, w1, w0, channels], &components]);
    segment(0xDD, &[&layout.old_restart.to_be_bytes()]);
    segment(0xDA, &[&scanned]);
    file.extend_from_slice(scan);
    file.extend([0xFF, 0xD9]);
    let frame = Frame {
        width: layout.width,
        height: rows,
        channels: channels.into(),
        is_progressive: false,
    };
    (file, frame)
}

/// Appends a JPEG's segments to `to`, and gives what follows from its first scan on.
fn segments<'a>(
    jpeg: &'a [u8],
    to: &mut Vec<u8>,
    frame: &mut Option<Frame>,
    with_applications: bool,
) -> Result<&'a [u8], ImageError> {
    let mut rest = jpeg;
    while let [0xFF, marker, after @ ..] = rest {
        match marker {
            // Fillers, and the beginning.
            0xFF => rest = &rest[1..],
            0xD8 => rest = after,
            0xD9 => return Ok(&[]),
            0xDA => return Ok(rest),
            _ => {
                let segment = after
                    .first_chunk()
                    .and_then(|&length| after.get(..usize::from(u16::from_be_bytes(length))))
                    .filter(|segment| segment.len() >= 2)
                    .ok_or_else(|| broken("a strip or tile of it is cut off"))?;
                if let 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF = marker {
                    if frame.is_some() {
                        return Err(broken("a strip or tile of it is more than one JPEG"));
                    }
                    *frame = Some(read_frame(*marker, segment)?);
                }
                let is_application = matches!(marker, 0xE0..=0xEF | 0xFE);
                if with_applications || !is_application {
                    to.extend_from_slice(&rest[..2 + segment.len()]);
                }
                rest = &after[segment.len()..];
            }
        }
    }
    match rest {
        [] => Ok(&[]),
        _ => Err(broken("a strip or tile of it is no JPEG")),
    }
}

fn read_frame(marker: u8, segment: &[u8]) -> Result<Frame, ImageError> {
    let [_, _, bits, y1, y0, x1, x0, channels, ..] = *segment else {
        return Err(broken("a strip or tile of it is cut off"));
    };
    if bits != 8 || !matches!(marker, 0xC0..=0xC2) {
        return Err(unsupported("has JPEG strips of a rare kind"));
    }
    Ok(Frame {
        width: u16::from_be_bytes([x1, x0]).into(),
        height: u16::from_be_bytes([y1, y0]).into(),
        channels: channels.into(),
        is_progressive: marker == 0xC2,
    })
}
