//! Rows of samples of any depth and colours to RGB.

use super::layout::{Color, Layout, Numbers};
use crate::convert::{inks_to_rgb, over};

/// Makes bytes of samples.
pub(super) struct Depth {
    bits: u32,
    numbers: Numbers,
    is_little: bool,
    /// What a wide number is multiplied by, so that white becomes 255.
    factor: f64,
    /// Whether a number beyond 255 becomes 255, as in Pillow, or all are divided.
    clips: bool,
    /// Whether a number is a name, not a brightness.
    is_index: bool,
}

impl Depth {
    /// `largest` is the largest number in the picture, where [`Self::must_measure`] asks for it.
    pub fn new(layout: &Layout<'_>, raw: bool, largest: f64) -> Self {
        let is_gray = matches!(layout.color, Color::Gray { .. }) && layout.samples == 1;
        let clips = raw && is_gray && layout.bits > 8;
        Depth {
            bits: layout.bits,
            numbers: layout.numbers,
            is_little: layout.is_little(),
            factor: if clips {
                1.0
            } else {
                factor(layout.numbers, largest)
            },
            clips,
            is_index: layout.color == Color::Palette,
        }
    }

    /// Whether the depth alone does not tell what is white: numbers of 32 bits, signed ones and floats.
    pub fn must_measure(layout: &Layout<'_>) -> bool {
        layout.bits > 16 || layout.numbers != Numbers::Unsigned
    }

    /// The largest of `count` numbers in a row that is one.
    pub fn largest(&self, row: &[u8], count: usize) -> f64 {
        let mut largest = 0.0_f64;
        self.each_wide(row, count, |value| {
            if value.is_finite() {
                largest = largest.max(value);
            }
        });
        largest
    }

    /// Appends `count` numbers of a row to `to`, as bytes.
    pub fn to_bytes(&self, row: &[u8], count: usize, to: &mut Vec<u8>) {
        match (self.numbers, self.bits) {
            (Numbers::Unsigned, 8) => to.extend_from_slice(&row[..count]),
            (Numbers::Unsigned, 16) => {
                let values = row.as_chunks().0.iter().take(count);
                let value = |&bytes: &[u8; 2]| match self.is_little {
                    true => u16::from_le_bytes(bytes),
                    false => u16::from_be_bytes(bytes),
                };
                match self.clips {
                    true => to.extend(values.map(|bytes| value(bytes).min(255) as u8)),
                    false => to.extend(values.map(|bytes| (value(bytes) >> 8) as u8)),
                }
            }
            (Numbers::Unsigned, bits @ ..=15) => {
                let largest = (1_u32 << bits) - 1;
                let mut at = 0;
                to.extend((0..count).map(|_| {
                    // At most 15 bits, of three bytes.
                    let byte = |index: usize| u32::from(row.get(index).copied().unwrap_or(0));
                    let first = at / 8;
                    let three = byte(first) << 16 | byte(first + 1) << 8 | byte(first + 2);
                    let value = three >> (24 - at as u32 % 8 - bits) & largest;
                    at += bits as usize;
                    match bits {
                        _ if self.is_index => value as u8,
                        _ if self.clips => value.min(255) as u8,
                        ..8 => ((value * 255 + largest / 2) / largest) as u8,
                        _ => (value >> (bits - 8)) as u8,
                    }
                }));
            }
            (numbers, _) => {
                let half = if numbers == Numbers::Float { 0.5 } else { 0.0 };
                // What is no number becomes 0.
                self.each_wide(row, count, |value| {
                    to.push((value * self.factor + half) as u8)
                });
            }
        }
    }

    fn each_wide(&self, row: &[u8], count: usize, mut each: impl FnMut(f64)) {
        let size = self.bits as usize / 8;
        for bytes in row.chunks_exact(size).take(count) {
            let mut all = [0; 8];
            all[..size].copy_from_slice(bytes);
            if !self.is_little {
                all[..size].reverse();
            }
            let value = u64::from_le_bytes(all);
            each(match (self.numbers, self.bits) {
                (Numbers::Unsigned, _) => value as f64,
                (Numbers::Signed, 8) => f64::from(value as i8),
                (Numbers::Signed, 16) => f64::from(value as i16),
                (Numbers::Signed, _) => f64::from(value as i32),
                (Numbers::Float, 16) => half::f16::from_bits(value as u16).to_f64(),
                (Numbers::Float, 32) => f32::from_bits(value as u32).into(),
                (Numbers::Float, _) => f64::from_bits(value),
            });
        }
    }
}

/// What makes 255 of white, which no tag tells: floats mostly end at 1 (with lights beyond it), or like whole numbers
/// at 255, 65,535 or the largest of 32 bits.
fn factor(numbers: Numbers, largest: f64) -> f64 {
    const LIGHTS: f64 = 16.0;
    match (numbers, largest) {
        (Numbers::Float, ..=LIGHTS) => 255.0,
        (_, ..=255.0) => 1.0,
        (Numbers::Float, ..=65_535.0) => 255.0 / 65_535.0,
        (Numbers::Float, _) => 255.0 / largest,
        (Numbers::Signed, ..=32_767.0) => 1.0 / 128.0,
        (_, ..=65_535.0) => 1.0 / 256.0,
        (Numbers::Signed, _) => 1.0 / f64::from(1 << 23),
        (Numbers::Unsigned, _) => 1.0 / f64::from(1 << 24),
    }
}

/// Writes RGB: `samples` are bytes, `stride` a pixel, with transparency at `alpha` of them. It goes on white; with `raw`
/// it is dropped as Pillow drops it.
pub(super) fn to_rgb(
    layout: &Layout<'_>,
    color: Color,
    (samples, stride): (&[u8], usize),
    alpha: Option<usize>,
    raw: bool,
    to: &mut [u8],
) {
    let is_premultiplied = layout.alpha.is_some_and(|alpha| alpha.is_premultiplied);
    let pixels = samples.chunks_exact(stride);
    for (pixel, to) in pixels.zip(to.as_chunks_mut::<3>().0) {
        let rgb = match color {
            Color::Gray { inverted: false } => [pixel[0]; 3],
            Color::Gray { inverted: true } => [255 - pixel[0]; 3],
            Color::Rgb => [pixel[0], pixel[1], pixel[2]],
            Color::Palette => layout
                .palette
                .get(usize::from(pixel[0]))
                .copied()
                .unwrap_or_default(),
            Color::Cmyk => inks_to_rgb([pixel[0], pixel[1], pixel[2], pixel[3]]),
            Color::YCbCr => luma_to_rgb(layout, [pixel[0], pixel[1], pixel[2]]),
        };
        *to = match alpha.map(|at| pixel[at]) {
            None => rgb,
            Some(alpha) => match (is_premultiplied, raw) {
                (false, false) => over(rgb, alpha, Some(255)),
                (false, true) => rgb,
                (true, false) => rgb.map(|value| value.saturating_add(255 - alpha)),
                (true, true) => rgb.map(|value| match alpha {
                    0 => value,
                    _ => (255 * u32::from(value) / u32::from(alpha)).min(255) as u8,
                }),
            },
        };
    }
}

fn luma_to_rgb(layout: &Layout<'_>, samples: [u8; 3]) -> [u8; 3] {
    let [black_y, white_y, black_b, white_b, black_r, white_r] = layout.reference;
    let scaled = |value: u8, black: f32, white: f32, range: f32| {
        let span = if white == black { 1.0 } else { white - black };
        (f32::from(value) - black) * range / span
    };
    let y = scaled(samples[0], black_y, white_y, 255.0);
    let b = scaled(samples[1], black_b, white_b, 127.0);
    let r = scaled(samples[2], black_r, white_r, 127.0);
    let [of_red, of_green, of_blue] = layout.luma;
    let red = r * (2.0 - 2.0 * of_red) + y;
    let blue = b * (2.0 - 2.0 * of_blue) + y;
    let green = (y - of_blue * blue - of_red * red) / of_green;
    [red, green, blue].map(|value| (value + 0.5) as u8)
}
