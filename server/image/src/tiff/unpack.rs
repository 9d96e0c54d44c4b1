//! A strip or tile, unpacked row by row: never more of it than is asked for.

use std::io::{self, Read};

use flate2::bufread::ZlibDecoder;
use weezl::{BitOrder, LzwStatus};

use super::fax::Fax;
use super::layout::{Layout, Numbers, Packing, broken, unsupported};
use crate::ImageError;

/// Larger windows are refused: each is memory.
const MAX_WINDOW: u64 = 8 << 20;

/// Gives the rows of a strip or tile, from the top.
pub(super) trait Rows {
    /// Fills `row`, whose length is always the same.
    fn read_row(&mut self, row: &mut [u8]) -> io::Result<()>;
}

/// Rows that simply follow each other.
pub(super) struct Stream<R>(pub R);

impl<R: Read> Rows for Stream<R> {
    fn read_row(&mut self, row: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(row).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("its last rows are missing"),
            // Its own words are for the log, not for whoever sent the picture.
            _ => {
                tracing::debug!(%error, "a TIFF's strip or tile is damaged");
                io::Error::other("it is not packed as it says")
            }
        })
    }
}

/// The rows of a strip or tile that is not packed as JPEG.
pub(super) fn rows<'a>(
    layout: &Layout<'_>,
    bytes: &'a [u8],
) -> Result<Box<dyn Rows + 'a>, ImageError> {
    let is_reversed = layout.is_bit_reversed;
    if matches!(
        layout.packing,
        Packing::FaxRuns | Packing::Fax3 { .. } | Packing::Fax4
    ) {
        return Ok(Box::new(Fax::new(
            bytes,
            is_reversed,
            layout.packing,
            layout.chunk_width,
        )));
    }
    let reader: Box<dyn Read + 'a> = match is_reversed {
        false => reader(layout.packing, bytes)?,
        true => {
            let turned: Vec<u8> = bytes.iter().map(|byte| byte.reverse_bits()).collect();
            reader(layout.packing, io::Cursor::new(turned))?
        }
    };
    let stream = Stream(reader);
    Ok(match layout.subsampling {
        (1, 1) => Box::new(Predicted {
            rows: stream,
            predictor: layout.predictor,
            bytes: layout.bits as usize / 8,
            samples: layout.chunk_samples(),
            is_float: layout.numbers == Numbers::Float,
            is_little: layout.is_little(),
            planes: Vec::new(),
        }),
        (across, down) => Box::new(Subsampled {
            rows: stream,
            across: across as usize,
            down: down as usize,
            units: vec![
                0;
                layout.chunk_width.div_ceil(across) as usize * (across * down + 2) as usize
            ],
            row: 0,
        }),
    })
}

fn reader<'a>(
    packing: Packing,
    mut bytes: impl io::BufRead + 'a,
) -> Result<Box<dyn Read + 'a>, ImageError> {
    Ok(match packing {
        Packing::None => Box::new(bytes),
        Packing::PackBits => Box::new(PackBits {
            bytes,
            literal: 0,
            repeated: (0, 0),
        }),
        Packing::Deflate => Box::new(ZlibDecoder::new(bytes)),
        Packing::Lzw => {
            // Before TIFF 6 the codes began with their lowest bit.
            let is_old = matches!(bytes.fill_buf(), Ok([0, second, ..]) if second & 1 != 0);
            let decoder = match is_old {
                true => weezl::decode::Decoder::new(BitOrder::Lsb, 8),
                false => weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8),
            };
            Box::new(Lzw { bytes, decoder })
        }
        Packing::Zstd => {
            let window = bytes.fill_buf().ok().and_then(zstd_window);
            match window {
                Some(window) if window <= MAX_WINDOW => {}
                Some(_) => {
                    return Err(unsupported(
                        "is packed by Zstandard with a very large window",
                    ));
                }
                None => return Err(broken("it is not packed as it says")),
            }
            let reader = ruzstd::decoding::StreamingDecoder::new(bytes);
            Box::new(reader.map_err(|_| broken("it is not packed as it says"))?)
        }
        _ => return Err(broken("it is not packed as it says")),
    })
}

/// How many bytes back a Zstandard frame may refer, from its header.
fn zstd_window(bytes: &[u8]) -> Option<u64> {
    let [0x28, 0xB5, 0x2F, 0xFD, descriptor, rest @ ..] = bytes else {
        return None;
    };
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // All of it is the window: its length, after the dictionary's name.
    let at = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(at..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*size.first()?),
        1 => u64::from(u16::from_le_bytes(*size.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*size.first_chunk()?)),
        _ => u64::from_le_bytes(*size.first_chunk()?),
    })
}

struct Lzw<R> {
    bytes: R,
    decoder: weezl::decode::Decoder,
}

impl<R: io::BufRead> Read for Lzw<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let from = self.bytes.fill_buf()?;
            let is_end = from.is_empty();
            let done = self.decoder.decode_bytes(from, to);
            self.bytes.consume(done.consumed_in);
            match done.status {
                _ if done.consumed_out > 0 => return Ok(done.consumed_out),
                Ok(LzwStatus::Ok) if !is_end => {}
                Ok(_) => return Ok(0),
                Err(_) => return Err(io::Error::other("its LZW codes are damaged")),
            }
        }
    }
}

struct PackBits<R> {
    bytes: R,
    /// Bytes that stand for themselves, still to come.
    literal: usize,
    /// How often the byte is still to come.
    repeated: (usize, u8),
}

impl<R: io::BufRead> Read for PackBits<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        while self.literal == 0 && self.repeated.0 == 0 {
            let mut code = [0];
            if self.bytes.read(&mut code)? == 0 {
                return Ok(0);
            }
            match code[0] as i8 {
                -128 => {}
                count @ 0.. => self.literal = count as usize + 1,
                count => {
                    self.bytes.read_exact(&mut code)?;
                    self.repeated = ((1 - isize::from(count)) as usize, code[0]);
                }
            }
        }
        if self.literal > 0 {
            let most = self.literal.min(to.len());
            let count = self.bytes.read(&mut to[..most])?;
            self.literal -= count;
            return Ok(count);
        }
        let (left, byte) = self.repeated;
        let count = left.min(to.len());
        to[..count].fill(byte);
        self.repeated.0 -= count;
        Ok(count)
    }
}

/// Rows that were stored as differences.
struct Predicted<R> {
    rows: R,
    predictor: u32,
    /// Of a sample.
    bytes: usize,
    /// Of a pixel.
    samples: usize,
    is_float: bool,
    is_little: bool,
    planes: Vec<u8>,
}

impl<R: Rows> Rows for Predicted<R> {
    fn read_row(&mut self, row: &mut [u8]) -> io::Result<()> {
        self.rows.read_row(row)?;
        match (self.predictor, self.bytes, self.is_little) {
            (2, 1, _) => {
                for at in self.samples..row.len() {
                    row[at] = row[at].wrapping_add(row[at - self.samples]);
                }
            }
            (2, 2, true) => add_up(
                row,
                self.samples,
                u16::from_le_bytes,
                u16::to_le_bytes,
                u16::wrapping_add,
            ),
            (2, 2, false) => add_up(
                row,
                self.samples,
                u16::from_be_bytes,
                u16::to_be_bytes,
                u16::wrapping_add,
            ),
            (2, 4, true) => add_up(
                row,
                self.samples,
                u32::from_le_bytes,
                u32::to_le_bytes,
                u32::wrapping_add,
            ),
            (2, 4, false) => add_up(
                row,
                self.samples,
                u32::from_be_bytes,
                u32::to_be_bytes,
                u32::wrapping_add,
            ),
            (2, _, true) => add_up(
                row,
                self.samples,
                u64::from_le_bytes,
                u64::to_le_bytes,
                u64::wrapping_add,
            ),
            (2, _, false) => add_up(
                row,
                self.samples,
                u64::from_be_bytes,
                u64::to_be_bytes,
                u64::wrapping_add,
            ),
            (3, bytes, is_little) if self.is_float => {
                for at in self.samples..row.len() {
                    row[at] = row[at].wrapping_add(row[at - self.samples]);
                }
                // All first bytes come first, the most significant.
                self.planes.clear();
                self.planes.extend_from_slice(row);
                let count = row.len() / bytes;
                for (index, value) in row.chunks_exact_mut(bytes).enumerate() {
                    for (byte, to) in value.iter_mut().enumerate() {
                        let plane = if is_little { bytes - 1 - byte } else { byte };
                        *to = self.planes[plane * count + index];
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn add_up<T: Copy, const N: usize>(
    row: &mut [u8],
    samples: usize,
    from: fn([u8; N]) -> T,
    to: fn(T) -> [u8; N],
    add: fn(T, T) -> T,
) {
    let values = row.as_chunks_mut::<N>().0;
    for at in samples..values.len() {
        values[at] = to(add(from(values[at]), from(values[at - samples])));
    }
}

/// Y, Cb and Cr of which some pixels share the latter: given one by one.
struct Subsampled<R> {
    rows: R,
    across: usize,
    down: usize,
    /// Blocks of brightnesses, each with its Cb and Cr: as many rows as share them.
    units: Vec<u8>,
    /// The next row within `units`.
    row: usize,
}

impl<R: Rows> Rows for Subsampled<R> {
    fn read_row(&mut self, row: &mut [u8]) -> io::Result<()> {
        if self.row == 0 {
            self.rows.read_row(&mut self.units)?;
        }
        let block = self.across * self.down;
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let unit = &self.units[x / self.across * (block + 2)..][..block + 2];
            let brightness = unit[self.row * self.across + x % self.across];
            *pixel = [brightness, unit[block], unit[block + 1]];
        }
        self.row = (self.row + 1) % self.down;
        Ok(())
    }
}
