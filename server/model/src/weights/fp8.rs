//! 8-bit floats (e4m3) with a scale for each row: what a card's kernels make of weights (`quantize.cu`), to the bit.

/// The largest of them: 1.75 · 2^8.
const MOST: f32 = 448.0;

/// Rounds each of the rows of `row` values to what its 8-bit floats stand for.
pub fn round(values: &mut [f32], row: usize) {
    for row in values.chunks_mut(row) {
        let scale = scale(row);
        let inverse = inverse(scale);
        for value in row {
            *value = widened(nearest(*value * inverse)) * scale;
        }
    }
}

/// The 8-bit floats of a row, and its scale.
pub fn quantize(row: &[f32]) -> (Vec<u8>, f32) {
    let scale = scale(row);
    let inverse = inverse(scale);
    let bytes = row.iter().map(|value| nearest(value * inverse));
    (bytes.collect(), scale)
}

/// With it the largest value of a row becomes the largest 8-bit float.
fn scale(row: &[f32]) -> f32 {
    row.iter().fold(0f32, |most, value| most.max(value.abs())) / MOST
}

fn inverse(scale: f32) -> f32 {
    match scale {
        0.0 => 0.0,
        scale => 1.0 / scale,
    }
}

/// The nearest 8-bit float, of two the even one; the largest for what is beyond it, and for NaN.
fn nearest(x: f32) -> u8 {
    let sign = u8::from(x.is_sign_negative()) << 7;
    let size = x.abs().min(MOST);
    // Below 2^-6 they are subnormal, in steps of 2^-9.
    if size < 1.0 / 64.0 {
        return sign | (size * 512.0).round_ties_even() as u8;
    }
    let bits = size.to_bits();
    let rounded = bits + 0x7ffff + (bits >> 20 & 1);
    // Four bits of exponent with a bias of 7 instead of 127, and three of the fraction.
    sign | ((rounded >> 20) - (120 << 3)) as u8
}

/// What an 8-bit float stands for.
fn widened(byte: u8) -> f32 {
    let (exponent, fraction) = (byte >> 3 & 15, f32::from(byte & 7));
    let size = match exponent {
        0 => fraction / 512.0,
        _ => (1.0 + fraction / 8.0) * f32::from(exponent).exp2() / 128.0,
    };
    if byte < 128 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of one sign but NaN, in their order.
    fn all() -> Vec<f32> {
        (0..=0x7e).map(widened).collect()
    }

    #[test]
    fn each_is_its_own_nearest() {
        let all = all();
        assert!(all.is_sorted_by(|a, b| a < b));
        assert_eq!(
            (all[0], all[1], all[8], all[126]),
            (0.0, 1.0 / 512.0, 1.0 / 64.0, MOST)
        );
        for (byte, value) in (0..).zip(&all) {
            assert_eq!((nearest(*value), nearest(-value)), (byte, byte | 128));
        }
    }

    #[test]
    fn what_lies_between_two_goes_to_the_nearer_and_then_to_the_even_one() {
        for (byte, two) in (0..).zip(all().windows(2)) {
            let middle = f32::midpoint(two[0], two[1]);
            assert_eq!(nearest(middle), byte + (byte & 1), "{middle}");
            assert_eq!(nearest(middle.next_down()), byte, "{middle}");
            assert_eq!(nearest(middle.next_up()), byte + 1, "{middle}");
        }
        assert_eq!((nearest(1e9), nearest(-1e9)), (126, 126 | 128));
        assert_eq!(nearest(f32::NAN) & 127, 126);
    }

    #[test]
    fn a_row_is_scaled_by_its_largest() {
        let row = [0.5, -2.0, 0.001, 0.0];
        let (bytes, scale) = quantize(&row);
        assert_eq!((bytes[1], scale), (126 | 128, 2.0 / MOST));
        let mut rounded = [row, [0.0; 4]].concat();
        round(&mut rounded, 4);
        assert_eq!(rounded[1], -2.0);
        assert_eq!(rounded[4..], [0.0; 4]);
        for ((byte, value), exact) in bytes.iter().zip(&rounded).zip(&row) {
            assert_eq!(widened(*byte) * scale, *value);
            assert!((value - exact).abs() <= exact.abs() / 16.0 + scale / 1024.0);
        }
    }
}
