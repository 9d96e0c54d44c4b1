//! Quantizing to Q4_K on the CPU: what candle's own does, byte for byte, without asking for memory for every 32 weights,
//! for which many threads would wait in line.

use candle_core::quantized::k_quants::{BlockQ4K, QK_K};
use half::f16;

/// Weights that share a scale and a minimum.
const RUN: usize = 32;
const RUNS: usize = QK_K / RUN;
const BYTES: usize = 144;

/// Quantizes values into blocks of 256.
pub fn quantize(values: &[f32], blocks: &mut [BlockQ4K]) {
    const { assert!(size_of::<BlockQ4K>() == BYTES) };
    let len = size_of_val(blocks);
    // SAFETY: a block is plain bytes in C's layout, without gaps, and any bytes are one.
    let bytes = unsafe { std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast::<u8>(), len) };
    let values = values.as_chunks::<QK_K>().0;
    for (values, block) in values.iter().zip(bytes.as_chunks_mut::<BYTES>().0) {
        one(values, block);
    }
}

/// Rounds to one of 0..=15, halves up; NaN to 0.
#[inline(always)]
fn level(x: f32) -> u8 {
    let x = x.clamp(0.0, 15.0);
    let whole = x as u8;
    whole + u8::from(x - f32::from(whole) >= 0.5)
}

/// One block: two f16 scales, eight pairs of 6-bit scale and minimum in twelve bytes, 128 bytes of quants.
fn one(values: &[f32; QK_K], block: &mut [u8; BYTES]) {
    let runs: &[[f32; RUN]] = values.as_chunks::<RUN>().0;
    let (mut scales, mut least) = ([0f32; RUNS], [0f32; RUNS]);
    for ((run, scale), least) in runs.iter().zip(&mut scales).zip(&mut least) {
        (*scale, *least) = fit(run);
    }
    let most = |values: &[f32]| values.iter().fold(0f32, |most, value| value.max(most));
    let (most_scale, most_least) = (most(&scales), most(&least));
    let inverse = |most: f32| if most > 0.0 { 63.0 / most } else { 0.0 };
    let (to_scale, to_least) = (inverse(most_scale), inverse(most_least));
    let (d, d_least) = (
        f16::from_f32(most_scale / 63.0),
        f16::from_f32(most_least / 63.0),
    );
    *block = [0; BYTES];
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..4].copy_from_slice(&d_least.to_le_bytes());
    let (pairs, quants) = block[4..].split_at_mut(12);
    for (j, run) in runs.iter().enumerate() {
        let s = ((to_scale * scales[j]).round() as i32).min(63) as u8;
        let m = ((to_least * least[j]).round() as i32).min(63) as u8;
        if j < 4 {
            pairs[j] |= s;
            pairs[j + 4] |= m;
        } else {
            pairs[j + 4] = (s & 15) | (m & 15) << 4;
            pairs[j - 4] |= s >> 4 << 6;
            pairs[j] |= m >> 4 << 6;
        }
        let step = d.to_f32() * f32::from(s);
        if step != 0.0 {
            let shift = d_least.to_f32() * f32::from(m);
            let high = 4 * (j % 2);
            for (value, q) in run.iter().zip(&mut quants[j / 2 * RUN..][..RUN]) {
                *q |= level((value + shift) / step) << high;
            }
        }
    }
}

/// Scale and minimum (its size) of 32 weights of 0..=15 each, by rounding to them and fitting again, up to five times.
fn fit(values: &[f32; RUN]) -> (f32, f32) {
    const TRIES: usize = 5;
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if low == high {
        return (0.0, 0.0);
    }
    let mut low = low.min(0.0);
    let mut inverse = 15.0 / (high - low);
    let mut scale = 0.0;
    let mut chosen = [0u8; RUN];
    for _ in 0..TRIES {
        let mut now = [0u8; RUN];
        for (now, value) in now.iter_mut().zip(values) {
            *now = level(inverse * (value - low));
        }
        let (mut products, mut squares) = (0f32, 0u32);
        for (q, value) in now.iter().zip(values) {
            products += (value - low) * f32::from(*q);
            squares += u32::from(*q) * u32::from(*q);
        }
        scale = products / squares as f32;
        let mut sum = 0f32;
        for (q, value) in now.iter().zip(values) {
            sum += value - scale * f32::from(*q);
        }
        low = sum / RUN as f32;
        if low > 0.0 {
            low = 0.0;
        }
        inverse = 1.0 / scale;
        if now == chosen {
            break;
        }
        chosen = now;
    }
    (scale, -low)
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlType;

    use super::*;

    /// Values that stand out, that are all alike, of one sign, tiny, or halfway between two levels.
    #[test]
    fn every_block_is_candles() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let blocks = 2000;
        let mut values: Vec<f32> = (0..blocks * QK_K).map(|_| 0.05 * random()).collect();
        for (i, block) in values.as_chunks_mut::<QK_K>().0.iter_mut().enumerate() {
            match i % 12 {
                0 => block.fill(0.0),
                1 => block.fill(0.37),
                2 => block.fill(-0.25),
                3 => block.iter_mut().for_each(|x| *x = x.abs() + 0.01),
                4 => block.iter_mut().for_each(|x| *x = -x.abs() - 0.01),
                5 => block.iter_mut().for_each(|x| *x *= 1e-6),
                6 => block[17] = 8.0,
                7 => block[130] = -900.0,
                8 => block[32..96].fill(0.0),
                9 => block
                    .iter_mut()
                    .for_each(|x| *x = (*x * 80.0).round() / 2.0),
                _ => {}
            }
        }
        let empty = || vec![BlockQ4K::zeros(); blocks];
        let (mut got, mut expected) = (empty(), empty());
        quantize(&values, &mut got);
        BlockQ4K::from_float(&values, &mut expected);
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!(
                got == expected,
                "block {i}: {got:?}, candle's is {expected:?}"
            );
        }
    }
}
