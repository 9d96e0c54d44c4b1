//! From planes of brightness and colours to RGB, as libavif does it.

use super::super::heif::{Colors, Fault};
use super::sequence::Chroma;

/// A picture's samples: brightness, then the two of its colours.
pub(super) struct Canvas<'a> {
    pub width: usize,
    pub height: usize,
    pub chroma: Chroma,
    pub depth: u32,
    /// Plane after plane, rows without gaps; two bytes a sample where it has more than eight bits.
    pub bytes: &'a mut [u8],
}

impl Canvas<'_> {
    /// Bytes that all planes take.
    pub fn size(width: usize, height: usize, chroma: Chroma, depth: u32) -> usize {
        let planes = (0..chroma.planes()).map(|plane| {
            let (width, height) = plane_size(width, height, chroma, plane);
            width * height
        });
        planes.sum::<usize>() * bytes_of(depth)
    }

    /// A plane's width in bytes, its height, and where it begins.
    fn plane(&self, plane: usize) -> (usize, usize, usize) {
        let size = |plane| plane_size(self.width, self.height, self.chroma, plane);
        let each = bytes_of(self.depth);
        let before = (0..plane).map(size).map(|(width, height)| width * height);
        let start = before.sum::<usize>() * each;
        let (width, height) = size(plane);
        (width * each, height, start)
    }

    /// Puts a plane of a tile where it belongs; what reaches beyond the picture is left out.
    pub fn put(&mut self, plane: usize, tile: &[u8], stride: usize, (left, top): (usize, usize)) {
        let (width, height, start) = self.plane(plane);
        let (across, down) = self.shifts(plane);
        let left = (left >> across) * bytes_of(self.depth);
        let Some(room) = width.checked_sub(left) else {
            return;
        };
        let rows = self.bytes[start..][..width * height].chunks_exact_mut(width);
        for (to, from) in rows.skip(top >> down).zip(tile.chunks(stride)) {
            let length = room.min(from.len());
            to[left..][..length].copy_from_slice(&from[..length]);
        }
    }

    fn shifts(&self, plane: usize) -> (u32, u32) {
        if plane == 0 {
            (0, 0)
        } else {
            self.chroma.shifts()
        }
    }

    /// A row of samples, as numbers of the file.
    fn row(&self, plane: usize, row: usize, to: &mut Vec<f32>) {
        let (width, _, start) = self.plane(plane);
        let bytes = &self.bytes[start + row * width..][..width];
        to.clear();
        match bytes_of(self.depth) {
            1 => to.extend(bytes.iter().map(|&byte| f32::from(byte))),
            _ => {
                let samples = bytes.as_chunks().0.iter();
                to.extend(samples.map(|&two| f32::from(u16::from_ne_bytes(two))));
            }
        }
    }

    /// What a row of pixels has of a plane of colours: its samples lie in the middle of their pixels, and between them
    /// it goes evenly from one to the next.
    fn spread(&self, plane: usize, row: usize, rows: &mut Rows, to: &mut Vec<f32>) {
        let (across, down) = self.shifts(plane);
        let (_, height, _) = self.plane(plane);
        self.row(plane, row >> down, &mut rows.near);
        if down == 1 {
            let far = match row % 2 {
                0 => (row / 2).saturating_sub(1),
                _ => (row / 2 + 1).min(height - 1),
            };
            self.row(plane, far, &mut rows.far);
            for (near, far) in rows.near.iter_mut().zip(&rows.far) {
                *near = 0.75 * *near + 0.25 * far;
            }
        }
        to.clear();
        if across == 0 {
            to.extend_from_slice(&rows.near);
            return;
        }
        let samples = &rows.near;
        let last = samples.len() - 1;
        for (at, &sample) in samples.iter().enumerate() {
            let [before, after] = [samples[at.saturating_sub(1)], samples[(at + 1).min(last)]];
            to.push(0.75 * sample + 0.25 * before);
            to.push(0.75 * sample + 0.25 * after);
        }
        to.truncate(self.width);
    }

    /// A part of the picture (left, top, width, height) as RGB, into every `channels` bytes of `to`.
    pub fn to_rgb(
        &self,
        colors: Colors,
        [left, top, width, height]: [usize; 4],
        to: &mut [u8],
        channels: usize,
    ) -> Result<(), Fault> {
        let mixture = Mixture::of(colors, self.chroma)?;
        let ([dark, light], [middle, reach]) = ranges(self.depth, colors.is_full);
        let mut rows = Rows::default();
        let (mut luma, mut blue, mut red) = (Vec::new(), Vec::new(), Vec::new());
        let lines = to.chunks_exact_mut(width * channels);
        for (line, row) in lines.zip(top..top + height) {
            self.row(0, row, &mut luma);
            let is_gray = self.chroma == Chroma::None;
            if !is_gray {
                self.spread(1, row, &mut rows, &mut blue);
                self.spread(2, row, &mut rows, &mut red);
            }
            let pixels = line.chunks_exact_mut(channels);
            let light_of = |value: f32| (value - dark) / light;
            let color_of = |value: f32| (value - middle) / reach;
            let put = |pixel: &mut [u8], color: [f32; 3]| {
                pixel[..3].copy_from_slice(&color.map(|value| (255.0 * value + 0.5) as u8));
            };
            if is_gray {
                for (pixel, &y) in pixels.zip(&luma[left..]) {
                    put(pixel, [light_of(y); 3]);
                }
                continue;
            }
            let samples = luma[left..].iter().zip(&blue[left..]).zip(&red[left..]);
            let samples = pixels.zip(samples);
            match mixture {
                Mixture::Plain => {
                    for (pixel, ((&green, &blue), &red)) in samples {
                        put(pixel, [red, green, blue].map(light_of));
                    }
                }
                Mixture::GreenOrange => {
                    for (pixel, ((&y, &green), &orange)) in samples {
                        let (y, green, orange) = (light_of(y), color_of(green), color_of(orange));
                        let rest = y - green;
                        put(pixel, [rest + orange, y + green, rest - orange]);
                    }
                }
                Mixture::Weights { red, blue } => {
                    let green = 1.0 - red - blue;
                    for (pixel, ((&y, &b), &r)) in samples {
                        let (y, b, r) = (light_of(y), color_of(b), color_of(r));
                        let (r, b) = (2.0 * (1.0 - red) * r, 2.0 * (1.0 - blue) * b);
                        put(pixel, [y + r, y - (red * r + blue * b) / green, y + b]);
                    }
                }
            }
        }
        Ok(())
    }

    /// How opaque a part of a picture of `whole` width and height is, into the last of every four bytes of `to`. This may be
    /// coarser or finer than the picture: each pixel takes the value that lies where it does.
    pub fn to_alpha(
        &self,
        whole: (usize, usize),
        [left, top, width, height]: [usize; 4],
        to: &mut [u8],
    ) {
        // Always of the full range.
        let (_, [_, most]) = ranges(self.depth, true);
        let mut luma = Vec::new();
        let lines = to.chunks_exact_mut(width * 4);
        for (line, row) in lines.zip(top..top + height) {
            self.row(0, row * self.height / whole.1, &mut luma);
            let pixels = line.as_chunks_mut::<4>().0;
            for (pixel, column) in pixels.iter_mut().zip(left..) {
                let value = luma[column * self.width / whole.0];
                pixel[3] = (255.0 * value / most + 0.5) as u8;
            }
        }
    }
}

/// Rows of colours, kept from one to the next.
#[derive(Default)]
struct Rows {
    near: Vec<f32>,
    far: Vec<f32>,
}

/// How red, green and blue were mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mixture {
    /// Not at all: the planes are green, blue and red.
    Plain,
    /// YCgCo.
    GreenOrange,
    /// What red and blue have in brightness.
    Weights { red: f32, blue: f32 },
}

impl Mixture {
    /// The conversion for colours that the file tells by the numbers of ITU-T H.273.
    fn of(colors: Colors, chroma: Chroma) -> Result<Self, Fault> {
        let (red, blue) = match (colors.matrix, colors.primaries) {
            (0, _) if matches!(chroma, Chroma::Each | Chroma::None) => return Ok(Mixture::Plain),
            (8, _) => return Ok(Mixture::GreenOrange),
            (1, _) | (12, 1) => (0.2126, 0.0722),
            (4, _) | (12, 4) => (0.30, 0.11),
            (7, _) | (12, 7) => (0.212, 0.087),
            (9, _) | (12, 9) => (0.2627, 0.0593),
            (12, 12) => (0.229, 0.0793),
            // Not told: as in JPEG.
            (2 | 5 | 6 | 12, _) => (0.299, 0.114),
            // Gray is gray in any mixture.
            _ if chroma == Chroma::None => return Ok(Mixture::Plain),
            _ => return Err(Fault::Unsupported("colours mixed in another way")),
        };
        Ok(Mixture::Weights { red, blue })
    }
}

/// Black and how far white is from it; no colour and how much of one is all.
fn ranges(depth: u32, is_full: bool) -> ([f32; 2], [f32; 2]) {
    let most = ((1 << depth) - 1) as f32;
    let unit = (1 << (depth - 8)) as f32;
    let middle = 128.0 * unit;
    match is_full {
        true => ([0.0, most], [middle, most]),
        false => ([16.0 * unit, 219.0 * unit], [middle, 224.0 * unit]),
    }
}

fn bytes_of(depth: u32) -> usize {
    if depth > 8 { 2 } else { 1 }
}

fn plane_size(width: usize, height: usize, chroma: Chroma, plane: usize) -> (usize, usize) {
    let (across, down) = if plane == 0 { (0, 0) } else { chroma.shifts() };
    (width.div_ceil(1 << across), height.div_ceil(1 << down))
}
