//! What a JPEG's markers say, read before anything is decoded, and the file as a decoder should be given it.
//!
//! Cameras, phones and editors leave files that every viewer shows though they break the standard: stray bytes before a
//! marker, no end-of-image marker, odd versions. libjpeg-turbo tells its first warning only, and one about such an
//! oddity would hide one about missing data. So what it gets has none of the former.

use std::borrow::Cow;
use std::ops::Range;

use super::super::{Format, ImageError};

/// A progressive JPEG has some ten scans; a malicious one thousands, each as dear as the first.
pub(super) const MAX_SCANS: usize = 100;
/// Zeros at the end of a file that may be what a failed copy left in place of the picture's rest.
const ZEROS: usize = 16;
/// Of them a whole picture's data may end in so many.
const ZEROS_OF_DATA: usize = 4;

/// One colour channel as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub id: u8,
    /// Sampling factors: how many blocks of it an MCU is wide and high.
    pub across: u32,
    pub down: u32,
}

/// The picture as its markers describe it.
#[derive(Debug)]
pub(super) struct Markers {
    pub width: u32,
    pub height: u32,
    pub components: Vec<Component>,
    /// Arithmetic coding, of which libjpeg-turbo can't tell whether data is missing.
    pub is_arithmetic: bool,
    pub is_progressive: bool,
    pub is_lossless: bool,
    /// More than one scan has to be read before the first pixel is known.
    pub has_scans: bool,
    /// Samples that all scans together pass over.
    pub samples_read: u64,
    /// Whether the end-of-image marker is there.
    pub has_end: bool,
    /// What of the file the decoder gets.
    kept: Vec<Range<usize>>,
    /// Bytes that it gets in place of the file's.
    patches: Vec<(usize, u8)>,
}

impl Markers {
    /// # Errors
    /// [`ImageError::Unsupported`] for a JPEG of a kind that nothing here decodes, [`ImageError::Broken`] for one whose
    /// structure has no pixels in it, or not all.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        Reader::new(bytes).read()
    }

    /// Samples of all components, in whole MCUs.
    pub fn samples(&self) -> u64 {
        let across = self.components.iter().map(|c| c.across).max().unwrap_or(1);
        let down = self.components.iter().map(|c| c.down).max().unwrap_or(1);
        let mcus =
            u64::from(self.width.div_ceil(8 * across)) * u64::from(self.height.div_ceil(8 * down));
        let blocks: u64 = self
            .components
            .iter()
            .map(|c| u64::from(c.across * c.down))
            .sum();
        mcus * blocks * 64
    }

    /// Whether any other component has more samples, either way, than the first.
    pub fn is_first_coarser(&self) -> bool {
        self.components.iter().any(|c| {
            let first = self.components[0];
            c.across > first.across || c.down > first.down
        })
    }

    /// The file up to the picture's end, as a decoder should be given it.
    pub fn file<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.kept.as_slice() {
            [all] if self.has_end && self.patches.is_empty() => Cow::Borrowed(&bytes[all.clone()]),
            _ => Cow::Owned(self.assemble(bytes, 0)),
        }
    }

    /// The file without the zeros at its end, where there are many and no end-of-image marker.
    pub fn without_zeros(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let last = self.kept.last()?;
        let zeros = bytes[last.clone()]
            .iter()
            .rev()
            .take_while(|&&byte| byte == 0)
            .count();
        (!self.has_end && zeros >= ZEROS).then(|| self.assemble(bytes, zeros - ZEROS_OF_DATA))
    }

    fn assemble(&self, bytes: &[u8], less: usize) -> Vec<u8> {
        let mut file = Vec::with_capacity(bytes.len() + 2);
        let mut patches = self.patches.iter().peekable();
        for range in &self.kept {
            let start = file.len();
            file.extend_from_slice(&bytes[range.clone()]);
            while let Some(&(at, byte)) = patches.next_if(|(at, _)| range.contains(at)) {
                file[start + at - range.start] = byte;
            }
        }
        file.truncate(file.len() - less);
        if !self.has_end {
            file.extend_from_slice(&[0xff, 0xd9]);
        }
        file
    }
}

/// How far a component's coefficients have come: for each, the lowest bit that was sent, or [`UNSENT`].
type Sent = [u8; 64];
const UNSENT: u8 = u8::MAX;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    kept: Vec<Range<usize>>,
    patches: Vec<(usize, u8)>,
    /// The frame's marker, once read.
    process: Option<u8>,
    width: u32,
    height: u32,
    components: Vec<Component>,
    sent: Vec<Sent>,
    restart_interval: u64,
    scans: usize,
    samples_read: u64,
    has_end: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            at: 2,
            kept: Vec::new(),
            patches: Vec::new(),
            process: None,
            width: 0,
            height: 0,
            components: Vec::new(),
            sent: Vec::new(),
            restart_interval: 0,
            scans: 0,
            samples_read: 0,
            has_end: false,
        }
    }

    fn read(mut self) -> Result<Markers, ImageError> {
        self.keep(0..self.bytes.len().min(2));
        while let Some((at, marker)) = self.next_marker() {
            match marker {
                0xd9 => {
                    self.keep(at..at + 2);
                    self.has_end = true;
                    break;
                }
                // Of another picture behind this one.
                0xd8 => break,
                // Without contents; a decoder passes over them.
                0x01 | 0xd0..=0xd7 => {}
                _ => {
                    let Some(body) = self.body(at) else {
                        break;
                    };
                    self.keep(at..body.end);
                    self.at = body.end;
                    self.segment(marker, body)?;
                    if marker == 0xda {
                        self.entropy()?;
                        if self.is_complete() {
                            self.finish();
                            break;
                        }
                    }
                }
            }
        }
        self.judge()
    }

    /// The next marker and where it begins, behind whatever lies before it.
    fn next_marker(&mut self) -> Option<(usize, u8)> {
        loop {
            self.at += memchr::memchr(0xff, self.bytes.get(self.at..)?)?;
            match *self.bytes.get(self.at + 1)? {
                0xff => self.at += 1,
                0x00 => self.at += 2,
                marker => {
                    let at = self.at;
                    self.at += 2;
                    return Some((at, marker));
                }
            }
        }
    }

    /// A segment's contents behind its length, or none if they aren't all there.
    fn body(&self, marker: usize) -> Option<Range<usize>> {
        let length = self.bytes.get(marker + 2..marker + 4)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let body = marker + 4..marker + 2 + length;
        (length >= 2 && body.end <= self.bytes.len()).then_some(body)
    }

    fn keep(&mut self, range: Range<usize>) {
        match self.kept.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.kept.push(range),
        }
    }

    fn segment(&mut self, marker: u8, body: Range<usize>) -> Result<(), ImageError> {
        let start = body.start;
        let body = &self.bytes[body];
        match (marker, body) {
            // A version of JFIF that there is none of. Its pixels are as any other's.
            (0xe0, [b'J', b'F', b'I', b'F', 0, major, ..]) if *major != 1 => {
                self.patches.push((start + 5, 1));
            }
            // Adobe's way of storing colours: what isn't known is taken for the usual one.
            (
                0xee,
                [
                    b'A',
                    b'd',
                    b'o',
                    b'b',
                    b'e',
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    transform,
                    ..,
                ],
            ) if *transform > 2 => {
                let usual = if self.components.len() == 4 { 2 } else { 1 };
                self.patches.push((start + 11, usual));
            }
            (0xdd, [high, low, ..]) => {
                self.restart_interval = u16::from_be_bytes([*high, *low]).into();
            }
            (0xda, _) => self.scan(start, body)?,
            // Huffman tables, the one for extensions, and arithmetic conditioning.
            (0xc4 | 0xc8 | 0xcc, _) => {}
            (0xc0..=0xcf | 0xf7, _) => self.frame(marker, body)?,
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self, process: u8, body: &[u8]) -> Result<(), ImageError> {
        if self.process.is_some() {
            return Err(broken("it has two headers"));
        }
        let &[precision, y0, y1, x0, x1, count, ref rest @ ..] = body else {
            return Err(broken("its header is too short"));
        };
        let kind = match process {
            0xf7 => Some("JPEG-LS"),
            0xc5..=0xc7 | 0xcd..=0xcf => Some("hierarchical JPEG"),
            0xcb => Some("lossless JPEG with arithmetic coding"),
            _ if precision == 12 => Some("JPEG with 12 bits a colour"),
            0xc3 if precision != 8 => Some("lossless JPEG with other than 8 bits a colour"),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(ImageError::Unsupported {
                what: format!("This is a {kind}, which can't be read here."),
            });
        }
        self.process = Some(process);
        self.width = u16::from_be_bytes([x0, x1]).into();
        self.height = u16::from_be_bytes([y0, y1]).into();
        self.components = rest
            .as_chunks::<3>()
            .0
            .iter()
            .take(usize::from(count))
            .map(|&[id, factors, _]| Component {
                id,
                across: u32::from(factors >> 4),
                down: u32::from(factors & 15),
            })
            .collect();
        let is_sound = |c: &Component| (1..=4).contains(&c.across) && (1..=4).contains(&c.down);
        if precision != 8
            || self.components.is_empty()
            || self.components.len() != usize::from(count)
            || !self.components.iter().all(is_sound)
        {
            return Err(broken("its header makes no sense"));
        }
        self.sent = vec![[UNSENT; 64]; self.components.len()];
        Ok(())
    }

    /// A scan's header: which components' coefficients follow.
    fn scan(&mut self, start: usize, body: &[u8]) -> Result<(), ImageError> {
        let Some(process) = self.process else {
            return Err(broken("its header is missing"));
        };
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(broken("it is made of far too many passes"));
        }
        let count = usize::from(*body.first().unwrap_or(&0));
        let (Some(members), Some(&[first, last, bits])) = (
            body.get(1..1 + 2 * count),
            body.get(1 + 2 * count..4 + 2 * count),
        ) else {
            return Err(broken("the header of its data is too short"));
        };
        let is_progressive = matches!(process, 0xc2 | 0xca);
        let (first, last, low) = match is_progressive {
            true => (usize::from(first), usize::from(last).min(63), bits & 15),
            false => (0, 63, 0),
        };
        // Sequential JPEG has only one right value for these; decoders don't look, but warn. In lossless JPEG they
        // choose the predictor.
        if !is_progressive && process != 0xc3 {
            let at = start + 1 + 2 * count;
            for (at, right) in [(at, 0), (at + 1, 63), (at + 2, 0)] {
                if self.bytes[at] != right {
                    self.patches.push((at, right));
                }
            }
        }
        let mut samples = 0;
        let across = self.components.iter().map(|c| c.across).max().unwrap_or(1);
        let down = self.components.iter().map(|c| c.down).max().unwrap_or(1);
        for member in members.as_chunks::<2>().0 {
            let found = self
                .components
                .iter()
                .position(|component| component.id == member[0]);
            let Some(index) = found else {
                return Err(broken(
                    "its data is of a colour that its header doesn't name",
                ));
            };
            let component = self.components[index];
            samples += u64::from(self.width * component.across / across)
                * u64::from(self.height * component.down / down);
            if let Some(sent) = self.sent[index].get_mut(first..=last) {
                sent.fill(low);
            }
        }
        self.samples_read += samples;
        Ok(())
    }

    /// Passes over a scan's data, to the next marker that isn't part of it.
    fn entropy(&mut self) -> Result<(), ImageError> {
        let start = self.at;
        let end = loop {
            let Some(skip) = memchr::memchr(0xff, &self.bytes[self.at..]) else {
                break self.bytes.len();
            };
            self.at += skip;
            match self.bytes.get(self.at + 1) {
                Some(0x00 | 0xd0..=0xd7) => self.at += 2,
                Some(0xff) => self.at += 1,
                Some(_) => break self.at,
                // The first half of a marker, at the end of the file.
                None => break self.at,
            }
        };
        self.at = end;
        self.keep(start..end);
        Ok(())
    }

    /// Whether all scans were there.
    fn is_complete(&self) -> bool {
        self.sent
            .iter()
            .all(|sent| sent.iter().all(|&low| low == 0))
    }

    /// Behind the last scan that the picture needs: its end, where it has one, or where something else begins.
    fn finish(&mut self) {
        if self.bytes[self.at..].starts_with(&[0xff, 0xd9]) {
            self.keep(self.at..self.at + 2);
            self.has_end = true;
        } else if let Some(last) = self.kept.last_mut() {
            last.end = last.start + trailer(&self.bytes[last.clone()]);
        }
    }

    fn judge(self) -> Result<Markers, ImageError> {
        let Some(process) = self.process else {
            return Err(broken("its header is missing"));
        };
        if self.width == 0 || self.height == 0 {
            return Err(broken("it has no pixels"));
        }
        let is_complete = self.is_complete();
        let is_progressive = matches!(process, 0xc2 | 0xca);
        let is_arithmetic = matches!(process, 0xc9 | 0xca);
        // With an end, a progressive picture may lack detail, as some editors save it. Otherwise the rest was cut off.
        let lacks = match self.has_end {
            true => self.sent.iter().any(|sent| sent[0] == UNSENT),
            false => !is_complete || is_arithmetic,
        };
        if self.scans == 0 || lacks {
            return Err(broken("its end is missing"));
        }
        Ok(Markers {
            width: self.width,
            height: self.height,
            components: self.components,
            is_arithmetic,
            is_progressive,
            is_lossless: process == 0xc3,
            has_scans: self.scans > 1 || is_progressive,
            samples_read: self.samples_read,
            has_end: self.has_end,
            kept: self.kept,
            patches: self.patches,
        })
    }
}

/// Where in the last scan's data, of a file without an end-of-image marker, something begins that phones append: a
/// video, or Samsung's list of blocks. Its length if nothing does.
fn trailer(data: &[u8]) -> usize {
    let named = [&b"Image_UTC_Data"[..], b"MotionPhoto_Data"]
        .into_iter()
        .filter_map(|name| memchr::memmem::find(data, name)?.checked_sub(8));
    let video = memchr::memmem::find_iter(data, b"ftyp")
        .filter_map(|at| at.checked_sub(4))
        .find(|&at| data[at..at + 2] == [0, 0]);
    let blocks = memchr::memmem::rfind(data, b"SEFH").map(|at| {
        let count = data
            .get(at + 8..at + 12)
            .map_or(0, |c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        // 12 bytes an entry: two of padding, two of type, how far before the list its block begins, its length.
        let entries = data.get(at + 12..).unwrap_or_default().as_chunks::<12>().0;
        let back = entries
            .iter()
            .take(count as usize)
            .map(|entry| u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]) as usize)
            .max();
        at.saturating_sub(back.filter(|&back| back <= at).unwrap_or(0))
    });
    named.chain(video).chain(blocks).min().unwrap_or(data.len())
}

fn broken(what: &str) -> ImageError {
    ImageError::broken(Format::Jpeg, what)
}
